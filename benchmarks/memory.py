"""Proportional set size (PSS) of each process of a three-node cluster with the web app running."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.lab import ROOT, Row, cluster


def pss_mb(pid: int) -> float:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return int(found[1]) / 1024 if found else 0.0


def measure() -> list[Row]:
    with cluster() as lab:
        lab.kubarium("apply", "-f", str(ROOT / "examples" / "web-app"))
        lab.kubarium("rollout", "status", "deployment/web-app")
        sizes = {f"{p['node']} {p['component']}": pss_mb(p["pid"]) for p in lab.status()["processes"] if p["pid"]}
    rows = [Row(name, f"{size:.1f} MB") for name, size in sizes.items()]
    return [*rows, Row("all processes together", f"{sum(sizes.values()):.0f} MB", "< 400 MB")]
