"""What pods get, and are refused for, on their way in: Priority, RuntimeClass, DefaultTolerationSeconds.

Each plugin decides by a pure function on the pod; the class around it only fetches what that needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apiserver import replies
from apiserver.admission.chain import CREATE, UPDATE, Attributes, Plugin, is_pods
from apiserver.registry.base import Object, ResourceDef
from apiserver.state import State, decoded

HOST_HANDLER = "host"
SYSTEM_NAMESPACE = "kube-system"
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
SYSTEM_PRIORITIES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
PREEMPT = "PreemptLowerPriority"


class DefaultTolerationSeconds(Plugin):
    """Pods stay for so many seconds on a node that is not ready or not reachable, unless they say otherwise."""

    def __init__(self, not_ready_s: int, unreachable_s: int) -> None:
        self._seconds = {NOT_READY: not_ready_s, UNREACHABLE: unreachable_s}

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_pods(resource) and not subresource and operation == CREATE

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


class Priority(Plugin):
    """The number behind a pod's priority class. Classes are objects where the server has them; two are always there."""

    def __init__(self, state: State, classes: ResourceDef | None) -> None:
        self._state = state
        self._classes = classes

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_pods(resource) and not subresource and operation == CREATE

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        spec = attributes.obj["spec"]
        name = spec.get("priorityClassName", "")
        found = await self._named(name) if name else self._default()
        if found is None:
            raise replies.forbidden(
                attributes.resource, attributes.name, f"no PriorityClass with name {name} was found"
            )
        class_name, value, policy = found
        if spec.get("priority") not in (None, value):
            text = f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
            text += f"priority admission controller computed {value} from the given PriorityClass name"
            raise replies.forbidden(attributes.resource, attributes.name, text)
        set_priority(spec, class_name, value, policy)

    async def _named(self, name: str) -> tuple[str, int, str] | None:
        entry = await self._state.found(self._classes, "", name) if self._classes else None
        if entry is None:
            return (name, SYSTEM_PRIORITIES[name], PREEMPT) if name in SYSTEM_PRIORITIES else None
        return _class_of(decoded(entry))

    def _default(self) -> tuple[str, int, str]:
        """The class with globalDefault and the smallest value; 0 without one."""
        if self._classes is None:
            return "", 0, PREEMPT
        found = [decoded(entry) for entry in self._state.cache.list(self._classes.key())]
        defaults = [_class_of(one) for one in found if one.get("globalDefault")]
        return min(defaults, key=lambda one: one[1], default=("", 0, PREEMPT))


def _class_of(obj: Object) -> tuple[str, int, str]:
    return obj["metadata"]["name"], obj.get("value", 0), obj.get("preemptionPolicy") or PREEMPT


def set_priority(spec: Object, name: str, value: int, policy: str) -> None:
    if name:
        spec["priorityClassName"] = name
    spec["priority"] = value
    spec.setdefault("preemptionPolicy", policy)


class RuntimeClass(Plugin):
    """A pod's runtime class must be there; its overhead and placement go into the pod.

    The handler `host` runs processes as root on the node, without isolation: it is for the cluster's own pods only.
    """

    def __init__(self, state: State, classes: ResourceDef) -> None:
        self._state = state
        self._classes = classes

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_pods(resource) and not subresource and operation in (CREATE, UPDATE)

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        spec = attributes.obj["spec"]
        if attributes.operation == CREATE and (name := spec.get("runtimeClassName")):
            apply_runtime_class(spec, await self._class(attributes, name), attributes)

    async def validate(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        name = attributes.obj["spec"].get("runtimeClassName")
        if not name or attributes.namespace == SYSTEM_NAMESPACE or attributes.operation != CREATE:
            return
        if (await self._class(attributes, name)).get("handler") == HOST_HANDLER:
            text = f'RuntimeClass "{name}" runs pods as root on the node: it may be used in {SYSTEM_NAMESPACE} only'
            raise replies.forbidden(attributes.resource, attributes.name, text)

    async def _class(self, attributes: Attributes, name: str) -> Object:
        entry = await self._state.found(self._classes, "", name)
        if entry is None:
            text = f'pod rejected: RuntimeClass "{name}" not found'
            raise replies.forbidden(attributes.resource, attributes.name, text)
        return decoded(entry)


def apply_runtime_class(spec: Object, runtime_class: Object, attributes: Attributes) -> None:
    """Source: KEP-688 (pod overhead), KEP-585 (scheduling)."""
    if overhead := (runtime_class.get("overhead") or {}).get("podFixed"):
        if spec.get("overhead") not in (None, overhead):
            text = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
            raise replies.forbidden(attributes.resource, attributes.name, text)
        spec["overhead"] = overhead
    scheduling = runtime_class.get("scheduling") or {}
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.get(key, value) != value:
            text = f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = "
            raise replies.forbidden(attributes.resource, attributes.name, text + selector[key])
        selector[key] = value
    if selector:
        spec["nodeSelector"] = selector
    added = [t for t in scheduling.get("tolerations") or () if t not in (spec.get("tolerations") or ())]
    if added:
        spec["tolerations"] = [*(spec.get("tolerations") or ()), *added]
