"""Objects for tests of the registry, and what happens to them on their way through a strategy."""

from __future__ import annotations

import copy
import json
from typing import Any

from apiserver import decode
from apiserver.registry import REGISTRY, ResourceDef
from kubarium.machinery.errors import StatusCause

Json = dict[str, Any]
TEMPLATE: Json = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1.25"}]}}


def resource(path: str) -> ResourceDef:
    """`apps/v1/deployments`, `v1/pods`."""
    group, _, rest = path.rpartition("/v1/")
    found = REGISTRY.get("" if path.startswith("v1/") else group, "v1", rest.removeprefix("v1/"))
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
    """The object as a create leaves it, allocation and admission aside."""
    found = resource(path)
    out, _ = decode.decode(json.dumps(obj).encode(), "application/json", found)
    if found.namespaced:
        out["metadata"].setdefault("namespace", "default")
    found.strategy.prepare_create(out)
    found.strategy.default(out)
    return out


def stored(path: str, obj: Json) -> Json:
    """The same with what the server adds, as an update meets it."""
    out = created(path, obj)
    out["metadata"] |= {"uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return out


def faults(path: str, obj: Json) -> list[StatusCause]:
    return resource(path).strategy.validate(created(path, obj))


def updated(path: str, old: Json, change: Json, *, status: bool = False) -> tuple[Json, list[StatusCause]]:
    """The new object and the faults of an update that merges `change` into the stored one."""
    from apiserver.jsonpatch import merge

    found = resource(path)
    new, _ = decode.typed(merge(copy.deepcopy(old), change), found)
    strategy = found.strategy
    strategy.default(new)
    (strategy.prepare_status_update if status else strategy.prepare_update)(new, old)
    return new, (strategy.validate_status_update if status else strategy.validate_update)(new, old)


def texts(found: list[StatusCause]) -> list[str]:
    """`spec.ports: Required value`, one a cause."""
    return [f"{cause.field}: {cause.message}" for cause in found]
