"""Every resource that is served, each a table of its own: add one here and it is stored, listed and documented."""

from __future__ import annotations

from apiserver.registry import (
    admission_bindings,
    admission_policies,
    apiservices,
    apps,
    coordination,
    core,
    discovery,
    events,
    flowcontrol,
    networking,
    node,
    pods,
    rbac,
    scheduling,
    services,
    webhooks,
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
        apiservices.APISERVICES,
        apps.DEPLOYMENTS,
        apps.REPLICASETS,
        events.NEW_EVENTS,
        networking.INGRESSCLASSES,
        networking.INGRESSES,
        rbac.CLUSTERROLEBINDINGS,
        rbac.CLUSTERROLES,
        rbac.ROLEBINDINGS,
        rbac.ROLES,
        admission_policies.MUTATINGADMISSIONPOLICIES,
        admission_bindings.MUTATINGADMISSIONPOLICYBINDINGS,
        webhooks.MUTATINGWEBHOOKCONFIGURATIONS,
        admission_policies.VALIDATINGADMISSIONPOLICIES,
        admission_bindings.VALIDATINGADMISSIONPOLICYBINDINGS,
        webhooks.VALIDATINGWEBHOOKCONFIGURATIONS,
        scheduling.PRIORITYCLASSES,
        coordination.LEASES,
        node.RUNTIMECLASSES,
        discovery.ENDPOINTSLICES,
        flowcontrol.FLOWSCHEMAS,
        flowcontrol.PRIORITYLEVELCONFIGURATIONS,
    )
)
