"""PodResizeValidator: a running pod grows only as far as its node can bear.

Source: KEP-1287; https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/
"""

from __future__ import annotations

from decimal import ROUND_CEILING

from apiserver.admission.chain import UPDATE, Attributes, Plugin, is_pods
from apiserver.registry.base import Object, ResourceDef
from apiserver.state import State, decoded
from kubarium.machinery.errors import StatusCause
from kubarium.machinery.quantity import Quantity
from kubarium.machinery.resourcelists import NOTHING, amounts, pod_sum

OS_LABEL = "kubernetes.io/os"


class PodResizeValidator(Plugin):
    def __init__(self, state: State, nodes: ResourceDef) -> None:
        self._state = state
        self._nodes = nodes

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_pods(resource) and (subresource, operation) == ("resize", UPDATE)

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.obj, attributes.old
        assert new is not None
        assert old is not None
        name = new["spec"].get("nodeName")
        if not name or new["metadata"].get("generation") == old["metadata"].get("generation"):
            return
        entry = self._state.peek(self._nodes, "", name)
        if entry is None:
            raise attributes.forbidden(f'node "{name}" not found')
        system = entry.head.labels.get(OS_LABEL, "linux")
        if system != "linux":
            text = f'pod resize is only supported on linux nodes, node "{name}" is "{system}"'
            raise attributes.forbidden(text, (StatusCause("UnsupportedPlatform", ""),))
        if text := beyond(new, decoded(entry)):
            raise attributes.forbidden(text, (StatusCause("NodeCapacity", ""),))


def beyond(pod: Object, node: Object) -> str:
    """What of the pod's requests the node can never give; "" where it can give them."""
    allocatable = amounts((node.get("status") or {}).get("allocatable"))
    requests = pod_sum({"spec": pod["spec"], "metadata": {}}, "requests")
    faults = []
    for name, scale in (("cpu", 1000), ("memory", 1)):
        asked, there = requests.get(name, NOTHING), allocatable.get(name, NOTHING)
        if asked.value > there.value:
            faults.append(f"{name}, requested: {_scaled(asked, scale)}, allocatable: {_scaled(there, scale)}")
    return f"node didn't have enough allocatable resources: {'; '.join(faults)}" if faults else ""


def _scaled(amount: Quantity, scale: int) -> int:
    return int((amount.value * scale).to_integral_value(ROUND_CEILING))
