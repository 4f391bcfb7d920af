# `make up` and `make test` do everything on a fresh machine; each shows what it does.
PYTHON ?= python3
NAME ?= $(or $(KUBARIUM_CLUSTER),default)
KUBARIUM = .venv/bin/kubarium
SOURCES = apiserver kubelet cni kubeproxy kubarium
export PYTHON

.PHONY: up down test check format bench images proto lock venv venv-dev setup setup-dev clean

up: venv  ## set up what is missing, start the cluster NAME (default), show how to go on
	@$(KUBARIUM) up --setup --name $(NAME)

down: venv  ## remove the cluster NAME without a trace
	@$(KUBARIUM) down --name $(NAME)

test: setup-dev  ## set up what is missing and pass all tests
	@.venv/bin/python -m pytest tests $(PYTEST_ARGS)

check: venv-dev  ## formatter, linter, import contracts, strict type checker
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/lint-imports --no-cache
	@.venv/bin/mypy $(SOURCES) benchmarks

format: venv-dev
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

bench: setup-dev  ## measure, and print the tables of benchmarks/RESULTS.md
	@.venv/bin/python -m benchmarks $(BENCH_ARGS)

images: venv  ## base images: pulled where possible, else made from Debian packages
	@$(KUBARIUM) images

proto: venv-dev  ## generated gRPC code, from protos/
	@.venv/bin/python -m kubarium.machinery.protogen

lock: venv-dev  ## renew the lock files
	@.venv/bin/uv pip compile pyproject.toml --universal --extra build --generate-hashes --no-header --no-annotate -q -o requirements.lock
	@.venv/bin/uv pip compile pyproject.toml --universal --extra build --extra dev -c requirements.lock --generate-hashes --no-header --no-annotate -q -o requirements-dev.lock

venv:
	@scripts/venv.sh requirements.lock

venv-dev: venv
	@scripts/venv.sh requirements-dev.lock

setup: venv
	@$(KUBARIUM) setup

setup-dev: venv-dev
	@$(KUBARIUM) setup --dev

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
