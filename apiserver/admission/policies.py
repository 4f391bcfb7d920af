"""Objects that admission goes by (LimitRanges, quotas, classes): read from the cache, and sure to be in it.

A write of such a kind is answered only when the cache has it, so that whoever has made a LimitRange and then makes a
pod finds it applied; nobody else pays for that. Kinds that the server does not serve are as if there were none.
"""

from __future__ import annotations

from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.state import State, decoded

POLICIES = frozenset(
    {
        ("", "limitranges"),
        ("", "namespaces"),
        ("", "resourcequotas"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("networking.k8s.io", "ingressclasses"),
        ("node.k8s.io", "runtimeclasses"),
        ("scheduling.k8s.io", "priorityclasses"),
        ("storage.k8s.io", "storageclasses"),
    }
)


def is_policy(resource: ResourceDef) -> bool:
    """Whether a write of this kind must be in the cache before it is answered."""
    return (resource.group, resource.plural) in POLICIES


class Policies:
    """The objects of one kind, decoded once for each revision of each."""

    def __init__(self, state: State, registry: Registry, group: str, plural: str) -> None:
        self._state = state
        self._registry = registry
        self._group = group
        self._plural = plural
        self._decoded: dict[str, tuple[int, Object]] = {}

    @property
    def resource(self) -> ResourceDef | None:
        return self._registry.get(self._group, "v1", self._plural)

    def all(self, namespace: str = "") -> list[Object]:
        """Those of a namespace ("": all), in order of names. They are shared: read, never change."""
        resource = self.resource
        if resource is None:
            return []
        log = self._state.cache.log_of(resource.key())
        if not log.entries:
            self._decoded.clear()
            return []
        entries = self._state.cache.list(resource.key(namespace))
        if len(self._decoded) > 2 * len(log.entries) + 16:
            self._decoded = {key: found for key, found in self._decoded.items() if key in log.entries}
        found = []
        for entry in entries:
            known = self._decoded.get(entry.key)
            if known is None or known[0] != entry.revision:
                known = self._decoded[entry.key] = entry.revision, decoded(entry)
            found.append(known[1])
        return found

    async def get(self, name: str, namespace: str = "") -> Object | None:
        """By a consistent read where the cache has none."""
        resource = self.resource
        if resource is None:
            return None
        entry = await self._state.found(resource, namespace, name)
        return decoded(entry) if entry else None


def newest_default(classes: list[Object], *annotations: str) -> str:
    """The name of the class that says it is the default, the newest where several do; "" where none does."""
    found = [
        one for one in classes if any((one["metadata"].get("annotations") or {}).get(a) == "true" for a in annotations)
    ]
    found.sort(key=lambda one: str(one["metadata"]["name"]))
    found.sort(key=lambda one: str(one["metadata"].get("creationTimestamp", "")), reverse=True)
    return str(found[0]["metadata"]["name"]) if found else ""
