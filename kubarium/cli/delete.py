"""`kubarium delete`: delete objects, and wait until they are gone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from kubarium.cli import kinds, observe, target
from kubarium.cli.flags import Parser
from kubarium.cli.get import selection
from kubarium.cli.http import Server
from kubarium.cli.kinds import Kind
from kubarium.cli.run import Exit, UsageError, describe_error
from kubarium.machinery.errors import ApiError, ClusterError, NotFound


class Doomed(NamedTuple):
    kind: Kind
    namespace: str
    name: str


def main(command: str, argv: list[str]) -> None:
    parser = Parser("delete", "TYPE NAME... | TYPE/NAME... | -f FILE | TYPE -l SELECTOR [flags]", "Delete objects.")
    parser.add_argument("words", nargs="*", metavar="TYPE [NAME]")
    parser.add_files()
    parser.add_selector()
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("--all", action="store_true", help="all objects of the types")
    parser.add_argument("--field-selector", default="")
    parser.add_argument(
        "--wait", nargs="?", const="true", default="true", help="false: do not wait until they are gone"
    )
    parser.add_argument("--timeout", default="0s", help="how long to wait, 0s: forever")
    parser.add_argument("--grace-period", type=int, default=-1, help="seconds to stop in; 0 with --force")
    parser.add_argument("--now", action="store_true", help="as --grace-period=1")
    parser.add_argument("--force", action="store_true", help="with grace period 0: do not wait for confirmation")
    parser.add_argument("--ignore-not-found", nargs="?", const="true", default="", help="a missing object is no error")
    parser.add_argument("--cascade", default="background", choices=("background", "foreground", "orphan"))
    parser.add_argument("-o", "--output", default="", choices=("", "name"))
    args = parser.parse(argv)
    server = Server(target.find(args))
    Delete(server, args).run()


class Delete:
    def __init__(self, server: Server, args: Any) -> None:
        self.server = server
        self.args = args
        self.failed = False
        self.tolerant = args.ignore_not_found == "true" or (args.all and not args.ignore_not_found)

    def run(self) -> None:
        doomed = list(self._selected())
        if not doomed and not self.failed:
            print("No resources found", file=sys.stderr)
        gone: list[tuple[Doomed, str]] = []
        if self.args.force and doomed:
            print(
                "Warning: Immediate deletion does not wait for confirmation that the running resource has been "
                "terminated. The resource may continue to run on the cluster indefinitely.",
                file=sys.stderr,
            )
        for victim in doomed:
            try:
                gone.append((victim, self._delete(victim)))
            except NotFound as err:
                self._missing(err)
            except ApiError as err:
                self._fail(err)
        if self.args.wait != "false" and not (self.args.force and self._grace() == 0):
            self._wait(gone)
        if self.failed:
            raise Exit(1)

    def _selected(self) -> Iterator[Doomed]:
        args, namespace = self.args, self.args.namespace or self.server.namespace
        if args.filename:
            from kubarium.cli.manifests import read_files

            for manifest in read_files(args.filename, recursive=args.recursive):
                kind = kinds.of_object(self.server, manifest.obj, manifest.source)
                yield Doomed(kind, (manifest.namespace or namespace) if kind.namespaced else "", manifest.name)
            return
        for kind, names in selection(self.server, args.words):
            here = namespace if kind.namespaced else ""
            if names:
                yield from (Doomed(kind, here, name) for name in names)
            elif args.all or args.selector or args.field_selector:
                yield from self._listed(kind, "" if args.all_namespaces else here)
            else:
                raise UsageError("resource(s) were provided, but no name was specified")

    def _listed(self, kind: Kind, namespace: str) -> Iterator[Doomed]:
        query = {"labelSelector": self.args.selector, "fieldSelector": self.args.field_selector}
        for item in self.server.get(kind.path(namespace), query).get("items") or ():
            yield Doomed(kind, item["metadata"].get("namespace", ""), item["metadata"]["name"])

    def _grace(self) -> int:
        if self.args.now:
            return 1
        return 0 if self.args.force and self.args.grace_period < 0 else int(self.args.grace_period)

    def _delete(self, victim: Doomed) -> str:
        """Ask for the deletion; gives the uid of what goes."""
        body: dict[str, Any] = {"propagationPolicy": self.args.cascade.capitalize()}
        if (grace := self._grace()) >= 0:
            body["gracePeriodSeconds"] = grace
        path = victim.kind.path(victim.namespace, victim.name)
        answer = self.server.call("DELETE", path, None, {"apiVersion": "v1", "kind": "DeleteOptions", **body})
        if self.args.output == "name":
            print(f"{victim.kind.qualified}/{victim.name}", flush=True)
        else:
            how = "force deleted" if self.args.force and self._grace() == 0 else "deleted"
            where = f" from {victim.namespace} namespace" if victim.namespace else ""
            print(f'{victim.kind.qualified} "{victim.name}" {how}{where}', flush=True)
        found = answer.get("details") if answer.get("kind") == "Status" else answer.get("metadata")
        return str((found or {}).get("uid", ""))

    def _wait(self, gone: list[tuple[Doomed, str]]) -> None:
        limit = observe.seconds(self.args.timeout)
        deadline = time.monotonic() + limit if limit > 0 else None
        for victim, uid in gone:
            try:
                for state in observe.states(self.server, victim.kind, victim.namespace, victim.name, deadline=deadline):
                    if state is None or (uid and state["metadata"]["uid"] != uid):
                        break
            except TimeoutError:
                raise ClusterError(
                    f"timed out waiting for the condition on {victim.kind.plural}/{victim.name}"
                ) from None

    def _missing(self, err: ApiError) -> None:
        if not self.tolerant:
            self._fail(err)

    def _fail(self, err: ApiError) -> None:
        sys.stdout.flush()
        print(describe_error(err), file=sys.stderr)
        self.failed = True
