"""Every resource that is served, each a table of its own: add one here and it is stored, listed and documented."""

from __future__ import annotations

from apiserver.registry import (
    apps,
    coordination,
    core,
    discovery,
    events,
    networking,
    node,
    pods,
    rbac,
    scheduling,
    services,
)
from apiserver.registry.base import Column, Object, Registry, ResourceDef, Strategy

__all__ = ["REGISTRY", "Column", "Object", "Registry", "ResourceDef", "Strategy"]

REGISTRY = Registry(
    (
        core.CONFIGMAPS,
        core.ENDPOINTS,
        events.EVENTS,
        core.NAMESPACES,
        core.NODES,
        pods.PODS,
        core.SECRETS,
        core.SERVICEACCOUNTS,
        services.SERVICES,
        apps.DEPLOYMENTS,
        apps.REPLICASETS,
        events.NEW_EVENTS,
        networking.INGRESSCLASSES,
        networking.INGRESSES,
        rbac.CLUSTERROLEBINDINGS,
        rbac.CLUSTERROLES,
        rbac.ROLEBINDINGS,
        rbac.ROLES,
        scheduling.PRIORITYCLASSES,
        coordination.LEASES,
        node.RUNTIMECLASSES,
        discovery.ENDPOINTSLICES,
    )
)
