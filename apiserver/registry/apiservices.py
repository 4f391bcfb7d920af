"""APIServices (group apiregistration.k8s.io): who serves a group and version.

Source: k8s.io/kube-aggregator/pkg/apis/apiregistration/validation, pkg/registry/apiservice (texts, columns).
"""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_accessor, check_accessor_update, creating, keep_status, status_alone, updating

_MAX_GROUP_PRIORITY, _MAX_VERSION_PRIORITY = 20000, 1000
_STATUSES = ("True", "False", "Unknown")
SERVICE_PORT = 443


def _default(obj: Object) -> None:
    if (service := obj["spec"].get("service")) is not None:
        service.setdefault("port", SERVICE_PORT)


def _prepare(obj: Object) -> None:
    """What this server serves itself is there from the first moment."""
    obj["status"] = {}
    if obj["spec"].get("service") is None:
        obj["status"] = {"conditions": [local_condition(obj["metadata"]["creationTimestamp"])]}


def local_condition(now: str) -> Object:
    return {
        "type": "Available",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "Local",
        "message": "Local APIServices are always available",
    }


def _check(obj: Object, faults: Faults) -> None:
    spec = obj["spec"]
    group, version, service = spec.get("group", ""), spec.get("version", ""), spec.get("service")
    wanted = f"{version}.{group}"

    def name_check(name: str, prefix: bool) -> list[str]:
        if found := names.path_segment_name(name, prefix):
            return found
        return [] if name == wanted else [f'must be `spec.version+"."+spec.group`: "{wanted}"']

    check_accessor(obj.get("metadata") or {}, False, name_check, faults)
    if group:
        faults.each("spec.group", group, names.dns1123_subdomain(group))
    elif version != "v1":
        faults.required("spec.group", "only v1 may have an empty group and it better be legacy kube")
    faults.each("spec.version", version, names.dns1035_label(version))
    for name, limit in (("groupPriorityMinimum", _MAX_GROUP_PRIORITY), ("versionPriority", _MAX_VERSION_PRIORITY)):
        if not 0 < (priority := spec.get(name, 0)) <= limit:
            faults.invalid(f"spec.{name}", priority, f"must be positive and less than {limit}")
    bundle, insecure = spec.get("caBundle") or "", spec.get("insecureSkipTLSVerify", False)
    if service is None:
        if bundle:
            size = len(bundle) * 3 // 4 - bundle.count("=")
            faults.invalid("spec.caBundle", f"{size} bytes", "local APIServices may not have a caBundle")
        if insecure:
            text = "local APIServices may not have insecureSkipTLSVerify"
            faults.invalid("spec.insecureSkipTLSVerify", True, text)
        return
    _check_service(service, faults)
    if insecure and bundle:
        faults.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present")


def _check_service(service: Object, faults: Faults) -> None:
    for name in ("namespace", "name"):
        if not service.get(name):
            faults.required(f"spec.service.{name}")
    port = service.get("port", SERVICE_PORT)
    if found := names.port_number(port):
        faults.invalid("spec.service.port", port, f"port is not valid: {', '.join(found)}")


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_accessor_update(new, old, faults)
    _check(new, faults)


def _check_status(new: Object, old: Object, faults: Faults) -> None:
    check_accessor_update(new, old, faults)
    for i, condition in enumerate(at(new, "status.conditions", ())):
        if (status := condition.get("status", "")) not in _STATUSES:
            faults.unsupported(f"status.conditions[{i}].status", status, _STATUSES)


def _service_cell(obj: Object, _now: float) -> str:
    service = at(obj, "spec.service", None)
    return "Local" if service is None else f"{service.get('namespace', '')}/{service.get('name', '')}"


def _available_cell(obj: Object, _now: float) -> str:
    for condition in at(obj, "status.conditions", ()):
        if condition.get("type") == "Available":
            status, reason = str(condition.get("status", "")), condition.get("reason")
            return status if status == "True" or not reason else f"{status} ({reason})"
    return "Unknown"


APISERVICES = ResourceDef(
    "apiregistration.k8s.io",
    "v1",
    "APIService",
    "apiservices",
    "apiservice",
    namespaced=False,
    categories=("api-extensions",),
    subresources=("status",),
    storage_version_hash="InPBPD7+PqM=",
    columns=(
        NAME,
        Column("Service", "string", "The reference to the service that hosts this API endpoint.", _service_cell),
        Column("Available", "string", "Whether this service is available.", _available_cell),
        AGE,
    ),
    strategy=Strategy(
        default=_default,
        prepare_create=_prepare,
        validate=creating(_check),
        prepare_update=keep_status,
        validate_update=updating(_check_update, namespaced=False),
        prepare_status_update=status_alone,
        validate_status_update=updating(_check_status, namespaced=False),
        allow_unconditional_update=False,
    ),
)
