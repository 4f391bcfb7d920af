"""What the benchmarks share: a cluster for the time of a measurement, timed commands, tables."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KUBARIUM = str(Path(sys.executable).with_name("kubarium"))
ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "benchmarks" / "scripts"
NAME = "bench"


@dataclass(frozen=True)
class Row:
    """One line of a table: what, the figure, and the target it is held against ("" where there is none)."""

    what: str
    figure: str
    target: str = ""


def table(title: str, command: str, rows: Sequence[Row]) -> str:
    lines = [f"## {title}", "", f"`{command}`", "", "| what | figure | target |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {r.what} | {r.figure} | {r.target} |" for r in rows), ""])


def run(
    argv: Sequence[str], *, timeout_s: float = 120, stdin: str | None = None, env: dict[str, str] | None = None
) -> str:
    done = subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=None if env is None else os.environ | env,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


def timed(argv: Sequence[str], **kwargs: Any) -> float:
    """Seconds of wall time."""
    begin = time.perf_counter()
    run(argv, **kwargs)
    return time.perf_counter() - begin


def wait_until(check: Callable[[], bool], *, deadline_s: float = 60, every_s: float = 0.01) -> None:
    end = time.monotonic() + deadline_s
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"a measurement's condition did not come true in {deadline_s:g} s")
        time.sleep(every_s)


def spread(values: Sequence[float], unit: str = "s", digits: int = 2) -> str:
    """`2.31 s (2.25-2.48)`: median, smallest and largest."""
    ordered = sorted(values)
    median = statistics.median(ordered)
    return f"{median:.{digits}f} {unit} ({ordered[0]:.{digits}f}-{ordered[-1]:.{digits}f}, n={len(ordered)})"


@dataclass(frozen=True)
class Bench:
    """A cluster named `bench`, on its own."""

    kubeconfig: Path

    def kubarium(self, *args: str, **kwargs: Any) -> str:
        return run([KUBARIUM, "--cluster", NAME, *args], **kwargs)

    @property
    def url(self) -> str:
        config = json.loads(self.kubeconfig.read_text())
        return str(config["clusters"][0]["cluster"]["server"])

    @property
    def token(self) -> str:
        return run([KUBARIUM, "token", "--name", NAME]).strip()

    def get(self, *args: str) -> Any:
        return json.loads(self.kubarium("get", *args, "-o", "json"))

    def status(self) -> Any:
        return json.loads(run([KUBARIUM, "status", "--name", NAME, "-o", "json"]))

    def node_prefix(self, node: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/kubarium-{NAME}-{node}"]


def down() -> None:
    run([KUBARIUM, "down", "--name", NAME])


@contextmanager
def cluster(*flags: str) -> Iterator[Bench]:
    run([KUBARIUM, "up", "--name", NAME, *flags])
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        kubeconfig.write_text(run([KUBARIUM, "kubeconfig", "--name", NAME]))
        try:
            yield Bench(kubeconfig)
        finally:
            down()


def requests_per_second(wrk_output: str) -> float:
    found = re.search(r"Requests/sec:\s*([0-9.]+)", wrk_output)
    if found is None:
        raise RuntimeError(f"wrk printed no rate: {wrk_output}")
    return float(found[1])
