"""Settings of the proxy, from its flags; the flags are kube-proxy's where it has them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from kubarium.machinery.errors import ConfigError
from kubarium.machinery.process import common_flags

HEALTHZ_PORT, METRICS_PORT = 10256, 10249
MODES = ("nftables", "iptables", "ipvs")


@dataclass(frozen=True, slots=True)
class Config:
    """`node_port_cidrs` empty: NodePorts answer at the addresses of the LAN interface."""

    node_name: str
    cluster_cidrs: tuple[IPv4Network, ...]
    service_cidrs: tuple[IPv4Network, ...]
    lan_interface: str
    node_port_cidrs: tuple[IPv4Network, ...]
    bind_address: str
    healthz_port: int
    metrics_port: int
    socket: Path
    cluster_name: str
    kubeconfig: str
    api_transport: str
    log_level: str


def parse_flags(argv: Sequence[str] | None) -> Config:
    """Raises ConfigError for values that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m kubeproxy", description="kubarium's Service proxy of one node")
    parser.add_argument("--hostname-override", required=True, help="name of the node")
    parser.add_argument("--proxy-mode", default="nftables", help=", ".join(MODES))
    parser.add_argument("--cluster-cidr", default="10.244.0.0/16", help="addresses of pods; several with commas")
    parser.add_argument("--service-cidr", default="10.96.0.0/16", help="addresses of Services; several with commas")
    parser.add_argument("--lan-interface", default="eth0", help="the node's interface to the other nodes")
    parser.add_argument(
        "--nodeport-addresses",
        default="primary",
        help="'primary' (addresses of the LAN interface) or CIDRs with commas: the node's addresses in them",
    )
    parser.add_argument("--healthz-bind-address", default="127.0.0.1")
    parser.add_argument("--healthz-port", type=int, default=HEALTHZ_PORT)
    parser.add_argument("--metrics-port", type=int, default=METRICS_PORT)
    parser.add_argument("--socket", required=True, type=Path, help="Unix socket for gRPC: Explain, Healthz")
    parser.add_argument("--cluster-name", default="default")
    common_flags(parser)
    flags = parser.parse_args(argv)
    check_mode(flags.proxy_mode)
    node_ports = "" if flags.nodeport_addresses == "primary" else flags.nodeport_addresses
    return Config(
        node_name=flags.hostname_override,
        cluster_cidrs=parse_cidrs("--cluster-cidr", flags.cluster_cidr),
        service_cidrs=parse_cidrs("--service-cidr", flags.service_cidr, required=True),
        lan_interface=flags.lan_interface,
        node_port_cidrs=parse_cidrs("--nodeport-addresses", node_ports),
        bind_address=flags.healthz_bind_address,
        healthz_port=flags.healthz_port,
        metrics_port=flags.metrics_port,
        socket=flags.socket,
        cluster_name=flags.cluster_name,
        kubeconfig=flags.kubeconfig,
        api_transport=flags.api_transport,
        log_level=flags.log_level,
    )


def check_mode(mode: str, proc: Path = Path("/proc")) -> None:
    """Raises ConfigError, with the reason, for a mode that cannot be had."""
    if mode == "nftables":
        return
    if mode == "ipvs" and not (proc / "net" / "ip_vs").exists():
        raise ConfigError("--proxy-mode ipvs: this kernel has no IP_VS (/proc/net/ip_vs is missing); use nftables")
    if mode in MODES:
        raise ConfigError(f"--proxy-mode {mode}: kubarium has no {mode} backend yet; use nftables")
    raise ConfigError(f"--proxy-mode {mode}: unknown; expected one of {', '.join(MODES)}")


def parse_cidrs(flag: str, text: str, *, required: bool = False) -> tuple[IPv4Network, ...]:
    """The IPv4 ranges of a list with commas; IPv6 ones are left to dual stack. Raises ConfigError."""
    try:
        found = tuple(IPv4Network(part) for part in map(str.strip, text.split(",")) if part and ":" not in part)
    except ValueError as err:
        raise ConfigError(f"{flag} {text}: {err}; expected CIDRs, for example 10.96.0.0/16") from err
    if required and not found:
        raise ConfigError(f"{flag} {text or '(empty)'}: expected at least one IPv4 CIDR, for example 10.96.0.0/16")
    return found
