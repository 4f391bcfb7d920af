"""ComponentStatuses: how the control plane is, asked when somebody asks; nothing of it is stored.

Deprecated since 1.19, but `kubectl get componentstatuses` still reads it: the controller manager and the scheduler at
their own ports on this machine, and the store.
Source: Kubernetes API reference, ComponentStatus v1; k8s.io/kubernetes/pkg/registry/core/componentstatus.
"""

from __future__ import annotations

import asyncio
import ssl

import orjson

from apiserver.codec import Head
from apiserver.registry.base import Object, ResourceDef
from apiserver.request import Listed, ListOptions, Request
from apiserver.selection import parse_selection
from apiserver.state import State, matching
from apiserver.watchcache import Entry
from kubarium.machinery.errors import NotFound

PORTS = {"controller-manager": 10257, "scheduler": 10259}
STORE = "etcd-0"
TIMEOUT_S = 2.0


class ComponentStatuses:
    def __init__(self, state: State) -> None:
        self._state = state

    async def get(self, request: Request) -> bytes:
        """Raises NotFound."""
        if request.name not in (*PORTS, STORE):
            text = f'componentstatus "{request.name}" not found'
            raise NotFound(text, details={"kind": "componentstatus", "name": request.name})
        return (await self._entry(request.resource, request.name)).data

    async def list(self, request: Request, wanted: ListOptions) -> Listed:
        """Of no revision: it has none."""
        selection = parse_selection(request.resource, wanted.label_selector, wanted.field_selector)
        entries = await asyncio.gather(*(self._entry(request.resource, name) for name in (*PORTS, STORE)))
        return Listed(matching(entries, selection.predicate), 0)

    async def _entry(self, resource: ResourceDef, name: str) -> Entry:
        healthy, message = await self._probe(name)
        condition = {"type": "Healthy", "status": "True" if healthy else "False", "message": message}
        obj: Object = {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": {"name": name},
            "conditions": [condition],
        }
        return Entry(resource.key("", name), 0, 0, orjson.dumps(obj), Head("", name, {}))

    async def _probe(self, name: str) -> tuple[bool, str]:
        """Whether it is well, and what it says."""
        if name == STORE:
            trouble = self._state.cache.trouble
            return trouble is None, "ok" if trouble is None else str(trouble)
        return await asked_health(PORTS[name])


async def asked_health(port: int) -> tuple[bool, str]:
    """What a component of this machine answers to `GET /healthz`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as upstream: its certificate is its own
    request = f"GET /healthz HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    url = f"https://127.0.0.1:{port}/healthz"
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            try:
                writer.write(request)
                answer = await reader.read(64 * 1024)
            finally:
                writer.close()
    except ConnectionRefusedError:
        return False, f'Get "{url}": dial tcp 127.0.0.1:{port}: connect: connection refused'
    except (OSError, TimeoutError) as err:
        return False, f'Get "{url}": {err or "context deadline exceeded"}'
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b" ", 2)[1:2] == [b"200"], body.decode("utf-8", "replace").strip()
