"""The node's CNI agent: takes addresses, wires sandboxes, and forgets neither across a kill.

The order inside ADD is what makes it safe to kill: open the namespace, take an address, have it on disk, wire, pass
the gates, answer. A killed ADD leaves at worst an address that its owner gets again, or that DEL or GC frees. The
order inside DEL is the reverse. Calls for one owner wait for each other; calls for different owners do not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cni import journal, wiring
from cni.ipam import Addresses, Allocation, Owner, PodRef
from cni.journal import Journal
from cni.protocol import SUPPORTED, VERSION, CniError, Code, Command, Request, result
from kubarium.machinery.errors import ClusterError, PoolExhausted
from kubarium.machinery.netlink import Netlink

log = logging.getLogger("cni")

R = TypeVar("R")


class Gate(Protocol):
    """Something that must stand before a pod's first process may run, such as the rules of its network policies.

    `attach` is awaited after the wiring and before the answer to ADD; when it raises, ADD fails and is undone.
    `detach` is awaited in DEL, before the address is free again; what was never attached is no error.
    """

    async def attach(self, allocation: Allocation, labels: Mapping[str, str], host_interface: str) -> None: ...

    async def detach(self, owner: Owner) -> None: ...


class Agent:
    """State and steps. `open` before the first call. `set_ranges` may come at any time: ADD waits for it a while."""

    def __init__(
        self,
        journal: Journal,
        netlink: Netlink,
        *,
        mtu: int = 0,
        gates: Sequence[Gate] = (),
        ranges_timeout_s: float = 10.0,
        node_netns: Path = wiring.OWN_NAMESPACE,
    ) -> None:
        self.addresses = Addresses()
        self._journal = journal
        self._netlink = netlink
        self._mtu = mtu
        self._gates = gates
        self._ranges_timeout_s = ranges_timeout_s
        self._node_netns = node_netns
        self._ranges_known = asyncio.Event()
        self._locks: dict[Owner, tuple[asyncio.Lock, int]] = {}
        self._thread = ThreadPoolExecutor(max_workers=4, thread_name_prefix="wiring")

    async def open(self) -> None:
        """Read what an earlier life held. Raises ConfigError where the journal is damaged."""
        held = await asyncio.to_thread(self._journal.open)
        self.addresses = Addresses(allocations=held)
        log.info("cni: %d allocations read", len(held))

    async def close(self) -> None:
        await self._journal.close()
        self._thread.shutdown(wait=False)

    @property
    def ready(self) -> bool:
        """Whether ADD can be served."""
        return self._ranges_known.is_set()

    def set_ranges(self, cidrs: Iterable[IPv4Network]) -> None:
        """The node's pod CIDRs, as its Node object has them; none takes the ranges away again."""
        wanted = tuple(cidrs)
        if wanted != tuple(pool.cidr for pool in self.addresses.pools):
            self.addresses = self.addresses.with_cidrs(wanted)
            log.info("cni: pod CIDRs of this node: %s", ", ".join(map(str, wanted)) or "none")
        if wanted:
            self._ranges_known.set()
        else:
            self._ranges_known.clear()

    async def handle(self, request: Request) -> dict[str, Any]:
        """The CNI result of one call; every refusal is a CniError."""
        try:
            return await self._handlers[request.command](self, request)
        except CniError:
            raise
        except wiring.NamespaceGone as err:
            raise CniError(Code.UNKNOWN_CONTAINER, str(err)) from err
        except PoolExhausted as err:
            raise CniError(Code.TRY_AGAIN_LATER, str(err)) from err
        except ClusterError as err:
            raise CniError(Code.NOT_WIRED, str(err)) from err
        except OSError as err:
            raise CniError(Code.IO_FAILURE, f"{err.filename or 'allocations'}: {err.strerror or err}") from err

    async def add(self, request: Request) -> dict[str, Any]:
        owner = request.owner
        async with self._alone(owner):
            with wiring.opened(request.netns, self._node_netns) as fd:
                held_before = owner in self.addresses.allocations
                allocation = await self._take(owner, request.pod)
                try:
                    plan = self._wire_plan(allocation)
                    wired = await self._in_thread(wiring.wire, self._netlink, fd, plan)
                    for gate in self._gates:
                        await gate.attach(allocation, request.labels, wired.host_interface)
                except Exception:
                    if not held_before:
                        await self._undo(owner)
                    raise
        if request.host_ports:
            ports = ", ".join(map(str, request.host_ports))
            log.warning(
                "cni: %s: hostPort %s is not served: this agent has no port mappings yet", allocation.pod, ports
            )
        log.info("cni: %s: %s on %s", allocation.pod, ", ".join(map(str, allocation.addresses)), wired.host_interface)
        return result(allocation, wired, request.netns)

    async def delete(self, request: Request) -> dict[str, Any]:
        async with self._alone(request.owner):
            await self._undo(request.owner)
        return {}

    async def check(self, request: Request) -> dict[str, Any]:
        allocation = self.addresses.allocations.get(request.owner)
        if allocation is None:
            raise CniError(Code.UNKNOWN_CONTAINER, f"{request.owner} holds no address on this node")
        async with self._alone(request.owner):
            with wiring.opened(request.netns, self._node_netns) as fd:
                found = await self._in_thread(wiring.faults, self._netlink, fd, self._wire_plan(allocation))
        if found:
            raise CniError(Code.NOT_WIRED, f"{allocation.pod}: {found[0]}", "; ".join(found))
        return {}

    async def collect(self, request: Request) -> dict[str, Any]:
        """GC: free what belongs to no valid attachment. An ADD under way is not ours to judge: it came after the
        list.
        """
        valid = {*request.valid, *self._locks}
        for owner in self.addresses.stale(valid):
            async with self._alone(owner):
                log.info("cni: collecting %s of %s", owner, self.addresses.allocations.get(owner, "nobody"))
                await self._undo(owner)
        for name in await self._in_thread(wiring.orphans, self._netlink, {*valid, *self._locks}):
            log.info("cni: removing interface %s, which belongs to no sandbox", name)
            await self._in_thread(self._netlink.delete_link, name)
        return {}

    async def status(self, _: Request) -> dict[str, Any]:
        if not self.ready:
            raise CniError(Code.NOT_AVAILABLE, "this node has no pod CIDR yet")
        return {}

    async def version(self, _: Request) -> dict[str, Any]:
        return {"cniVersion": VERSION, "supportedVersions": list(SUPPORTED)}

    _handlers: Mapping[Command, Callable[[Agent, Request], Awaitable[dict[str, Any]]]] = {
        Command.ADD: add,
        Command.DEL: delete,
        Command.CHECK: check,
        Command.GC: collect,
        Command.STATUS: status,
        Command.VERSION: version,
    }

    async def allocate(self, owner: Owner, pod: PodRef) -> Allocation:
        """Addresses without wiring, for the IPAM service. Raises PoolExhausted, or CniError without a range."""
        async with self._alone(owner):
            return await self._take(owner, pod)

    async def release(self, owner: Owner) -> None:
        async with self._alone(owner):
            await self._free(owner)

    async def _take(self, owner: Owner, pod: PodRef) -> Allocation:
        """An allocation that is on disk."""
        if held := self.addresses.allocations.get(owner):
            return held
        await self._wait_for_ranges()
        self.addresses, allocation = self.addresses.allocate(owner, pod)
        try:
            await self._journal.write([journal.allocated(allocation)])
        except OSError:
            self.addresses = self.addresses.release(owner)
            raise
        return allocation

    async def _free(self, owner: Owner) -> None:
        """The release is on disk before anybody else can get the address."""
        if owner in self.addresses.allocations:
            await self._journal.write([journal.released(owner)])
            self.addresses = self.addresses.release(owner)

    async def _undo(self, owner: Owner) -> None:
        for gate in self._gates:
            await gate.detach(owner)
        await self._in_thread(wiring.unwire, self._netlink, owner)
        await self._free(owner)

    def _wire_plan(self, allocation: Allocation) -> wiring.Wire:
        return wiring.Wire(allocation.owner, allocation.addresses, self._mtu, alias=str(allocation.pod))

    async def _wait_for_ranges(self) -> None:
        try:
            async with asyncio.timeout(self._ranges_timeout_s):
                await self._ranges_known.wait()
        except TimeoutError:
            raise CniError(
                Code.TRY_AGAIN_LATER,
                f"this node has had no pod CIDR for {self._ranges_timeout_s:.0f} s; "
                "is the API server reachable, and the node IPAM controller running?",
            ) from None

    @asynccontextmanager
    async def _alone(self, owner: Owner) -> AsyncIterator[None]:
        """One call at a time for an owner; the lock lives as long as somebody holds it or waits for it."""
        lock, users = self._locks.get(owner) or (asyncio.Lock(), 0)
        self._locks[owner] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            _, users = self._locks.pop(owner)
            if users > 1:
                self._locks[owner] = lock, users - 1

    async def _in_thread(self, fn: Callable[..., R], *args: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, fn, *args)
