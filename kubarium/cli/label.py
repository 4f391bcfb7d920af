"""`kubarium label`: set (key=value) and remove (key-) labels."""

from __future__ import annotations

import re
from typing import Any

from kubarium.cli import output, target
from kubarium.cli.flags import Parser
from kubarium.cli.get import selection
from kubarium.cli.http import Server
from kubarium.cli.kinds import Kind
from kubarium.cli.run import UsageError

MERGE = "application/merge-patch+json"
_CHANGE = re.compile(r"(?P<key>[A-Za-z0-9][-A-Za-z0-9_./]*)(?:=(?P<value>.*)|(?P<gone>-))")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def main(command: str, argv: list[str]) -> None:
    removals = [word for word in argv if re.fullmatch(r"[A-Za-z0-9][-A-Za-z0-9_./]*-", word)]
    parser = Parser("label", "TYPE NAME... KEY=VALUE... KEY-...", "Set and remove labels.")
    parser.add_argument("words", nargs="*", metavar="TYPE NAME KEY=VALUE")
    parser.add_argument("--overwrite", action="store_true", help="change values that are there")
    parser.add_argument("--all", action="store_true", help="all objects of the type")
    parser.add_argument("--list", action="store_true", help="show the labels")
    parser.add_selector()
    parser.add_output()
    args = parser.parse(argv)
    server = Server(target.find(args))
    words = [word for word in args.words if "=" not in word and word not in removals]
    changes = _changes([word for word in args.words if word not in words])
    if not changes and not args.list:
        raise UsageError("at least one label update is required")
    namespace = args.namespace or server.namespace
    for kind, names in selection(server, words):
        if names:
            objects = [server.get(kind.path(namespace, name)) for name in names]
        elif args.all or args.selector:
            objects = server.get(kind.path(namespace), {"labelSelector": args.selector}).get("items") or []
        else:
            raise UsageError("one or more resources must be specified as <resource> <name> or <resource>/<name>")
        for obj in objects:
            _label(server, args, kind, obj, changes)


def _changes(words: list[str]) -> dict[str, str | None]:
    changes: dict[str, str | None] = {}
    for word in words:
        found = _CHANGE.fullmatch(word)
        if found is None:
            raise UsageError(f"invalid label spec: {word}")
        value = None if found.group("gone") else found.group("value")
        if value is not None and not _VALUE.fullmatch(value):
            raise UsageError(
                f'invalid label value: "{word}": at most 63 letters, digits, "-", "_" and ".", '
                "with a letter or digit at both ends"
            )
        changes[found.group("key")] = value
    return changes


def _label(server: Server, args: Any, kind: Kind, obj: dict[str, Any], changes: dict[str, str | None]) -> None:
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    for key, value in changes.items():
        if value is not None and not args.overwrite and key in labels and labels[key] != value:
            raise UsageError(f"'{key}' already has a value ({labels[key]}), and --overwrite is false")
    for key, value in changes.items():
        if value is None and key not in labels:
            print(f'label "{key}" not found.')
    wanted = {key: value for key, value in {**labels, **changes}.items() if value is not None}
    if wanted != labels:
        patch = {"metadata": {"labels": changes, "resourceVersion": meta["resourceVersion"]}}
        path = kind.path(meta.get("namespace", ""), meta["name"])
        obj = server.call("PATCH", path, {"fieldManager": "kubectl-label"}, patch, content_type=MERGE)
    if args.list:
        print("\n".join(f"{key}={value}" for key, value in sorted(wanted.items())))
    elif args.output:
        output.print_objects(args.output, [(kind, obj)], single=True)
    else:
        print(f"{kind.qualified}/{meta['name']} {_done(labels, wanted, changes)}", flush=True)


def _done(labels: dict[str, str], wanted: dict[str, str], changes: dict[str, str | None]) -> str:
    if wanted == labels:
        return "not labeled"
    return "unlabeled" if all(value is None for value in changes.values()) else "labeled"
