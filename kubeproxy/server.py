"""protos/kubarium/v1/proxy.proto on a Unix socket: what is programmed, and why."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc

from kubarium.machinery.objects import ObjectKey
from kubarium.machinery.pb import proxy_pb2, proxy_pb2_grpc
from kubarium.machinery.times import format_timestamp
from kubarium.machinery.unixsocket import serving_grpc
from kubeproxy.plan import Rule, Scope
from kubeproxy.proxy import ServiceProxy


def explanation(rule: Rule, verdict: str) -> Any:
    """One PortExplanation; a frontend for clients inside the cluster alone is marked as such."""
    inside = " (from inside the cluster)" if rule.frontend.scope is Scope.INTERNAL else ""
    return proxy_pb2.PortExplanation(
        frontend=f"{rule.frontend}{inside}",
        verdict=verdict,
        endpoints=[str(target) for target in rule.targets],
        reason=rule.reason,
    )


class ProxyService(proxy_pb2_grpc.ProxyServicer):
    def __init__(self, proxy: ServiceProxy) -> None:
        self._proxy = proxy

    async def Explain(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's spelling
        key = ObjectKey(request.namespace or "default", request.service)
        if not self._proxy.knows(key):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"this node knows no Service {key}")
        ports = [explanation(rule, verdict) for rule, verdict in self._proxy.explain(key)]
        return proxy_pb2.ExplainReply(ports=ports, generation=self._proxy.generation)

    async def Healthz(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's spelling
        proxy = self._proxy
        last = format_timestamp(proxy.last_sync) if proxy.last_sync else ""
        return proxy_pb2.HealthzReply(healthy=proxy.healthy, last_sync=last, generation=proxy.generation)


def listening(proxy: ServiceProxy, path: Path) -> AbstractAsyncContextManager[None]:
    """Serve Explain and Healthz on a Unix socket."""
    return serving_grpc(path, lambda server: proxy_pb2_grpc.add_ProxyServicer_to_server(ProxyService(proxy), server))
