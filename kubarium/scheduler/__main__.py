"""`python -m kubarium.scheduler`: gives every pod a node."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Sequence

from kubarium.machinery.process import common_flags, run_component

NAME = "scheduler"


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kubarium.scheduler", description="The scheduler of a cluster.")
    common_flags(parser)
    parser.add_argument("--healthz-host", default="127.0.0.1")
    parser.add_argument("--healthz-port", type=int, default=10259, help="0: none")
    parser.add_argument("--leader-elect", action=argparse.BooleanOptionalAction, default=False)
    return parser.parse_args(argv)


async def run(args: argparse.Namespace) -> None:
    from kubarium.machinery.client import connect
    from kubarium.machinery.election import Election, lead
    from kubarium.machinery.process import serve_health
    from kubarium.scheduler.scheduler import Scheduler

    async with (
        connect(args.kubeconfig or None, transport=args.api_transport, user_agent=NAME) as api,
        asyncio.TaskGroup() as group,
    ):
        scheduler = Scheduler(api)
        group.create_task(scheduler.run_informers(), name="informers")
        if args.healthz_port:
            checks = {"informer-sync": lambda: scheduler.synced}
            health = serve_health(args.healthz_host, args.healthz_port, ready=checks, name=NAME)
            group.create_task(health, name="health")
        if args.leader_elect:
            election = Election("kube-scheduler", f"{socket.gethostname()}_{os.getpid()}")
            group.create_task(lead(api, election, scheduler.run), name=NAME)
        else:
            group.create_task(scheduler.run(), name=NAME)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    return run_component(NAME, lambda: run(args), log_level=args.log_level)


if __name__ == "__main__":
    sys.exit(main())
