"""How objects of custom kinds come to be and change.

Source: k8s.io/apiextensions-apiserver pkg/registry/customresource (order and texts).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from apiserver import replies
from apiserver.custom import decoding, defaulting, embedded, lists, values
from apiserver.custom.defaulting import copied
from apiserver.custom.findings import report
from apiserver.custom.ratchet import Correlated
from apiserver.custom.scale import ScalePaths
from apiserver.custom.structural import Node
from apiserver.equality import same
from apiserver.registry import meta, names
from apiserver.registry.base import Object, Strategy
from apiserver.registry.faults import Faults, quoted
from kubarium.machinery.errors import StatusCause

if TYPE_CHECKING:
    from apiserver.cel.rules import Rules
    from apiserver.custom.kinds import CustomKind

_NOT_CHECKED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing "
    "errors to complete validation"
)
_BLOCKING = frozenset(
    {
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    }
)
_STANDARD_FINALIZERS = ("orphan", "foregroundDeletion", "kubernetes")


class Judge:
    """The checks of one version of a kind, made ready."""

    def __init__(
        self, schema: Object, node: Node, namespaced: bool, has_status: bool, scale: ScalePaths | None
    ) -> None:
        self._node = node
        self._namespaced = namespaced
        self._has_status = has_status
        self._scale = scale
        self._values = values.Validator(schema)
        status = (schema.get("properties") or {}).get("status")
        self._status = values.Validator(status) if isinstance(status, dict) else None
        self._rules: Rules | None = None
        if any(inner.rules for inner in node.walk()) or _nested_rules(schema):
            from apiserver.cel.rules import Rules

            self._rules = Rules(node)

    def validate(self, obj: Object) -> Faults:
        faults = Faults()
        meta.check_accessor(obj.get("metadata") or {}, self._namespaced, names.name_is_subdomain, faults)
        self._check_values(obj, None, faults)
        decoding.check_object(obj, self._node, faults)
        self._check_rules(obj, None, None, faults)
        return faults

    def validate_update(self, new: Object, old: Object) -> Faults:
        faults = self._updating(new, old)
        correlated = Correlated(new, old, self._node)
        self._check_values(new, correlated, faults)
        decoding_faults = Faults()
        before = Faults()
        lists.check_lists(old, self._node, "", before)
        if before:
            embedded.check(new, self._node, "", decoding_faults)
        else:
            decoding.check_object(new, self._node, decoding_faults)
        faults.extend(decoding_faults)
        self._check_rules(new, old, correlated, faults)
        return faults

    def _updating(self, new: Object, old: Object) -> Faults:
        faults = Faults()
        meta.check_accessor_update(new, old, faults)
        return faults

    def _check_values(self, obj: Object, correlated: Correlated | None, faults: Faults) -> None:
        result = self._values.check(obj, "", correlated)
        if not result.valid:
            report(result.found, "", faults)
        if self._scale is not None:
            self._scale.check(obj, faults)

    def validate_status_update(self, new: Object, old: Object) -> Faults:
        faults = self._updating(new, old)
        correlated = Correlated(new, old, self._node)
        if self._status is not None and "status" in new:
            result = self._status.check(new["status"], "", correlated.key("status"))
            if not result.valid:
                report(result.found, "status", faults)
        if self._scale is not None:
            self._scale.check(new, faults, status_only=True)
        found, before = Faults(), Faults()
        lists.check_lists(new, self._node, "", found)
        if found:
            lists.check_lists(old, self._node, "", before)
            if not before:
                faults.extend(found)
        self._check_rules(new, old, correlated, faults)
        return faults

    def _check_rules(self, obj: Object, old: Object | None, correlated: Correlated | None, faults: Faults) -> None:
        if self._rules is None:
            return
        if any(cause.reason in _BLOCKING for cause in faults):
            faults.append(StatusCause("FieldValueInvalid", _NOT_CHECKED, "<nil>"))
            return
        warnings: list[str] = []
        self._rules.check(obj, old, correlated, faults, warnings)
        faults.warnings = warnings


def _nested_rules(schema: Any) -> bool:
    """Whether a schema has rules within `allOf`."""
    if isinstance(schema, dict):
        if schema.get("x-kubernetes-validations"):
            return True
        return any(_nested_rules(inner) for inner in schema.values())
    return isinstance(schema, list) and any(map(_nested_rules, schema))


def strategy(custom: CustomKind) -> Strategy:
    def default(obj: Object) -> None:
        defaulting.fill(obj, custom.node)

    def prepare_create(obj: Object) -> None:
        if custom.terminating:
            raise forbidden_create(custom, obj)
        if custom.has_status:
            obj.pop("status", None)
        obj["metadata"]["generation"] = 1

    def prepare_update(new: Object, old: Object) -> None:
        if custom.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = copied(old["status"])
        if not same(_content(new), _content(old)):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def prepare_status_update(new: Object, old: Object) -> None:
        managed, has, status = new["metadata"].get("managedFields"), "status" in new, new.get("status")
        new.clear()
        new.update(copied({key: value for key, value in old.items() if key != "status"}))
        new["metadata"].pop("managedFields", None)
        if managed:
            new["metadata"]["managedFields"] = managed
        if has:
            new["status"] = status

    def validate(obj: Object) -> list[StatusCause]:
        return custom.judge.validate(obj)

    def update(new: Object, old: Object, faults: Faults) -> None:
        found = custom.judge.validate_update(new, old)
        faults.extend(found)
        faults.warnings = found.warnings

    def status_update(new: Object, old: Object, faults: Faults) -> None:
        found = custom.judge.validate_status_update(new, old)
        faults.extend(found)
        faults.warnings = found.warnings

    return Strategy(
        default=default,
        prepare_create=prepare_create,
        validate=validate,
        prepare_update=prepare_update,
        validate_update=meta.updating(update, namespaced=custom.namespaced),
        prepare_status_update=prepare_status_update,
        validate_status_update=meta.updating(status_update, namespaced=custom.namespaced),
        warnings=finalizer_warnings,
        allow_unconditional_update=False,
    )


def _content(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key != "metadata"}


def forbidden_create(custom: CustomKind, obj: Object) -> Exception:
    text = "create not allowed while custom resource definition is terminating"
    return replies.forbidden(custom.about, obj["metadata"].get("name", ""), text)


def finalizer_warnings(new: Object, old: Object | None) -> list[str]:
    """Of finalizers that are new and have no domain."""
    before = (old or {}).get("metadata", {}).get("finalizers") or ()
    added = sorted(set(new["metadata"].get("finalizers") or ()) - set(before))
    return [text for name in added for text in _finalizer_texts(name)]


def _finalizer_texts(name: str) -> Sequence[str]:
    texts = [f"metadata.finalizers: {quoted(name)}: {text}" for text in names.qualified_name(name)]
    if "/" not in name and name not in _STANDARD_FINALIZERS:
        path = " including a path (/)" if "." in name else ""
        texts.append(
            f"metadata.finalizers: {quoted(name)}: prefer a domain-qualified finalizer name{path} to avoid accidental "
            "conflicts with other finalizer writers"
        )
    return texts
