"""ServiceAccounts and ComponentStatuses."""

from __future__ import annotations

from collections.abc import Callable

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_meta, check_meta_update, creating, keep_generation, updating

_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"


# --- ServiceAccount


def _clean_references(obj: Object) -> None:
    for i, ref in enumerate(obj.get("secrets") or ()):
        obj["secrets"][i] = {"name": ref["name"]} if ref.get("name") else {}


def _check_account(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)


def _check_account_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_account(new, faults)


def _prepare_account_update(new: Object, old: Object) -> None:
    keep_generation(new, old)
    _clean_references(new)


def _warn(new: Object, old: Object | None) -> list[str]:
    """Of the annotation where it is new."""
    if _MOUNTABLE not in at(new, "metadata.annotations", {}):
        return []
    if old is not None and _MOUNTABLE in at(old, "metadata.annotations", {}):
        return []
    text = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
    return [f"metadata.annotations[{_MOUNTABLE}]: {text}"]


SERVICEACCOUNTS = ResourceDef(
    "",
    "v1",
    "ServiceAccount",
    "serviceaccounts",
    "serviceaccount",
    short_names=("sa",),
    subresources=("token",),
    storage_version_hash="pbx9ZvyFpBE=",
    columns=(NAME, AGE),
    strategy=Strategy(
        prepare_create=_clean_references,
        validate=creating(_check_account),
        prepare_update=_prepare_account_update,
        validate_update=updating(_check_account_update),
        warnings=_warn,
    ),
)


# --- ComponentStatus


def _health(key: str, absent: str) -> Callable[[Object, float], str]:
    """A cell out of the condition Healthy."""

    def cell(obj: Object, _now: float) -> str:
        found = next((c for c in obj.get("conditions") or () if c.get("type") == "Healthy"), None)
        return absent if found is None else str(found.get(key, ""))

    return cell


def _health_cell(obj: Object, now: float) -> str:
    return {"True": "Healthy", "": "Unknown"}.get(_health("status", "")(obj, now), "Unhealthy")


COMPONENTSTATUSES = ResourceDef(
    "",
    "v1",
    "ComponentStatus",
    "componentstatuses",
    "componentstatus",
    namespaced=False,
    short_names=("cs",),
    verbs=("get", "list"),
    live=True,
    deprecation="v1 ComponentStatus is deprecated in v1.19+",
    columns=(
        NAME,
        Column("Status", "string", "Status of the component conditions", _health_cell),
        Column("Message", "string", "Message of the component conditions", _health("message", "")),
        Column("Error", "string", "Error of the component conditions", _health("error", "")),
    ),
)
