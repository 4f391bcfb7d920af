"""The Service proxy of a node: `python -m kubeproxy`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from kubarium.machinery.client import connect
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.informer import Informer
from kubarium.machinery.netlink import Netlink
from kubarium.machinery.nft import Nft
from kubarium.machinery.process import run_component, serve_health
from kubarium.machinery.resources import ENDPOINTSLICES, NODES, SERVICES
from kubeproxy.backends.base import Ranges
from kubeproxy.backends.nftables import NftablesBackend
from kubeproxy.config import Config, parse_flags
from kubeproxy.conntrack import Conntrack
from kubeproxy.metrics import Metrics
from kubeproxy.node import NodeEdge
from kubeproxy.proxy import SLICES_OF, Caches, ServiceProxy, service_of
from kubeproxy.server import listening


async def run(cfg: Config) -> None:
    edge = NodeEdge(cfg, Netlink())
    backend = NftablesBackend(Nft(), Ranges(cfg.cluster_cidrs, cfg.service_cidrs))
    async with connect(cfg.kubeconfig or None, transport=cfg.api_transport, user_agent="kubarium-proxy") as api:
        caches = Caches(
            Informer(api, SERVICES),
            Informer(api, ENDPOINTSLICES, indexers={SLICES_OF: service_of}),
            Informer(api, NODES, field_selector=f"metadata.name={cfg.node_name}"),
        )
        proxy = ServiceProxy(cfg.node_name, caches, backend, edge, Conntrack(), Metrics())
        checks = {"rules-programmed": lambda: proxy.healthy}
        async with listening(proxy, cfg.socket), asyncio.TaskGroup() as tasks:
            tasks.create_task(caches.services.run(), name="informer/services")
            tasks.create_task(caches.slices.run(), name="informer/endpointslices")
            tasks.create_task(caches.nodes.run(), name="informer/nodes")
            tasks.create_task(proxy.run(), name="proxy")
            for port in (cfg.healthz_port, cfg.metrics_port):
                health = serve_health(cfg.bind_address, port, ready=checks, name="kubeproxy")
                tasks.create_task(health, name=f"health/{port}")


def main(argv: Sequence[str] | None = None) -> int:
    try:
        cfg = parse_flags(argv)
    except ConfigError as err:
        print(f"kubeproxy: {err}", file=sys.stderr)
        return 2
    return run_component("kubeproxy", lambda: run(cfg), log_level=cfg.log_level)


if __name__ == "__main__":
    sys.exit(main())
