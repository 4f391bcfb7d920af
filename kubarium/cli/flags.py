"""Command lines with kubectl's flags and kubectl's complaints, on the standard library's parser (fast to import)."""

from __future__ import annotations

import argparse
import os
from typing import Any, NoReturn

from kubarium.cli.run import UsageError


class _Help(argparse.RawDescriptionHelpFormatter):
    """Of fixed width: the parser makes one for every flag, and asking for the terminal's width imports much."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


class Parser(argparse.ArgumentParser):
    """Positional arguments and flags in any order; errors are UsageErrors."""

    def __init__(self, command: str, usage: str, description: str) -> None:
        super().__init__(
            prog=f"kubarium {command}",
            usage=f"kubarium {command} {usage}",
            description=description,
            allow_abbrev=False,
            formatter_class=_Help,
        )
        group = self.add_argument_group("which cluster and namespace")
        group.add_argument("-n", "--namespace", default="", help="namespace of the objects")
        group.add_argument("--cluster", default=os.environ.get("KUBARIUM_CLUSTER", ""), help="name of the cluster")
        group.add_argument("--kubeconfig", default="", help="use this kubeconfig instead of a cluster's own")
        group.add_argument("--context", default="", help="the kubeconfig's context to use")

    def error(self, message: str) -> NoReturn:
        flag = message.removeprefix("unrecognized arguments: ").split(" ")[0]
        if flag != message.split(" ")[0]:
            message = (
                f"unknown flag: {flag}" if flag.startswith("--") else f"unknown shorthand flag: '{flag[1:2]}' in {flag}"
            )
        raise UsageError(f"{message}\nSee '{self.prog} --help' for usage.")

    def parse(self, argv: list[str]) -> Any:
        """The arguments; what follows a `--` is left alone in `after`."""
        after: list[str] = []
        if "--" in argv:
            cut = argv.index("--")
            argv, after = argv[:cut], argv[cut + 1 :]
        found = self.parse_intermixed_args(argv)
        found.after = after
        return found

    def add_selector(self) -> None:
        self.add_argument("-l", "--selector", default="", help="label selector, for example app=web,tier!=db")

    def add_files(self, *, required: bool = False) -> None:
        self.add_argument(
            "-f", "--filename", action="append", default=[], required=required, help="file, folder or - for stdin"
        )
        self.add_argument("-R", "--recursive", action="store_true", help="folders inside folders as well")

    def add_output(self, default: str = "") -> None:
        self.add_argument("-o", "--output", default=default, help="json, yaml, name, wide, jsonpath=..., ...")
