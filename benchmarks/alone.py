"""`kubarium api` for the time of a measurement: how soon it is ready, what it costs, how it lists and tells."""

from __future__ import annotations

import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab import KUBARIUM, SCRIPTS, Row, run, spread, wait_until

TOKEN = "bench"
LISTED = 11_800
SERVICES = 9_000
STARTS = 5
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
UNCHECKED = ssl.create_default_context()
UNCHECKED.check_hostname = False
UNCHECKED.verify_mode = ssl.CERT_NONE


@dataclass(frozen=True)
class Alone:
    """A running server, and how long it took from exec until /readyz said so."""

    url: str
    pid: int
    ready_s: float

    def rss_mb(self) -> float:
        found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.M)
        return int(found[1]) / 1024 if found else 0.0

    def script(self, name: str, *args: str) -> str:
        return run([sys.executable, str(SCRIPTS / name), self.url, TOKEN, *args], timeout_s=300).strip()

    def list_s(self, query: str = "", accept: str = "application/json") -> tuple[float, int]:
        """Seconds and bytes of the list of all ConfigMaps, by curl."""
        headers = ["-H", f"Authorization: Bearer {TOKEN}", "-H", f"Accept: {accept}"]
        url = f"{self.url}/api/v1/configmaps{query}"
        out = run(["curl", "-sk", "-o", "/dev/null", "-w", "%{time_total} %{size_download}", *headers, url])
        seconds, size = out.split()
        return float(seconds), int(size)


@contextmanager
def alone(*flags: str) -> Iterator[Alone]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    url = f"https://127.0.0.1:{port}"
    argv = [KUBARIUM, "api", "--port", str(port), "--token", TOKEN, *flags]
    begin = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_ready(url), every_s=0.002)
        yield Alone(url, process.pid, time.perf_counter() - begin)
    finally:
        process.terminate()
        process.wait()


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", context=UNCHECKED, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def starts() -> list[Row]:
    ready, memory = [], []
    for _ in range(STARTS):
        with alone() as server:
            ready.append(server.ready_s)
            memory.append(server.rss_mb())
    return [
        Row("`kubarium api`, from exec until ready", spread(ready), "< 0.5 s"),
        Row("its resident memory then", f"{statistics.median(memory):.0f} MB", "< 90 MB"),
    ]


def lists_and_watches() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, alone("--store", f"sqlite://{folder}/store.db") as server:
        rows = []
        for watchers, writes, target in ((1, 2000, ""), (100, 1000, "59,000, 14 ms"), (1000, 200, "108,000, 58 ms")):
            told = server.script("watch.py", str(watchers), str(writes))
            rows.append(Row("watch fan-out", told, target))
        server.script("fill.py", "configmaps", str(LISTED))
        for what, query, accept in (
            ("", "", "application/json"),
            (", resourceVersion=0", "?resourceVersion=0", "application/json"),
            (" as a Table", "", TABLE),
        ):
            found = [server.list_s(query, accept) for _ in range(5)]
            size = f"{found[0][1] / 1e6:.1f} MB"
            target = "" if accept == TABLE else "< 0.18 s" if not query else "< 0.13 s"
            rows.append(Row(f"list {LISTED + 3200:,} ConfigMaps{what}, {size}", spread([s for s, _ in found]), target))
        rows.append(Row("resident memory after these loads", f"{server.rss_mb():.0f} MB", "< 190 MB"))
        return rows


def services() -> list[Row]:
    with alone() as server:
        rates = [int(rate) for rate in server.script("fill.py", "services", str(SERVICES)).split()]
        memory = server.rss_mb()
    text = f"{rates[0]:,}/s for the first thousand, {rates[-1]:,}/s for the last (slowest {min(rates):,}/s)"
    return [
        Row(f"create {SERVICES:,} Services, 16 connections", text, ">= 1,000/s throughout"),
        Row("resident memory then", f"{memory:.0f} MB"),
    ]
