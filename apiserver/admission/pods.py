"""What pods get, and are refused for, on their way in: DefaultTolerationSeconds and RuntimeClass.

Each plugin decides by a pure function on the pod; the class around it only fetches what that needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apiserver.admission.chain import CREATE, UPDATE, Attributes, Plugin, is_pods
from apiserver.registry.base import Object, ResourceDef
from apiserver.state import State, decoded
from kubarium.machinery.resourcelists import amounts, same

HOST_HANDLER = "host"
SYSTEM_NAMESPACE = "kube-system"
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


class DefaultTolerationSeconds(Plugin):
    """Pods stay for so many seconds on a node that is not ready or not reachable, unless they say otherwise."""

    def __init__(self, not_ready_s: int, unreachable_s: int) -> None:
        self._seconds = {NOT_READY: not_ready_s, UNREACHABLE: unreachable_s}

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_pods(resource) and not subresource and operation in (CREATE, UPDATE)

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        add_tolerations(attributes.obj["spec"], self._seconds)


def add_tolerations(spec: Object, seconds: Mapping[str, int]) -> None:
    """A NoExecute toleration of each taint that none of the pod's own covers."""
    own = spec.get("tolerations") or []
    missing = [key for key in seconds if not any(_covers(toleration, key) for toleration in own)]
    if missing:
        spec["tolerations"] = [
            *own,
            *(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds[key]}
                for key in missing
            ),
        ]


def _covers(toleration: Mapping[str, Any], key: str) -> bool:
    return toleration.get("key", "") in (key, "") and toleration.get("effect", "") in ("NoExecute", "")


class RuntimeClass(Plugin):
    """A pod's runtime class must be there; its overhead and placement go into the pod.

    The handler `host` runs processes as root on the node, without isolation: it is for the cluster's own pods only.
    """

    def __init__(self, state: State, classes: ResourceDef) -> None:
        self._state = state
        self._classes = classes

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_pods(resource) and not subresource and operation == CREATE

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        spec = attributes.obj["spec"]
        if runtime_class := await self._class(attributes):
            apply_runtime_class(spec, runtime_class, attributes)

    async def validate(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        spec = attributes.obj["spec"]
        runtime_class = await self._class(attributes)
        fixed = (runtime_class.get("overhead") or {}).get("podFixed")
        if fixed is None and spec.get("overhead") is not None:
            text = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise attributes.forbidden(text)
        if fixed is not None and not same(amounts(fixed), amounts(spec.get("overhead"))):
            raise attributes.forbidden(MISMATCH)
        if runtime_class.get("handler") == HOST_HANDLER and attributes.namespace != SYSTEM_NAMESPACE:
            name, place = runtime_class["metadata"]["name"], SYSTEM_NAMESPACE
            raise attributes.forbidden(
                f'RuntimeClass "{name}" runs pods as root on the node: it may be used in {place} only'
            )

    async def _class(self, attributes: Attributes) -> Object:
        """Empty where the pod names none."""
        assert attributes.obj is not None
        name = attributes.obj["spec"].get("runtimeClassName")
        if name is None:
            return {}
        entry = await self._state.found(self._classes, "", name) if name else None
        if entry is None:
            raise attributes.forbidden(f'pod rejected: RuntimeClass "{name}" not found')
        return decoded(entry)


MISMATCH = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"


def apply_runtime_class(spec: Object, runtime_class: Object, attributes: Attributes) -> None:
    """Source: KEP-688 (pod overhead), KEP-585 (scheduling)."""
    if overhead := (runtime_class.get("overhead") or {}).get("podFixed"):
        if spec.get("overhead") and not same(amounts(overhead), amounts(spec["overhead"])):
            raise attributes.forbidden(MISMATCH)
        spec["overhead"] = overhead
    scheduling = runtime_class.get("scheduling")
    if scheduling is None:
        return
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.get(key, value) != value:
            text = f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = "
            raise attributes.forbidden(text + selector[key])
        selector[key] = value
    if selector:
        spec["nodeSelector"] = selector
    if merged := merge_tolerations([*(spec.get("tolerations") or ()), *(scheduling.get("tolerations") or ())]):
        spec["tolerations"] = merged


def merge_tolerations(every: Sequence[Object]) -> list[Object]:
    """Without those that another one includes; of equal ones the first stays."""
    merged: list[Object] = []
    for number, one in enumerate(every):
        included = any(_includes(kept, one) for kept in merged)
        if not included and not any(other != one and _includes(other, one) for other in every[number + 1 :]):
            merged.append(one)
    return merged


def _includes(wide: Object, narrow: Object) -> bool:
    """Whether every taint that `narrow` tolerates is tolerated by `wide`."""
    if wide == narrow:
        return True
    key, effect, operator = wide.get("key", ""), wide.get("effect", ""), wide.get("operator", "")
    if narrow.get("key", "") != key and (key or operator != "Exists"):
        return False
    if effect not in ("", narrow.get("effect", "")):
        return False
    seconds, asked = wide.get("tolerationSeconds"), narrow.get("tolerationSeconds")
    if effect == "NoExecute" and seconds is not None and (asked is None or asked > seconds):
        return False
    if operator in ("", "Equal"):
        return bool(narrow.get("operator", "") == "Equal" and narrow.get("value", "") == wide.get("value", ""))
    return bool(operator == "Exists")
