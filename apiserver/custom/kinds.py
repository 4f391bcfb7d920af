"""From a CustomResourceDefinition to the resources it stands for, one for each version that is served.

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions", "Versions in
CustomResourceDefinitions"; k8s.io/apiextensions-apiserver pkg/apiserver.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from apiserver.custom import bodies, decoding, defaulting, jsonpath, owned
from apiserver.custom.columns import columns
from apiserver.custom.scale import ScalePaths
from apiserver.custom.strategy import Judge, strategy
from apiserver.custom.structural import Node, NotStructural, structural
from apiserver.fieldmanager.roots import SYSTEM, SYSTEM_METADATA, Root
from apiserver.registry import priorities
from apiserver.registry.base import Object, ResourceDef
from kubarium.machinery.errors import InternalError

VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_ZERO: Mapping[str, Any] = {"metadata": {}}
_ANYTHING = Node({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, "object", preserve=True)


class CustomKind:
    """What the pipeline needs to know of a custom kind beyond its ResourceDef: one version of one definition."""

    def __init__(self, definition: Object, version: Object, nodes: Mapping[str, Node]) -> None:
        """`nodes`: the schemas of all versions."""
        spec = definition["spec"]
        self.definition = definition
        self.group: str = spec["group"]
        self.version: str = version["name"]
        self.kind: str = spec["names"]["kind"]
        self.namespaced: bool = spec["scope"] == "Namespaced"
        self.terminating = bool(definition["metadata"].get("deletionTimestamp"))
        self.schema: Object = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        self._nodes = nodes
        self.node = nodes[self.version]
        subresources = version.get("subresources") or {}
        self.has_status = "status" in subresources
        self.scale = scale_paths(subresources.get("scale"))

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    @cached_property
    def judge(self) -> Judge:
        """The strategy; made when the first object is written."""
        return Judge(self.schema, self.node, self.namespaced, self.has_status, self.scale)

    def root(self, subresource: str) -> Root:
        """For field management."""
        found = self._roots.get(subresource)
        if found is None:
            ignored = SYSTEM
            if subresource == "status":
                ignored |= {"spec", "metadata"}
            elif self.has_status:
                ignored |= {"status"}
            found = Root(owned.root(self.node, ignored, SYSTEM_METADATA), "", _ZERO)
            self._roots[subresource] = found
        return found

    @cached_property
    def _roots(self) -> dict[str, Root]:
        return {}

    def has_version(self, api_version: str) -> bool:
        group, _, version = api_version.rpartition("/")
        return group == self.group and any(v["name"] == version for v in self.definition["spec"]["versions"])

    def coerced(self, obj: Object) -> list[str]:
        """Bring an object into written form; the paths of unknown fields. Raises BadObject, Invalid."""
        decoding.check_type(obj, self.group, self.version, self.kind)
        decoding.whole_numbers(obj)
        return decoding.coerced(obj, self.node)

    @cached_property
    def about(self) -> ResourceDef:
        """The kind's names, for error texts."""
        names = self.definition["spec"]["names"]
        return ResourceDef(self.group, self.version, self.kind, names["plural"], "", self.namespaced)

    def typed(self, value: Any, field_validation: str, duplicates: list[str], body: bytes) -> tuple[Object, list[str]]:
        """See `apiserver.custom.bodies.typed`."""
        return bodies.typed(self, value, field_validation, duplicates, body)

    def patched(self, value: Object, field_validation: str, duplicates: list[str]) -> tuple[Object, list[str]]:
        return bodies.patched(self, value, field_validation, duplicates)

    def applied(self, value: Object) -> Object:
        return bodies.applied(self, value)

    def served(self, obj: Object) -> Object:
        """A stored object as this version serves it: in the form of its own version, then in that of this one."""
        node = self._nodes.get(obj["apiVersion"].rpartition("/")[2], self.node)
        decoding.coerced(obj, node, lenient=True)
        if node is not self.node:
            self._check_conversion(obj["apiVersion"])
            obj["apiVersion"] = self.api_version
            decoding.coerced(obj, self.node, lenient=True, defaults=False)
        return obj

    def kept(self, obj: Object, version: str) -> Object:
        """An object as it is stored in another version. Conversion (strategy None) changes nothing but apiVersion."""
        self._check_conversion(self.api_version)
        found: Object = {**defaulting.copied(obj), "apiVersion": f"{self.group}/{version}"}
        decoding.coerced(found, self._nodes[version], lenient=True, defaults=False)
        return found

    def _check_conversion(self, api_version: str) -> None:
        """Raises InternalError where the definition wants a webhook to convert an object of that version."""
        if (self.definition["spec"].get("conversion") or {}).get("strategy") == "Webhook":
            text = f"conversion webhook for {api_version}, Kind={self.kind} failed"
            raise InternalError(f"{text}: this server does not call conversion webhooks")


def node_of(schema: Object) -> Node:
    """The schema as a tree; one that keeps everything where there is none or it is not structural (old definitions)."""
    try:
        return structural(schema) if schema else _ANYTHING
    except NotStructural:
        return _ANYTHING


def scale_paths(wanted: Object | None) -> ScalePaths | None:
    if wanted is None:
        return None
    return ScalePaths(wanted["specReplicasPath"], wanted["statusReplicasPath"], wanted.get("labelSelectorPath") or "")


# --- resources


def resources(definition: Object) -> tuple[ResourceDef, ...]:
    """One for each served version, the newest first."""
    spec, names = definition["spec"], accepted_names(definition)
    found = {version["name"]: version for version in spec["versions"]}
    storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
    selectors = {path: read for version in spec["versions"] for path, read in field_selectors(version).items()}
    plain = len(found) == 1 and definition["metadata"].get("generation", 1) == 1
    nodes = {
        name: node_of((version.get("schema") or {}).get("openAPIV3Schema") or {}) for name, version in found.items()
    }
    return tuple(
        _resource(definition, CustomKind(definition, found[name], nodes), found[name], names, storage, selectors, plain)
        for name in priorities.versions_in_order(spec["group"], found)
        if found[name].get("served")
    )


def _resource(
    definition: Object,
    custom: CustomKind,
    version: Object,
    names: Object,
    storage: str,
    selectors: Mapping[str, Callable[[Object], str]],
    plain: bool,
) -> ResourceDef:
    """`plain`: what is stored is as it is served, because there was never another schema."""
    own = field_selectors(version)
    subresources = tuple(name for name in ("status", "scale") if name in (version.get("subresources") or {}))
    return ResourceDef(
        group=custom.group,
        version=custom.version,
        kind=names["kind"],
        plural=names["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        namespaced=custom.namespaced,
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        verbs=VERBS,
        subresources=subresources,
        columns=columns(version.get("additionalPrinterColumns") or ()),
        strategy=strategy(custom),
        field_selectors={path: selectors[path] for path in own},
        storage=(custom.group, definition["spec"]["names"]["plural"]),
        to_storage=None if storage == custom.version else (lambda obj: custom.kept(obj, storage)),
        from_storage=None if plain else custom.served,
        deprecation=deprecation(definition["spec"], version),
        storage_version_hash=version_hash(custom.group, storage, custom.kind),
        list_kind=names.get("listKind") or f"{names['kind']}List",
        custom=custom,
    )


def accepted_names(definition: Object) -> Object:
    """The names that are in force: those of the status, as far as they have been accepted."""
    accepted: Object = (definition.get("status") or {}).get("acceptedNames") or {}
    names: Object = definition["spec"]["names"]
    return accepted if accepted.get("plural") and accepted.get("kind") else names


def field_selectors(version: Object) -> dict[str, Callable[[Object], str]]:
    """By path without the first dot."""
    found = {}
    for one in version.get("selectableFields") or ():
        path = one["jsonPath"]
        try:
            found[path.removeprefix(".")] = _selected(jsonpath.parse(path))
        except jsonpath.BadPath:
            continue
    return found


def _selected(find: Callable[[Any], list[Any]]) -> Callable[[Object], str]:
    def read(obj: Object) -> str:
        found = find(obj)
        return "" if not found or found[0] is None else jsonpath.printed(found[0])

    return read


def deprecation(spec: Object, version: Object) -> str:
    """The warning that goes with every answer of a deprecated version."""
    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning"):
        return str(version["deprecationWarning"])
    kind, name = spec["names"]["kind"], version["name"]
    text = f"{spec['group']}/{name} {kind} is deprecated"
    good = [v["name"] for v in spec["versions"] if v.get("served") and not v.get("deprecated")]
    newest = priorities.versions_in_order(spec["group"], [*good, name])[0]
    return text if newest == name else f"{text}; use {spec['group']}/{newest} {kind}"


def version_hash(group: str, version: str, kind: str) -> str:
    """What tells clients that objects are stored in another form than before."""
    digest = hashlib.sha256(f"{group}/{version}/{kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()
