"""Discovery: which groups, versions, resources and verbs there are, in the legacy and the aggregated form.

Source: API concepts, "Discovery API".
"""

from __future__ import annotations

from typing import Any, NamedTuple

from apiserver.registry.base import Registry, ResourceDef

Json = dict[str, Any]


class Subresource(NamedTuple):
    """Verbs, and group, version and kind of what is sent; an empty kind is that of the resource itself."""

    verbs: tuple[str, ...]
    kind: str = ""
    group: str = ""
    version: str = ""


_CHANGE = ("get", "patch", "update")
_STREAM = ("create", "get")
_PROXY = ("create", "delete", "get", "patch", "update")
_PROXY_KINDS = {"nodes": "NodeProxyOptions", "pods": "PodProxyOptions", "services": "ServiceProxyOptions"}
SUBRESOURCES = {
    "approval": Subresource(_CHANGE),
    "attach": Subresource(_STREAM, "PodAttachOptions"),
    "binding": Subresource(("create",), "Binding"),
    "ephemeralcontainers": Subresource(_CHANGE),
    "eviction": Subresource(("create",), "Eviction", "policy", "v1"),
    "exec": Subresource(_STREAM, "PodExecOptions"),
    "finalize": Subresource(("update",)),
    "log": Subresource(("get",)),
    "portforward": Subresource(_STREAM, "PodPortForwardOptions"),
    "resize": Subresource(_CHANGE),
    "scale": Subresource(_CHANGE, "Scale", "autoscaling", "v1"),
    "status": Subresource(_CHANGE),
    "token": Subresource(("create",), "TokenRequest", "authentication.k8s.io", "v1"),
}


def subresource(resource: ResourceDef, name: str) -> Subresource:
    if name == "proxy":
        return Subresource(_PROXY, _PROXY_KINDS[resource.plural])
    return SUBRESOURCES[name]


def _optional(resource: ResourceDef) -> Json:
    found = {"shortNames": list(resource.short_names), "categories": list(resource.categories)}
    return {key: value for key, value in found.items() if value}


def _verbs(resource: ResourceDef) -> list[str]:
    """Sorted; those of custom kinds stand in the order that upstream wrote them in once."""
    return sorted(resource.verbs) if resource.custom is None else list(resource.verbs)


def _subresources(resource: ResourceDef) -> list[str]:
    return sorted(resource.subresources) if resource.custom is None else list(resource.subresources)


def _in(registry: Registry, group: str, version: str) -> list[ResourceDef]:
    found = (r for r in registry if (r.group, r.version) == (group, version))
    return sorted(found, key=lambda r: r.plural)


# --- legacy


def api_versions(address: str) -> Json:
    """`/api`; `address` is host:port by which clients reach this server."""
    clients = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": clients}


def api_group_list(registry: Registry) -> Json:
    """`/apis`."""
    groups = [_group(group, versions) for group, versions in registry.groups().items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _group(group: str, versions: tuple[str, ...]) -> Json:
    found = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": found, "preferredVersion": found[0]}


def legacy(registry: Registry, path: str) -> Json | None:
    """What `/api/v1`, `/apis/GROUP` or `/apis/GROUP/VERSION` answers; None where there is no such group or version."""
    parts = path.strip("/").split("/")
    if parts[0] == "api":
        group, versions = "", parts[1:]
    else:
        group, versions = parts[1], parts[2:]
    known = registry.groups().get(group, ())
    if not known or len(versions) > 1 or (versions and versions[0] not in known):
        return None
    if not versions:
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, known)}
    return _resource_list(registry, group, versions[0])


def _resource_list(registry: Registry, group: str, version: str) -> Json:
    resources: list[Json] = []
    for r in _in(registry, group, version):
        hashed = {"storageVersionHash": r.storage_version_hash} if r.storage_version_hash else {}
        resources.append(
            {
                "name": r.plural,
                "singularName": r.singular,
                "namespaced": r.namespaced,
                "kind": r.kind,
                "verbs": _verbs(r),
                **_optional(r),
                **hashed,
            }
        )
        resources += [_legacy_subresource(r, name) for name in _subresources(r)]
    head: Json = {"kind": "APIResourceList"}
    if group:
        head["apiVersion"] = "v1"  # the core group's list came before that field
    return head | {"groupVersion": f"{group}/{version}" if group else version, "resources": resources}


def _legacy_subresource(resource: ResourceDef, name: str) -> Json:
    sub = subresource(resource, name)
    found: Json = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced}
    if sub.group:
        found |= {"group": sub.group, "version": sub.version}
    return found | {"kind": sub.kind or resource.kind, "verbs": list(sub.verbs)}


# --- aggregated


def aggregated_core(registry: Registry) -> Json:
    """`/api` as an APIGroupDiscoveryList."""
    return _discovery_list([_aggregated(registry, "", registry.groups().get("", ()))])


def aggregated_groups(registry: Registry) -> Json:
    """`/apis` as an APIGroupDiscoveryList."""
    groups = registry.groups().items()
    return _discovery_list([_aggregated(registry, group, versions) for group, versions in groups if group])


def _discovery_list(items: list[Json]) -> Json:
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated(registry: Registry, group: str, versions: tuple[str, ...]) -> Json:
    found = [
        {
            "version": version,
            "resources": [_aggregated_resource(r) for r in _in(registry, group, version)],
            "freshness": "Current",
        }
        for version in versions
    ]
    return {"metadata": {"name": group} if group else {}, "versions": found}


def _kind(kind: str, group: str = "", version: str = "") -> Json:
    return {"group": group, "version": version, "kind": kind}


def _own_kind(r: ResourceDef, kind: str = "") -> Json:
    """Group and version are told of custom kinds only."""
    return _kind(kind or r.kind) if r.custom is None else _kind(kind or r.kind, r.group, r.version)


def _aggregated_resource(r: ResourceDef) -> Json:
    found: Json = {
        "resource": r.plural,
        "responseKind": _own_kind(r),
        "scope": "Namespaced" if r.namespaced else "Cluster",
        "singularResource": r.singular,
        "verbs": _verbs(r),
        **_optional(r),
    }
    if r.subresources:
        found["subresources"] = [_aggregated_subresource(r, name) for name in _subresources(r)]
    return found


def _aggregated_subresource(r: ResourceDef, name: str) -> Json:
    sub = subresource(r, name)
    kind = _kind(sub.kind, sub.group, sub.version) if sub.group else _own_kind(r, sub.kind)
    return {"subresource": name, "responseKind": kind, "verbs": list(sub.verbs)}
