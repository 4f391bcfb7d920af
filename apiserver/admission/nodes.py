"""What admission does about nodes: TaintNodesByCondition and PodTopologyLabels.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/; KEP-4742 (topology labels).
"""

from __future__ import annotations

from apiserver.admission.chain import CREATE, Attributes, Plugin, is_pods
from apiserver.admission.pods import NOT_READY
from apiserver.registry.base import Object, ResourceDef
from apiserver.state import State

NO_SCHEDULE = "NoSchedule"
TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class TaintNodesByCondition(Plugin):
    """A new node takes no pods until the node lifecycle controller has seen that it is ready."""

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return resource.plural == "nodes" and not resource.group and not subresource and operation == CREATE

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        spec = attributes.obj.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(taint.get("key") == NOT_READY and taint.get("effect") == NO_SCHEDULE for taint in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": NO_SCHEDULE}]


class PodTopologyLabels(Plugin):
    """A pod that is made for a node carries the node's zone and region."""

    def __init__(self, state: State, nodes: ResourceDef) -> None:
        self._state = state
        self._nodes = nodes

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_pods(resource) and not subresource and operation == CREATE

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        if labels := topology_labels(self._state, self._nodes, attributes.obj["spec"].get("nodeName", "")):
            metadata = attributes.obj["metadata"]
            metadata["labels"] = {**(metadata.get("labels") or {}), **labels}


def topology_labels(state: State, nodes: ResourceDef, name: str) -> Object:
    """What a pod on that node is labelled with; nothing where there is no such node."""
    entry = state.peek(nodes, "", name) if name else None
    if entry is None:
        return {}
    return {key: entry.head.labels[key] for key in TOPOLOGY if key in entry.head.labels}
