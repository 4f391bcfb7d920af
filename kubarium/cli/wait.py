"""`kubarium wait`: until a condition holds, an object is there, or gone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from kubarium.cli import observe, target
from kubarium.cli.flags import Parser
from kubarium.cli.get import selection
from kubarium.cli.http import Server
from kubarium.cli.kinds import Kind
from kubarium.cli.run import Exit, UsageError

State = dict[str, Any] | None
Check = Callable[[State], bool]


def main(command: str, argv: list[str]) -> None:
    parser = Parser("wait", "TYPE/NAME... | TYPE -l SELECTOR --for=...", "Wait until something is true of objects.")
    parser.add_argument("words", nargs="*", metavar="TYPE [NAME]")
    parser.add_argument(
        "--for",
        dest="condition",
        required=True,
        help="condition=Ready, delete, create, jsonpath='{.status.phase}'=Running",
    )
    parser.add_argument("--timeout", default="30s", help="give up after this long; below 0: after a week")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("--all", action="store_true", help="all objects of the types")
    parser.add_argument("--field-selector", default="")
    parser.add_selector()
    parser.add_files()
    args = parser.parse(argv)
    server = Server(target.find(args))
    check = _check(args.condition)
    limit = observe.seconds(args.timeout)
    deadline = time.monotonic() + (limit if limit >= 0 else 7 * 86400)
    failed = False
    count = 0
    for kind, namespace, name in _selected(server, args):
        count += 1
        if not _wait(server, kind, namespace, name, check, deadline, args.condition):
            failed = True
    if not count and args.condition.lower() != "delete":
        raise UsageError("no matching resources found")
    if failed:
        raise Exit(1)


def _selected(server: Server, args: Any) -> Iterator[tuple[Kind, str, str]]:
    namespace = args.namespace or server.namespace
    for kind, names in selection(server, args.words, args.filename, args.recursive):
        here = namespace if kind.namespaced else ""
        if names:
            yield from ((kind, here, name) for name in names)
            continue
        if not (args.all or args.selector or args.field_selector):
            raise UsageError("resource(s) were provided, but no name was specified")
        query = {"labelSelector": args.selector, "fieldSelector": args.field_selector}
        found = server.get(kind.path("" if args.all_namespaces else here), query).get("items") or ()
        yield from ((kind, item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in found)


def _wait(server: Server, kind: Kind, namespace: str, name: str, check: Check, deadline: float, condition: str) -> bool:
    needs_it = condition.lower() not in ("delete", "create")
    seen = False
    try:
        for state in observe.states(server, kind, namespace, name, deadline=deadline):
            if state is None and needs_it:
                sys.stdout.flush()
                print(f'Error from server (NotFound): {kind.qualified_plural} "{name}" not found', file=sys.stderr)
                return False
            if check(state):
                if seen or state is not None:  # of what was gone from the start kubectl says nothing
                    print(f"{kind.qualified}/{name} condition met", flush=True)
                return True
            seen = seen or state is not None
    except TimeoutError:
        pass
    sys.stdout.flush()
    print(f"error: timed out waiting for the condition on {kind.plural}/{name}", file=sys.stderr)
    return False


def _check(condition: str) -> Check:
    """What --for asks for, as a test of an object's state."""
    lower = condition.lower()
    if lower == "delete":
        return lambda state: state is None
    if lower == "create":
        return lambda state: state is not None
    if condition.startswith("condition="):
        name, _, wanted = condition.removeprefix("condition=").partition("=")
        return _condition(name, wanted or "True")
    if condition.startswith("jsonpath="):
        return _jsonpath(condition.removeprefix("jsonpath="))
    raise UsageError(f'unrecognized condition: "{condition}"')


def _condition(name: str, wanted: str) -> Check:
    def check(state: State) -> bool:
        meta, status = (state or {}).get("metadata") or {}, (state or {}).get("status") or {}
        for found in status.get("conditions") or ():
            if found["type"].lower() == name.lower():
                observed = found.get("observedGeneration") or status.get("observedGeneration") or 0
                fresh = not observed or observed >= (meta.get("generation") or 0)
                return bool(fresh and found["status"].lower() == wanted.lower())
        return False

    return check


def _jsonpath(text: str) -> Check:
    from kubarium.cli import jsonpath

    expression, closed, wanted = text.strip("'\"").rpartition("}")
    if not closed or not expression.startswith("{"):
        raise UsageError(f"--for=jsonpath={text}: expected for example jsonpath='{{.status.phase}}'=Running")
    expression += "}"
    wanted = wanted.removeprefix("=").strip("'\"") if wanted else ""

    def check(state: State) -> bool:
        found = jsonpath.values(expression, state or {})
        if not wanted:
            return bool(found)
        return len(found) == 1 and (str(found[0]).lower() if isinstance(found[0], bool) else str(found[0])) == wanted

    return check
