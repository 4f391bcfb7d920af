"""`python -m benchmarks [NAME...]`: measure, print the tables, and write them to benchmarks/RESULTS.md when all ran."""

from __future__ import annotations

import importlib
import platform
import sys
from datetime import UTC, datetime

from benchmarks.lab import ROOT, table

ALL = {
    "start": "Start",
    "pods": "Pod start",
    "cli": "Command line",
    "dataplane": "Data plane",
    "memory": "Memory",
    "api": "API server",
    "writes": "API server: writes from inside",
}


def main(names: list[str]) -> int:
    if unknown := set(names) - set(ALL):
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    parts = []
    for name in names or ALL:
        module = importlib.import_module(f"benchmarks.{name}")
        text = table(ALL[name], f"make bench BENCH_ARGS={name}", module.measure())
        parts.append("\n".join(filter(None, (text, getattr(module, "NOTES", "")))))
        print(parts[-1], flush=True)
    if not names:
        kernel = platform.release().partition("-")[0]
        head = (
            f"# Results\n\nMade by `make bench` on {datetime.now(UTC):%Y-%m-%d}, Linux {kernel}, "
            f"Python {platform.python_version()}, 2 cores shared with the load. Medians; quote ratios.\n"
        )
        (ROOT / "benchmarks" / "RESULTS.md").write_text("\n".join([head, *parts]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
