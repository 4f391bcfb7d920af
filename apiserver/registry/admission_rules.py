"""What webhooks and admission policies share: which requests they are about (rules, selectors, conditions).

Source: k8s.io/kubernetes/pkg/apis/admissionregistration/{v1,validation} (defaults, order and texts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.labels import check_selector

ANY = "*"
STATIC_SUFFIX = ".static.k8s.io"
FAILURE_POLICIES = ("Fail", "Ignore")
MATCH_POLICIES = ("Equivalent", "Exact")
REINVOCATION_POLICIES = ("IfNeeded", "Never")
MUTATING_OPERATIONS = (ANY, "CONNECT", "CREATE", "UPDATE")
_OPERATIONS = (ANY, "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = (ANY, "Cluster", "Namespaced")
_MAX_CONDITIONS = 64

ExpressionCheck = Callable[[str, str, Faults], None]
"""(expression, its path, faults): what is wrong with a CEL expression."""


def default_rules(rules: Iterable[Object]) -> None:
    for rule in rules:
        rule.setdefault("scope", ANY)


def default_matching(holder: Object) -> None:
    """Of a webhook or of MatchResources."""
    holder.setdefault("matchPolicy", "Equivalent")
    holder.setdefault("namespaceSelector", {})
    holder.setdefault("objectSelector", {})


def default_match_resources(match: Object | None) -> None:
    if match is not None:
        default_matching(match)
        default_rules(match.get("resourceRules") or ())
        default_rules(match.get("excludeResourceRules") or ())


def warnings(new: Object, _old: Object | None) -> list[str]:
    name = new["metadata"].get("name", "")
    if not name.endswith(STATIC_SUFFIX):
        return []
    text = f'names ending with "{STATIC_SUFFIX}" are reserved for static manifest-based configurations'
    return [f"metadata.name: {text} and cannot be managed via the API"]


# --- rules


def check_rule(rule: Object, path: str, faults: Faults) -> None:
    """One rule with operations."""
    operations = rule.get("operations") or []
    if not operations:
        faults.required(f"{path}.operations")
    _alone(operations, f"{path}.operations", "operations", faults)
    for i, operation in enumerate(operations):
        if operation not in _OPERATIONS:
            faults.unsupported(f"{path}.operations[{i}]", operation, _OPERATIONS)
    groups, versions = rule.get("apiGroups") or [], rule.get("apiVersions") or []
    if not groups:
        faults.required(f"{path}.apiGroups")
    _alone(groups, f"{path}.apiGroups", "API groups", faults)
    if not versions:
        faults.required(f"{path}.apiVersions")
    _alone(versions, f"{path}.apiVersions", "API versions", faults)
    for i, version in enumerate(versions):
        if not version:
            faults.required(f"{path}.apiVersions[{i}]")
    _check_resources(rule.get("resources") or [], f"{path}.resources", faults)
    if (scope := rule.get("scope")) is not None and scope not in _SCOPES:
        faults.unsupported(f"{path}.scope", scope, _SCOPES)


def _alone(values: Sequence[str], path: str, what: str, faults: Faults) -> None:
    if len(values) > 1 and ANY in values:
        faults.invalid(path, values, f"if '*' is present, must not specify other {what}")


def _check_resources(resources: list[str], path: str, faults: Faults) -> None:
    """`pods`, `pods/*`, `*/scale`, `*`, `*/*`: what one entry covers, another may not name again."""
    if not resources:
        faults.required(path)
    whole: set[str] = set()  # x of x/*
    everywhere: set[str] = set()  # y of */y
    plain = False
    for i, entry in enumerate(resources):
        if not entry:
            faults.required(f"{path}[{i}]")
            continue
        resource, slash, sub = entry.partition("/")
        if not slash:
            plain = entry != ANY
            continue
        if resource in whole:
            faults.invalid(f"{path}[{i}]", entry, f"if '{resource}/*' is present, must not specify {entry}")
        if sub in everywhere:
            faults.invalid(f"{path}[{i}]", entry, f"if '*/{sub}' is present, must not specify {entry}")
        if sub == ANY:
            whole.add(resource)
        if resource == ANY:
            everywhere.add(sub)
    if len(resources) > 1 and "*/*" in resources:
        faults.invalid(path, resources, "if '*/*' is present, must not specify other resources")
    if ANY in resources and plain:
        text = "if '*' is present, must not specify other resources without subresources"
        faults.invalid(path, resources, text)


def check_match_resources(match: Object | None, path: str, faults: Faults) -> None:
    if match is None:
        return
    if (policy := match.get("matchPolicy")) is None:
        faults.required(f"{path}.matchPolicy")
    elif policy not in MATCH_POLICIES:
        faults.unsupported(f"{path}.matchPolicy", policy, MATCH_POLICIES)
    for field in ("namespaceSelector", "objectSelector"):
        if (selector := match.get(field)) is None:
            faults.required(f"{path}.{field}")
        else:
            check_selector(selector, f"{path}.{field}", faults)
    for field in ("resourceRules", "excludeResourceRules"):
        for i, rule in enumerate(match.get(field) or ()):
            _check_named_rule(rule, f"{path}.{field}[{i}]", faults)


def _check_named_rule(rule: Object, path: str, faults: Faults) -> None:
    seen: set[str] = set()
    for i, name in enumerate(rule.get("resourceNames") or ()):
        faults.each(f"{path}.resourceNames[{i}]", name, names.path_segment_name(name))
        if name in seen:
            faults.duplicate(f"{path}.resourceNames[{i}]", name)
        seen.add(name)
    check_rule(rule, path, faults)


def check_mutable_operations(match: Object, path: str, faults: Faults) -> None:
    """What is deleted cannot be mutated."""
    for rule in match.get("resourceRules") or ():
        for operation in rule.get("operations") or ():
            if operation not in MUTATING_OPERATIONS:
                faults.unsupported(f"{path}.resourceRules.operations", operation, MUTATING_OPERATIONS)


# --- conditions


def check_conditions(conditions: list[Object], path: str, faults: Faults, check_expression: ExpressionCheck) -> None:
    """`matchConditions`: named CEL expressions."""
    if len(conditions) > _MAX_CONDITIONS:
        faults.too_many(path, len(conditions), _MAX_CONDITIONS)
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        expression, name = condition.get("expression", "").strip(), condition.get("name", "")
        if expression:
            check_expression(expression, f"{path}[{i}].expression", faults)
        else:
            faults.required(f"{path}[{i}].expression")
        if not name:
            faults.required(f"{path}[{i}].name")
            continue
        faults.each(f"{path}[{i}].name", name, names.qualified_name(name))
        if name in seen:
            faults.duplicate(f"{path}[{i}].name", name)
        seen.add(name)
