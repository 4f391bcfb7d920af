"""DeviceClasses, ResourceClaims and ResourceClaimTemplates (group resource.k8s.io).

Source: Kubernetes API reference; k8s.io/kubernetes/pkg/apis/resource/validation (order and texts); KEP-4381, KEP-4816
(prioritized lists), KEP-4817 (status of devices).
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from apiserver.registry import names, resourcenames
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at
from apiserver.registry.devices import (
    GROUP,
    MAX_CONFIGS,
    check_configuration,
    check_full_attribute_name,
    check_items,
    check_label,
    check_selectors,
    check_set,
    check_toleration,
)
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_annotations,
    check_labels,
    check_meta,
    check_meta_update,
    counting,
    creating,
    first_generation,
    keep_generation,
    keep_status,
    status_alone,
    updating,
)
from apiserver.registry.resourceclaim_status import check_status, drop_stale_devices
from apiserver.schemas import internal

MAX_REQUESTS, MAX_CONSTRAINTS, MAX_ALTERNATIVES = 32, 32, 8
_MODES = ("All", "ExactCount")
_ONE_OF = "exactly one of `exactly` or `firstAvailable` is required"
_ONE_ATTRIBUTE = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
_NAME_TEXT = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
_IMMUTABLE = "field is immutable"
RequestNames = Mapping[str, Set[str]]
"""The names of a claim's requests, each with those of its alternatives."""


def _default_request(request: Object) -> None:
    if not request.get("allocationMode"):
        request["allocationMode"] = "ExactCount"
    if request["allocationMode"] == "ExactCount" and not request.get("count"):
        request["count"] = 1

    default_tolerations(request)


def default_tolerations(holder: Object) -> None:
    for toleration in holder.get("tolerations") or ():
        if not toleration.get("operator"):
            toleration["operator"] = "Equal"


def default_spec(spec: Object) -> None:
    for request in at(spec, "devices.requests", []):
        if (exactly := request.get("exactly")) is not None:
            _default_request(exactly)
        for alternative in request.get("firstAvailable") or ():
            _default_request(alternative)


# --- the spec of a claim


def request_names(spec: Object) -> RequestNames:
    return {
        request.get("name", ""): {sub.get("name", "") for sub in request.get("firstAvailable") or ()}
        for request in at(spec, "devices.requests", [])
    }


def check_spec(spec: Object, path: str, faults: Faults) -> None:
    devices, known, path = spec.get("devices") or {}, request_names(spec), f"{path}.devices"
    requests = devices.get("requests") or []
    check_set(requests, MAX_REQUESTS, _check_request, lambda r: r.get("name", ""), f"{path}.requests", faults)

    def check_constraint(constraint: Object, where: str, found: Faults) -> None:
        check_references(constraint, known, where, found)
        if (name := constraint.get("matchAttribute")) is not None:
            check_full_attribute_name(name, f"{where}.matchAttribute", found)
        elif (name := constraint.get("distinctAttribute")) is not None:
            check_full_attribute_name(name, f"{where}.distinctAttribute", found)
        else:
            found.required(where, _ONE_ATTRIBUTE)

    def check_config(config: Object, where: str, found: Faults) -> None:
        check_references(config, known, where, found)
        check_configuration(config, where, found)

    check_items(devices.get("constraints") or [], MAX_CONSTRAINTS, check_constraint, f"{path}.constraints", faults)
    check_items(devices.get("config") or [], MAX_CONFIGS, check_config, f"{path}.config", faults)


def _check_request(request: Object, path: str, faults: Faults) -> None:
    check_label(request.get("name", ""), f"{path}.name", faults)
    exactly, alternatives = request.get("exactly"), request.get("firstAvailable") or []
    if exactly is not None and alternatives:
        faults.invalid(path, None, f"{_ONE_OF}, but multiple fields are set")
    elif exactly is not None:
        _check_exactly(exactly, f"{path}.exactly", faults)
    elif alternatives:
        where = f"{path}.firstAvailable"
        check_set(alternatives, MAX_ALTERNATIVES, _check_alternative, lambda r: r.get("name", ""), where, faults)
    else:
        faults.required(path, _ONE_OF)


def _check_alternative(request: Object, path: str, faults: Faults) -> None:
    check_label(request.get("name", ""), f"{path}.name", faults)
    _check_exactly(request, path, faults)


def _check_exactly(request: Object, path: str, faults: Faults) -> None:
    if name := request.get("deviceClassName"):
        faults.each(f"{path}.deviceClassName", name, names.dns1123_subdomain(name))
    else:
        faults.required(f"{path}.deviceClassName")
    check_selectors(request.get("selectors") or [], f"{path}.selectors", faults)
    mode, count = request.get("allocationMode", ""), request.get("count", 0)
    if mode == "All":
        if count:
            faults.invalid(f"{path}.count", count, "must not be specified when allocationMode is 'All'")
    elif mode == "ExactCount":
        if count <= 0:
            faults.invalid(f"{path}.count", count, "must be greater than zero")
    else:
        faults.unsupported(f"{path}.allocationMode", mode, _MODES)
    for i, toleration in enumerate(request.get("tolerations") or ()):
        check_toleration(toleration, f"{path}.tolerations[{i}]", faults)


def check_references(holder: Object, known: RequestNames, path: str, faults: Faults) -> None:
    """`requests` of a constraint or a configuration: requests of the claim, each once."""

    def check(name: str, where: str, found: Faults) -> None:
        check_reference(name, known, where, found)

    check_set(holder.get("requests") or [], MAX_REQUESTS, check, lambda name: name, f"{path}.requests", faults)


def check_reference(name: str, known: RequestNames, path: str, faults: Faults) -> None:
    """`gpu`, or `gpu/large` for one alternative of a request."""
    request, slash, alternative = name.partition("/")
    if "/" in alternative:
        faults.invalid(path, name, _NAME_TEXT)
        return
    for segment in name.split("/"):
        check_label(segment, path, faults)
    if request not in known or (slash and alternative not in known[request]):
        faults.invalid(path, name, _NAME_TEXT)


# --- ResourceClaim


def _default_claim(obj: Object) -> None:
    default_spec(obj.setdefault("spec", {}))
    for result in at(obj.setdefault("status", {}), "allocation.devices.results", []):
        default_tolerations(result)


def _prepare_claim(obj: Object) -> None:
    obj["status"] = {}


def _prepare_claim_status(new: Object, old: Object) -> None:
    status_alone(new, old)
    drop_stale_devices(new, old)


def _check_claim(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    check_spec(obj.get("spec") or {}, "spec", faults)


def _check_claim_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta(new, True, names.name_is_subdomain, faults)
    check_meta_update(new, old, faults)
    if new.get("spec") != old.get("spec"):
        faults.invalid("spec", internal.shown("resource.v1.ResourceClaimSpec", new.get("spec")), _IMMUTABLE)


def _check_claim_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    known = request_names(new.get("spec") or {})
    check_status(new, old, lambda name, path, found: check_reference(name, known, path, found), faults)


def _state(obj: Object, _now: float) -> str:
    """`pending`, `allocated,reserved`, `deleted,allocated`."""
    deleted, allocated = bool(at(obj, "metadata.deletionTimestamp")), at(obj, "status.allocation", None) is not None
    states = ["deleted"] if deleted else []
    if allocated:
        states += ["allocated", "reserved"] if at(obj, "status.reservedFor", []) else ["allocated"]
    elif not deleted:
        states.append("pending")
    return ",".join(states)


RESOURCECLAIMS = ResourceDef(
    GROUP,
    "v1",
    "ResourceClaim",
    "resourceclaims",
    "resourceclaim",
    subresources=("status",),
    storage_version_hash="wgAZaHcZxUg=",
    columns=(
        NAME,
        Column("State", "string", "A summary of the current state (allocated, pending, reserved, etc.).", _state),
        AGE,
    ),
    strategy=Strategy(
        default=_default_claim,
        prepare_create=_prepare_claim,
        validate=creating(_check_claim),
        prepare_update=keep_status,
        validate_update=updating(_check_claim_update),
        prepare_status_update=_prepare_claim_status,
        validate_status_update=updating(_check_claim_status),
    ),
)


# --- ResourceClaimTemplate


def _default_template(obj: Object) -> None:
    default_spec(obj.setdefault("spec", {}).setdefault("spec", {}))


def check_template_meta(meta: Object, path: str, faults: Faults) -> None:
    """Metadata of a template: labels and annotations, nothing else."""
    check_annotations(meta.get("annotations") or {}, f"{path}.annotations", faults)
    check_labels(meta.get("labels") or {}, f"{path}.labels", faults)
    for key in _FIXED_META:
        if meta.get(key):
            faults.forbidden(f"{path}.{'uID' if key == 'uid' else key}", "cannot be set")


_FIXED_META = (
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
)


def _check_template(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    spec = obj.get("spec") or {}
    check_template_meta(spec.get("metadata") or {}, "spec.metadata", faults)
    check_spec(spec.get("spec") or {}, "spec.spec", faults)


def _check_template_update(new: Object, old: Object, faults: Faults) -> None:
    _check_template(new, faults)
    check_meta_update(new, old, faults)
    if new.get("spec") != old.get("spec"):
        shown = internal.shown("resource.v1.ResourceClaimTemplateSpec", new.get("spec"))
        faults.invalid("spec", shown, _IMMUTABLE)


RESOURCECLAIMTEMPLATES = ResourceDef(
    GROUP,
    "v1",
    "ResourceClaimTemplate",
    "resourceclaimtemplates",
    "resourceclaimtemplate",
    storage_version_hash="TuzjC49aUfM=",
    columns=(NAME, AGE),
    strategy=Strategy(
        default=_default_template,
        validate=creating(_check_template),
        prepare_update=keep_generation,
        validate_update=updating(_check_template_update),
    ),
)


# --- DeviceClass


def _check_class_spec(spec: Object, faults: Faults) -> None:
    check_selectors(spec.get("selectors") or [], "spec.selectors", faults)
    check_items(spec.get("config") or [], MAX_CONFIGS, check_configuration, "spec.config", faults)
    name = spec.get("extendedResourceName")
    if name is not None and not resourcenames.is_extended(name):
        faults.invalid("spec.extendedResourceName", name, "must be a valid extended resource name")


def _class_name(name: str, prefix: bool) -> list[str]:
    """The beginning of a generated name is not looked at, only what comes of it."""
    return [] if prefix else list(names.name_is_subdomain(name, False))


def _check_class(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, _class_name, faults)
    _check_class_spec(obj.get("spec") or {}, faults)


def _check_class_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta(new, False, names.name_is_subdomain, faults)
    check_meta_update(new, old, faults)
    _check_class_spec(new.get("spec") or {}, faults)


DEVICECLASSES = ResourceDef(
    GROUP,
    "v1",
    "DeviceClass",
    "deviceclasses",
    "deviceclass",
    namespaced=False,
    storage_version_hash="Yk2PTc1Ybxk=",
    columns=(NAME, AGE),
    strategy=Strategy(
        prepare_create=first_generation,
        validate=creating(_check_class),
        prepare_update=counting("spec"),
        validate_update=updating(_check_class_update, namespaced=False),
    ),
)
