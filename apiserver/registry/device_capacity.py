"""How requests may share the capacity of a device: the policies of KEP-5075, and what is wrong with one.

Source: k8s.io/kubernetes/pkg/apis/resource/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry.base import Object
from apiserver.registry.devices import check_set
from apiserver.registry.faults import Faults
from kubarium.machinery.quantity import Quantity, read_quantity, whole

_MAX_OPTIONS = 10


def _amount(text: str) -> Quantity:
    return read_quantity(text)


def check_policy(capacity: str, policy: Object, path: str, faults: Faults) -> None:
    """`capacity` is all that the device has."""
    options, span, default = policy.get("validValues") or [], policy.get("validRange"), policy.get("default")
    if options and span is not None:
        text = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        faults.forbidden(path, text)
    elif options:
        if default is None:
            faults.required(f"{path}.default", "required when validValues is defined")
        else:
            _check_options(default, capacity, options, f"{path}.validValues", faults)
    elif span is not None:
        if default is None:
            faults.required(f"{path}.default", "required when validRange is defined")
        else:
            _check_range(default, capacity, span, f"{path}.validRange", faults)


def _check_options(default: str, capacity: str, options: list[str], path: str, faults: Faults) -> None:
    for i in range(len(options) - 1):
        if _amount(options[i]).value > _amount(options[i + 1]).value:
            faults.invalid(f"{path}[{i + 1}]", options[i + 1], "values must be sorted in ascending order")

    def check(option: str, where: str, found: Faults) -> None:
        if _amount(option).value > _amount(capacity).value:
            found.invalid(where, option, f"option is larger than capacity value: {capacity}")

    check_set(options, _MAX_OPTIONS, check, lambda option: str(whole(option)), path, faults)
    known = options if len(options) <= _MAX_OPTIONS else []
    if _amount(default).value not in {_amount(option).value for option in known}:
        faults.invalid(path, default, "default value is not valid according to the requestPolicy")


def _check_range(default: str, capacity: str, span: Object, path: str, faults: Faults) -> None:
    low, high, step = span.get("min"), span.get("max"), span.get("step")
    if low is None:
        faults.required(f"{path}.min", "required when validRange is defined")
        return
    least, most, asked = _amount(low).value, _amount(capacity).value, _amount(default).value
    if least > most:
        faults.invalid(f"{path}.min", low, f"min is larger than capacity value: {capacity}")
    if asked < least:
        faults.invalid(f"{path}.min", default, f"default is less than min: {low}")
    if high is not None:
        top = _amount(high).value
        if least > top:
            faults.invalid(f"{path}.max", low, f"min is larger than max: {high}")
        if top > most:
            faults.invalid(f"{path}.max", high, f"max is larger than capacity value: {capacity}")
        if asked > top:
            faults.invalid(f"{path}.max", default, f"default is more than max: {high}")
    if step is None:
        return
    first = _amount(low).plus(_amount(step))
    if first.value > most:
        text = f"one step {first} is larger than capacity value: {capacity}"
        faults.invalid(f"{path}.step", step, text)
    for value in (default, high):
        if value is not None and (whole(step) == 0 or (whole(value) - whole(low)) % whole(step)):
            text = f"value is not a multiple of a given step ({step}) from ({low})"
            faults.invalid(f"{path}.step", value, text)
