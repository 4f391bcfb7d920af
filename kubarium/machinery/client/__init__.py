"""The Kubernetes API as components see it: one `Api`, spoken over gRPC or REST.

`connect` picks the transport: gRPC where the kubeconfig names a gRPC address, REST otherwise. Objects arrive as JSON
bytes over both and are decoded straight into the typed views. Every error is an `errors.ApiError`; a server that cannot
be reached, or does not answer in time, is `ServiceUnavailable`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from kubarium.machinery import kubeconfig as kubeconfigs
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.kubeconfig import ClientConfig
from kubarium.machinery.resources import Resource

__all__ = ["Api", "ListResult", "PatchType", "WatchEvent", "connect", "open_api"]

T = TypeVar("T")

CALL_TIMEOUT_S = 30.0


class PatchType(StrEnum):
    """How a patch is meant; the values are its media types."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class ListResult(Generic[T]):
    """A list at one revision; `continue_token` is set where more is to come."""

    items: tuple[T, ...]
    resource_version: str
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """ADDED, MODIFIED, DELETED with the object; BOOKMARK with `object` None and the revision reached.

    The bookmark that ends the initial events carries the annotation `k8s.io/initial-events-end`.
    """

    type: str
    object: T | None
    resource_version: str
    annotations: Mapping[str, str] = field(default_factory=dict)


class Api(Protocol):
    """Reads decode into `resource.view`; writes take wire-shaped dicts. `namespace=""` in reads means all of them."""

    async def get(self, resource: Resource[T], name: str, namespace: str = "") -> T: ...

    async def get_raw(
        self, resource: Resource[Any], name: str, namespace: str = "", subresource: str = ""
    ) -> dict[str, Any]: ...

    async def list(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
    ) -> ListResult[T]: ...

    def watch(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        send_initial_events: bool = False,
        timeout_s: int = 300,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Changes after `resource_version`, until the server ends the watch (`timeout_s`) or the connection breaks.

        Raises Expired when the revision is too old: list again. Close the iterator (aclose) to end the watch.
        """

    async def create(
        self,
        resource: Resource[T],
        obj: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> T:
        """Create; apiVersion and kind are filled in. A subresource that answers with a Status gives an empty view."""

    async def create_raw(
        self,
        resource: Resource[Any],
        obj: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> dict[str, Any]:
        """As `create`, with the answer as it came (for subresources such as serviceaccounts/token)."""

    async def update(
        self, resource: Resource[T], obj: Mapping[str, Any], namespace: str = "", *, subresource: str = ""
    ) -> T: ...

    async def patch(
        self,
        resource: Resource[T],
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
    ) -> T: ...

    async def delete(
        self,
        resource: Resource[Any],
        name: str,
        namespace: str = "",
        *,
        grace_period_s: int | None = None,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
    ) -> None: ...

    async def document(self, path: str, accept: str = "application/json") -> bytes:
        """What a path outside of the resources answers (discovery, versions). Always by REST."""

    async def close(self) -> None: ...


def open_api(config: ClientConfig, *, transport: str = "auto", user_agent: str = "") -> Api:
    """An Api on the running event loop; the caller closes it. One per process: it holds one gRPC channel."""
    user_agent = user_agent or Path(sys.argv[0] or "kubarium").name
    if transport not in ("auto", "grpc", "rest"):
        raise ConfigError(f"--api-transport {transport}: expected auto, grpc or rest")
    if transport == "grpc" and not config.grpc:
        raise ConfigError(f"--api-transport grpc: the kubeconfig names no gRPC address for {config.server}; use rest")
    if config.grpc and transport != "rest":
        from kubarium.machinery.client.grpcapi import GrpcApi

        return GrpcApi(config, user_agent=user_agent, timeout_s=CALL_TIMEOUT_S)
    from kubarium.machinery.client.restapi import RestApi

    return RestApi(config, user_agent=user_agent, timeout_s=CALL_TIMEOUT_S)


@asynccontextmanager
async def connect(
    kubeconfig: str | Path | None = None, *, transport: str = "auto", user_agent: str = ""
) -> AsyncIterator[Api]:
    """The API server that a kubeconfig names; None means the ServiceAccount of the pod that we run in.

    Nothing is sent yet: a server that is down shows at the first call.
    """
    config = kubeconfigs.read(kubeconfig) if kubeconfig else kubeconfigs.in_cluster()
    api = open_api(config, transport=transport, user_agent=user_agent)
    try:
        yield api
    finally:
        await api.close()
