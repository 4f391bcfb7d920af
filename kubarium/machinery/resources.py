"""Names of resources: the parts of a REST path, and the typed view a client decodes into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from kubarium.machinery import objects

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """One collection of the API. `view` is the msgspec Struct that `Api` decodes its objects into."""

    group: str
    version: str
    plural: str
    kind: str
    view: type[T]
    namespaced: bool = True
    metadata_only: bool = False  # ask for no more than the view holds: lists and watches of PartialObjectMetadata

    @property
    def api_version(self) -> str:
        """`v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """`/apis/apps/v1/namespaces/default/deployments/web/scale`."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *filter(None, (name, subresource))])


NAMESPACES = Resource("", "v1", "namespaces", "Namespace", objects.Namespace, namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", objects.Node, namespaced=False)
PODS = Resource("", "v1", "pods", "Pod", objects.Pod)
SERVICES = Resource("", "v1", "services", "Service", objects.Service)
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints", objects.Endpoints)
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap", objects.ConfigMap)
SECRETS = Resource("", "v1", "secrets", "Secret", objects.Secret)
SERVICEACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount", objects.ServiceAccount)
EVENTS = Resource("", "v1", "events", "Event", objects.Event)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment", objects.Deployment)
REPLICASETS = Resource("apps", "v1", "replicasets", "ReplicaSet", objects.ReplicaSet)
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", objects.EndpointSlice)
INGRESSES = Resource("networking.k8s.io", "v1", "ingresses", "Ingress", objects.Ingress)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", objects.Lease)
RUNTIMECLASSES = Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", objects.RuntimeClass, namespaced=False)
