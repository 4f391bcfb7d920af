"""Every command that the documents show is run, in the order of its document, on a cluster of the test's own; what the
documents show of its output has to come, too."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubarium.testing.kubectl import kubectl_path

ROOT = Path(__file__).parents[2]
# Run by CI itself, or by the test named: they would run this test, or take a machine of their own.
RUN_ELSEWHERE = ("make test", "make check", "make bench", "docker-compose ", "make images")
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])
BEGINNINGS = ("make up", "kubarium up", "kubarium api")

# What differs from run to run, and the word that stands for it on both sides.
_WORDS = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UID"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"\b\d+\.\d+\.\d+\.\d+(:\d+)?\b"), "ADDRESS"),
    (re.compile(r"\b\d+\.\d\d ?s\b"), "SECONDS"),
    (re.compile(r"\b(\d+[dhms])+\b"), "AGE"),
    (re.compile(r"/tmp/tmp\.\w+"), "FILE"),
    (re.compile(r"\b[0-9a-f]{32,}\b"), "HASH"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A command, and the lines that a document shows below it; `...` in them stands for anything."""

    line: str
    output: tuple[str, ...] = ()


def commands(text: str) -> list[Shown]:
    """The lines behind `$ ` in console blocks; a line that ends in a backslash goes on in the next."""
    found: list[Shown] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append(Shown(line[2:].strip()))
            elif line.strip():
                assert found, f"output without a command: {line}"
                found.append(Shown((last := found.pop()).line, (*last.output, line)))
    return found


def worded(line: str) -> str:
    for pattern, word in _WORDS:
        line = pattern.sub(word, line)
    return line.strip()


def is_as_shown(shown: tuple[str, ...], output: str) -> bool:
    wanted = "\n".join(worded(line) for line in shown)
    got = "\n".join(worded(line) for line in output.splitlines() if line.strip())
    return re.fullmatch(".*".join(re.escape(part) for part in wanted.split("...")), got, re.S) is not None


def documents() -> list[Path]:
    return [d for d in DOCUMENTS if commands(d.read_text())]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    if os.geteuid() != 0:
        pytest.skip("the documents' commands start clusters: they need root")
    name = f"docs-{secrets.token_hex(2)}"
    path = f"{ROOT / '.venv' / 'bin'}:{kubectl_path().parent}:{os.environ['PATH']}"
    environment = os.environ | {"KUBARIUM_CLUSTER": name, "PATH": path}
    try:
        yield environment
    finally:
        subprocess.run(["kubarium", "down"], env=environment, check=True, capture_output=True, timeout=120)


def exported(line: str, environment: dict[str, str]) -> dict[str, str]:
    """The environment after `export ...`, for the commands behind it."""
    command = ["bash", "-c", f"{line} && env -0"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", documents(), ids=lambda d: str(d.relative_to(ROOT)))
def test_commands_shown_work(document: Path, environment: dict[str, str], tmp_path: Path) -> None:
    shown = [one for one in commands(document.read_text()) if not one.line.startswith(RUN_ELSEWHERE)]
    environment["KUBECONFIG"] = str(tmp_path / "kubeconfig")
    if not any(one.line.startswith(BEGINNINGS) for one in shown):
        shown.insert(0, Shown("kubarium up"))
    for one in shown:
        if one.line.startswith("export "):
            environment.update(exported(one.line, environment))
            continue
        done = subprocess.run(
            ["bash", "-c", one.line],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
        )
        where = f"{document.name}: `{one.line}`"
        if one.output:  # that tells whether it was to succeed
            assert is_as_shown(one.output, done.stdout), f"{where} is shown with another output than\n{done.stdout}"
        else:
            assert done.returncode == 0, f"{where} ended with {done.returncode}:\n{done.stdout}"


def test_commands_are_read_from_console_blocks_only() -> None:
    text = "```console\n$ kubarium up \\\n    --name x\nready\n```\n```sh\n$ rm -rf /\n```\n"
    assert commands(text) == [Shown("kubarium up      --name x", ("ready",))]


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        (("pod/web   1/1   5s",), "pod/web  1/1  1m2s\n", True),
        (("pod/web   1/1   5s",), "pod/web  0/1  1m2s\n", False),
        (("first", "...", "last: ..."), "first\na\nb\nlast: word\n", True),
        (("first", "...", "last"), "first\na\nb\n", False),
        (("Ready in 0.41 s.",), "Ready in 1.30 s.\nand more\n", False),
        (("https://127.0.0.1:6443",), "https://127.0.0.1:40123\n", True),
    ],
)
def test_output_is_compared_but_for_what_varies(shown: tuple[str, ...], output: str, *, same: bool) -> None:
    assert is_as_shown(shown, output) is same


@pytest.mark.parametrize(
    "document", [*sorted(ROOT.glob("[!.]*/**/*.md")), ROOT / "README.md"], ids=lambda d: str(d.relative_to(ROOT))
)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text())
    assert not [link for link in links if not (document.parent / link).exists()]
