"""CSIDrivers, CSINodes and CSIStorageCapacities (group storage.k8s.io).

Source: Kubernetes API reference; k8s.io/kubernetes/pkg/apis/storage/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry import labels, names, nodeselector
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, CREATED_AT, NAME, NONE, UNSET, at, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_meta,
    check_meta_update,
    counting,
    creating,
    keep_generation,
    updating,
)
from apiserver.registry.pv_sources import check_driver_name
from apiserver.registry.storage import GROUP
from apiserver.schemas import internal
from kubarium.machinery.quantity import read_quantity

_FS_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_LIFECYCLES = ("Persistent", "Ephemeral")
_MIN_TOKEN_S, _MAX_TOKEN_S, _MIN_PERIOD_S, _MAX_NODE_ID = 600, 1 << 32, 10, 256
_TOKENS_TEXT = (
    "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible "
    "logging of tokens in volume attributes"
)


# --- CSIDriver


def _default_driver(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    defaults = {
        "attachRequired": True,
        "podInfoOnMount": False,
        "storageCapacity": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "requiresRepublish": False,
        "seLinuxMount": False,
    }
    for key, value in defaults.items():
        if spec.get(key) is None:
            spec[key] = value
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def _prepare_driver(obj: Object) -> None:
    obj["spec"].pop("preventPodSchedulingIfMissing", None)  # of a feature that is off


def _prepare_driver_update(new: Object, old: Object) -> None:
    if at(old, "spec.preventPodSchedulingIfMissing", None) is None:
        _prepare_driver(new)
    counting("spec")(new, old)


def _check_driver_spec(spec: Object, faults: Faults) -> None:
    if (policy := spec.get("fsGroupPolicy")) is not None and policy not in _FS_GROUP_POLICIES:
        faults.unsupported("spec.fsGroupPolicy", policy, _FS_GROUP_POLICIES)
    _check_tokens(spec.get("tokenRequests") or [], faults)
    for mode in spec.get("volumeLifecycleModes") or ():
        if mode not in _LIFECYCLES:
            faults.unsupported("spec.volumeLifecycleModes", mode, _LIFECYCLES)
    if (period := spec.get("nodeAllocatableUpdatePeriodSeconds")) is not None and period < _MIN_PERIOD_S:
        text = "must be greater than or equal to 10 seconds"
        faults.invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, text)
    secrets = spec.get("serviceAccountTokenInSecrets")
    if secrets is not None and not spec.get("tokenRequests"):
        text = "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
        faults.invalid("spec.serviceAccountTokenInSecrets", secrets, text)


def _check_tokens(requests: list[Object], faults: Faults) -> None:
    seen: set[str] = set()
    for i, request in enumerate(requests):
        path, audience, seconds = f"spec.tokenRequests[{i}]", request.get("audience", ""), None
        if audience in seen:
            faults.duplicate(f"{path}.audience", audience)
            continue
        seen.add(audience)
        if (seconds := request.get("expirationSeconds")) is None:
            continue
        if seconds < _MIN_TOKEN_S:
            text = "may not specify a duration less than 10 minutes"
            faults.invalid(f"{path}.expirationSeconds", seconds, text)
        if seconds > _MAX_TOKEN_S:
            text = "may not specify a duration larger than 2^32 seconds"
            faults.invalid(f"{path}.expirationSeconds", seconds, text)


def _check_driver(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    _check_driver_spec(obj.get("spec") or {}, faults)


def _check_driver_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    _check_driver_spec(spec, faults)
    check_immutable(spec.get("attachRequired"), was.get("attachRequired"), "spec.attachedRequired", faults)
    key = "volumeLifecycleModes"
    check_immutable(spec.get(key), was.get(key), f"spec.{key}", faults)


def _driver_warnings(new: Object, old: Object | None) -> list[str]:
    spec, key = new.get("spec") or {}, "tokenRequests"
    told = old is not None and at(old, f"spec.{key}", None) == spec.get(key)
    return [_TOKENS_TEXT] if spec.get(key) and not told and spec.get("serviceAccountTokenInSecrets") is None else []


def _audiences(obj: Object, _now: float) -> str:
    requests = at(obj, "spec.tokenRequests", None)
    return UNSET if requests is None else ",".join(r.get("audience", "") for r in requests)


CSIDRIVERS = ResourceDef(
    GROUP,
    "v1",
    "CSIDriver",
    "csidrivers",
    "csidriver",
    namespaced=False,
    storage_version_hash="hL6j/rwBV5w=",
    columns=(
        NAME,
        Column("AttachRequired", "boolean", "@CSIDriverSpec.attachRequired", field("spec.attachRequired", True)),
        Column("PodInfoOnMount", "boolean", "@CSIDriverSpec.podInfoOnMount", field("spec.podInfoOnMount", False)),
        Column("StorageCapacity", "boolean", "@CSIDriverSpec.storageCapacity", field("spec.storageCapacity", False)),
        Column("TokenRequests", "string", "@CSIDriverSpec.tokenRequests", _audiences),
        Column(
            "RequiresRepublish", "boolean", "@CSIDriverSpec.requiresRepublish", field("spec.requiresRepublish", False)
        ),
        Column(
            "Modes",
            "string",
            "@CSIDriverSpec.volumeLifecycleModes",
            lambda o, _: ",".join(at(o, "spec.volumeLifecycleModes", [])) or NONE,
        ),
        AGE,
    ),
    strategy=Strategy(
        default=_default_driver,
        prepare_create=_prepare_driver,
        validate=creating(_check_driver),
        prepare_update=_prepare_driver_update,
        validate_update=updating(_check_driver_update, namespaced=False),
        warnings=_driver_warnings,
        allow_unconditional_update=False,
    ),
)


# --- CSINode


def _check_node(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    seen: set[str] = set()
    for i, driver in enumerate(at(obj, "spec.drivers", [])):
        path, name, node_id = f"spec.drivers[{i}]", driver.get("name", ""), driver.get("nodeID", "")
        check_driver_name(name, f"{path}.name", faults)
        if not node_id:
            faults.required(f"{path}.nodeID")
        if len(node_id) > _MAX_NODE_ID:
            faults.invalid(f"{path}.nodeID", node_id, f"must be {_MAX_NODE_ID} characters or less")
        if (count := at(driver, "allocatable.count", 0)) < 0:
            faults.invalid(f"{path}.allocatable.count", count, "must be greater than or equal to 0")
        if name in seen:
            faults.duplicate(f"{path}.name", name)
        seen.add(name)
        _check_topology_keys(driver.get("topologyKeys") or [], path, faults)


def _check_topology_keys(keys: list[str], path: str, faults: Faults) -> None:
    for i, key in enumerate(keys):
        if not key:
            faults.required(path)
        if key in keys[:i]:
            faults.duplicate(path, key)
        faults.each(path, key, names.qualified_name(key))


def _check_node_update(new: Object, old: Object, faults: Faults) -> None:
    """A driver's entry may come and go, but not change."""
    _check_node(new, faults)
    for was in at(old, "spec.drivers", []):
        for driver in at(new, "spec.drivers", []):
            now, before = ({k: v for k, v in d.items() if k != "allocatable"} for d in (driver, was))
            if now["name"] == before["name"] and now != before:
                shown = internal.shown("storage.v1.CSINodeDriver", now)
                faults.invalid("spec.drivers", shown, "field is immutable")


CSINODES = ResourceDef(
    GROUP,
    "v1",
    "CSINode",
    "csinodes",
    "csinode",
    namespaced=False,
    storage_version_hash="Pe62DkZtjuo=",
    columns=(
        NAME,
        Column(
            "Drivers",
            "integer",
            "Drivers indicates the number of CSI drivers registered on the node",
            lambda o, _: len(at(o, "spec.drivers", [])),
        ),
        AGE,
    ),
    strategy=Strategy(
        validate=creating(_check_node),
        prepare_update=keep_generation,
        validate_update=updating(_check_node_update, namespaced=False),
        allow_unconditional_update=False,
    ),
)


# --- CSIStorageCapacity


def _check_capacity(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    if (selector := obj.get("nodeTopology")) is not None:
        labels.check_selector(selector, "nodeTopology", faults)
    name = obj.get("storageClassName", "")
    faults.each("storageClassName", name, names.name_is_subdomain(name))
    if (capacity := obj.get("capacity")) is not None and read_quantity(capacity).value < 0:
        faults.invalid("capacity", capacity, "must be greater than or equal to 0")


def _check_capacity_update(new: Object, old: Object, faults: Faults) -> None:
    _check_capacity(new, faults)
    check_meta_update(new, old, faults)
    for key in ("nodeTopology", "storageClassName"):
        check_immutable(new.get(key), old.get(key), key, faults)


def _capacity_warnings(new: Object, _old: Object | None) -> list[str]:
    return list(nodeselector.label_selector_warnings(new.get("nodeTopology") or {}, "nodeTopology"))


CSISTORAGECAPACITIES = ResourceDef(
    GROUP,
    "v1",
    "CSIStorageCapacity",
    "csistoragecapacities",
    "csistoragecapacity",
    storage_version_hash="xeVl+2Ly1kE=",
    columns=(NAME, CREATED_AT),
    strategy=Strategy(
        validate=creating(_check_capacity),
        prepare_update=keep_generation,
        validate_update=updating(_check_capacity_update),
        warnings=_capacity_warnings,
        allow_unconditional_update=False,
    ),
)
