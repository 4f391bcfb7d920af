"""Events: what a component did to an object and why, for people to read; the same event again only counts up.

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/, client-go tools/record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from kubarium.machinery import times
from kubarium.machinery.client import Api
from kubarium.machinery.errors import ApiError, NotFound
from kubarium.machinery.objects import ObjectReference
from kubarium.machinery.resources import EVENTS

log = logging.getLogger(__name__)

WAITING = 1000  # events not yet sent; beyond, the oldest are dropped: events are best effort
REMEMBERED = 4096
MESSAGE_BYTES = 1024


class _Happening(NamedTuple):
    """What makes two events the same one."""

    ref: tuple[tuple[str, str], ...]
    type: str
    reason: str
    message: str


@dataclass(slots=True)
class _Sent:
    """An Event in the API server that later repetitions count up."""

    name: str
    namespace: str
    count: int


class EventRecorder:
    """Records in the background: `event` never waits and never fails; what cannot be sent is logged and dropped."""

    def __init__(self, api: Api, component: str, host: str = "") -> None:
        self._api = api
        self._component = component
        self._host = host
        self._waiting: deque[tuple[_Happening, float]] = deque(maxlen=WAITING)
        self._sent: OrderedDict[_Happening, _Sent] = OrderedDict()
        self._sender: asyncio.Task[None] | None = None

    def event(self, obj: Any, type_: str, reason: str, message: str) -> None:
        """`obj` is a view or an ObjectReference; `type_` is Normal or Warning; `reason` is UpperCamelCase."""
        happening = _Happening(tuple(sorted(_reference(obj).items())), type_, reason, message[:MESSAGE_BYTES])
        self._waiting.append((happening, time.time()))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_all(), name=f"events/{self._component}")

    async def flush(self) -> None:
        """Wait until everything recorded so far has been sent or given up."""
        if self._sender is not None:
            await asyncio.wait([self._sender])

    async def _send_all(self) -> None:
        while self._waiting:
            happening, when = self._waiting.popleft()
            try:
                await self._send(happening, when)
            except ApiError as err:
                log.info("event %s not recorded: %s", happening.reason, err)

    async def _send(self, happening: _Happening, when: float) -> None:
        if (sent := self._sent.get(happening)) is not None:
            patch = {"count": sent.count + 1, "lastTimestamp": times.format_timestamp(when)}
            try:
                await self._api.patch(EVENTS, sent.name, patch, sent.namespace)
            except NotFound:
                del self._sent[happening]  # its hour is over: tell it anew
            else:
                sent.count += 1
                return
        obj = self._object(happening, when)
        await self._api.create(EVENTS, obj, obj["metadata"]["namespace"])
        self._sent[happening] = _Sent(obj["metadata"]["name"], obj["metadata"]["namespace"], 1)
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)

    def _object(self, happening: _Happening, when: float) -> dict[str, Any]:
        ref = dict(happening.ref)
        stamp = times.format_timestamp(when)
        source = {"component": self._component} | ({"host": self._host} if self._host else {})
        return {
            "metadata": {
                "name": f"{ref.get('name', '')}.{time.time_ns():x}",
                "namespace": ref.get("namespace") or "default",
            },
            "involvedObject": ref,
            "type": happening.type,
            "reason": happening.reason,
            "message": happening.message,
            "source": source,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }


def _reference(obj: Any) -> dict[str, str]:
    """An ObjectReference as a wire dict, from a view or an ObjectReference."""
    if isinstance(obj, ObjectReference):
        fields = {
            "kind": obj.kind,
            "namespace": obj.namespace,
            "name": obj.name,
            "uid": obj.uid,
            "apiVersion": obj.api_version,
            "resourceVersion": obj.resource_version,
            "fieldPath": obj.field_path,
        }
    else:
        fields = {
            "kind": obj.kind,
            "namespace": obj.metadata.namespace,
            "name": obj.metadata.name,
            "uid": obj.metadata.uid,
            "apiVersion": obj.api_version,
        }
    return {key: value for key, value in fields.items() if value}
