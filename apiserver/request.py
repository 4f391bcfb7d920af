"""What a front end tells the pipeline: who asks, for which object, with which options; and what it gets back.

Both front ends (REST and gRPC) fill these in; nothing here knows of HTTP. Options are already parsed but not yet
judged: `apiserver.options` checks them, with upstream's texts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from apiserver.registry.base import ResourceDef
    from apiserver.watchcache import Batch, Entry

ANONYMOUS = "system:anonymous"
UNAUTHENTICATED_GROUP = "system:unauthenticated"
AUTHENTICATED_GROUP = "system:authenticated"
MASTERS_GROUP = "system:masters"


@dataclass(frozen=True, slots=True)
class User:
    """Who asks, as the authenticators found it. Source: Kubernetes documentation, "Authenticating"."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def authenticated(self) -> bool:
        return AUTHENTICATED_GROUP in self.groups


@dataclass(frozen=True, slots=True)
class Request:
    """One call on a resource. `verb`: get list watch create update patch delete deletecollection.

    `namespace` is empty for cluster-scoped resources, and for list and watch over all namespaces.
    """

    user: User
    verb: str
    resource: ResourceDef
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """CreateOptions, UpdateOptions and PatchOptions of meta/v1.

    `dry_run` holds the values as they were sent (valid: none, or `All`). `force` is for server-side apply only.
    `user_agent` gives the field manager its name where none is sent.
    """

    dry_run: tuple[str, ...] = ()
    field_manager: str = ""
    field_validation: str = ""
    force: bool | None = None
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class ListOptions:
    """ListOptions of meta/v1. `timeout_s` 0 means not set; `resource_version` is text as it was sent."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    timeout_s: float = 0
    allow_bookmarks: bool = False
    send_initial_events: bool | None = None


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """DeleteOptions of meta/v1; None means not set."""

    grace_period_s: int | None = None
    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """The answer to a write: the object (or Status) as JSON, whether it was made just now, warnings for the client.

    `removed`: whether a delete has taken it from the store.
    """

    body: bytes
    created: bool = False
    warnings: tuple[str, ...] = ()
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """The answer to a list: entries (never decoded) at `revision`; `remaining` None where it is not known."""

    entries: Sequence[Entry]
    revision: int
    continue_token: str = ""
    remaining: int | None = None


class Api(Protocol):
    """The pipeline as a front end sees it. Every error is an ApiError.

    Bodies are bytes as the client sent them with their media type; objects come back as JSON, resourceVersion in place.
    """

    async def get(self, request: Request, *, resource_version: str = "") -> bytes:
        """The object, or its `scale` where that subresource is asked for."""
        ...

    async def list(self, request: Request, options: ListOptions) -> Listed: ...

    async def create(self, request: Request, body: bytes, content_type: str, options: WriteOptions) -> Written:
        """Also the subresources that are POSTed: binding, eviction, token."""
        ...

    async def update(self, request: Request, body: bytes, content_type: str, options: WriteOptions) -> Written: ...

    async def patch(self, request: Request, body: bytes, content_type: str, options: WriteOptions) -> Written: ...

    async def delete(self, request: Request, options: DeleteOptions) -> Written:
        """The object as it was or as it now waits for its end, or a Status."""
        ...

    async def delete_collection(self, request: Request, listed: ListOptions, options: DeleteOptions) -> Listed: ...

    def watch(self, request: Request, options: ListOptions) -> AsyncIterator[Batch]:
        """Batches of events, in order; an empty one first, when the watch stands.

        Ends when the time is over, the client stops or the server ends.

        A version that is too old, and other trouble of a watch that stands, are events of type ERROR.
        """
        ...
