"""`kubarium version` and `kubarium api-resources`."""

from __future__ import annotations

import json

from kubarium import __version__
from kubarium.cli import kinds, output, target
from kubarium.cli.flags import Parser
from kubarium.cli.http import Server
from kubarium.cli.table import Printer


def main(command: str, argv: list[str]) -> None:
    if command == "version":
        _version(argv)
    else:
        _api_resources(argv)


def _version(argv: list[str]) -> None:
    parser = Parser("version", "[--client] [-o json|yaml]", "Versions of this command and of the server.")
    parser.add_argument("--client", action="store_true", help="do not ask the server")
    parser.add_argument("-o", "--output", default="", choices=("", "json", "yaml"))
    args = parser.parse(argv)
    document = {"clientVersion": {"gitVersion": f"v{__version__}"}}
    if not args.client:
        document["serverVersion"] = Server(target.find(args)).get("/version")
    if args.output == "json":
        print(json.dumps(document, indent=2))
    elif args.output == "yaml":
        print(output.to_yaml(document), end="")
    else:
        print(f"Client Version: {document['clientVersion']['gitVersion']}")
        if "serverVersion" in document:
            print(f"Server Version: {document['serverVersion']['gitVersion']}")


def _api_resources(argv: list[str]) -> None:
    parser = Parser("api-resources", "[flags]", "The resources that the server has.")
    parser.add_argument("--api-group", default=None)
    parser.add_argument("--namespaced", choices=("true", "false"), default=None)
    parser.add_argument("--no-headers", action="store_true")
    parser.add_argument("--verbs", default="", help="only those that can be, for example, list,get")
    parser.add_argument("-o", "--output", default="", choices=("", "name", "wide"))
    args = parser.parse(argv)
    found = [
        kind
        for kind in kinds.discover(Server(target.find(args)))
        if args.api_group in (None, kind.group)
        and args.namespaced in (None, str(kind.namespaced).lower())
        and set(filter(None, args.verbs.split(","))) <= set(kind.verbs)
    ]
    preferred = {(kind.group, kind.plural): kind for kind in reversed(found)}  # a group's versions come best first
    found = [preferred[place] for place in sorted(preferred)]
    if args.output == "name":
        for kind in found:
            print(kind.qualified_plural)
        return
    rows = []
    for kind in found:
        row = [kind.plural, ",".join(kind.short), kind.api_version, str(kind.namespaced).lower(), kind.kind]
        rows.append([*row, ",".join(kind.verbs), ",".join(kind.categories)] if args.output == "wide" else row)
    header = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]
    Printer(headers=not args.no_headers).print(
        [*header, "VERBS", "CATEGORIES"] if args.output == "wide" else header, rows
    )
