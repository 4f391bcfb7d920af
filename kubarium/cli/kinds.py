"""Names of resources as people type them: po, pod, pods, Pod, deployments.apps, deploy/web.

The resources that every cluster has stand in a table, so that asking for pods costs no discovery; others are looked up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kubarium.cli.http import Server
from kubarium.cli.run import UsageError

DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


class Kind(NamedTuple):
    """One resource: what its REST path and its printed names are made of."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    short: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *filter(None, (name, subresource))])

    @property
    def qualified(self) -> str:
        """`deployment.apps`, `pod`: what `-o name` prints before the slash."""
        return f"{self.singular}.{self.group}" if self.group else self.singular

    @property
    def qualified_plural(self) -> str:
        """`deployments.apps`, `pods`: what errors speak of."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _core(plural: str, kind: str, *short: str, namespaced: bool = True, group: str = "") -> Kind:
    return Kind(group, "v1", plural, kind.lower(), kind, namespaced, short)


KNOWN = (
    _core("pods", "Pod", "po"),
    _core("services", "Service", "svc"),
    _core("nodes", "Node", "no", namespaced=False),
    _core("namespaces", "Namespace", "ns", namespaced=False),
    _core("configmaps", "ConfigMap", "cm"),
    _core("secrets", "Secret"),
    _core("serviceaccounts", "ServiceAccount", "sa"),
    _core("endpoints", "Endpoints", "ep"),
    _core("events", "Event", "ev"),
    _core("deployments", "Deployment", "deploy", group="apps"),
    _core("replicasets", "ReplicaSet", "rs", group="apps"),
    _core("endpointslices", "EndpointSlice", group="discovery.k8s.io"),
    _core("ingresses", "Ingress", "ing", group="networking.k8s.io"),
    _core("leases", "Lease", group="coordination.k8s.io"),
    _core("runtimeclasses", "RuntimeClass", namespaced=False, group="node.k8s.io"),
)
ALL = ("pods", "services", "deployments", "replicasets")


def find(server: Server, word: str) -> Kind:
    """The resource a word means. Raises UsageError with kubectl's text for one that the server does not have."""
    wanted = word.lower()
    for kind in KNOWN:
        if _is_called(kind, wanted):
            return kind
    for kind in discover(server):
        if _is_called(kind, wanted):
            return kind
    raise UsageError(f'the server doesn\'t have a resource type "{word}"')


def of_object(server: Server, obj: dict[str, Any], source: str = "") -> Kind:
    """The resource that an object belongs to, by its apiVersion and kind."""
    api_version, name = str(obj.get("apiVersion") or ""), str(obj.get("kind") or "")
    for field, value in (("Kind", name), ("apiVersion", api_version)):
        if not value:
            raise UsageError(f"unable to decode \"{source}\": Object '{field}' is missing")
    for kinds in (KNOWN, None):
        for kind in kinds or discover(server):
            if kind.kind == name and kind.api_version == api_version:
                return kind
    raise UsageError(
        f'resource mapping not found for name: "{(obj.get("metadata") or {}).get("name", "")}" '
        f'namespace: "{(obj.get("metadata") or {}).get("namespace", "")}" from "{source}": '
        f'no matches for kind "{name}" in version "{api_version}"'
    )


def _is_called(kind: Kind, word: str) -> bool:
    name, _, rest = word.partition(".")
    if name not in (kind.plural, kind.singular, *kind.short):
        return False
    return not rest or rest in (kind.group, f"{kind.version}.{kind.group}".rstrip("."))


def discover(server: Server) -> list[Kind]:
    """Every listable resource that the server serves, by aggregated discovery, preferred versions first."""
    found: list[Kind] = []
    for root in ("/api", "/apis"):
        document = server.get(root, accept=DISCOVERY)
        for group in document.get("items") or ():
            name = (group.get("metadata") or {}).get("name") or ""
            for version in group.get("versions") or ():
                found += [_kind(name, version["version"], entry) for entry in version.get("resources") or ()]
    return found


def _kind(group: str, version: str, entry: dict[str, Any]) -> Kind:
    response = entry.get("responseKind") or {}
    return Kind(
        group=group,
        version=version,
        plural=entry["resource"],
        singular=entry.get("singularResource") or str(response.get("kind", "")).lower(),
        kind=response.get("kind", ""),
        namespaced=entry.get("scope") == "Namespaced",
        short=tuple(entry.get("shortNames") or ()),
        verbs=tuple(entry.get("verbs") or ()),
        categories=tuple(entry.get("categories") or ()),
    )
