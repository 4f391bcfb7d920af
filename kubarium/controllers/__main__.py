"""`python -m kubarium.controllers`: all controllers in one process, on shared informers."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from kubarium.controllers.config import Config
from kubarium.machinery.process import common_flags, run_component

NAME = "controllers"


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kubarium.controllers", description="The controllers of a cluster.")
    common_flags(parser)
    defaults = Config()
    parser.add_argument("--cluster-cidr", default=defaults.cluster_cidr, help="addresses of pods")
    parser.add_argument("--node-cidr-mask-size", type=int, default=defaults.node_cidr_mask_size)
    parser.add_argument("--service-cluster-ip-range", default=defaults.service_cluster_ip_range)
    seconds = _seconds
    parser.add_argument("--node-monitor-period", type=seconds, default=defaults.node_monitor_period_s)
    parser.add_argument("--node-monitor-grace-period", type=seconds, default=defaults.node_monitor_grace_period_s)
    parser.add_argument("--node-startup-grace-period", type=seconds, default=defaults.node_startup_grace_period_s)
    parser.add_argument("--terminated-pod-gc-threshold", type=int, default=defaults.terminated_pod_gc_threshold)
    parser.add_argument("--root-ca-file", default="", help="PEM file that kube-root-ca.crt holds; none: not published")
    parser.add_argument("--service-account-private-key-file", default="", help="PEM key of tokens that live in Secrets")
    parser.add_argument("--cluster-signing-cert-file", default="", help="CA that signs CertificateSigningRequests")
    parser.add_argument("--cluster-signing-key-file", default="", help="its key; none: nothing is signed")
    parser.add_argument("--cluster-signing-duration", type=seconds, default=defaults.cluster_signing_duration_s)
    parser.add_argument("--controllers", default="*", help="comma-separated: * all, foo this one, -foo not this one")
    parser.add_argument("--healthz-host", default="127.0.0.1")
    parser.add_argument("--healthz-port", type=int, default=10257)
    parser.add_argument("--leader-elect", action=argparse.BooleanOptionalAction, default=False)
    return parser.parse_args(argv)


def _seconds(text: str) -> float:
    """`40s`, `1m30s`, `500ms` or a plain number of seconds."""
    from kubarium.machinery.times import parse_duration

    return parse_duration(text)


def config_of(args: argparse.Namespace) -> Config:
    return Config(
        cluster_cidr=args.cluster_cidr,
        node_cidr_mask_size=args.node_cidr_mask_size,
        service_cluster_ip_range=args.service_cluster_ip_range,
        node_monitor_period_s=args.node_monitor_period,
        node_monitor_grace_period_s=args.node_monitor_grace_period,
        node_startup_grace_period_s=args.node_startup_grace_period,
        root_ca_file=args.root_ca_file,
        service_account_private_key_file=args.service_account_private_key_file,
        cluster_signing_cert_file=args.cluster_signing_cert_file,
        cluster_signing_key_file=args.cluster_signing_key_file,
        cluster_signing_duration_s=args.cluster_signing_duration,
        terminated_pod_gc_threshold=args.terminated_pod_gc_threshold,
        controllers=tuple(name.strip() for name in args.controllers.split(",")),
    )


async def run(args: argparse.Namespace) -> None:
    from kubarium.controllers.manager import Manager
    from kubarium.machinery.client import connect
    from kubarium.machinery.process import serve_health

    config = config_of(args)
    async with (
        connect(args.kubeconfig or None, transport=args.api_transport, user_agent=NAME) as api,
        asyncio.TaskGroup() as group,
    ):
        manager = Manager(api, config)
        if args.healthz_port:
            health = serve_health(args.healthz_host, args.healthz_port, ready=manager.ready, name=NAME)
            group.create_task(health, name="health")
        group.create_task(manager.run(leader_elect=args.leader_elect), name=NAME)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    return run_component(NAME, lambda: run(args), log_level=args.log_level)


if __name__ == "__main__":
    sys.exit(main())
