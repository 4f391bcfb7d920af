"""Settings of a kubelet, from its flags: names as upstream's, units in the field names, defaults short."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kubarium.machinery.errors import ConfigError
from kubarium.machinery.process import common_flags
from kubarium.machinery.times import parse_duration

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class NodeTaint:
    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`grpc_port` and `healthz_port` 0 switch those servers off; `anchor` "" means the Docker engine's host network."""

    node_name: str
    node_ip: str
    root_dir: Path
    cluster_name: str
    docker_socket: str
    pause_image: str
    cni_socket: Path
    cluster_dns: tuple[str, ...]
    cluster_domain: str
    node_labels: dict[str, str]
    taints: tuple[NodeTaint, ...]
    tls_cert_file: Path
    tls_key_file: Path
    client_ca_file: Path
    address: str
    port: int
    grpc_port: int
    healthz_address: str
    healthz_port: int
    image_aliases: Path | None
    anchor: str
    node_status_period_s: float
    lease_duration_s: int
    lease_renew_s: float
    max_pods: int
    crash_backoff_s: float
    crash_backoff_most_s: float
    image_backoff_s: float
    image_backoff_most_s: float
    remove_pods_on_exit: bool
    resolv_conf: Path | None
    kubeconfig: str
    transport: str
    log_level: str


def parse_config(argv: Sequence[str] | None) -> Config:
    """Raises ConfigError for a flag that cannot be used; argparse's own errors exit with 2."""
    args = _parser().parse_args(argv)
    return Config(
        node_name=args.hostname_override,
        node_ip=_address("--node-ip", args.node_ip),
        root_dir=Path(args.root_dir).absolute(),
        cluster_name=args.cluster_name,
        docker_socket=args.docker_socket,
        pause_image=args.pause_image,
        cni_socket=Path(args.cni_socket),
        cluster_dns=tuple(_address("--cluster-dns", a) for a in args.cluster_dns.split(",") if a),
        cluster_domain=args.cluster_domain,
        node_labels=_labels(args.node_labels),
        taints=tuple(_taint(text) for text in args.register_with_taints.split(",") if text),
        tls_cert_file=Path(args.tls_cert_file),
        tls_key_file=Path(args.tls_private_key_file),
        client_ca_file=Path(args.client_ca_file),
        address=args.address,
        port=args.port,
        grpc_port=args.grpc_port,
        healthz_address=args.healthz_bind_address,
        healthz_port=args.healthz_port,
        image_aliases=Path(args.image_aliases) if args.image_aliases else None,
        anchor=args.anchor_container,
        node_status_period_s=_seconds("--node-status-update-frequency", args.node_status_update_frequency),
        lease_duration_s=args.node_lease_duration_seconds,
        lease_renew_s=_renew(args.lease_renew_interval, args.node_lease_duration_seconds),
        max_pods=args.max_pods,
        crash_backoff_s=_seconds("--crash-loop-backoff", args.crash_loop_backoff),
        crash_backoff_most_s=_seconds("--crash-loop-backoff-max", args.crash_loop_backoff_max),
        image_backoff_s=_seconds("--image-pull-backoff", args.image_pull_backoff),
        image_backoff_most_s=_seconds("--image-pull-backoff-max", args.image_pull_backoff_max),
        remove_pods_on_exit=args.remove_pods_on_exit,
        resolv_conf=Path(args.resolv_conf) if args.resolv_conf else None,
        kubeconfig=args.kubeconfig,
        transport=args.api_transport,
        log_level=args.log_level,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kubelet", description="Runs the pods that the API binds to this node.")
    flag = parser.add_argument
    flag("--hostname-override", required=True, metavar="NODE", help="the node's name")
    flag("--node-ip", required=True)
    flag("--root-dir", required=True, help="folder for pods' volumes and state; seen under this path by Docker too")
    flag("--cluster-name", default="default")
    flag("--container-runtime", choices=("docker",), default="docker")
    flag("--docker-socket", default="unix:///var/run/docker.sock")
    flag("--pause-image", default="kubarium/pause:latest")
    flag("--cni-socket", required=True, help="Unix socket of the node's CNI agent")
    flag("--cluster-dns", default="10.96.0.10", help="addresses, separated by commas")
    flag("--cluster-domain", default="cluster.local")
    flag("--node-labels", default="", metavar="K=V,...")
    flag("--register-with-taints", default="", metavar="K=V:EFFECT,...")
    flag("--tls-cert-file", required=True)
    flag("--tls-private-key-file", required=True)
    flag("--client-ca-file", required=True)
    flag("--address", default="0.0.0.0", help="where the kubelet's servers listen")
    flag("--port", type=int, default=10250)
    flag("--grpc-port", type=int, default=10251, help="0: none")
    flag("--healthz-bind-address", default="127.0.0.1")
    flag("--healthz-port", type=int, default=10248, help="0: none")
    flag("--image-aliases", default="", metavar="FILE", help="JSON: name pattern -> image on this machine")
    flag("--anchor-container", default="", help="container whose network is the node's, for hostNetwork pods")
    flag("--node-status-update-frequency", default="5s", help="upstream: 10s")
    flag("--node-lease-duration-seconds", type=int, default=40)
    flag("--lease-renew-interval", default="", help="default: a quarter of the lease duration")
    flag("--max-pods", type=int, default=110)
    flag("--crash-loop-backoff", default="1s", help="first delay between restarts, doubled each time (upstream: 10s)")
    flag("--crash-loop-backoff-max", default="30s", help="upstream: 5m")
    flag("--image-pull-backoff", default="1s", help="upstream: 10s")
    flag("--image-pull-backoff-max", default="30s", help="upstream: 5m")
    flag("--remove-pods-on-exit", action="store_true", help="on SIGTERM remove this node's pods from the runtime")
    flag("--resolv-conf", default="", metavar="FILE", help="the node's own, where its pods can reach what it names")
    common_flags(parser)
    return parser


def _seconds(flag: str, text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as err:
        raise ConfigError(f"{flag} {text}: {err}") from err
    if seconds <= 0:
        raise ConfigError(f"{flag} {text}: expected more than nothing, for example 10s")
    return seconds


def _renew(text: str, lease_s: int) -> float:
    renew_s = _seconds("--lease-renew-interval", text) if text else lease_s / 4
    if renew_s >= lease_s:
        raise ConfigError(f"--lease-renew-interval {text}: must be shorter than the lease of {lease_s} s")
    return renew_s


def _address(flag: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError as err:
        raise ConfigError(f"{flag} {text}: expected an IP address, for example 198.18.0.11") from err


def _labels(text: str) -> dict[str, str]:
    labels = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ConfigError(f"--node-labels {part}: expected KEY=VALUE")
        labels[key] = value
    return labels


def _taint(text: str) -> NodeTaint:
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    if not key or effect not in EFFECTS:
        raise ConfigError(
            f"--register-with-taints {text}: expected KEY=VALUE:EFFECT, EFFECT one of {', '.join(EFFECTS)}"
        )
    return NodeTaint(key, value, effect)
