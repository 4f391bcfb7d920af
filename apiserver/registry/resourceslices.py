"""ResourceSlices (group resource.k8s.io): the devices that a driver offers.

Source: Kubernetes API reference, ResourceSlice v1; k8s.io/kubernetes/pkg/apis/resource/validation (order and texts);
KEP-4381, KEP-4815 (partitionable devices), KEP-5055 (taints), KEP-5075 (consumable capacity), KEP-5007 (binding).
"""

from __future__ import annotations

import re
import time

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, field, selectable
from apiserver.registry.device_capacity import check_policy
from apiserver.registry.devices import (
    GROUP,
    check_attribute_name,
    check_binding_conditions,
    check_items,
    check_label,
    check_map,
    check_pool_name,
    check_set,
    check_taint,
)
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_meta,
    check_meta_update,
    counting,
    creating,
    first_generation,
    updating,
)
from apiserver.registry.nodeselector import check_node_selector
from apiserver.registry.pv_sources import check_driver_name
from apiserver.schemas import internal
from kubarium.machinery.times import format_timestamp

_MAX_DEVICES, _MAX_ADVANCED_DEVICES, _MAX_COUNTER_SETS, _MAX_COUNTERS, _MAX_CONSUMED = 128, 64, 8, 32, 2
_MAX_ENTRIES, _MAX_VALUES, _MAX_VALUE_B, _MAX_TAINTS, _MAX_KEY = 32, 48, 64, 16, 63 + 1 + 32
_PLACES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_ONE_PLACE = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
_ONE_DEVICE_PLACE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true "
    "in the ResourceSlice spec"
)
_NO_DEVICE_PLACE = (
    "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the "
    "ResourceSlice spec"
)
_NUMBER = r"(0|[1-9]\d*)"
_PRERELEASE = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_is_semver = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRERELEASE}(\.{_PRERELEASE})*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?", re.ASCII
).fullmatch
_OFF_ATTRIBUTES = ("bools", "ints", "strings", "versions")  # of a feature that is off


def _devices(obj: Object) -> list[Object]:
    return list(at(obj, "spec.devices", []))


def _default(obj: Object) -> None:
    for device in _devices(obj):
        for taint in device.get("taints") or ():
            if not taint.get("timeAdded"):
                taint["timeAdded"] = format_timestamp(time.time())


def _drop_disabled(obj: Object) -> None:
    for device in _devices(obj):
        device.pop("nodeAllocatableResourceMappings", None)
        for attribute in (device.get("attributes") or {}).values():
            for key in _OFF_ATTRIBUTES:
                attribute.pop(key, None)


def _prepare(obj: Object) -> None:
    first_generation(obj)
    _drop_disabled(obj)


def _prepare_update(new: Object, old: Object) -> None:
    counting("spec")(new, old)
    _drop_disabled(new)


# --- the slice


def _check_spec(spec: Object, old: Object | None, faults: Faults) -> None:
    check_driver_name(spec.get("driver", ""), "spec.driver", faults)
    pool, was = spec.get("pool") or {}, old or {}
    check_pool_name(pool.get("name", ""), "spec.pool.name", faults)
    if (count := pool.get("resourceSliceCount", 0)) <= 0:
        faults.invalid("spec.pool.resourceSliceCount", count, "must be greater than zero")
    if (generation := pool.get("generation", 0)) < 0:
        faults.invalid("spec.pool.generation", generation, "must be greater than or equal to zero")
    if old is not None:
        check_immutable(pool.get("name", ""), at(was, "pool.name"), "spec.pool.name", faults)
        check_immutable(spec.get("driver", ""), was.get("driver", ""), "spec.driver", faults)
        check_immutable(spec.get("nodeName"), was.get("nodeName"), "spec.nodeName", faults)
    _check_place(spec, faults)
    if spec.get("sharedCounters") is not None and spec.get("devices") is not None:
        faults.invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed")
    before = {device.get("name", ""): device for device in was.get("devices") or ()}
    devices, by_device = spec.get("devices") or [], bool(spec.get("perDeviceNodeSelection"))

    def check_device(device: Object, path: str, found: Faults) -> None:
        _check_device(device, before.get(device.get("name", "")), path, by_device, found)

    advanced = any(device.get("taints") or device.get("consumesCounters") for device in devices)
    limit = _MAX_ADVANCED_DEVICES if advanced else _MAX_DEVICES
    check_set(devices, limit, check_device, lambda d: d.get("name", ""), "spec.devices", faults)
    counters = spec.get("sharedCounters") or []
    check_set(counters, _MAX_COUNTER_SETS, _check_counters, lambda c: c.get("name", ""), "spec.sharedCounters", faults)


def _check_place(spec: Object, faults: Faults) -> None:
    """Where the devices can be reached from: said in one way."""
    named = []
    for key in _PLACES:
        value, path = spec.get(key), f"spec.{key}"
        if value is None:
            continue
        if key == "nodeName" and not value:
            faults.invalid(path, value, "must be either unset or set to a non-empty string")
            continue
        if value is False:
            faults.invalid(path, value, "must be either unset or set to true")
            continue
        named.append(f"`{key}`")
        if key == "nodeName":
            faults.each(path, value, names.name_is_subdomain(value))
        elif key == "nodeSelector":
            _check_selector(value, path, faults)
    if not named:
        faults.required("spec", _ONE_PLACE)
    elif len(named) > 1:
        faults.invalid("spec", f"{{{', '.join(named)}}}", f"{_ONE_PLACE}, but multiple fields are set")


def _check_selector(selector: Object, path: str, faults: Faults) -> None:
    check_node_selector(selector, path, faults)
    terms = selector.get("nodeSelectorTerms") or []
    if len(terms) != 1:
        shown = internal.shown("[]core.v1.NodeSelectorTerm", terms)
        faults.invalid(f"{path}.nodeSelectorTerms", shown, "must have exactly one node selector term")


def _check_counters(counters: Object, path: str, faults: Faults) -> None:
    _check_counter_map(counters, "name", path, faults)


def _check_consumption(consumption: Object, path: str, faults: Faults) -> None:
    _check_counter_map(consumption, "counterSet", path, faults)


def _check_counter_map(holder: Object, key: str, path: str, faults: Faults) -> None:
    if name := holder.get(key):
        check_label(name, f"{path}.{key}", faults)
    else:
        faults.required(f"{path}.{key}")
    if counters := holder.get("counters"):
        check_map(counters, _MAX_COUNTERS, 63, check_label, _check_nothing, f"{path}.counters", faults)
    else:
        faults.required(f"{path}.counters")


def _check_nothing(_item: Object, _path: str, _faults: Faults) -> None: ...


# --- a device


def _check_device(device: Object, old: Object | None, path: str, by_device: bool, faults: Faults) -> None:
    check_label(device.get("name", ""), f"{path}.name", faults)
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    if (entries := len(attributes) + len(capacity)) > _MAX_ENTRIES:
        text = f"the total number of attributes and capacities must not exceed {_MAX_ENTRIES}"
        faults.invalid(path, entries, text)
    if len(attributes) > _MAX_VALUES:
        faults.invalid(path, len(attributes), f"the total number of attribute values must not exceed {_MAX_VALUES}")
    check_map(attributes, -1, _MAX_KEY, check_attribute_name, _check_attribute, f"{path}.attributes", faults)
    shared = bool(device.get("allowMultipleAllocations"))

    def check_capacity(entry: Object, where: str, found: Faults) -> None:
        if (policy := entry.get("requestPolicy")) is None:
            return
        if shared:
            check_policy(entry.get("value", "0"), policy, f"{where}.requestPolicy", found)
        else:
            found.forbidden(f"{where}.requestPolicy", "allowMultipleAllocations must be true")

    check_map(capacity, -1, _MAX_KEY, check_attribute_name, check_capacity, f"{path}.capacity", faults)
    taints = device.get("taints") or []
    if old is None or taints != (old.get("taints") or []):
        check_items(taints, _MAX_TAINTS, check_taint, f"{path}.taints", faults)
    consumed, where = device.get("consumesCounters") or [], f"{path}.consumesCounters"
    check_set(consumed, _MAX_CONSUMED, _check_consumption, lambda c: c.get("counterSet", ""), where, faults)
    _check_device_place(device, path, by_device, faults)
    check_binding_conditions(device, path, faults)


def _check_attribute(attribute: Object, path: str, faults: Faults) -> None:
    values = {key: attribute[key] for key in ("bool", "int", "string", "version") if attribute.get(key) is not None}
    if (text := values.get("string")) is not None and len(text.encode()) > _MAX_VALUE_B:
        faults.too_long(f"{path}.string", _MAX_VALUE_B)
    if (version := values.get("version")) is not None:
        if not _is_semver(version):
            faults.invalid(f"{path}.version", version, "must be a string compatible with semver.org spec 2.0.0")
        if len(version.encode()) > _MAX_VALUE_B:
            faults.too_long(f"{path}.version", _MAX_VALUE_B)
    if not values:
        faults.invalid(path, "", "exactly one value must be specified")
    elif len(values) > 1:
        shown = internal.shown("resource.v1.DeviceAttribute", attribute)
        faults.invalid(path, shown, "exactly one value must be specified")


def _check_device_place(device: Object, path: str, by_device: bool, faults: Faults) -> None:
    given = [key for key in ("nodeName", "nodeSelector", "allNodes") if device.get(key) is not None]
    if not by_device:
        if given:
            faults.invalid(path, None, _NO_DEVICE_PLACE)
        return
    named = []
    for key in given:
        value = device[key]
        if key == "nodeName" and not value:
            faults.invalid(f"{path}.{key}", value, "must not be empty")
            continue
        if value is False:
            faults.invalid(f"{path}.{key}", value, "must be either unset or set to true")
            continue
        named.append(f"`{key}`")
        if key == "nodeName":
            faults.each(f"{path}.{key}", value, names.name_is_subdomain(value))
        elif key == "nodeSelector":
            check_node_selector(value, f"{path}.{key}", faults)
    if not named:
        faults.required(path, _ONE_DEVICE_PLACE)
    elif len(named) > 1:
        faults.invalid(path, f"{{{', '.join(named)}}}", _ONE_DEVICE_PLACE)


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    _check_spec(obj.get("spec") or {}, None, faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_spec(new.get("spec") or {}, old.get("spec") or {}, faults)


def _warnings(new: Object, _old: Object | None) -> list[str]:
    driver = at(new, "spec.driver")
    if driver == driver.lower():
        return []
    return [f'spec.driver: driver names should be lowercase; "{driver}" contains uppercase characters']


RESOURCESLICES = ResourceDef(
    GROUP,
    "v1",
    "ResourceSlice",
    "resourceslices",
    "resourceslice",
    namespaced=False,
    storage_version_hash="KsC072WgaEY=",
    field_selectors=selectable("spec.nodeName", "spec.driver"),
    columns=(
        NAME,
        Column("Node", "string", "@ResourceSliceSpec.nodeName", field("spec.nodeName")),
        Column("Driver", "string", "@ResourceSliceSpec.driver", field("spec.driver")),
        Column("Pool", "string", "@ResourcePool.name", field("spec.pool.name")),
        AGE,
    ),
    strategy=Strategy(
        default=_default,
        prepare_create=_prepare,
        validate=creating(_check),
        prepare_update=_prepare_update,
        validate_update=updating(_check_update, namespaced=False),
        warnings=_warnings,
    ),
)
