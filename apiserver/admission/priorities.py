"""Priority: the number behind a pod's priority class, and that there is one default class at most.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
"""

from __future__ import annotations

from apiserver.admission.chain import CREATE, DELETE, UPDATE, Attributes, Plugin, is_pods
from apiserver.admission.policies import Policies
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.state import State

PREEMPT = "PreemptLowerPriority"
NO_CLASS: Object = {"metadata": {"name": ""}, "value": 0, "preemptionPolicy": PREEMPT}
SYSTEM_PRIORITIES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
"""These are there even before their objects are."""


class Priority(Plugin):
    def __init__(self, state: State, registry: Registry) -> None:
        self._classes = Policies(state, registry, "scheduling.k8s.io", "priorityclasses")

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        if subresource:
            return False
        if (resource.group, resource.plural) == ("scheduling.k8s.io", "priorityclasses"):
            return operation in (CREATE, UPDATE, DELETE)
        return is_pods(resource) and operation in (CREATE, UPDATE)

    async def admit(self, attributes: Attributes) -> None:
        if not is_pods(attributes.resource):
            return
        assert attributes.obj is not None
        spec = attributes.obj["spec"]
        if attributes.old is not None:
            keep_priority(spec, attributes.old["spec"])
            return
        name = spec.get("priorityClassName", "")
        found = await self._named(name) if name else self._default() or NO_CLASS
        if found is None:
            raise attributes.forbidden(f"no PriorityClass with name {name} was found")
        set_priority(spec, found, attributes)

    async def validate(self, attributes: Attributes) -> None:
        if is_pods(attributes.resource):
            return
        if attributes.operation == DELETE:
            if attributes.name in SYSTEM_PRIORITIES:
                raise attributes.forbidden("this is a system priority class and cannot be deleted")
            return
        assert attributes.obj is not None
        default = self._default() if attributes.obj.get("globalDefault") else None
        if default is not None and (attributes.old is None or default["metadata"]["name"] != attributes.name):
            name = default["metadata"]["name"]
            raise attributes.forbidden(f"PriorityClass {name} is already marked as default. Only one default can exist")

    async def _named(self, name: str) -> Object | None:
        found = await self._classes.get(name)
        if found is None and name in SYSTEM_PRIORITIES:
            return {"metadata": {"name": name}, "value": SYSTEM_PRIORITIES[name], "preemptionPolicy": PREEMPT}
        return found

    def _default(self) -> Object | None:
        """The class with globalDefault and the smallest value."""
        defaults = [one for one in self._classes.all() if one.get("globalDefault")]
        return min(defaults, key=lambda one: int(one.get("value", 0)), default=None)


def keep_priority(spec: Object, old: Object) -> None:
    """An update need not repeat what admission has set."""
    for field in ("priority", "preemptionPolicy"):
        if spec.get(field) is None and old.get(field) is not None:
            spec[field] = old[field]


def set_priority(spec: Object, priority_class: Object, attributes: Attributes) -> None:
    """Raises Forbidden where the pod itself says otherwise than its class."""
    value, policy = priority_class.get("value", 0), priority_class.get("preemptionPolicy")
    computed = "must not be provided in pod spec; priority admission controller computed"
    if spec.get("priority") not in (None, value):
        own = spec["priority"]
        text = f"the integer value of priority ({own}) {computed} {value} from the given PriorityClass name"
        raise attributes.forbidden(text)
    if policy and spec.get("preemptionPolicy") not in (None, policy):
        own = spec["preemptionPolicy"]
        text = f"the string value of PreemptionPolicy ({own}) {computed} {policy} from the given PriorityClass name"
        raise attributes.forbidden(text)
    if name := priority_class["metadata"]["name"]:
        spec["priorityClassName"] = name
    spec["priority"] = value
    if policy:
        spec["preemptionPolicy"] = policy
