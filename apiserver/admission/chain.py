"""The chain of admission plugins: every mutating step, then (after validation) every validating one.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from apiserver import replies
from apiserver.registry.base import Object, ResourceDef
from apiserver.request import Request
from kubarium.machinery.errors import Forbidden, StatusCause

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"

_Key = tuple[str, str, bool, str, str]


@dataclass(slots=True)
class Attributes:
    """One write as the plugins see it. `obj` (None: DELETE) is theirs to change; `old` is None for CREATE.

    `name` is empty in mutating steps of a CREATE that asks for a generated name.
    """

    operation: str
    request: Request
    name: str
    obj: Object | None = None
    old: Object | None = None
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def resource(self) -> ResourceDef:
        return self.request.resource

    @property
    def namespace(self) -> str:
        return self.request.namespace

    def forbidden(self, text: str, causes: tuple[StatusCause, ...] = ()) -> Forbidden:
        """The error of a plugin that refuses; an object without a name yet goes by the beginning of its name."""
        metadata = (self.obj or {}).get("metadata") or {}
        name = self.name or metadata.get("name") or metadata.get("generateName") or "Unknown"
        return replies.forbidden(self.resource, name, text, causes)


class Plugin:
    """The parts that a plugin overrides. `handles` is asked once for each kind of write, not for each write."""

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        raise NotImplementedError

    async def admit(self, attributes: Attributes) -> None:
        """Change `attributes.obj`, or raise an ApiError."""

    async def validate(self, attributes: Attributes) -> None:
        """Raise an ApiError where the write may not be."""

    async def causes(self, attributes: Attributes) -> Sequence[StatusCause]:
        """What `validate` would find, to be told before what else is wrong with the object: some plugins are a part of
        the validation upstream.
        """
        return ()


class Chain:
    """Plugins in order, with the ones that matter to a kind of write looked up once."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._plugins = tuple(plugins)
        self._mutating: dict[_Key, tuple[Plugin, ...]] = {}
        self._validating: dict[_Key, tuple[Plugin, ...]] = {}

    async def admit(self, attributes: Attributes) -> None:
        for plugin in self._of(self._mutating, attributes, "admit"):
            await plugin.admit(attributes)

    async def validate(self, attributes: Attributes) -> None:
        for plugin in self._of(self._validating, attributes, "validate"):
            await plugin.validate(attributes)

    async def causes(self, attributes: Attributes) -> list[StatusCause]:
        """What comes before the faults that were found in an object."""
        found = self._of(self._validating, attributes, "validate")
        return [cause for plugin in found for cause in await plugin.causes(attributes)]

    def _of(self, known: dict[_Key, tuple[Plugin, ...]], attributes: Attributes, method: str) -> tuple[Plugin, ...]:
        request = attributes.request
        resource = request.resource
        key = (resource.group, resource.plural, resource.namespaced, request.subresource, attributes.operation)
        found = known.get(key)
        if found is None:
            found = known[key] = tuple(
                plugin
                for plugin in self._plugins
                if getattr(type(plugin), method) is not getattr(Plugin, method)
                and plugin.handles(resource, request.subresource, attributes.operation)
            )
        return found


def is_pods(resource: ResourceDef) -> bool:
    return resource.plural == "pods" and not resource.group


def is_claims(resource: ResourceDef) -> bool:
    return resource.plural == "persistentvolumeclaims" and not resource.group
