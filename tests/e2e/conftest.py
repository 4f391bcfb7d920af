"""One local cluster for all end-to-end tests of a run."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import KUBARIUM, Lab, run

NAME = f"e2e-{secrets.token_hex(2)}"


def netns_prefix(cluster: str) -> Callable[[str], list[str]]:
    return lambda node: ["nsenter", f"--net=/run/netns/kubarium-{cluster}-{node}"]


def start_lab(name: str, folder: Path, kubectl: Path, *flags: str) -> Lab:
    run([KUBARIUM, "up", "--name", name, *flags], timeout_s=120)
    kubeconfig = folder / f"{name}.conf"
    kubeconfig.write_text(run([KUBARIUM, "kubeconfig", "--name", name]))
    return Lab(name, str(kubectl), str(kubeconfig), ("node-1", "node-2"), netns_prefix(name))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, kubectl: Path) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("end-to-end tests make network namespaces: they need root")
    try:
        yield start_lab(NAME, tmp_path_factory.mktemp("lab"), kubectl)
    finally:
        subprocess.run([KUBARIUM, "down", "--name", NAME], check=True, timeout=120, capture_output=True)
