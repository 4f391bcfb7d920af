"""The roles and bindings that every cluster has, and how those of a store are brought up to them. Pure.

They stand in `defaults.jsonl`, one a line, without what is the same in all: apiVersion, kind, the label and the
annotation, the API group of references. Source: Kubernetes documentation, "Default roles and role bindings" and
"Auto-reconciliation"; component-helpers/auth/rbac/reconciliation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import orjson

from apiserver.auth.rules import Rule, missing, parse_rules
from apiserver.registry.base import Object
from apiserver.registry.rbac import GROUP, SERVICE_ACCOUNT

AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
KINDS = {
    "clusterroles": "ClusterRole",
    "clusterrolebindings": "ClusterRoleBinding",
    "roles": "Role",
    "rolebindings": "RoleBinding",
}


@cache
def _lines() -> tuple[Object, ...]:
    data = Path(__file__).with_name("defaults.jsonl").read_bytes()
    return tuple(orjson.loads(line) for line in data.splitlines())


def default_objects() -> Iterator[tuple[str, Object]]:
    """(plural, object), each the caller's own; roles before bindings."""
    for line in _lines():
        yield line["in"], _object(copy.deepcopy(line))


def _object(line: Object) -> Object:
    kind = KINDS[line.pop("in")]
    metadata: Object = {"name": line.pop("name")}
    if namespace := line.pop("namespace", ""):
        metadata["namespace"] = namespace
    metadata["labels"] = {"kubernetes.io/bootstrapping": "rbac-defaults", **line.pop("labels", {})}
    metadata["annotations"] = {AUTO_UPDATE: "true"}
    if "roleRef" in line:
        line["roleRef"] = {"apiGroup": GROUP, **line["roleRef"]}
        for subject in line.get("subjects") or ():
            if subject["kind"] != SERVICE_ACCOUNT:
                subject["apiGroup"] = GROUP
    return {"kind": kind, "apiVersion": f"{GROUP}/v1", "metadata": metadata, **line}


def node_rules() -> tuple[Rule, ...]:
    """What every kubelet may do, whatever the store says: the rules of the ClusterRole system:node."""
    found = next(line for line in _lines() if line["in"] == "clusterroles" and line["name"] == "system:node")
    return parse_rules(found["rules"])


def reconciled(found: Object, wanted: Object) -> Object | None:
    """`found` with what it lacks of `wanted`; None where it lacks nothing, or is not to be touched.

    More rules and subjects than wanted stay. What it is bound to cannot be changed: see `is_other_binding`.
    """
    metadata, default = found["metadata"], wanted["metadata"]
    if (metadata.get("annotations") or {}).get(AUTO_UPDATE) == "false":
        return None
    new = copy.deepcopy(found)
    for kind in ("labels", "annotations"):
        new["metadata"][kind] = {**default[kind], **(metadata.get(kind) or {})}
    if "roleRef" in wanted:
        have = found.get("subjects") or []
        new_subjects = [subject for subject in wanted.get("subjects") or () if subject not in have]
        if new_subjects:
            new["subjects"] = [*have, *new_subjects]
    else:
        _reconcile_rules(new, wanted)
    return None if new == found else new


def _reconcile_rules(new: Object, wanted: Object) -> None:
    rules = new.get("rules") or []
    if lacking := missing(parse_rules(rules), parse_rules(wanted.get("rules"))):
        new["rules"] = [*rules, *map(_rule_object, lacking)]
    selectors = (wanted.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
    if not selectors:
        new.pop("aggregationRule", None)
        return
    have = (new.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
    new["aggregationRule"] = {"clusterRoleSelectors": [*have, *(s for s in selectors if s not in have)]}


def _rule_object(rule: Rule) -> Object:
    fields = {
        "verbs": rule.verbs,
        "apiGroups": rule.groups,
        "resources": rule.resources,
        "resourceNames": rule.names,
        "nonResourceURLs": rule.paths,
    }
    return {name: list(values) for name, values in fields.items() if values}


def is_other_binding(found: Object, wanted: Object) -> bool:
    """Whether a binding leads to another role than it should: it must be made anew, unless it is not to be touched."""
    if "roleRef" not in wanted or found.get("roleRef") == wanted["roleRef"]:
        return False
    return (found["metadata"].get("annotations") or {}).get(AUTO_UPDATE) != "false"
