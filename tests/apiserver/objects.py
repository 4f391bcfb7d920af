"""Objects for tests of the registry, and what happens to them on their way through a strategy."""

from __future__ import annotations

import copy
import json
from typing import Any

from apiserver import decode
from apiserver.registry import REGISTRY, ResourceDef
from apiserver.registry.service_families import settle
from kubarium.machinery.errors import StatusCause

Json = dict[str, Any]
FAMILIES = ("IPv4",)  # of the cluster's Services
TEMPLATE: Json = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1.25"}]}}


def resource(path: str) -> ResourceDef:
    """`apps/v1/deployments`, `v1/pods`."""
    head, _, plural = path.rpartition("/")
    group, _, version = head.rpartition("/")
    found = REGISTRY.get(group, version, plural)
    assert found is not None, path
    return found


def pod(spec: Json | None = None, **meta: Any) -> Json:
    base: Json = {"containers": [{"name": "c", "image": "nginx"}]}
    return {"metadata": {"name": "p", **meta}, "spec": base | (spec or {})}


def service(spec: Json | None = None, **meta: Any) -> Json:
    return {"metadata": {"name": "s", **meta}, "spec": {"ports": [{"port": 80}]} | (spec or {})}


def deployment(spec: Json | None = None, **meta: Any) -> Json:
    base: Json = {"selector": {"matchLabels": {"a": "b"}}, "template": copy.deepcopy(TEMPLATE)}
    return {"metadata": {"name": "d", **meta}, "spec": base | (spec or {})}


def created(path: str, obj: Json) -> Json:
    """The object as a create leaves it, admission and the numbers given to Services aside."""
    return _made(path, obj)[0]


def _made(path: str, obj: Json) -> tuple[Json, list[StatusCause]]:
    """The object, and what is wrong with it."""
    found = resource(path)
    out, _ = decode.decode(json.dumps(obj).encode(), "application/json", found)
    if found.namespaced:
        out["metadata"].setdefault("namespace", "default")
    out["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    wrong: list[StatusCause] = settle(out, None, FAMILIES) if path == "v1/services" else []
    found.strategy.prepare_create(out)
    found.strategy.default(out)
    return out, wrong or found.strategy.validate(out)


def stored(path: str, obj: Json) -> Json:
    """The same as an update meets it."""
    out = created(path, obj)
    out["metadata"]["resourceVersion"] = "7"
    return out


def faults(path: str, obj: Json) -> list[StatusCause]:
    return _made(path, obj)[1]


def updated(path: str, old: Json, change: Json, *, status: bool = False) -> tuple[Json, list[StatusCause]]:
    """The new object and the faults of an update that merges `change` into the stored one."""
    from apiserver.jsonpatch import merge

    found = resource(path)
    new, _ = decode.typed(merge(copy.deepcopy(old), change), found)
    strategy = found.strategy
    strategy.default(new)
    if path == "v1/services" and (wrong := settle(new, old, FAMILIES)):
        return new, wrong
    (strategy.prepare_status_update if status else strategy.prepare_update)(new, old)
    return new, (strategy.validate_status_update if status else strategy.validate_update)(new, old)


def texts(found: list[StatusCause]) -> list[str]:
    """`spec.ports: Required value`, one a cause."""
    return [f"{cause.field}: {cause.message}" for cause in found]
