"""The types of whole objects: what of them nobody owns, depending on the subresource that is written.

Nobody owns the type, the identity and the server's own fields; nor what a write through this path cannot change (the
main resource leaves the status alone, the status subresource the spec).
Source: Kubernetes documentation, "Server-Side Apply"; k8s.io/kubernetes/pkg/registry (GetResetFields).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from apiserver import schemas
from apiserver.fieldmanager.schema import Node, Struct
from apiserver.registry.base import ResourceDef
from apiserver.schemas import shape

SYSTEM = frozenset({"apiVersion", "kind"})
SYSTEM_METADATA = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "selfLink",
        "managedFields",
    }
)
_NONE: frozenset[str] = frozenset()
# Fields of metadata that a write of the status leaves alone; the spec it leaves alone anyway. `*` is all of metadata.
_STATUS_LEAVES: Mapping[tuple[str, str], frozenset[str]] = {
    ("", "pods"): frozenset({"deletionTimestamp", "ownerReferences"}),
    ("apps", "deployments"): frozenset({"labels"}),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): frozenset({"*"}),
    ("apiregistration.k8s.io", "apiservices"): frozenset({"*"}),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): frozenset({"*"}),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): frozenset({"*"}),
    ("networking.k8s.io", "servicecidrs"): frozenset({"*"}),
    ("resource.k8s.io", "resourceclaims"): frozenset({"*"}),
    ("storage.k8s.io", "volumeattachments"): frozenset({"*"}),
}


_QUESTIONS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})  # their statuses are a client's like the rest
# What else a kind's subresources leave alone: of the whole object, and of its status. Requests for certificates are
# read-only but for their metadata; each of their subresources owns one part of the status.
_LEAVES: Mapping[tuple[str, str, str], tuple[frozenset[str], frozenset[str]]] = {
    ("certificates.k8s.io", "certificatesigningrequests", ""): (frozenset({"spec", "status"}), _NONE),
    ("certificates.k8s.io", "certificatesigningrequests", "status"): (_NONE, frozenset({"conditions"})),
    ("certificates.k8s.io", "certificatesigningrequests", "approval"): (
        frozenset({"spec"}),
        frozenset({"certificate"}),
    ),
}


@dataclass(frozen=True, slots=True)
class Root:
    """`type_name`: in the schemas; `zero`: an object of the type with nothing set (shared, not to be changed)."""

    node: Node
    type_name: str
    zero: Mapping[str, Any]


def root_of(resource: ResourceDef, subresource: str) -> Root | None:
    """None where the schemas do not know the kind."""
    if resource.custom is not None:
        return resource.custom.root(subresource)
    return _root(resource.group, resource.version, resource.kind, resource.plural, subresource)


@cache
def _root(group: str, version: str, kind: str, plural: str, subresource: str) -> Root | None:
    name = schemas.type_name(group, version, kind)
    if name is None or name not in schemas.types()["structs"]:
        return None
    fields = schemas.types()["structs"][name]
    left, metadata_left = SYSTEM, SYSTEM_METADATA
    if subresource == "status":
        left |= {"spec"}
        leaves = _STATUS_LEAVES.get((group, plural), _NONE)
        left |= {"metadata"} if "*" in leaves else _NONE
        metadata_left |= leaves
    elif "spec" in fields and "status" in fields and subresource != "approval" and group not in _QUESTIONS:
        left |= {"status"}
    more, status_left = _LEAVES.get((group, plural, subresource), (_NONE, _NONE))
    within: dict[str, Node] = {"metadata": Struct("meta.v1.ObjectMeta", metadata_left)}
    if status_left:
        within["status"] = Struct(fields["status"]["t"][1], status_left)
    node = Struct(name, left | more, within)
    return Root(node, name, shape.struct(name).convert({"metadata": {}}, "", shape.Report()))
