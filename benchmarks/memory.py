"""Proportional set size (PSS) of each process of a three-node cluster with the web app running."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.lab import NAME, ROOT, Row, cluster

CGROUPS = ("/sys/fs/cgroup/pids/kubarium", "/sys/fs/cgroup/kubarium")


def pss_mb(pid: int) -> float:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return int(found[1]) / 1024 if found else 0.0


def system_pods() -> dict[str, float]:
    """Processes of pods with the runtime `host`: the cluster's DNS, and the shim that owns its output."""
    sizes: dict[str, float] = {}
    for root in CGROUPS:
        for procs in Path(root, NAME).glob("*/*/**/cgroup.procs"):
            for pid in map(int, procs.read_text().split()):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
                for part in ("kubarium.clusterdns", "shim"):
                    if part in command and "system" not in procs.parts:
                        sizes[f"kube-dns pod: {part}"] = pss_mb(pid)
    return sizes


def measure() -> list[Row]:
    with cluster() as lab:
        lab.kubarium("apply", "-f", str(ROOT / "examples" / "web-app"))
        lab.kubarium("rollout", "status", "deployment/web-app")
        sizes = {f"{p['node']} {p['component']}": pss_mb(p["pid"]) for p in lab.status()["processes"] if p["pid"]}
        sizes |= system_pods()
    rows = [Row(name, f"{size:.1f} MB") for name, size in sizes.items()]
    return [*rows, Row("all processes together", f"{sum(sizes.values()):.0f} MB", "< 400 MB")]
