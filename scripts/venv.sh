#!/usr/bin/env bash
# Makes or updates .venv from a lock file: scripts/venv.sh requirements.lock
# Does nothing when the lock file has not changed since the last time. Shows each step and its time.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=$1
stamp=.venv/.installed-$(basename "$lock" .lock)

step() {
    local text=$1 begin=$SECONDS
    shift
    printf '  %-58s' "$text"
    if "$@" >"$log" 2>&1; then
        echo "$((SECONDS - begin)) s"
    else
        echo failed
        cat "$log" >&2
        exit 1
    fi
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

if [ -f "$stamp" ] && cmp -s "$lock" "$stamp" && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "kubarium needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1 || true)." \
        "Name another with 'make PYTHON=python3.12 up'." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        echo "Python's venv module is missing: install it (Debian, Ubuntu: sudo apt-get install python3-venv)." >&2
        exit 1
    fi
    step "Debian package python3-venv" env DEBIAN_FRONTEND=noninteractive \
        sh -c 'apt-get update && apt-get install -y --no-install-recommends python3-venv'
fi
[ -x .venv/bin/pip ] || step "virtual environment .venv" "$python" -m venv --clear .venv
step "Python packages of $lock" .venv/bin/pip install --require-hashes -r "$lock"
step "kubarium itself (editable)" .venv/bin/pip install --no-deps --no-build-isolation -e .
cp "$lock" "$stamp"
