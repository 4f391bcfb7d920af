"""ObjectMeta: its validation on create and update, and what every resource's strategy shares.

Source: k8s.io/apimachinery/pkg/api/validation/objectmeta.go (order and texts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults, go_value
from kubarium.machinery.errors import StatusCause

ANNOTATIONS_LIMIT_B = 256 * 1024
IMMUTABLE = "field is immutable"
_OWNER_FIELDS = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")

Check = Callable[[Object, Faults], None]
UpdateCheck = Callable[[Object, Object, Faults], None]


def check_labels(labels: Mapping[str, str], path: str, faults: Faults) -> None:
    for key, value in labels.items():
        faults.each(path, key, names.label_key(key))
        faults.each(path, value, names.label_value(value))


def check_annotations(annotations: Mapping[str, str], path: str, faults: Faults) -> None:
    size = 0
    for key, value in annotations.items():
        faults.each(path, key, names.label_key(key.lower()))
        size += len(key) + len(value)
    if size > ANNOTATIONS_LIMIT_B:
        faults.too_long(path, ANNOTATIONS_LIMIT_B)


def _check_owner_references(references: list[Object], path: str, faults: Faults) -> None:
    controller = ""
    for ref in references:
        if ref.get("apiVersion", "").count("/") > 1 or not ref.get("apiVersion", "").rpartition("/")[2]:
            faults.invalid(f"{path}.apiVersion", ref.get("apiVersion", ""), "version must not be empty")
        for field in ("kind", "name", "uid"):
            if not ref.get(field):
                faults.invalid(f"{path}.{field}", "", "must not be empty")
        if (ref.get("apiVersion"), ref.get("kind")) == ("v1", "Event"):
            faults.invalid(path, ref, "/v1, Kind=Event is disallowed from being an owner")
        if ref.get("controller"):
            this = f"{ref.get('kind', '')}/{ref.get('name', '')}"
            if controller:
                found = f'Found "true" in references for {controller} and {this}'
                shown = [{key: one[key] for key in _OWNER_FIELDS if key in one} for one in references]
                faults.invalid(path, shown, f"Only one reference can have Controller set to true. {found}")
            controller = this


def _check_finalizers(finalizers: list[str], path: str, faults: Faults) -> None:
    for name in finalizers:
        faults.each(path, name, names.qualified_name(name))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        faults.invalid(path, finalizers, "finalizer orphan and foregroundDeletion cannot be both set")


def check_accessor(meta: Mapping[str, Any], namespaced: bool, name_check: names.NameCheck, faults: Faults) -> None:
    """What holds for the metadata of any object, on create and update."""
    if generate := meta.get("generateName"):
        faults.each("metadata.generateName", generate, name_check(generate, True))
    if name := meta.get("name"):
        faults.each("metadata.name", name, name_check(name, False))
    else:
        faults.required("metadata.name", "name or generateName is required")
    namespace = meta.get("namespace", "")
    if not namespaced:
        if namespace:
            faults.forbidden("metadata.namespace", "not allowed on this type")
    elif namespace:
        faults.each("metadata.namespace", namespace, names.name_is_label(namespace))
    else:
        faults.required("metadata.namespace")
    if (generation := meta.get("generation", 0)) < 0:
        faults.invalid("metadata.generation", generation, "must be greater than or equal to 0")
    _check_maps(meta, faults)
    if finalizers := meta.get("finalizers"):
        _check_finalizers(finalizers, "metadata.finalizers", faults)


def _check_maps(meta: Mapping[str, Any], faults: Faults) -> None:
    if labels := meta.get("labels"):
        check_labels(labels, "metadata.labels", faults)
    if annotations := meta.get("annotations"):
        check_annotations(annotations, "metadata.annotations", faults)
    if references := meta.get("ownerReferences"):
        _check_owner_references(references, "metadata.ownerReferences", faults)


def check_meta(obj: Object, namespaced: bool, name_check: names.NameCheck, faults: Faults) -> None:
    """What the validation of most built-in kinds asks of its metadata; the others ask `check_accessor` alone."""
    meta = obj.get("metadata") or {}
    check_accessor(meta, namespaced, name_check, faults)
    _check_finalizer_names(meta, faults)


def _check_finalizer_names(meta: Mapping[str, Any], faults: Faults) -> None:
    for i, finalizer in enumerate(meta.get("finalizers") or ()):
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            text = "name is neither a standard finalizer name nor is it fully qualified"
            faults.invalid(f"metadata.finalizers[{i}]", finalizer, text)


def check_immutable(new: Any, old: Any, path: str, faults: Faults, *, text: str = IMMUTABLE) -> None:
    if new != old:
        faults.invalid(path, new, text)


def check_meta_update(new: Object, old: Object, faults: Faults) -> None:
    """What the validation of an update of a built-in kind asks of its metadata."""
    check_accessor_update(new, old, faults)
    _check_finalizer_names(new.get("metadata") or {}, faults)


def check_accessor_update(new: Object, old: Object, faults: Faults) -> None:
    """What an update of any object may not do to metadata."""
    meta, was = new.get("metadata") or {}, old.get("metadata") or {}
    if was.get("deletionTimestamp"):
        added = sorted(set(meta.get("finalizers") or ()) - set(was.get("finalizers") or ()))
        if added:
            shown = ", ".join(go_value(f) for f in added)
            text = "no new finalizers can be added if the object is being deleted, found new finalizers "
            faults.forbidden("metadata.finalizers", f"{text}[]string{{{shown}}}")
    if not meta.get("resourceVersion"):
        faults.invalid("metadata.resourceVersion", "", "must be specified for an update")
    if meta.get("generation", 0) < was.get("generation", 0):
        faults.invalid("metadata.generation", meta.get("generation", 0), "must not be decremented")
    for field in ("name", "namespace", "uid"):
        check_immutable(meta.get(field, ""), was.get(field, ""), f"metadata.{field}", faults)
    for field in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        check_immutable(meta.get(field), was.get(field), f"metadata.{field}", faults)
    _check_maps(meta, faults)


def creating(check: Check) -> Callable[[Object], list[StatusCause]]:
    """Turn a check that adds to Faults into a Strategy's `validate`."""

    def validate(obj: Object) -> list[StatusCause]:
        faults = Faults()
        check(obj, faults)
        return faults

    return validate


def updating(check: UpdateCheck, *, namespaced: bool = True) -> Callable[[Object, Object], list[StatusCause]]:
    """Turn a check of an update into a Strategy's `validate_update`: first what holds for every kind, then its own.

    Both look at metadata, so a fault there is reported twice; upstream does the same.
    """

    def validate(new: Object, old: Object) -> list[StatusCause]:
        faults = Faults()
        check_accessor(new.get("metadata") or {}, namespaced, names.path_segment_name, faults)
        check_accessor_update(new, old, faults)
        check(new, old, faults)
        return faults

    return validate


def keep_generation(new: Object, old: Object) -> None:
    """prepare_update of kinds that count no generations: a client cannot set one."""
    meta, was = new["metadata"], old["metadata"]
    meta.pop("generation", None)
    if "generation" in was:
        meta["generation"] = was["generation"]


def keep_status(new: Object, old: Object) -> None:
    """prepare_update of kinds with a status subresource: an update of the object leaves the status alone."""
    keep_generation(new, old)
    new.pop("status", None)
    if "status" in old:
        new["status"] = old["status"]


def status_only(new: Object, old: Object) -> None:
    """prepare_status_update of most kinds: everything but status stays; labels and annotations may change, too."""
    status, meta = new.get("status"), new["metadata"]
    kept = {k: v for k, v in old.items() if k not in ("status", "metadata")}
    new.clear()
    new.update(kept, metadata=meta)
    if status is not None:
        new["status"] = status
    keep_generation(new, old)


def status_alone(new: Object, old: Object) -> None:
    """prepare_status_update of kinds of whose metadata it changes nothing but who owns which field."""
    status, managed = new.get("status"), new["metadata"].get("managedFields")
    new.clear()
    new.update({k: v for k, v in old.items() if k != "status"})
    new["metadata"] = {k: v for k, v in old["metadata"].items() if k != "managedFields"}
    if managed:
        new["metadata"]["managedFields"] = managed
    if status is not None:
        new["status"] = status


def next_generation(new: Object, old: Object, *fields: str) -> None:
    """Bump metadata.generation when one of the fields (of the top level) differs."""
    before = old["metadata"].get("generation", 0)
    changed = any(new.get(f) != old.get(f) for f in fields)
    if changed or before:
        new["metadata"]["generation"] = before + 1 if changed else before


def first_generation(obj: Object) -> None:
    """prepare_create of kinds that count generations and have no status."""
    obj["metadata"]["generation"] = 1


def counting(*fields: str) -> Callable[[Object, Object], None]:
    """prepare_update of such kinds: a new generation when one of `fields` differs."""

    def update(new: Object, old: Object) -> None:
        next_generation(new, old, *fields)

    return update
