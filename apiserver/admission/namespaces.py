"""NamespaceLifecycle: nothing is made in a namespace that is missing or ending, and the first namespaces stay."""

from __future__ import annotations

from apiserver import replies
from apiserver.admission.chain import CREATE, DELETE, Attributes, Plugin
from apiserver.registry.base import ResourceDef
from apiserver.state import State, decoded
from kubarium.machinery.errors import StatusCause

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class NamespaceLifecycle(Plugin):
    """`namespaces` is the resource of that name."""

    def __init__(self, state: State, namespaces: ResourceDef) -> None:
        self._state = state
        self._namespaces = namespaces
        self._alive: dict[str, int] = {}  # namespace -> revision at which it was seen not to be ending

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        if operation == DELETE:
            return resource.plural == "namespaces" and not resource.group
        return operation == CREATE and resource.namespaced

    async def admit(self, attributes: Attributes) -> None:
        if attributes.operation == DELETE:
            if attributes.name in IMMORTAL:
                raise replies.forbidden(attributes.resource, attributes.name, "this namespace may not be deleted")
            return
        if attributes.resource.plural.endswith("accessreviews"):
            return
        entry = self._state.peek(self._namespaces, "", attributes.namespace)
        if entry is not None and self._alive.get(attributes.namespace) == entry.revision:
            return
        entry = await self._state.found(self._namespaces, "", attributes.namespace)
        if entry is None:
            self._alive.pop(attributes.namespace, None)
            raise replies.not_found(self._namespaces, attributes.namespace)
        if is_terminating(decoded(entry)):
            self._alive.pop(attributes.namespace, None)
            raise terminating(attributes)
        self._alive[attributes.namespace] = entry.revision


def is_terminating(namespace: dict[str, object]) -> bool:
    metadata, status = namespace.get("metadata"), namespace.get("status")
    ending = isinstance(metadata, dict) and bool(metadata.get("deletionTimestamp"))
    return ending or (isinstance(status, dict) and status.get("phase") == "Terminating")


def terminating(attributes: Attributes) -> Exception:
    namespace = attributes.namespace
    text = f"unable to create new content in namespace {namespace} because it is being terminated"
    cause = StatusCause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
    return attributes.forbidden(text, (cause,))
