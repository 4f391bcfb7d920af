"""Label and field selectors of a list or watch, as one question to an object's head. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from apiserver.codec import Head
from apiserver.registry.base import ResourceDef
from apiserver.registry.faults import quoted
from kubarium.machinery.errors import BadRequest
from kubarium.machinery.selectors import FieldSelector, parse_fields, parse_labels
from kubarium.machinery.selectors import Selector as LabelSelector

NAME, NAMESPACE = "metadata.name", "metadata.namespace"
Predicate = Callable[[Head], bool]


@dataclass(frozen=True, slots=True)
class Selection:
    """`predicate` None: everything; `name`: the one name that the field selector leaves, if it does."""

    predicate: Predicate | None = None
    name: str | None = None
    namespace: str | None = None


EVERYTHING = Selection()


def parse_selection(resource: ResourceDef, label_selector: str, field_selector: str) -> Selection:
    """Raises BadRequest with upstream's texts."""
    if not label_selector and not field_selector:
        return EVERYTHING
    parsed = parse_selectors(label_selector, field_selector)
    return selection_of(resource, *parsed)


def parse_selectors(label_selector: str, field_selector: str) -> tuple[LabelSelector | None, FieldSelector | None]:
    """None for what selects everything. Raises BadRequest where one cannot be read."""
    try:
        labels = parse_labels(label_selector) if label_selector else None
        fields = parse_fields(field_selector) if field_selector else None
    except ValueError as err:
        raise BadRequest(str(err)) from err
    labels = labels if labels and labels.requirements else None
    return labels, fields if fields and fields.requirements else None


def selection_of(resource: ResourceDef, labels: LabelSelector | None, fields: FieldSelector | None) -> Selection:
    """Raises BadRequest for fields that cannot be selected by."""
    if fields:
        check_fields(resource, fields)
        return Selection(
            (lambda head: labels.matches(head.labels) and fields.matches(head.fields))
            if labels
            else (lambda head: fields.matches(head.fields)),
            fields.exact(NAME),
            fields.exact(NAMESPACE),
        )
    return Selection(lambda head: labels.matches(head.labels)) if labels else EVERYTHING


def check_fields(resource: ResourceDef, selector: FieldSelector) -> None:
    """Only some fields of a resource can be selected by."""
    own = bool(resource.field_selectors) or resource.custom is not None  # rules instead of those that all have
    usual = (NAME, NAMESPACE) if resource.namespaced or not own else (NAME,)
    for requirement in selector.requirements:
        field = requirement.field
        if field in usual or field in resource.field_selectors:
            continue
        if not own or resource.kind == "ReplicaSet":
            raise BadRequest(f'{quoted(field)} is not a known field selector: only "{NAME}", "{NAMESPACE}"')
        if resource.kind == "Job":
            raise BadRequest(f"field label {quoted(field)} not supported for Job")
        kind = f" for {resource.api_version}, Kind={resource.kind}" if resource.group == "resource.k8s.io" else ""
        raise BadRequest(f"field label not supported{kind}: {field}")
