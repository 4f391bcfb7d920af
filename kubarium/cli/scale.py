"""`kubarium scale`: how many replicas."""

from __future__ import annotations

from typing import Any

from kubarium.cli import target
from kubarium.cli.flags import Parser
from kubarium.cli.get import selection
from kubarium.cli.http import Server
from kubarium.cli.kinds import Kind
from kubarium.cli.run import UsageError
from kubarium.machinery.errors import NotFound

MERGE = "application/merge-patch+json"


def main(command: str, argv: list[str]) -> None:
    parser = Parser("scale", "TYPE NAME | TYPE/NAME... --replicas=COUNT", "Set the number of replicas.")
    parser.add_argument("words", nargs="*", metavar="TYPE [NAME]")
    parser.add_argument("--replicas", type=int, required=True)
    parser.add_argument("--current-replicas", type=int, default=-1, help="only if there are this many now")
    parser.add_selector()
    parser.add_argument("--all", action="store_true", help="all objects of the type")
    args = parser.parse(argv)
    if args.replicas < 0:
        raise UsageError("The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0")
    server = Server(target.find(args))
    namespace = args.namespace or server.namespace
    for kind, names in selection(server, args.words):
        if not names and not (args.all or args.selector):
            raise UsageError("resource(s) were provided, but no name was specified")
        for name in names or _selected(server, kind, namespace, args.selector):
            try:
                _scale(server, args, kind.path(namespace, name, "scale"))
            except NotFound as err:
                if err.details:
                    raise
                raise UsageError(f"{kind.qualified_plural} cannot be scaled: they have no number of replicas") from err
            print(f"{kind.qualified}/{name} scaled", flush=True)


def _selected(server: Server, kind: Kind, namespace: str, selector: str) -> list[str]:
    found = server.get(kind.path(namespace), {"labelSelector": selector}).get("items") or ()
    return [item["metadata"]["name"] for item in found]


def _scale(server: Server, args: Any, path: str) -> None:
    patch: dict[str, Any] = {"spec": {"replicas": args.replicas}}
    if args.current_replicas >= 0:
        scale = server.get(path)
        now = scale["spec"].get("replicas", 0)
        if now != args.current_replicas:
            raise UsageError(f"Expected replicas to be {args.current_replicas}, was {now}")
        patch["metadata"] = {"resourceVersion": scale["metadata"]["resourceVersion"]}
    server.call("PATCH", path, {"fieldManager": "kubectl"}, patch, content_type=MERGE)
