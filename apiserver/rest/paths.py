"""From a path to the resource it names. Pure. Source: API concepts, "Resource URIs"."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

NAMESPACE_PARTS = ("status", "finalize")  # what may follow a namespace's name without being a resource in it
STREAMS = ("exec", "attach", "portforward")  # streams into a container
PARTS = ("log", "proxy", *STREAMS)  # what is passed on to somebody else
PROXY_VERBS = {  # by the method of a request that is passed on to a pod, service or node
    "GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "OPTIONS": "",
}  # fmt: skip
KEPT = 256  # the longest path whose parts are remembered


class Target(NamedTuple):
    """The parts of a resource path. `rest` is what follows a subresource (proxy paths)."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    watch: bool = False  # the old form, /api/v1/watch/...


def parse_path(path: str) -> Target | None:
    """None for a path that names no resource, such as /version or /apis/apps/v1."""
    return _known(path) if len(path) <= KEPT else _parse(path)


def _parse(path: str) -> Target | None:
    parts = (unquote(path) if "%" in path else path).split("/")[1:]
    if parts[0] == "api":
        group, parts = "", parts[1:]
    elif parts[0] == "apis" and len(parts) > 1:
        group, parts = parts[1], parts[2:]
    else:
        return None
    if len(parts) < 2 or not parts[1]:
        return None
    version, parts = parts[0], parts[1:]
    if parts[-1] == "":
        parts.pop()
    watch = parts[0] == "watch" and len(parts) > 1
    if watch:
        parts = parts[1:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and parts[2] not in NAMESPACE_PARTS:
        namespace, parts = parts[1], parts[2:]
    return Target(
        group,
        version,
        parts[0],
        namespace,
        parts[1] if len(parts) > 1 else "",
        parts[2] if len(parts) > 2 else "",
        "/".join(parts[3:]),
        watch,
    )


_known = lru_cache(maxsize=4096)(_parse)
