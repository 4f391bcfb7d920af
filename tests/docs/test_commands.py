"""Every command that the documents show is run, in the order of its document, on a cluster of the test's own."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Run by CI itself, or by the test named: they would run this test, or take a machine of their own.
RUN_ELSEWHERE = ("make test", "make check", "make bench", "docker-compose ", "make images")
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])


def commands(text: str) -> list[str]:
    """The lines behind `$ ` in console blocks; a line that ends in a backslash goes on in the next."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.S)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line[2:].strip() for line in joined.splitlines() if line.startswith("$ ")]


def shown() -> list[Path]:
    return [d for d in DOCUMENTS if commands(d.read_text())]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    if os.geteuid() != 0:
        pytest.skip("the documents' commands start clusters: they need root")
    name = f"docs-{secrets.token_hex(2)}"
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {"KUBARIUM_CLUSTER": name, "PATH": path}
    try:
        yield environment
    finally:
        subprocess.run(["kubarium", "down"], env=environment, check=True, capture_output=True, timeout=120)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", shown(), ids=lambda d: str(d.relative_to(ROOT)))
def test_commands_shown_work(document: Path, environment: dict[str, str], tmp_path: Path) -> None:
    lines = [line for line in commands(document.read_text()) if not line.startswith(RUN_ELSEWHERE)]
    environment["KUBECONFIG"] = str(tmp_path / "kubeconfig")
    if not any(line.startswith(("make up", "kubarium up")) for line in lines):
        lines.insert(0, "kubarium up")
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, (
            f"{document.name}: `{line}` ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )


def test_commands_are_read_from_console_blocks_only() -> None:
    text = "```console\n$ kubarium up \\\n    --name x\nready\n```\n```sh\n$ rm -rf /\n```\n"
    assert commands(text) == ["kubarium up      --name x"]


@pytest.mark.parametrize(
    "document", [*sorted(ROOT.glob("[!.]*/**/*.md")), ROOT / "README.md"], ids=lambda d: str(d.relative_to(ROOT))
)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text())
    assert not [link for link in links if not (document.parent / link).exists()]
