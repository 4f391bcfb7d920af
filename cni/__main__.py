"""The CNI agent of a node: `python -m cni`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from cni.agent import Agent
from cni.config import Config, parse_flags
from cni.journal import Journal
from cni.network import NodeNetworking
from cni.server import CniServer, Metrics, ipam_listening
from cni.sysctls import apply_sysctls, plan_sysctls
from kubarium.machinery.client import connect
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.informer import Informer
from kubarium.machinery.netlink import Netlink
from kubarium.machinery.nft import Nft
from kubarium.machinery.process import run_component, serve_health
from kubarium.machinery.resources import NODES


async def run(cfg: Config) -> None:
    wiring_netlink, routes_netlink = Netlink(), Netlink()  # each has one user, in a thread
    lan = wiring_netlink.link(cfg.lan_interface)
    if lan is None:
        raise ConfigError(f"--lan-interface {cfg.lan_interface}: this node has no such interface")
    apply_sysctls(plan_sysctls(cfg.lan_interface))
    agent = Agent(Journal(cfg.state_dir), wiring_netlink, mtu=lan.mtu)
    await agent.open()
    async with connect(cfg.kubeconfig or None, transport=cfg.api_transport, user_agent="kubarium-cni") as api:
        nodes = Informer(api, NODES)
        network = NodeNetworking(cfg, nodes, agent, routes_netlink, Nft())
        checks = {"pod-cidr": lambda: agent.ready, "node-network": lambda: network.in_place}
        async with (
            CniServer(agent, Metrics(agent)).listening(cfg.socket),
            ipam_listening(agent, cfg.ipam_socket),
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(nodes.run(), name="informer/nodes")
            tasks.create_task(network.run(), name="node-network")
            health = serve_health(cfg.healthz_bind_address, cfg.healthz_port, ready=checks, name="cni")
            tasks.create_task(health, name="health")


def main(argv: Sequence[str] | None = None) -> int:
    try:
        cfg = parse_flags(argv)
    except ConfigError as err:
        print(f"cni: {err}", file=sys.stderr)
        return 2
    return run_component("cni", lambda: run(cfg), log_level=cfg.log_level)


if __name__ == "__main__":
    sys.exit(main())
