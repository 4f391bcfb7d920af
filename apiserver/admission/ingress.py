"""DefaultIngressClass: an Ingress that names no class gets the one that says it is the default.

Source: https://kubernetes.io/docs/concepts/services-networking/ingress/#default-ingress-class
"""

from __future__ import annotations

from apiserver.admission.chain import CREATE, Attributes, Plugin
from apiserver.admission.policies import Policies, newest_default
from apiserver.registry.base import Registry, ResourceDef
from apiserver.state import State

IS_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
OLD_CLASS = "kubernetes.io/ingress.class"


class DefaultIngressClass(Plugin):
    def __init__(self, state: State, registry: Registry) -> None:
        self._classes = Policies(state, registry, "networking.k8s.io", "ingressclasses")

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        kind = (resource.group, resource.plural)
        return kind == ("networking.k8s.io", "ingresses") and not subresource and operation == CREATE

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        spec = attributes.obj.setdefault("spec", {})
        if spec.get("ingressClassName") is not None:
            return
        if OLD_CLASS in (attributes.obj["metadata"].get("annotations") or {}):
            return
        if name := newest_default(self._classes.all(), IS_DEFAULT):
            spec["ingressClassName"] = name
