"""FlowSchemas and PriorityLevelConfigurations (group flowcontrol.apiserver.k8s.io).

Source: k8s.io/kubernetes/pkg/apis/flowcontrol/{v1,validation} (defaults, order and texts).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, NONE, at, field
from apiserver.registry.faults import Faults, inner
from apiserver.registry.flowcontrol_defaults import CATCH_ALL, EXEMPT, FLOWS, LEVELS, MANDATORY
from apiserver.registry.meta import check_meta, creating, first_generation, next_generation, status_alone, updating

_GROUP = "flowcontrol.apiserver.k8s.io"
_ANY = "*"
_DEFAULT_PRECEDENCE, _MAX_PRECEDENCE = 1000, 10000
_DEFAULT_SHARES = 30
_DEFAULT_QUEUING = {"handSize": 8, "queues": 64, "queueLengthLimit": 50}
_MAX_QUEUES, _HASH_BITS = 10_000_000, 60
_METHODS = ("ByNamespace", "ByUser")
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_SUBJECTS = {"User": "user", "ServiceAccount": "serviceAccount", "Group": "group"}
_ROUND_TRIP = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares"


def _prepare(obj: Object) -> None:
    obj["status"] = {}
    first_generation(obj)


def _prepare_update(new: Object, old: Object) -> None:
    next_generation(new, old, "spec")
    new["status"] = old.get("status", {})


def _check_status(obj: Object, faults: Faults) -> None:
    seen: set[str] = set()
    for i, condition in enumerate(at(obj, "status.conditions", ())):
        path, kind = f"status.conditions[{i}].type", condition.get("type", "")
        if kind in seen:
            faults.duplicate(path, kind)
        seen.add(kind)
        if not kind:
            faults.required(path)


# --- FlowSchemas


def _default_flow(obj: Object) -> None:
    obj["spec"]["matchingPrecedence"] = obj["spec"].get("matchingPrecedence") or _DEFAULT_PRECEDENCE


def _check_flow(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    spec, name = obj["spec"], obj["metadata"].get("name", "")
    precedence = spec.get("matchingPrecedence", 0)
    if precedence <= 0:
        faults.invalid("spec.matchingPrecedence", precedence, "must be a positive value")
    if precedence > _MAX_PRECEDENCE:
        faults.invalid("spec.matchingPrecedence", precedence, f"must not be greater than {_MAX_PRECEDENCE}")
    if precedence == 1 and name != EXEMPT:
        text = "only the schema named 'exempt' may have matchingPrecedence 1"
        faults.invalid("spec.matchingPrecedence", precedence, text)
    if (method := spec.get("distinguisherMethod")) is not None and method.get("type") not in _METHODS:
        shown = inner("flowcontrol.v1.FlowDistinguisherMethod", method)
        faults.unsupported("spec.distinguisherMethod.type", shown, _METHODS)
    if level := at(spec, "priorityLevelConfiguration.name"):
        faults.each("spec.priorityLevelConfiguration.name", level, names.name_is_subdomain(level))
    else:
        faults.required("spec.priorityLevelConfiguration.name", "must reference a priority level")
    for i, rule in enumerate(spec.get("rules") or ()):
        _check_rule(rule, f"spec.rules[{i}]", faults)
    if name in MANDATORY and spec != FLOWS[name]:
        faults.invalid(
            "spec", inner("flowcontrol.v1.FlowSchemaSpec", spec), f"spec of '{name}' must equal the fixed value"
        )
    _check_status(obj, faults)


def _check_rule(rule: Object, path: str, faults: Faults) -> None:
    subjects = rule.get("subjects") or []
    for i, subject in enumerate(subjects):
        _check_subject(subject, f"{path}.subjects[{i}]", faults)
    if not subjects:
        faults.required(f"{path}.subjects", "subjects must contain at least one value")
    resources, paths = rule.get("resourceRules") or [], rule.get("nonResourceRules") or []
    if not resources and not paths:
        faults.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty")
    for i, one in enumerate(resources):
        _check_resource_rule(one, f"{path}.resourceRules[{i}]", faults)
    for i, one in enumerate(paths):
        _check_path_rule(one, f"{path}.nonResourceRules[{i}]", faults)


def _check_subject(subject: Object, path: str, faults: Faults) -> None:
    kind = subject.get("kind", "")
    if kind not in _SUBJECTS:
        faults.unsupported(f"{path}.kind", kind, sorted(_SUBJECTS))
        return
    own = _SUBJECTS[kind]
    if (value := subject.get(own)) is None:
        faults.required(f"{path}.{own}", f"{own} is required when subject kind is '{kind}'")
    elif kind == "ServiceAccount":
        _check_account(value, f"{path}.{own}", faults)
    elif not value.get("name"):
        faults.required(f"{path}.{own}.name")
    order = ("user", "group") if own == "serviceAccount" else ("serviceAccount", "user", "group")
    titles = {name: title for title, name in _SUBJECTS.items()}
    for other in order:
        if other != own and subject.get(other) is not None:
            faults.forbidden(f"{path}.{other}", f"{other} is forbidden when subject kind is not '{titles[other]}'")


def _check_account(account: Object, path: str, faults: Faults) -> None:
    name, namespace = account.get("name", ""), account.get("namespace", "")
    if not name:
        faults.required(f"{path}.name")
    elif name != _ANY:
        faults.each(f"{path}.name", name, names.name_is_subdomain(name))
    if namespace:
        faults.each(f"{path}.namespace", namespace, names.name_is_label(namespace))
    else:
        faults.required(f"{path}.namespace", "must specify namespace for service account")


def _check_verbs(verbs: Sequence[str], path: str, faults: Faults) -> None:
    if not verbs:
        faults.required(path, "verbs must contain at least one value")
    elif _ANY in verbs:
        _alone(verbs, path, "verbs", faults)
    elif not set(verbs) <= set(_VERBS):
        faults.unsupported(path, verbs, _VERBS)


def _alone(values: Sequence[str], path: str, what: str, faults: Faults) -> None:
    if len(values) > 1 and _ANY in values:
        faults.invalid(path, values, f"if '*' is present, must not specify other {what}")


def _check_resource_rule(rule: Object, path: str, faults: Faults) -> None:
    _check_verbs(rule.get("verbs") or [], f"{path}.verbs", faults)
    for name, what in (("apiGroups", "api group"), ("resources", "resource")):
        if not (values := rule.get(name)):
            faults.required(f"{path}.{name}", f"resource rules must supply at least one {what}")
        else:
            _alone(values, f"{path}.{name}", f"{what}s", faults)
    namespaces = rule.get("namespaces") or []
    if not namespaces and not rule.get("clusterScope"):
        text = "resource rules that are not cluster scoped must supply at least one namespace"
        faults.required(f"{path}.namespaces", text)
    elif _ANY in namespaces:
        _alone(namespaces, f"{path}.namespaces", "namespaces", faults)
    else:
        intro = "each member of this list must be '*' or a DNS-1123 label; "
        for i, namespace in enumerate(namespaces):
            found = (intro + text for text in names.name_is_label(namespace))
            faults.each(f"{path}.namespaces[{i}]", namespace, found)


def _check_path_rule(rule: Object, path: str, faults: Faults) -> None:
    _check_verbs(rule.get("verbs") or [], f"{path}.verbs", faults)
    urls = rule.get("nonResourceURLs") or []
    if not urls:
        faults.required(f"{path}.nonResourceURLs", "nonResourceURLs must contain at least one value")
    elif _ANY in urls:
        _alone(urls, f"{path}.nonResourceURLs", "non-resource URLs", faults)
    else:
        for i, url in enumerate(urls):
            faults.each(f"{path}.nonResourceURLs[{i}]", url, _url_faults(url))


def _url_faults(url: str) -> list[str]:
    if not url:
        return ["must not be empty"]
    if url == "/":
        return []
    if not url.startswith("/"):
        return ["must start with slash"]
    if " " in url:
        return ["must not contain white-space"]
    if "//" in url:
        return ["must not contain double slash"]
    stars = url.count("*")
    if stars > 1 or (stars == 1 and not url.endswith("/*")):
        return ["wildcard can only do suffix matching"]
    return []


# --- PriorityLevelConfigurations


def _default_level(obj: Object) -> None:
    spec = obj["spec"]
    if (exempt := spec.get("exempt")) is not None:
        exempt.setdefault("nominalConcurrencyShares", 0)
        exempt.setdefault("lendablePercent", 0)
    if (limited := spec.get("limited")) is not None:
        if limited.get("nominalConcurrencyShares") is None:
            limited["nominalConcurrencyShares"] = _DEFAULT_SHARES
        limited.setdefault("lendablePercent", 0)
        if (queuing := at(limited, "limitResponse.queuing", None)) is not None:
            queuing.update({name: queuing.get(name) or value for name, value in _DEFAULT_QUEUING.items()})


def _check_level(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    if _ROUND_TRIP in (obj["metadata"].get("annotations") or {}):
        faults.forbidden("metadata.annotations", f"annotation '{_ROUND_TRIP}' is forbidden")
    spec, name = obj["spec"], obj["metadata"].get("name", "")
    _check_level_spec(spec, name, faults)
    shown = inner("flowcontrol.v1.PriorityLevelConfigurationSpec", spec)
    if name == EXEMPT and {**spec, "exempt": None} != {**LEVELS[EXEMPT], "exempt": None}:
        text = "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value"
        faults.invalid("spec", shown, text)
    if name == CATCH_ALL and spec != LEVELS[CATCH_ALL]:
        faults.invalid("spec", shown, "spec of 'catch-all' must equal the fixed value")
    _check_status(obj, faults)


def _check_level_spec(spec: Object, name: str, faults: Faults) -> None:
    kind, limited, exempt = spec.get("type", ""), spec.get("limited"), spec.get("exempt")
    if (name == EXEMPT) != (kind == "Exempt"):
        faults.invalid("spec.type", kind, "must be 'Exempt' if and only if `name` is 'exempt'")
    match kind:
        case "Exempt":
            if limited is not None:
                faults.forbidden("spec.limited", "must be nil if the type is not Limited")
            if exempt is not None:
                _check_shares(exempt, "spec.exempt", faults)
                _check_lendable(exempt, "spec.exempt", faults)
        case "Limited":
            if exempt is not None:
                faults.forbidden("spec.exempt", "must be nil if the type is Limited")
            if limited is None:
                faults.required("spec.limited", "must not be empty when type is Limited")
            else:
                _check_limited(limited, "spec.limited", faults)
        case "":
            faults.required("spec.type")
        case _:
            faults.unsupported("spec.type", kind, ("Exempt", "Limited"))


def _check_shares(level: Object, path: str, faults: Faults) -> None:
    if (shares := level.get("nominalConcurrencyShares")) is not None and shares < 0:
        faults.invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer")


def _check_lendable(level: Object, path: str, faults: Faults) -> None:
    if (percent := level.get("lendablePercent")) is not None and not 0 <= percent <= 100:
        faults.invalid(f"{path}.lendablePercent", percent, "must be between 0 and 100, inclusive")


def _check_limited(limited: Object, path: str, faults: Faults) -> None:
    _check_shares(limited, path, faults)
    response = limited.get("limitResponse") or {}
    kind, queuing, where = response.get("type", ""), response.get("queuing"), f"{path}.limitResponse"
    match kind:
        case "Reject":
            if queuing is not None:
                text = "must be nil if limited.limitResponse.type is not Limited"
                faults.forbidden(f"{where}.queuing", text)
        case "Queue":
            if queuing is None:
                faults.required(f"{where}.queuing", "must not be empty if limited.limitResponse.type is Limited")
            else:
                _check_queuing(queuing, f"{where}.queuing", faults)
        case "":
            faults.required(f"{where}.type")
        case _:
            faults.unsupported(f"{where}.type", kind, ("Queue", "Reject"))
    _check_lendable(limited, path, faults)
    if (percent := limited.get("borrowingLimitPercent")) is not None and percent < 0:
        text = "if specified, must be a non-negative integer"
        faults.invalid(f"{path}.borrowingLimitPercent", percent, text)


def _check_queuing(queuing: Object, path: str, faults: Faults) -> None:
    limit, queues, hand = (queuing.get(name, 0) for name in ("queueLengthLimit", "queues", "handSize"))
    if limit <= 0:
        faults.invalid(f"{path}.queueLengthLimit", limit, "must be positive")
    if queues <= 0:
        faults.invalid(f"{path}.queues", queues, "must be positive")
    elif queues > _MAX_QUEUES:
        faults.invalid(f"{path}.queues", queues, f"must not be greater than {_MAX_QUEUES}")
    if hand <= 0:
        faults.invalid(f"{path}.handSize", hand, "must be positive")
    elif hand > queues:
        faults.invalid(f"{path}.handSize", hand, f"should not be greater than queues ({queues})")
    elif math.ceil(math.log2(queues) * hand) > _HASH_BITS:
        text = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {_HASH_BITS}"
        faults.invalid(f"{path}.handSize", hand, text)


# --- tables


def _dangling(obj: Object, _now: float) -> str:
    found = (c.get("status", "") for c in at(obj, "status.conditions", ()) if c.get("type") == "Dangling")
    return next(found, "?")


FLOWSCHEMAS = ResourceDef(
    _GROUP,
    "v1",
    "FlowSchema",
    "flowschemas",
    "flowschema",
    namespaced=False,
    subresources=("status",),
    storage_version_hash="GJVAJZSZBIw=",
    columns=(
        NAME,
        Column(
            "PriorityLevel",
            "string",
            "@PriorityLevelConfigurationReference.name",
            field("spec.priorityLevelConfiguration.name"),
        ),
        Column(
            "MatchingPrecedence",
            "string",
            "@FlowSchemaSpec.matchingPrecedence",
            field("spec.matchingPrecedence", 0),
        ),
        Column(
            "DistinguisherMethod",
            "string",
            "@FlowSchemaSpec.distinguisherMethod",
            field("spec.distinguisherMethod.type", NONE),
        ),
        AGE,
        Column("MissingPL", "string", "references a broken or non-existent PriorityLevelConfiguration", _dangling),
    ),
    row_order=lambda obj: (at(obj, "spec.matchingPrecedence", 0), obj["metadata"]["name"]),
    strategy=Strategy(
        default=_default_flow,
        prepare_create=_prepare,
        validate=creating(_check_flow),
        prepare_update=_prepare_update,
        validate_update=updating(lambda new, _old, faults: _check_flow(new, faults), namespaced=False),
        prepare_status_update=status_alone,
        validate_status_update=updating(lambda new, _old, faults: _check_status(new, faults), namespaced=False),
    ),
)

PRIORITYLEVELCONFIGURATIONS = ResourceDef(
    _GROUP,
    "v1",
    "PriorityLevelConfiguration",
    "prioritylevelconfigurations",
    "prioritylevelconfiguration",
    namespaced=False,
    subresources=("status",),
    storage_version_hash="Kir5PVfvNeI=",
    columns=(
        NAME,
        Column("Type", "string", "@PriorityLevelConfigurationSpec.type", field("spec.type")),
        Column(
            "NominalConcurrencyShares",
            "string",
            "@LimitedPriorityLevelConfiguration.nominalConcurrencyShares",
            field("spec.limited.nominalConcurrencyShares", NONE),
        ),
        Column(
            "Queues",
            "string",
            "@QueuingConfiguration.queues",
            field("spec.limited.limitResponse.queuing.queues", NONE),
        ),
        Column(
            "HandSize",
            "string",
            "@QueuingConfiguration.handSize",
            field("spec.limited.limitResponse.queuing.handSize", NONE),
        ),
        Column(
            "QueueLengthLimit",
            "string",
            "@QueuingConfiguration.queueLengthLimit",
            field("spec.limited.limitResponse.queuing.queueLengthLimit", NONE),
        ),
        AGE,
    ),
    strategy=Strategy(
        default=_default_level,
        prepare_create=_prepare,
        validate=creating(_check_level),
        prepare_update=_prepare_update,
        validate_update=updating(lambda new, _old, faults: _check_level(new, faults), namespaced=False),
        prepare_status_update=status_alone,
        validate_status_update=updating(lambda new, _old, faults: _check_status(new, faults), namespaced=False),
    ),
)
