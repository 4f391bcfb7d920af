"""`kubarium describe`: objects for people to read, with their events, in kubectl's layout."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kubarium.cli import describers, kinds, tabs, target
from kubarium.cli.describing import Lines, Obj, head
from kubarium.cli.flags import Parser
from kubarium.cli.get import selection
from kubarium.cli.http import Server
from kubarium.cli.kinds import Kind
from kubarium.cli.run import Exit, UsageError, describe_error
from kubarium.machinery.errors import ApiError, NotFound
from kubarium.machinery.times import age


def main(command: str, argv: list[str]) -> None:
    parser = Parser("describe", "TYPE [NAME...] | TYPE/NAME... | -f FILE [flags]", "Show objects in detail.")
    parser.add_argument("words", nargs="*", metavar="TYPE [NAME]")
    parser.add_selector()
    parser.add_files()
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("--show-events", nargs="?", const="true", default="true")
    args = parser.parse(argv)
    server = Server(target.find(args))
    namespace = args.namespace or server.namespace
    errors: list[ApiError] = []
    found: list[Found] = []
    for kind, names in selection(server, args.words, args.filename, args.recursive):
        everywhere = args.all_namespaces or not kind.namespaced
        found += _found(server, kind, "" if everywhere else namespace, names, args.selector, errors)
    # As kubectl has it: events only of a single object that was named in full.
    events = args.show_events == "true" and len(found) == 1 and not found[0].alike
    texts = [tabs.expand(describe(server, one.kind, one.obj, events=events)) for one in found]
    if any(one.alike for one in found):
        sys.stdout.write("".join(f"{text}\n" for text in texts))
    else:
        sys.stdout.write("\n\n".join(texts))
    sys.stdout.flush()
    if not texts and not errors:
        print("No resources found" + ("" if args.all_namespaces else f" in {namespace} namespace."), file=sys.stderr)
    for err in errors:
        print(describe_error(err), file=sys.stderr)
    if errors:
        raise Exit(1)


class Found(NamedTuple):
    """`alike`: not named, but its name begins with what was asked for."""

    kind: Kind
    obj: Obj
    alike: bool = False


def _found(
    server: Server, kind: Kind, namespace: str, names: Sequence[str], selector: str, errors: list[ApiError]
) -> Iterator[Found]:
    """The objects named (a name that is none may be the beginning of one), or all."""
    stamp = {"apiVersion": kind.api_version, "kind": kind.kind}
    if not names:
        for item in server.get(kind.path(namespace), {"labelSelector": selector}).get("items") or ():
            yield Found(kind, {**stamp, **item})
    for name in names:
        if kind.namespaced and not namespace:
            raise UsageError("a resource cannot be retrieved by name across all namespaces")
        try:
            yield Found(kind, server.get(kind.path(namespace, name)))
        except NotFound as err:
            items = server.get(kind.path(namespace)).get("items") or ()
            alike = [item for item in items if item["metadata"]["name"].startswith(name)]
            yield from (Found(kind, {**stamp, **item}, True) for item in alike)
            if not alike:
                errors.append(err)


def describe(server: Server, kind: Kind, obj: Obj, *, events: bool = True) -> Lines:
    """The lines of one object, cells parted by tabs."""
    lines = describers.DESCRIBERS.get(kind.plural if kind in kinds.KNOWN else "", generic)(server, obj)
    if events and kind.plural not in describers.WITHOUT_EVENTS:
        lines += event_lines(server, obj)
    return lines


def event_lines(server: Server, obj: Obj) -> Lines:
    """What happened to the object, oldest first."""
    meta = obj["metadata"]
    fields = {
        "involvedObject.name": meta["name"],
        "involvedObject.namespace": meta.get("namespace", ""),
        "involvedObject.kind": obj.get("kind", ""),
        "involvedObject.uid": meta.get("uid", "") if obj.get("kind") != "Node" else "",  # kubelets give the name there
    }
    selector = ",".join(f"{key}={value}" for key, value in fields.items() if value)
    namespace = meta.get("namespace", "")
    path = f"/api/v1/namespaces/{namespace}/events" if namespace else "/api/v1/events"
    try:
        found = server.get(path, {"fieldSelector": selector}).get("items") or []
    except ApiError:
        found = []
    if not found:
        return ["Events:\t<none>"]
    now = time.time()
    found.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    rows = [_event(event, now) for event in found]
    return [
        "Events:",
        "  Type\tReason\tAge\tFrom\tMessage",
        "  ----\t------\t----\t----\t-------",
        *(f"  {row}" for row in rows),
    ]


def _event(event: Obj, now: float) -> str:
    first, last = event.get("firstTimestamp"), event.get("lastTimestamp")
    series = event.get("series") or {}
    count = series.get("count") or event.get("count") or 1
    first = first or event.get("eventTime")
    last = series.get("lastObservedTime") or last or first
    when = age(last or "", now)
    if count > 1:
        when = f"{when} (x{count} over {age(first or '', now)})"
    source = (event.get("source") or {}).get("component") or event.get("reportingComponent", "")
    part = (event.get("involvedObject") or {}).get("fieldPath")
    message = (f"{part}: " if part else "") + event.get("message", "").strip()
    return f"{event.get('type', '')}\t{event.get('reason', '')}\t{when}\t{source}\t{message}"


def generic(server: Server, obj: Obj) -> Lines:
    """Any object: its fields, indented, as kubectl shows kinds that it does not know."""
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "apiVersion", "kind")}
    meta = {
        key: value
        for key, value in obj["metadata"].items()
        if key not in ("managedFields", "name", "namespace", "labels", "annotations")
    }
    document = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta, **rest}
    return [*head(obj, namespaced=True), *_fields(document, "")]


def _fields(document: Mapping[str, Any], indent: str) -> Lines:
    lines: Lines = []
    for key, value in sorted(document.items(), key=lambda pair: pair[0].lower()):
        title = _title(key)
        if isinstance(value, dict):
            lines += [f"{indent}{title}:", *_fields(value, indent + "  ")]
        elif isinstance(value, list):
            lines += [f"{indent}{title}:"]
            for entry in value:
                lines += _fields(entry, indent + "  ") if isinstance(entry, dict) else [f"{indent}  {_plain(entry)}"]
        else:
            lines.append(f"{indent}{title}:\t{_plain(value)}")
    return lines


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "<nil>" if value is None else str(value)


def _title(key: str) -> str:
    """`leaseDurationSeconds` -> `Lease Duration Seconds`, `podIP` -> `Pod IP`, `uid` -> `UID`."""
    import re

    if not key.isidentifier():
        return key
    words = re.findall(r"[A-Z]+(?=[A-Z][a-z]|\b|_|\d)|[A-Z]?[a-z0-9]+|[A-Z]+", key)
    return " ".join(
        word.upper() if word.lower() in ("uid", "api", "id", "url", "ip", "dns", "cpu") else word[:1].upper() + word[1:]
        for word in words
    )
