"""Generate `kubarium.machinery.pb` from protos/: `python -m kubarium.machinery.protogen [--out DIR]`.

The result is committed, so that running kubarium needs no compiler; a test regenerates it and compares.
"""

from __future__ import annotations

import argparse
import sys
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "kubarium/machinery/pb"


def generate(out: Path) -> None:
    """Write OUT/kubarium/machinery/pb/*_pb2.py, *_pb2_grpc.py and their .pyi stubs.

    protoc sees the files under the Python package's path, so the imports it writes are absolute in that package.
    """
    from grpc_tools import protoc  # type: ignore[import-untyped]

    sources = ROOT / "protos" / "kubarium" / "v1"
    names = sorted(path.name for path in sources.glob("*.proto"))
    scripts = Path(sys.executable).parent
    status = protoc.main(
        [
            "protoc",
            f"-I{PACKAGE}={sources}",
            f"-I{resources.files('grpc_tools') / '_proto'}",
            *(f"--plugin=protoc-gen-{name}={scripts / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")),
            *(f"--{kind}_out={out}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")),
            *(f"{PACKAGE}/{name}" for name in names),
        ]
    )
    if status:
        raise SystemExit(f"protoc failed with exit code {status} on {', '.join(names)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT, help="root of the tree to write to (default: this one)")
    generate(parser.parse_args().out)


if __name__ == "__main__":
    main()
