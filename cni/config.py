"""Settings of the agent, from its flags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from kubarium.machinery.errors import ConfigError
from kubarium.machinery.process import common_flags

DEFAULT_HEALTH_PORT = 10258


@dataclass(frozen=True, slots=True)
class Config:
    """`socket` speaks CNI, `ipam_socket` gRPC; allocations are kept in `state_dir`."""

    node_name: str
    socket: Path
    ipam_socket: Path
    state_dir: Path
    lan_interface: str
    cluster_cidrs: tuple[IPv4Network, ...]
    service_cidrs: tuple[IPv4Network, ...]
    cluster_name: str
    healthz_bind_address: str
    healthz_port: int
    kubeconfig: str
    api_transport: str
    log_level: str


def parse_flags(argv: Sequence[str] | None) -> Config:
    parser = argparse.ArgumentParser(prog="python -m cni", description="kubarium's CNI agent of one node")
    parser.add_argument("--node-name", required=True)
    parser.add_argument("--socket", required=True, type=Path, help="Unix socket for the CNI plugin and the kubelet")
    parser.add_argument("--ipam-socket", required=True, type=Path, help="Unix socket for gRPC IPAM")
    parser.add_argument("--state-dir", required=True, type=Path, help="where allocations are kept")
    parser.add_argument("--lan-interface", default="eth0", help="the node's interface to the other nodes")
    parser.add_argument("--cluster-cidr", default="10.244.0.0/16", help="addresses of pods; several with commas")
    parser.add_argument("--service-cidr", default="10.96.0.0/16", help="addresses of Services; several with commas")
    parser.add_argument("--cluster-name", default="default")
    parser.add_argument("--healthz-bind-address", default="127.0.0.1")
    parser.add_argument("--healthz-port", type=int, default=DEFAULT_HEALTH_PORT)
    common_flags(parser)
    flags = parser.parse_args(argv)
    cluster = parse_cidrs("--cluster-cidr", flags.cluster_cidr)
    services = parse_cidrs("--service-cidr", flags.service_cidr)
    for one in cluster:
        for other in services:
            if one.overlaps(other):
                raise ConfigError(f"--cluster-cidr {one} and --service-cidr {other} overlap; choose ranges apart")
    return Config(
        node_name=flags.node_name,
        socket=flags.socket,
        ipam_socket=flags.ipam_socket,
        state_dir=flags.state_dir,
        lan_interface=flags.lan_interface,
        cluster_cidrs=cluster,
        service_cidrs=services,
        cluster_name=flags.cluster_name,
        healthz_bind_address=flags.healthz_bind_address,
        healthz_port=flags.healthz_port,
        kubeconfig=flags.kubeconfig,
        api_transport=flags.api_transport,
        log_level=flags.log_level,
    )


def parse_cidrs(flag: str, text: str) -> tuple[IPv4Network, ...]:
    """The IPv4 ranges of a list with commas; IPv6 ones are left to dual stack. Raises ConfigError."""
    try:
        return tuple(IPv4Network(part) for part in map(str.strip, text.split(",")) if part and ":" not in part)
    except ValueError as err:
        raise ConfigError(f"{flag} {text}: {err}; expected CIDRs, for example 10.244.0.0/16") from err
