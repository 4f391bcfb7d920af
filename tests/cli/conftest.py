"""The command as a process, beside kubectl, against one API server."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubarium.testing.apiserver import ApiServer

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Result:
    """What a command left: exit code and both outputs."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Commands:
    """kubarium and kubectl in one namespace of one API server."""

    kubectl_path: Path
    kubeconfig: Path
    namespace: str

    def kubarium(self, *words: str, stdin: str | None = None) -> Result:
        return self._run([sys.executable, "-m", "kubarium.cli", *words], stdin)

    def kubectl(self, *words: str, stdin: str | None = None) -> Result:
        return self._run([str(self.kubectl_path), "--cache-dir", str(self.kubeconfig.parent / "cache"), *words], stdin)

    def _run(self, command: list[str], stdin: str | None) -> Result:
        env = os.environ | {
            "KUBECONFIG": str(self.kubeconfig),
            "PYTHONPATH": str(ROOT),
        }
        place = ["-n", self.namespace] if "-A" not in command else []
        cut = command.index("--") if "--" in command else len(command)
        done = subprocess.run(
            [*command[:cut], *place, *command[cut:]],
            input=stdin,
            capture_output=True,
            text=True,
            env=env,
            timeout=60,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def same(self, *words: str) -> Result:
        """Both commands must say the same; gives what they said."""
        ours, theirs = self.kubarium(*words), self.kubectl(*words)
        assert _ageless(ours) == _ageless(theirs), f"kubarium {' '.join(words)} differs from kubectl"
        return ours


def _ageless(result: Result) -> tuple[int, str, str]:
    """The two ran one after the other: a second may have passed."""
    return result.code, re.sub(r"\b\d+s\b", "AGE", result.out), result.err.replace("kubarium", "kubectl")


@pytest.fixture
def cli(shared_apiserver: ApiServer, kubectl: Path) -> Iterator[Commands]:
    """A fresh namespace."""
    name = f"cli-{secrets.token_hex(4)}"
    made = shared_apiserver.post("/api/v1/namespaces", {"metadata": {"name": name}})
    assert made.status == 201, made.body
    yield Commands(kubectl, shared_apiserver.kubeconfig, name)
    shared_apiserver.delete(f"/api/v1/namespaces/{name}")
