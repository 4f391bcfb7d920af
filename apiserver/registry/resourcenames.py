"""Names of resources (cpu, requests.storage, count/pods, example.com/gpu) and the amounts they may have.

Source: k8s.io/kubernetes/pkg/apis/core/helper and /validation.
"""

from __future__ import annotations

from decimal import ROUND_UP, Decimal

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from kubarium.machinery.quantity import Quantity, read_quantity

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_COUNTED = ("pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps")
_INTEGERS = frozenset({*_COUNTED, "persistentvolumeclaims", "services.nodeports", "services.loadbalancers"})
QUOTA_RESOURCES = frozenset(
    {
        *_COMPUTE,
        *(f"requests.{name}" for name in (*_COMPUTE, "storage")),
        *(f"limits.{name}" for name in _COMPUTE),
        *_INTEGERS,
    }
)
_STANDARD = QUOTA_RESOURCES | {"storage"}
_STANDARD_TEXT = "must be a standard resource type or fully qualified"


def is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """A resource of somebody's own, such as a device plugin's."""
    return not (is_native(name) or name.startswith("requests.") or names.qualified_name(f"requests.{name}"))


def is_integer(name: str) -> bool:
    return name in _INTEGERS or is_extended(name)


def is_quota_resource(name: str) -> bool:
    return name in QUOTA_RESOURCES or name.startswith(("hugepages-", "requests.hugepages-"))


def overcommit_allowed(name: str) -> bool:
    return is_native(name) and not name.startswith("hugepages-")


def check_name(name: str, path: str, faults: Faults) -> None:
    """A name that the system knows, or a qualified one."""
    found = names.qualified_name(name)
    faults.each(path, name, found)
    if not found and "/" not in name and not (name in _STANDARD or is_quota_resource(name)):
        faults.invalid(path, name, _STANDARD_TEXT)


def check_container_name(name: str, path: str, faults: Faults) -> None:
    """A resource that containers can have."""
    check_name(name, path, faults)
    if "/" not in name:
        if name not in _COMPUTE and not name.startswith("hugepages-"):
            faults.invalid(path, name, "must be a standard resource for containers")
    elif not is_native(name) and not is_extended(name):
        faults.invalid(path, name, "doesn't follow extended resource name standard")


def check_amount(name: str, amount: str, path: str, faults: Faults) -> None:
    value = read_quantity(amount).value
    if value < 0:
        faults.invalid(path, amount, "must be greater than or equal to 0")
    if is_integer(name) and milli(value) != value.to_integral_value():
        faults.invalid(path, amount, "must be an integer")


def check_basic(amount: str, path: str, faults: Faults) -> None:
    if (whole := int(read_quantity(amount).whole().value)) < 0:
        faults.invalid(path, whole, "must be a valid resource quantity")


def check_positive(amount: str, path: str, faults: Faults) -> None:
    if read_quantity(amount).value <= 0:
        faults.invalid(path, amount, "must be greater than zero")


def milli(value: Decimal) -> Decimal:
    """Rounded up, away from zero, to a thousandth."""
    return value.quantize(Decimal("0.001"), rounding=ROUND_UP)


def round_up(holder: Object, *keys: str) -> None:
    """Lists of amounts as the API keeps them: none finer than a thousandth."""
    for key in keys:
        for name, amount in (holder.get(key) or {}).items():
            value, family = read_quantity(amount)
            if value != milli(value):
                holder[key][name] = str(Quantity(milli(value), family))
