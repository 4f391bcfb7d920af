"""`python -m apiserver`: the Kubernetes API on SQLite or etcd."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Exit code 2, with one line, for flags and files that cannot be used."""
    from apiserver.config import parse_config
    from kubarium.machinery.errors import ConfigError
    from kubarium.machinery.process import EXIT_CONFIG, run_component

    try:
        config = parse_config(argv)
    except ConfigError as err:
        print(f"apiserver: {err}", file=sys.stderr)
        return EXIT_CONFIG
    from apiserver.assembly import serve

    return run_component("apiserver", lambda: serve(config), log_level=config.log_level)


if __name__ == "__main__":
    sys.exit(main())
