"""Validation of a Job's spec, also of the one that a CronJob holds.

Source: k8s.io/kubernetes/pkg/apis/batch/validation (order and texts).
"""

from __future__ import annotations

import re

from apiserver.registry import jobs_indexes, names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults, inner, quoted
from apiserver.registry.podspec import check_pod_template
from apiserver.registry.workloads import check_not_negative

INDEXED = "Indexed"
_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)
_MAX_INDEXED, _MANY, _MAX_FOR_MANY = 100_000, 100_000, 10_000
_MAX_RULES, _MAX_EXIT_CODES, _MAX_PATTERNS = 20, 255, 20
_MAX_MANAGED_BY, _MAX_INDEXES_TEXT = 63, 64 * 1024
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS, _STATUSES = ("In", "NotIn"), ("False", "True", "Unknown")
_PATH_FORM = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_http_path = re.compile(_PATH_FORM).fullmatch


def check_spec(spec: Object, path: str, faults: Faults, *, before: Object | None = None) -> None:
    """All but the selector. `before` is the spec that this one shall replace."""
    for key in _COUNTS:
        check_not_negative(spec, key, path, faults)
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        faults.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    if (manager := spec.get("managedBy")) is not None:
        _check_managed_by(manager, f"{path}.managedBy", faults)
    _check_completion_mode(spec, path, faults)
    if (policy := spec.get("podFailurePolicy")) is not None:
        _check_failure_policy(spec, policy, f"{path}.podFailurePolicy.rules", faults)
    _check_success_policy(spec, f"{path}.successPolicy", faults)
    _check_replacement(spec, f"{path}.podReplacementPolicy", faults)
    template = spec.get("template") or {}
    check_pod_template(template, f"{path}.template", faults)
    _check_restart_policy(spec, (template.get("spec") or {}).get("restartPolicy", ""), path, faults)


def _check_managed_by(manager: str, path: str, faults: Faults) -> None:
    host, slash, rest = manager.partition("/")
    if not manager:
        faults.required(path)
    elif not (host and slash and rest):
        faults.invalid(path, manager, 'must be a domain-prefixed path (such as "acme.io/foo")')
    else:
        faults.each(path, host, names.dns1123_subdomain(host))
        if not _http_path(rest):
            faults.invalid(path, rest, f"Invalid path (regex used for validation is '{_PATH_FORM}')")
    if len(manager) > _MAX_MANAGED_BY:
        faults.too_long(path, _MAX_MANAGED_BY)


def _check_completion_mode(spec: Object, path: str, faults: Faults) -> None:
    mode = spec.get("completionMode")
    if mode not in (None, "NonIndexed", INDEXED):
        faults.unsupported(f"{path}.completionMode", mode, ("NonIndexed", INDEXED))
    if mode == INDEXED:
        _check_indexed(spec, path, faults)
    elif mode in (None, "NonIndexed"):
        for key in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(key) is not None:
                faults.invalid(f"{path}.{key}", spec[key], "requires indexed completion mode")


def _check_indexed(spec: Object, path: str, faults: Faults) -> None:
    completions, failed = spec.get("completions"), spec.get("maxFailedIndexes")
    parallelism = spec.get("parallelism") or 0
    if completions is None:
        faults.required(f"{path}.completions", "when completion mode is Indexed")
    if parallelism > _MAX_INDEXED:
        text = f"must be less than or equal to {_MAX_INDEXED} when completion mode is Indexed"
        faults.invalid(f"{path}.parallelism", parallelism, text)
    if completions is not None and failed is not None and failed > completions:
        faults.invalid(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions")
    if (failed or 0) > _MAX_INDEXED:
        faults.invalid(f"{path}.maxFailedIndexes", failed, f"must be less than or equal to {_MAX_INDEXED}")
    if (completions or 0) > _MANY and spec.get("backoffLimitPerIndex") is not None:
        if failed is None:
            faults.required(f"{path}.maxFailedIndexes", f"must be specified when completions is above {_MANY}")
        text = (
            f"must be less than or equal to {_MAX_FOR_MANY} when completions are above {_MANY} and used with "
            "backoff limit per index"
        )
        for key in ("parallelism", "maxFailedIndexes"):
            if (spec.get(key) or 0) > _MAX_FOR_MANY:
                faults.invalid(f"{path}.{key}", spec[key], text)


def _check_replacement(spec: Object, path: str, faults: Faults) -> None:
    policy = spec.get("podReplacementPolicy")
    allowed = ("Failed", "TerminatingOrFailed") if spec.get("podFailurePolicy") is None else ("Failed",)
    if policy is not None and policy not in allowed:
        faults.unsupported(path, policy, allowed)


def _check_restart_policy(spec: Object, policy: str, path: str, faults: Faults) -> None:
    where = f"{path}.template.spec.restartPolicy"
    if policy in ("", "Always"):
        faults.required(where, 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        faults.unsupported(where, policy, ("OnFailure", "Never"))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        faults.invalid(where, policy, 'only "Never" is supported when podFailurePolicy is specified')


# --- pod failure policy


def _valid_values(values: tuple[str, ...]) -> str:
    """As Go's %q prints a list."""
    return f"valid values: [{' '.join(map(quoted, values))}]"


def _check_failure_policy(spec: Object, policy: Object, path: str, faults: Faults) -> None:
    rules = policy.get("rules") or []
    if len(rules) > _MAX_RULES:
        faults.too_many(path, len(rules), _MAX_RULES)
    pod = (spec.get("template") or {}).get("spec") or {}
    known = {c.get("name", "") for kind in ("containers", "initContainers") for c in pod.get(kind) or ()}
    for i, rule in enumerate(rules):
        _check_failure_rule(spec, rule, known, f"{path}[{i}]", faults)


def _check_failure_rule(spec: Object, rule: Object, containers: set[str], path: str, faults: Faults) -> None:
    action, codes, conditions = rule.get("action", ""), rule.get("onExitCodes"), rule.get("onPodConditions")
    if not action:
        faults.required(f"{path}.action", _valid_values(_ACTIONS))
    elif action == "FailIndex":
        if spec.get("backoffLimitPerIndex") is None:
            faults.invalid(f"{path}.action", action, "requires the backoffLimitPerIndex to be set")
    elif action not in _ACTIONS:
        faults.unsupported(f"{path}.action", action, _ACTIONS)
    if codes is not None:
        _check_exit_codes(codes, containers, f"{path}.onExitCodes", faults)
    if conditions:
        _check_pod_conditions(conditions, f"{path}.onPodConditions", faults)
    if codes is not None and conditions:
        faults.wrong(path, "specifying both OnExitCodes and OnPodConditions is not supported")
    if codes is None and not conditions:
        faults.wrong(path, "specifying one of OnExitCodes and OnPodConditions is required")


def _check_pod_conditions(conditions: list[Object], path: str, faults: Faults) -> None:
    if len(conditions) > _MAX_PATTERNS:
        faults.too_many(path, len(conditions), _MAX_PATTERNS)
    for i, pattern in enumerate(conditions):
        kind, status = pattern.get("type", ""), pattern.get("status", "")
        faults.each(f"{path}[{i}].type", kind, names.qualified_name(kind))
        if not status:
            faults.required(f"{path}[{i}].status", _valid_values(_STATUSES))
        elif status not in _STATUSES:
            faults.unsupported(f"{path}[{i}].status", status, _STATUSES)


def _check_exit_codes(codes: Object, containers: set[str], path: str, faults: Faults) -> None:
    operator, name, values = codes.get("operator", ""), codes.get("containerName"), codes.get("values") or []
    if not operator:
        faults.required(f"{path}.operator", _valid_values(_OPERATORS))
    elif operator not in _OPERATORS:
        faults.unsupported(f"{path}.operator", operator, _OPERATORS)
    if name is not None and name not in containers:
        text = "must be one of the container or initContainer names in the pod template"
        faults.invalid(f"{path}.containerName", name, text)
    if not values:
        faults.invalid(f"{path}.values", codes.get("values"), "at least one value is required")
    elif len(values) > _MAX_EXIT_CODES:
        faults.too_many(f"{path}.values", len(values), _MAX_EXIT_CODES)
    for i, value in enumerate(values):
        if operator == "In" and value == 0:
            faults.invalid(f"{path}.values[{i}]", value, "must not be 0 for the In operator")
        if value in values[:i]:
            faults.duplicate(f"{path}.values[{i}]", value)
    if values != sorted(values):
        faults.invalid(f"{path}.values", values, "must be ordered")


# --- success policy


def _check_success_policy(spec: Object, path: str, faults: Faults) -> None:
    if (policy := spec.get("successPolicy")) is None:
        return
    if spec.get("completionMode") != INDEXED:
        faults.invalid(path, inner("batch.v1.SuccessPolicy", policy), "requires indexed completion mode")
        return
    rules = policy.get("rules") or []
    if not rules:
        text = "at least one rules must be specified when the successPolicy is specified"
        faults.required(f"{path}.rules", text)
    if len(rules) > _MAX_RULES:
        faults.too_many(f"{path}.rules", len(rules), _MAX_RULES)
    for i, rule in enumerate(rules):
        _check_success_rule(rule, spec.get("completions") or 0, f"{path}.rules[{i}]", faults)


def _check_success_rule(rule: Object, completions: int, path: str, faults: Faults) -> None:
    wanted, indexes, total = rule.get("succeededCount"), rule.get("succeededIndexes"), 0
    if wanted is None and indexes is None:
        faults.required(path, "at least one of succeededCount or succeededIndexes must be specified")
    if indexes is not None:
        if len(indexes) > _MAX_INDEXES_TEXT:
            faults.too_long(f"{path}.succeededIndexes", _MAX_INDEXES_TEXT)
        try:
            total = jobs_indexes.count(indexes, completions)
        except ValueError as err:
            faults.invalid(f"{path}.succeededIndexes", indexes, f"error parsing succeededIndexes: {err}")
    if wanted is not None:
        where = f"{path}.succeededCount"
        check_not_negative(rule, "succeededCount", path, faults)
        if wanted > completions:
            text = f"must be less than or equal to {completions} (the number of specified completions)"
            faults.invalid(where, wanted, text)
        if indexes is not None and wanted > total:
            rest = "(the number of indexes in the specified succeededIndexes field)"
            faults.invalid(where, wanted, f"must be less than or equal to {total} {rest}")
