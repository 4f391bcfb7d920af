"""What the kinds that make pods out of a template have in common: template, selector, counts, warnings.

Source: k8s.io/kubernetes/pkg/apis/{apps,core}/validation and /pkg/registry/{apps,core} (texts and order).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from apiserver.registry import labels, names
from apiserver.registry.base import Object
from apiserver.registry.cells import at
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import keep_status, next_generation
from apiserver.registry.podspec import check_pod_template
from apiserver.registry.podspec_defaults import default_pod_spec
from apiserver.registry.podspec_warnings import template_warnings

_PERCENT = re.compile("[0-9]+%").fullmatch
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' "
    "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
)
NOT_NEGATIVE = "must be greater than or equal to 0"
_NAME_TEXT = (
    "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
    "a DNS label is recommended: "
)


def default_template(spec: Object) -> None:
    """The pod template of a workload's spec."""
    default_pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))


def check_not_negative(obj: Object, key: str, path: str, faults: Faults) -> None:
    value = obj.get(key)
    if value is not None and value < 0:
        faults.invalid(f"{path}.{key}", value, NOT_NEGATIVE)


# --- numbers or percentages


def percent(value: Any) -> int | None:
    """25 for `25%`; None for what is no percentage."""
    return int(value[:-1]) if isinstance(value, str) and _PERCENT(value) else None


def amount(value: Any) -> int:
    """The number in either form, 0 where there is none."""
    if isinstance(value, int):
        return value
    found = percent(value)
    if found is not None:
        return found
    return int(value) if re.fullmatch("[+-]?[0-9]+", value) else 0


def check_int_or_percent(value: Any, path: str, faults: Faults) -> None:
    if isinstance(value, str):
        if not _PERCENT(value):
            faults.invalid(path, value, _PERCENT_TEXT)
    elif value < 0:
        faults.invalid(path, value, NOT_NEGATIVE)


def check_at_most_all(value: Any, path: str, faults: Faults) -> None:
    if (percent(value) or 0) > 100:
        faults.invalid(path, value, "must not be greater than 100%")


# --- selector and template


def check_selector(spec: Object, kind: str, faults: Faults) -> None:
    """The selector that a spec must have and that must select something; `kind` is upstream's word for whose it is."""
    selector = spec.get("selector")
    if selector is None:
        faults.required("spec.selector")
        return
    labels.check_selector(selector, "spec.selector", faults)
    if labels.is_empty(selector):
        text = f"empty selector is invalid for {kind}"
        faults.invalid("spec.selector", inner("meta.v1.LabelSelector", selector), text)


def template_labels(template: Object) -> dict[str, str] | None:
    found: dict[str, str] = at(template, "metadata.labels", {})
    return dict(sorted(found.items())) or None


def check_selected(matches: bool, template: Object, path: str, faults: Faults) -> None:
    if not matches:
        text = "`selector` does not match template `labels`"
        faults.invalid(f"{path}.metadata.labels", template_labels(template), text)


def is_selected(selector: Object | None, template: Object) -> bool:
    """No selector selects nothing, an empty one everything."""
    return selector is not None and labels.matches(selector, at(template, "metadata.labels", {}))


def check_replicated_template(spec: Object, owner: str, faults: Faults, *, before: Object | None = None) -> None:
    """A template whose pods run for ever, and whose labels the selector matches."""
    selector, template = spec.get("selector"), spec.get("template") or {}
    if selector is not None and not labels.is_valid(selector):
        faults.invalid("spec.selector", inner("meta.v1.LabelSelector", selector), "invalid label selector")
        return
    check_selected(is_selected(selector, template), template, "spec.template", faults)
    check_pod_template(template, "spec.template", faults)
    check_endless(template, "spec.template", owner, faults)


def check_fixed_selector(spec: Object, was: Object, faults: Faults) -> None:
    if spec.get("selector") != was.get("selector"):
        shown = inner("*meta.v1.LabelSelector", spec.get("selector"))
        faults.invalid("spec.selector", shown, "field is immutable")


def check_endless(template: Object, path: str, owner: str, faults: Faults) -> None:
    pod = template.get("spec") or {}
    if (policy := pod.get("restartPolicy", "")) != "Always":
        faults.unsupported(f"{path}.spec.restartPolicy", policy, ("Always",))
    if pod.get("activeDeadlineSeconds") is not None:
        faults.forbidden(f"{path}.spec.activeDeadlineSeconds", f"activeDeadlineSeconds in {owner} is not Supported")


# --- status


def check_counts(status: Object, keys: tuple[str, ...], faults: Faults) -> None:
    for key in keys:
        check_not_negative(status, key, "status", faults)


def check_limits(status: Object, keys: tuple[str, ...], faults: Faults, *, ready: str = "readyReplicas") -> None:
    """None of the counts exceeds that of all replicas, nor are more available than ready."""
    for key in keys:
        if status.get(key, 0) > status.get("replicas", 0):
            faults.invalid(f"status.{key}", status.get(key, 0), "cannot be greater than status.replicas")
    if (available := status.get("availableReplicas", 0)) > status.get("readyReplicas", 0):
        faults.invalid("status.availableReplicas", available, f"cannot be greater than {ready}")


def check_collisions(new: Object, old: Object, faults: Faults) -> None:
    """The count of name collisions only grows."""
    before, now = at(old, "status.collisionCount", None), at(new, "status.collisionCount", None)
    if before is not None and (now is None or now < before):
        faults.invalid("status.collisionCount", now or 0, "cannot be decremented")


# --- strategies


def starting(status: Object) -> Callable[[Object], None]:
    """prepare_create: a first generation, and the status that an object of the kind begins with."""

    def prepare(obj: Object) -> None:
        obj["status"] = dict(status)
        obj["metadata"]["generation"] = 1

    return prepare


def prepare_update(new: Object, old: Object) -> None:
    keep_status(new, old)
    next_generation(new, old, "spec")


def name_warnings(obj: Object) -> list[str]:
    """A name that no hostname can have."""
    found = names.dns1123_label(obj["metadata"].get("name", ""))
    return [f"{_NAME_TEXT}[{' '.join(found)}]"] if found else []


def warnings_of_template(new: Object, old: Object | None) -> list[str]:
    """About spec.template, where it is new or the spec has changed."""
    if old is not None and new["metadata"].get("generation") == old["metadata"].get("generation"):
        return []
    return template_warnings(at(new, "spec.template", {}), "spec.template")


def warnings(new: Object, old: Object | None) -> list[str]:
    """About the name of what is created, and about its template."""
    return (name_warnings(new) if old is None else []) + warnings_of_template(new, old)
