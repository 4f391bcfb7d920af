"""`kubarium get`: the server renders the tables, we print them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kubarium.cli import kinds, output, target
from kubarium.cli.flags import Parser
from kubarium.cli.http import JSON, TABLE, Server
from kubarium.cli.kinds import Kind
from kubarium.cli.run import Exit, UsageError, describe_error
from kubarium.cli.table import Printer, cell_text, header_of, labels_text
from kubarium.machinery.errors import ApiError, NotFound


class Wanted(NamedTuple):
    """One kind, and the names asked for (none: all of them)."""

    kind: Kind
    names: tuple[str, ...]


def main(command: str, argv: list[str]) -> None:
    args = _parser().parse(argv)
    server = Server(target.find(args))
    if args.raw:
        sys.stdout.write(_raw(server, args.raw))
        return
    wanted = selection(server, args.words, args.filename, args.recursive)
    if args.sort_by and args.watch:
        raise UsageError("--sort-by and --watch exclude each other")
    Get(server, args).run(wanted)


def _parser() -> Parser:
    parser = Parser("get", "TYPE[,TYPE...] [NAME...] | TYPE/NAME... [flags]", "Show objects.")
    parser.add_argument("words", nargs="*", metavar="TYPE [NAME]")
    parser.add_output()
    parser.add_selector()
    parser.add_files()
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="objects of all namespaces")
    parser.add_argument("-w", "--watch", action="store_true", help="go on showing changes")
    parser.add_argument("--watch-only", action="store_true", help="show changes only")
    parser.add_argument("--field-selector", default="", help="for example status.phase=Running")
    parser.add_argument("--show-labels", action="store_true")
    parser.add_argument("-L", "--label-columns", action="append", default=[], help="show these labels as columns")
    parser.add_argument("--no-headers", action="store_true")
    parser.add_argument("--show-kind", action="store_true")
    parser.add_argument("--show-managed-fields", action="store_true")
    parser.add_argument("--ignore-not-found", action="store_true")
    parser.add_argument("--sort-by", default="", help="a JSONPath such as .metadata.creationTimestamp")
    parser.add_argument("--chunk-size", default="", help="accepted for kubectl's sake")
    parser.add_argument("--subresource", default="", help="status or scale")
    parser.add_argument("--raw", default="", help="a path to ask the server for")
    return parser


def _raw(server: Server, path: str) -> str:
    answer = server.get(path)
    if isinstance(answer, str):
        return answer
    import json

    return json.dumps(answer, separators=(",", ":")) + "\n"


def selection(server: Server, words: Sequence[str], files: Sequence[str] = (), recursive: bool = False) -> list[Wanted]:
    """`pods`, `pods a b`, `po,svc`, `pod/a svc/b`, `all`, or the objects that files name."""
    if files:
        from kubarium.cli.manifests import read_files

        return [
            Wanted(kinds.of_object(server, manifest.obj, manifest.source), (manifest.name,))
            for manifest in read_files(files, recursive=recursive)
        ]
    if not words:
        raise UsageError("You must specify the type of resource to get, for example: pods, svc, deployment/web")
    if any("/" in word for word in words):
        if not all(word.count("/") == 1 for word in words):
            raise UsageError(
                "there is no need to specify a resource type as a separate argument when passing "
                "arguments in resource/name form (e.g. 'get resource/<resource_name>')"
            )
        pairs = [word.split("/") for word in words]
        return [Wanted(kinds.find(server, kind), (name,)) for kind, name in pairs]
    types = [kind for word in words[0].split(",") for kind in (kinds.ALL if word == "all" else (word,))]
    return [Wanted(kinds.find(server, kind), tuple(words[1:])) for kind in types]


class Get:
    """One `get`: what was asked for, and what has been printed."""

    def __init__(self, server: Server, args: Any) -> None:
        self.server = server
        self.args = args
        self.output: str = args.output
        self.namespace = "" if args.all_namespaces else args.namespace or server.namespace
        self.tables = output.is_table(self.output)
        self.failed = False

    def run(self, wanted: Sequence[Wanted]) -> None:
        several = len({entry.kind for entry in wanted}) > 1
        if self.args.watch or self.args.watch_only:
            if len(wanted) != 1 or len(wanted[0].names) > 1:
                raise UsageError("you may only specify a single resource type, and one name, with --watch")
            self._watch(wanted[0], several)
        elif self.tables:
            self._print_tables(wanted, several or self.args.show_kind)
        else:
            self._print_objects(wanted)
        if self.failed:
            raise Exit(1)

    def _query(self, **more: str) -> dict[str, str]:
        return {"labelSelector": self.args.selector, "fieldSelector": self.args.field_selector, **more}

    def _fetch(self, wanted: Wanted, accept: str, **query: str) -> Iterable[dict[str, Any]]:
        """One document for a list, or one for each name; a missing name is told and the others go on."""
        kind, names = wanted
        if not names:
            yield self.server.get(kind.path(self.namespace), self._query(limit="", **query), accept=accept)
        for name in names:
            if kind.namespaced and not self.namespace:
                raise UsageError("a resource cannot be retrieved by name across all namespaces")
            try:
                path = kind.path(self.namespace, name, self.args.subresource)
                yield self.server.get(path, query, accept=accept)
            except NotFound as err:
                self._missing(err)

    def _missing(self, err: ApiError) -> None:
        if not self.args.ignore_not_found:
            sys.stdout.flush()
            print(describe_error(err), file=sys.stderr)
            self.failed = True

    def _print_tables(self, wanted: Sequence[Wanted], several: bool) -> None:
        printed = False
        include = {"includeObject": "Object"} if self.args.sort_by else {}
        merged: dict[Kind, list[dict[str, Any]]] = {}
        for entry in wanted:
            merged.setdefault(entry.kind, []).extend(self._fetch(entry, TABLE, **include))
        for kind, tables in merged.items():
            rows = [row for table in tables for row in table.get("rows") or ()]
            if not rows:
                continue
            if printed:
                print()
            printed = True
            printer = Printer(headers=not self.args.no_headers)
            self._print_rows(printer, kind, tables[0], self._sorted(rows), several)
        if not printed and not self.failed and not any(entry.names for entry in wanted):
            self._nothing(any(entry.kind.namespaced for entry in wanted))

    def _nothing(self, namespaced: bool) -> None:
        if not self.args.ignore_not_found:
            where = f" in {self.namespace} namespace." if namespaced and self.namespace else ""
            print(f"No resources found{where}", file=sys.stderr)

    def _sorted(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not self.args.sort_by:
            return rows
        from kubarium.cli import jsonpath

        def key(row: Mapping[str, Any]) -> tuple[int, Any]:
            found = jsonpath.values(self.args.sort_by, row["object"])
            value = found[0] if found else None
            return (0, "") if value is None else (1, value if isinstance(value, int | float) else str(value))

        return sorted(rows, key=key)

    def _print_rows(
        self, printer: Printer, kind: Kind, table: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], several: bool
    ) -> None:
        header, places = header_of(table, wide=self.output == "wide")
        spaced = bool(self.args.all_namespaces and kind.namespaced)
        columns = [name for names in self.args.label_columns for name in names.split(",")]
        prefix = f"{kind.qualified}/" if several else ""
        lines = []
        for row in rows:
            meta = (row.get("object") or {}).get("metadata") or {}
            line = [cell_text(row["cells"][place]) for place in places]
            if line:
                line[0] = prefix + line[0]
            if spaced:
                line.insert(0, meta.get("namespace", ""))
            line += [(meta.get("labels") or {}).get(name, "") for name in columns]
            if self.args.show_labels:
                line.append(labels_text(meta.get("labels")))
            lines.append(line)
        titles = [*(["NAMESPACE"] if spaced else []), *header, *(name.split("/")[-1].upper() for name in columns)]
        printer.print(titles + (["LABELS"] if self.args.show_labels else []), lines)

    def _print_objects(self, wanted: Sequence[Wanted]) -> None:
        found: list[tuple[Kind, dict[str, Any]]] = []
        for entry in wanted:
            for document in self._fetch(entry, JSON):
                items = document.get("items")
                if items is None or entry.names:
                    found.append((entry.kind, document))
                    continue
                stamp = {"apiVersion": entry.kind.api_version, "kind": entry.kind.kind}
                found += [(entry.kind, {**stamp, **item}) for item in items]
        single = len(wanted) == 1 and len(wanted[0].names) == 1
        if not found and (single or self.failed or self.args.ignore_not_found):
            return
        if self.args.sort_by:
            from kubarium.cli import jsonpath

            found.sort(key=lambda pair: str(next(iter(jsonpath.values(self.args.sort_by, pair[1])), "")))
        output.print_objects(self.output, found, single=single, show_managed_fields=self.args.show_managed_fields)

    def _watch(self, wanted: Wanted, several: bool) -> None:
        """The list first, then every change until the server or the user ends it."""
        kind, names = wanted
        accept = TABLE if self.tables else JSON
        query = self._query()
        if names:
            fields = filter(None, (query["fieldSelector"], f"metadata.name={names[0]}"))
            query["fieldSelector"] = ",".join(fields)
        path = kind.path(self.namespace)
        listing = self.server.get(path, query, accept=accept)
        printer = Printer(headers=not self.args.no_headers)
        header = listing if self.tables else {}
        if not self.args.watch_only:
            self._show(printer, kind, header, listing, several)
        query["resourceVersion"] = listing["metadata"]["resourceVersion"]
        for event in self.server.watch(path, query, accept=accept):
            if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                obj = event["object"]
                if self.tables and obj.get("columnDefinitions"):
                    header = obj
                self._show(printer, kind, header, obj, several)

    def _show(
        self, printer: Printer, kind: Kind, header: Mapping[str, Any], document: dict[str, Any], several: bool
    ) -> None:
        if self.tables:
            rows = document.get("rows") or []
            if rows:
                self._print_rows(printer, kind, header, rows, several)
            return
        items = document.get("items")
        stamp = {"apiVersion": kind.api_version, "kind": kind.kind}
        for obj in [document] if items is None else [{**stamp, **item} for item in items]:
            output.print_objects(
                self.output, [(kind, obj)], single=True, show_managed_fields=self.args.show_managed_fields
            )
            sys.stdout.flush()
