"""The FlowSchemas and PriorityLevelConfigurations that every cluster has; two of each must stay as they are.

Source: Kubernetes documentation, "API Priority and Fairness", "Defaults".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from apiserver.registry.base import Object

AUTO_UPDATE = "apf.kubernetes.io/autoupdate-spec"
EXEMPT, CATCH_ALL = "exempt", "catch-all"
_API = "flowcontrol.apiserver.k8s.io/v1"
_ALL = ("*",)
_UNAUTHENTICATED, _AUTHENTICATED = "system:unauthenticated", "system:authenticated"


def _limited(shares: int, lendable: int, queues: int = 0, hand: int = 0) -> Object:
    """Without queues, what is too much is rejected."""
    queuing = {"handSize": hand, "queueLengthLimit": 50, "queues": queues}
    response: Object = {"type": "Queue", "queuing": queuing} if queues else {"type": "Reject"}
    limited = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
    return {"type": "Limited", "limited": limited}


def _user(name: str) -> Object:
    return {"kind": "User", "user": {"name": name}}


def _group(name: str) -> Object:
    return {"kind": "Group", "group": {"name": name}}


def _accounts(namespace: str) -> Object:
    return {"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": namespace}}


def _resources(
    groups: Sequence[str], resources: Sequence[str], verbs: Sequence[str] = _ALL, *, cluster: bool = False
) -> Object:
    found: Object = {"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources), "namespaces": ["*"]}
    return found | {"clusterScope": True} if cluster else found


def _rule(subjects: list[Object], resources: Sequence[Object] = (), paths: Sequence[Object] = ()) -> list[Object]:
    rule: Object = {"subjects": subjects}
    if resources:
        rule["resourceRules"] = list(resources)
    if paths:
        rule["nonResourceRules"] = list(paths)
    return [rule]


def _everything(*subjects: Object) -> list[Object]:
    path = {"verbs": ["*"], "nonResourceURLs": ["*"]}
    return _rule(list(subjects), [_resources(_ALL, _ALL, cluster=True)], [path])


def _flow(level: str, precedence: int, method: str, rules: list[Object]) -> Object:
    spec: Object = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
    if method:
        spec["distinguisherMethod"] = {"type": method}
    return spec | {"rules": rules}


_LEASES = ("coordination.k8s.io",), ("leases",)
_LEADERS = [_user("system:kube-controller-manager"), _user("system:kube-scheduler"), _accounts("kube-system")]
_PROBES = {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}

LEVELS: dict[str, Object] = {
    EXEMPT: {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}},
    CATCH_ALL: _limited(5, 0),
    "system": _limited(30, 33, 64, 6),
    "node-high": _limited(40, 25, 64, 6),
    "leader-election": _limited(10, 0, 16, 4),
    "workload-high": _limited(40, 50, 128, 6),
    "workload-low": _limited(100, 90, 128, 6),
    "global-default": _limited(20, 50, 128, 6),
}
FLOWS: dict[str, Object] = {
    EXEMPT: _flow(EXEMPT, 1, "", _everything(_group("system:masters"))),
    CATCH_ALL: _flow(CATCH_ALL, 10000, "ByUser", _everything(_group(_UNAUTHENTICATED), _group(_AUTHENTICATED))),
    "system-nodes": _flow("system", 500, "ByUser", _everything(_group("system:nodes"))),
    "system-node-high": _flow(
        "node-high",
        400,
        "ByUser",
        _rule(
            [_group("system:nodes")],
            [_resources(("",), ("nodes", "nodes/status"), cluster=True), _resources(*_LEASES)],
        ),
    ),
    "probes": _flow(EXEMPT, 2, "", _rule([_group(_UNAUTHENTICATED), _group(_AUTHENTICATED)], (), [_PROBES])),
    "system-leader-election": _flow(
        "leader-election", 100, "ByUser", _rule(_LEADERS, [_resources(*_LEASES, ("get", "create", "update"))])
    ),
    "kube-controller-manager": _flow("workload-high", 800, "ByNamespace", _everything(_LEADERS[0])),
    "kube-scheduler": _flow("workload-high", 800, "ByNamespace", _everything(_LEADERS[1])),
    "kube-system-service-accounts": _flow("workload-high", 900, "ByNamespace", _everything(_LEADERS[2])),
    "service-accounts": _flow("workload-low", 9000, "ByUser", _everything(_group("system:serviceaccounts"))),
    "global-default": _flow(
        "global-default", 9900, "ByUser", _everything(_group(_UNAUTHENTICATED), _group(_AUTHENTICATED))
    ),
}
MANDATORY = (EXEMPT, CATCH_ALL)


def objects() -> Iterator[tuple[str, Object]]:
    """(plural, object) of all of them."""
    for plural, kind, specs in (
        ("prioritylevelconfigurations", "PriorityLevelConfiguration", LEVELS),
        ("flowschemas", "FlowSchema", FLOWS),
    ):
        for name, spec in specs.items():
            metadata = {"name": name, "annotations": {AUTO_UPDATE: "true"}}
            yield plural, {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": spec}
