"""Links, addresses, routes and neighbours through netlink: the few calls that components need, with our errors.

A `Netlink` has a thread of its own in its namespace (pyroute2 opens a socket for each thread that calls it), so it
works there from any thread; calls block. "ensure" calls may be repeated; deletions of what is not there are no errors.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from kubarium.machinery import netns
from kubarium.machinery.errors import NetlinkError

NUD_PERMANENT = 0x80
SCOPE_LINK = 253
PROTO_STATIC = 4


@dataclass(frozen=True, slots=True)
class Link:
    """An interface; `kind` is "veth", "bridge", ... or "" for hardware and loopback."""

    index: int
    name: str
    kind: str
    mac: str
    up: bool
    mtu: int
    alias: str


@dataclass(frozen=True, slots=True)
class Route:
    """`destination` is CIDR text ("0.0.0.0/0" for the default), `gateway` "" for on-link routes, `link` an index."""

    destination: str
    gateway: str
    link: int
    protocol: int
    table: int


class Netlink:
    """Netlink in one namespace: the caller's, or the one at `path`."""

    def __init__(self, path: str | Path | None = None) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")
        try:
            self._ip: Any = self._thread.submit(_open, path).result()
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    def close(self) -> None:
        self._do(self._ip.close)
        self._thread.shutdown(wait=False)

    def _do(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._thread.submit(fn, *args, **kwargs).result()

    def _list(self, fn: Callable[..., Any], **kwargs: Any) -> list[Any]:
        return self._do(lambda: list(fn(**kwargs)))  # type: ignore[no-any-return]

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def links(self) -> dict[str, Link]:
        """All interfaces by name."""
        with _translated("list links"):
            found = [_link(message) for message in self._list(self._ip.get_links)]
        return {link.name: link for link in found}

    def link(self, name: str) -> Link | None:
        """One interface, None if it is not there."""
        with _translated(f"look up link {name}", missing_ok=True):
            for message in self._do(self._ip.link, "get", ifname=name):
                return _link(message)
        return None

    def add_veth(self, name: str, peer: str, *, peer_netns_fd: int | None = None, mac: str = "", mtu: int = 0) -> None:
        """A veth pair, both ends down; the peer is made inside its namespace, so that it never shows here."""
        options: dict[str, Any] = {"peer": {"ifname": peer}}
        if peer_netns_fd is not None:
            options["peer"]["net_ns_fd"] = peer_netns_fd
        if mac:
            options["address"] = mac
        if mtu:
            options["mtu"] = options["peer"]["mtu"] = mtu
        with _translated(f"add veth {name}"):
            self._do(self._ip.link, "add", ifname=name, kind="veth", **options)

    def add_bridge(self, name: str) -> None:
        with _translated(f"add bridge {name}"):
            self._do(self._ip.link, "add", ifname=name, kind="bridge")

    def set_link(self, index: int, **settings: Any) -> None:
        """Change a link: state="up", mtu=, master=, address=, ifname=, ifalias=, net_ns_fd=."""
        with _translated(f"set link {index} {settings}"):
            self._do(self._ip.link, "set", index=index, **settings)

    def delete_link(self, name: str) -> None:
        """Remove a link by name; its veth peer goes with it."""
        if (link := self.link(name)) is not None:
            with _translated(f"delete link {name}", missing_ok=True):
                self._do(self._ip.link, "del", index=link.index)

    def ensure_address(self, index: int, address: str) -> None:
        """`address` with its prefix length: "10.244.1.5/32"."""
        ip, _, bits = address.partition("/")
        with _translated(f"add address {address} to link {index}", exists_ok=True):
            self._do(self._ip.addr, "add", index=index, address=ip, prefixlen=int(bits))

    def addresses(self, index: int) -> list[str]:
        """The addresses of a link with their prefix lengths."""
        with _translated(f"list addresses of link {index}"):
            return [
                f"{message.get_attr('IFA_LOCAL') or message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}"
                for message in self._list(self._ip.get_addr, index=index)
            ]

    def ensure_route(self, destination: str, *, link: int, gateway: str = "", protocol: int = PROTO_STATIC) -> None:
        """A route by gateway, or on-link without one; one to the same destination is replaced."""
        options: dict[str, Any] = {"gateway": gateway} if gateway else {"scope": SCOPE_LINK}
        with _translated(f"route {destination} via {gateway or f'link {link}'}"):
            self._do(self._ip.route, "replace", dst=destination, oif=link, proto=protocol, **options)

    def delete_route(self, destination: str, *, link: int | None = None, gateway: str = "") -> None:
        options: dict[str, Any] = {}
        if link is not None:
            options["oif"] = link
        if gateway:
            options["gateway"] = gateway
        with _translated(f"delete route {destination}", missing_ok=True):
            self._do(self._ip.route, "del", dst=destination, **options)

    def routes(self, *, table: int = 254) -> list[Route]:
        """The IPv4 routes of a table (254: main)."""
        with _translated("list routes"):
            return [_route(message) for message in self._list(self._ip.get_routes, family=2, table=table)]

    def ensure_neighbour(self, index: int, ip: str, mac: str) -> None:
        """A permanent neighbour entry: nobody has to ask for the address."""
        with _translated(f"neighbour {ip} on link {index}"):
            self._do(self._ip.neigh, "replace", dst=ip, lladdr=mac, ifindex=index, state=NUD_PERMANENT)


def _open(path: str | Path | None) -> Any:
    from pyroute2 import IPRoute

    if path is not None:
        netns.enter(path)
    return IPRoute()


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=(info.get_attr("IFLA_INFO_KIND") if info else None) or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        up=bool(message["flags"] & 1),
        mtu=message.get_attr("IFLA_MTU") or 0,
        alias=message.get_attr("IFLA_IFALIAS") or "",
    )


def _route(message: Any) -> Route:
    target = message.get_attr("RTA_DST") or "0.0.0.0"
    return Route(
        destination=f"{target}/{message['dst_len']}",
        gateway=message.get_attr("RTA_GATEWAY") or "",
        link=message.get_attr("RTA_OIF") or 0,
        protocol=message["proto"],
        table=message.get_attr("RTA_TABLE") or message["table"],
    )


MISSING = {errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL}


@contextmanager
def _translated(what: str, *, exists_ok: bool = False, missing_ok: bool = False) -> Iterator[None]:
    """The kernel's refusal as a NetlinkError that says what was being done."""
    from pyroute2.netlink.exceptions import NetlinkError as KernelError

    try:
        yield
    except (KernelError, OSError) as err:
        code = getattr(err, "code", None) or getattr(err, "errno", None)
        if (exists_ok and code == errno.EEXIST) or (missing_ok and code in MISSING):
            return
        raise NetlinkError(f"{what}: {err}") from err
