"""`python -m kubarium.clusterdns`: the cluster's DNS server."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from kubarium.machinery.errors import ConfigError
from kubarium.machinery.process import common_flags, run_component

NAME = "clusterdns"


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kubarium.clusterdns", description="The DNS server of a cluster.")
    common_flags(parser)
    parser.add_argument("--listen", default="0.0.0.0:53", help="address and port, for UDP and TCP")
    parser.add_argument("--domain", default="cluster.local", help="the cluster's domain")
    parser.add_argument("--forward", action="store_true", help="ask the servers of /etc/resolv.conf about other names")
    parser.add_argument("--healthz-host", default="0.0.0.0")
    parser.add_argument("--healthz-port", type=int, default=8080, help="0: none")
    return parser.parse_args(argv)


def parse_address(text: str) -> tuple[str, int]:
    """`0.0.0.0:53` or `[::]:53`. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--listen {text}: expected address:port, for example 0.0.0.0:53")
    return host.strip("[]"), int(port)


async def run(args: argparse.Namespace) -> None:
    from kubarium.clusterdns.answers import Responder
    from kubarium.clusterdns.server import Forwarder, UdpServer, serve_tcp, udp_socket, upstream_servers
    from kubarium.clusterdns.service import ZoneKeeper
    from kubarium.clusterdns.zone import Zone
    from kubarium.machinery.client import connect
    from kubarium.machinery.process import serve_health

    address = parse_address(args.listen)
    domain = args.domain.strip(".").lower()
    responder = Responder(Zone(domain, serial=int(time.time())), forwarding=args.forward)
    forwarder = Forwarder(upstream_servers(), responder) if args.forward else None
    async with (
        connect(args.kubeconfig or None, transport=args.api_transport, user_agent=NAME) as api,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(UdpServer(udp_socket(address), responder, forwarder).run(), name="udp")
        group.create_task(serve_tcp(address, responder, forwarder), name="tcp")
        group.create_task(ZoneKeeper(api, responder, domain).run(), name="zone")
        if args.healthz_port:
            health = serve_health(args.healthz_host, args.healthz_port, ready=lambda: responder.ready, name=NAME)
            group.create_task(health, name="health")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    return run_component(NAME, lambda: run(args), log_level=args.log_level)


if __name__ == "__main__":
    sys.exit(main())
