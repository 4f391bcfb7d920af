"""/healthz, /livez and /readyz: one check or all of them, in words or in one word. Pure.

Source: https://kubernetes.io/docs/reference/using-api/health-checks/; k8s.io/apiserver/pkg/server/healthz (texts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Check = Callable[[], bool]
HEADS = ("healthz", "livez", "readyz")
# What each of upstream's checks asks of this server: nothing but an answer ("-"), or one of its conditions.
_NAMES = """
-         ping log
-         livez,healthz:loopback-serving-certificate
store     etcd readyz:etcd-readiness
cache     readyz:informer-sync
-         poststarthook/start-apiserver-admission-initializer
cache     poststarthook/generic-apiserver-start-informers
bootstrap poststarthook/priority-and-fairness-config-consumer poststarthook/priority-and-fairness-filter
cache     poststarthook/storage-object-count-tracker-hook
cache     poststarthook/start-apiextensions-informers poststarthook/start-apiextensions-controllers
cache     poststarthook/crd-informer-synced
bootstrap poststarthook/start-system-namespaces-controller
bootstrap poststarthook/peer-endpoint-reconciler-controller
bootstrap poststarthook/start-cluster-authentication-info-controller
bootstrap poststarthook/start-kube-apiserver-identity-lease-controller
bootstrap poststarthook/start-kube-apiserver-identity-lease-garbage-collector
store     poststarthook/storage-readiness
bootstrap poststarthook/start-legacy-token-tracking-controller poststarthook/start-service-ip-repair-controllers
bootstrap poststarthook/rbac/bootstrap-roles poststarthook/scheduling/bootstrap-system-priority-classes
bootstrap poststarthook/priority-and-fairness-config-producer poststarthook/bootstrap-controller
bootstrap poststarthook/start-kubernetes-service-cidr-controller
cache     poststarthook/start-kube-aggregator-informers
bootstrap poststarthook/apiservice-status-local-available-controller
bootstrap poststarthook/apiservice-status-remote-available-controller
bootstrap poststarthook/apiservice-registration-controller poststarthook/apiservice-discovery-controller
bootstrap poststarthook/kube-apiserver-autoregistration autoregister-completion
-         poststarthook/apiservice-openapi-controller poststarthook/apiservice-openapiv3-controller
-         readyz:shutdown
"""


def _always() -> bool:
    return True


def checks_of(head: str, conditions: Mapping[str, Check]) -> dict[str, Check]:
    """The checks of a path, in upstream's order and by its names; `conditions`: store, cache, bootstrap."""
    found: dict[str, Check] = {}
    for line in _NAMES.strip().splitlines():
        condition, *names = line.split()
        for entry in names:
            heads, colon, name = entry.rpartition(":")
            if not colon or head in heads.split(","):
                found[name] = conditions.get(condition, _always)
    return found


class Report(NamedTuple):
    status: int
    text: str


def report(head: str, checks: Mapping[str, Check], *, verbose: bool, excluded: Sequence[str] = ()) -> Report:
    """What all checks together give; where one fails, each is named."""
    lines, failed, unknown = [], False, set(excluded)
    for name, check in checks.items():
        if name in excluded:
            unknown.discard(name)
            lines.append(f"[+]{name} excluded: ok")
        elif check():
            lines.append(f"[+]{name} ok")
        else:
            failed = True
            lines.append(f"[-]{name} failed: reason withheld")
    if unknown:
        names = ",".join(f'"{name}"' for name in sorted(unknown))
        lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
    if not failed and not verbose:
        return Report(200, "ok")
    text = "\n".join([*lines, f"{head} check {'failed' if failed else 'passed'}"]) + "\n"
    return Report(500 if failed else 200, text)


def report_one(checks: Mapping[str, Check], name: str) -> Report | None:
    """What one check gives; None where there is none of that name."""
    if name not in checks:
        return None
    if checks[name]():
        return Report(200, "ok")
    return Report(500, f"internal server error: {name} does not hold\n")
