"""The status of a ResourceClaim: what was allocated, for whom it is reserved, how its devices are.

Source: k8s.io/kubernetes/pkg/apis/resource/validation (order and texts); KEP-4817.
"""

from __future__ import annotations

from collections.abc import Collection

from apiserver.registry import addresses
from apiserver.registry.base import Object
from apiserver.registry.cells import at
from apiserver.registry.conditions import check_conditions
from apiserver.registry.devices import (
    MAX_CONFIGS,
    ItemCheck,
    check_binding_conditions,
    check_configuration,
    check_items,
    check_label,
    check_pool_name,
    check_raw,
    check_set,
    check_uid,
)
from apiserver.registry.faults import Faults
from apiserver.registry.nodeselector import check_node_selector
from apiserver.registry.pv_sources import check_driver_name
from apiserver.schemas import internal

MAX_RESERVED, MAX_RESULTS, MAX_CONDITIONS = 256, 32, 8
_MAX_INTERFACE_B, _MAX_HARDWARE_B, _MAX_IPS = 256, 128, 16
_SOURCES = ("FromClaim", "FromClass")

DeviceKey = tuple[str, str, str, str]
"""Driver, pool, device and share."""


def device_key(entry: Object) -> DeviceKey:
    return entry.get("driver", ""), entry.get("pool", ""), entry.get("device", ""), entry.get("shareID") or ""


def _allocated(claim: Object) -> set[DeviceKey]:
    return {device_key(result) for result in at(claim, "status.allocation.devices.results", [])}


def drop_stale_devices(new: Object, old: Object) -> None:
    """What is told of devices that were taken from the claim goes with them."""
    gone, status = _allocated(old) - _allocated(new), new.get("status") or {}
    devices = [device for device in status.get("devices") or () if device_key(device) not in gone]
    if devices:
        status["devices"] = devices
    else:
        status.pop("devices", None)


def check_status(new: Object, old: Object, check_request: ItemCheck, faults: Faults) -> None:
    """`check_request` checks the name of a request of the claim."""
    status, was = new.get("status") or {}, old.get("status") or {}
    reserved, allocation = status.get("reservedFor") or [], status.get("allocation")
    check_set(reserved, MAX_RESERVED, _check_consumer, lambda c: c.get("uid", ""), "status.reservedFor", faults)
    known = _allocated(new)
    check_set(
        status.get("devices") or [],
        -1,
        lambda device, path, found: _check_device(device, known, path, found),
        device_key,
        "status.devices",
        faults,
        shown=_shown_key,
    )
    if reserved and allocation is None:
        faults.forbidden("status.reservedFor", "may not be specified when `allocated` is not set")
    elif at(new, "metadata.deletionTimestamp") and any(c not in (was.get("reservedFor") or []) for c in reserved):
        text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        faults.forbidden("status.reservedFor", text)
    _check_allocation(allocation, was.get("allocation"), check_request, faults)


def _shown_key(entry: Object) -> Object:
    driver, pool, device, share = device_key(entry)
    return {"Driver": driver, "Pool": pool, "Device": device, "ShareID": share}


def _check_consumer(consumer: Object, path: str, faults: Faults) -> None:
    for key in ("resource", "name", "uid"):
        if not consumer.get(key):
            faults.required(f"{path}.{key}")


def _check_allocation(new: Object | None, old: Object | None, check_request: ItemCheck, faults: Faults) -> None:
    """It is made once, and taken away as a whole."""
    path = "status.allocation"
    if new is None:
        return
    if old is not None:
        if new != old:
            faults.invalid(path, internal.shown("resource.v1.AllocationResult", new), "field is immutable")
        return

    def check_result(result: Object, where: str, found: Faults) -> None:
        check_request(result.get("request", ""), f"{where}.request", found)
        check_driver_name(result.get("driver", ""), f"{where}.driver", found)
        check_pool_name(result.get("pool", ""), f"{where}.pool", found)
        check_label(result.get("device", ""), f"{where}.device", found)
        check_binding_conditions(result, where, found)
        if (share := result.get("shareID")) is not None:
            check_uid(share, f"{where}.shareID", found)

    def check_config(config: Object, where: str, found: Faults) -> None:
        if not (source := config.get("source", "")):
            found.required(f"{where}.source")
        elif source not in _SOURCES:
            found.unsupported(f"{where}.source", source, _SOURCES)
        requests = config.get("requests") or []
        check_set(requests, MAX_RESULTS, check_request, lambda name: name, f"{where}.requests", found)
        check_configuration(config, where, found)

    devices = new.get("devices") or {}
    check_items(devices.get("results") or [], MAX_RESULTS, check_result, f"{path}.devices.results", faults)
    check_items(devices.get("config") or [], 2 * MAX_CONFIGS, check_config, f"{path}.devices.config", faults)
    if (selector := new.get("nodeSelector")) is not None:
        check_node_selector(selector, f"{path}.nodeSelector", faults)


def _check_device(device: Object, known: Collection[DeviceKey], path: str, faults: Faults) -> None:
    check_driver_name(device.get("driver", ""), f"{path}.driver", faults)
    check_pool_name(device.get("pool", ""), f"{path}.pool", faults)
    check_label(device.get("device", ""), f"{path}.device", faults)
    if (share := device.get("shareID")) is not None:
        check_uid(share, f"{path}.shareID", faults)
    if device_key(device) not in known:
        faults.invalid(path, _shown_key(device), "must be an allocated device in the claim")
    conditions = device.get("conditions") or []
    if len(conditions) > MAX_CONDITIONS:
        faults.too_many(f"{path}.conditions", len(conditions), MAX_CONDITIONS)
    check_conditions(conditions, f"{path}.conditions", faults)
    if (data := device.get("data")) is not None:
        check_raw(data, f"{path}.data", faults)
    if (network := device.get("networkData")) is not None:
        _check_network(network, f"{path}.networkData", faults)


def _check_network(network: Object, path: str, faults: Faults) -> None:
    for key, limit in (("interfaceName", _MAX_INTERFACE_B), ("hardwareAddress", _MAX_HARDWARE_B)):
        if len(network.get(key, "").encode()) > limit:
            faults.too_long(f"{path}.{key}", limit)
    check_set(network.get("ips") or [], _MAX_IPS, _check_ip, lambda ip: ip, f"{path}.ips", faults)


def _check_ip(text: str, path: str, faults: Faults) -> None:
    faults.each(path, text, addresses.interface_address(text))
