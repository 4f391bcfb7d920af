"""The agent as a process without an API server: for tests that kill it. Usage: agent_process.py DIR CIDR [CRASH_AFTER]

CRASH_AFTER names the step after which the process kills itself with SIGKILL, the first time that step is done:
allocated, linked, wired, unwired, released.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from cni import wiring
from cni.agent import Agent
from cni.journal import Journal
from cni.server import CniServer, Metrics, ipam_listening
from kubarium.machinery.netlink import Netlink


def die_after(fn: Callable[..., Any]) -> Callable[..., Any]:
    def dying(*args: Any, **kwargs: Any) -> None:
        fn(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return dying


class CrashingJournal(Journal):
    """Dies when a record of the kind is on disk and nobody knows."""

    crash_after = ""

    def _append(self, records: Any) -> None:
        super()._append(records)
        if any(record["op"] == self.crash_after for record in records):
            os.kill(os.getpid(), signal.SIGKILL)


async def main(directory: Path, cidr: str, crash_after: str) -> None:
    if crash_after == "wired":
        wiring.wire = die_after(wiring.wire)
    elif crash_after == "linked":
        Netlink.add_veth = die_after(Netlink.add_veth)  # type: ignore[method-assign]
    elif crash_after == "unwired":
        wiring.unwire = die_after(wiring.unwire)
    CrashingJournal.crash_after = {"allocated": "allocate", "released": "release"}.get(crash_after, "")
    agent = Agent(CrashingJournal(directory), Netlink(), mtu=1400)
    await agent.open()
    if cidr:
        agent.set_ranges([IPv4Network(cidr)])
    server = CniServer(agent, Metrics(agent, CollectorRegistry()))
    async with ipam_listening(agent, directory / "ipam.sock"), server.listening(directory / "cni.sock"):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""))
