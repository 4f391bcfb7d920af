"""ReplicationControllers and PodTemplates."""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, comma_pairs, containers, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_meta,
    check_meta_update,
    counting,
    creating,
    first_generation,
    status_only,
    updating,
)
from apiserver.registry.podspec import check_pod_template
from apiserver.registry.podspec_defaults import default_pod_spec
from apiserver.registry.podspec_warnings import template_warnings
from apiserver.registry.workloads import (
    check_counts,
    check_endless,
    check_limits,
    check_not_negative,
    check_selected,
    default_template,
    prepare_update,
    starting,
    warnings,
)

# --- ReplicationController


def _default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    if spec.get("template") is None:
        return
    default_template(spec)
    if found := at(spec, "template.metadata.labels", None):
        if not spec.get("selector"):
            spec["selector"] = dict(found)
        metadata = obj.setdefault("metadata", {})
        if not metadata.get("labels"):
            metadata["labels"] = dict(found)


def _check_spec(spec: Object, faults: Faults, *, before: Object | None = None) -> None:
    check_not_negative(spec, "minReadySeconds", "spec", faults)
    selector, template = spec.get("selector") or {}, spec.get("template")
    if not selector:
        faults.required("spec.selector")
    check_not_negative(spec, "replicas", "spec", faults)
    if template is None:
        faults.required("spec.template")
        return
    found = at(template, "metadata.labels", {})
    check_selected(all(found.get(key) == value for key, value in selector.items()), template, "spec.template", faults)
    check_pod_template(template, "spec.template", faults)
    check_endless(template, "spec.template", "ReplicationController", faults)


def _check(obj: Object, faults: Faults) -> None:
    metadata = {k: v for k, v in obj["metadata"].items() if k != "generateName"}  # only what was made of it is checked
    check_meta({"metadata": metadata}, True, names.name_is_subdomain, faults)
    _check_spec(obj.get("spec") or {}, faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_spec(new.get("spec") or {}, faults, before=at(old, "spec.template", None))


def _check_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    status = new.get("status") or {}
    counted = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    check_counts(status, ("replicas", *counted, "observedGeneration"), faults)
    check_limits(status, counted, faults)


REPLICATIONCONTROLLERS = ResourceDef(
    "",
    "v1",
    "ReplicationController",
    "replicationcontrollers",
    "replicationcontroller",
    short_names=("rc",),
    categories=("all",),
    subresources=("scale", "status"),
    storage_version_hash="Jond2If31h0=",
    field_selectors={"status.replicas": lambda o: str(at(o, "status.replicas", 0))},
    columns=(
        NAME,
        Column("Desired", "integer", "@ReplicationControllerSpec.replicas", field("spec.replicas", 0)),
        Column("Current", "integer", "@ReplicationControllerStatus.replicas", field("status.replicas", 0)),
        Column("Ready", "integer", "@ReplicationControllerStatus.readyReplicas", field("status.readyReplicas", 0)),
        AGE,
        *containers("spec.template.spec"),
        Column(
            "Selector",
            "string",
            "@ReplicationControllerSpec.selector",
            lambda o, _: comma_pairs(at(o, "spec.selector", {})),
            priority=1,
        ),
    ),
    strategy=Strategy(
        default=_default,
        prepare_create=starting({"replicas": 0}),
        validate=creating(_check),
        prepare_update=prepare_update,
        validate_update=updating(_check_update),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_status),
        warnings=warnings,
        orphans=True,
    ),
)


# --- PodTemplate


def _default_pod_template(obj: Object) -> None:
    default_pod_spec(obj.setdefault("template", {}).setdefault("spec", {}))


def _check_pod_template(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    check_pod_template(obj.get("template") or {}, "template", faults)


def _check_pod_template_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    check_pod_template(new.get("template") or {}, "template", faults)


def _pod_template_warnings(new: Object, old: Object | None) -> list[str]:
    if old is not None and new["metadata"].get("generation") == old["metadata"].get("generation"):
        return []
    return template_warnings(new.get("template") or {}, "template")


def _shown(column: Column) -> Column:
    """A column of workloads that a PodTemplate shows always."""
    return Column(column.name, column.type, column.description, column.cell)


PODTEMPLATES = ResourceDef(
    "",
    "v1",
    "PodTemplate",
    "podtemplates",
    "podtemplate",
    storage_version_hash="LIXB2x4IFpk=",
    columns=(
        NAME,
        *(_shown(column) for column in containers("template.spec")),
        Column(
            "Pod Labels",
            "string",
            "The labels for the pod template.",
            lambda o, _: comma_pairs(at(o, "template.metadata.labels", {})),
        ),
    ),
    strategy=Strategy(
        default=_default_pod_template,
        prepare_create=first_generation,
        validate=creating(_check_pod_template),
        prepare_update=counting("template"),
        validate_update=updating(_check_pod_template_update),
        warnings=_pod_template_warnings,
    ),
)
