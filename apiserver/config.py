"""Settings of the API server, from its flags; everything that can be wrong with them is found here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from apiserver.allocators import Network, PortRange
from kubarium.machinery.errors import ConfigError

DEFAULT_ISSUER = "https://kubernetes.default.svc.cluster.local"
ADMISSION_PLUGINS = (
    "NamespaceLifecycle", "LimitRanger", "ServiceAccount", "NodeRestriction", "TaintNodesByCondition", "PodSecurity",
    "Priority", "DefaultTolerationSeconds", "DefaultStorageClass", "StorageObjectInUseProtection",
    "PersistentVolumeClaimResize", "RuntimeClass", "CertificateApproval", "CertificateSigning",
    "CertificateSubjectRestriction", "DefaultIngressClass", "PodTopologyLabels", "PodResizeValidator",
    "MutatingAdmissionPolicy", "MutatingAdmissionWebhook", "ValidatingAdmissionPolicy", "ValidatingAdmissionWebhook",
    "ResourceQuota",
)  # fmt: skip
"""Kubernetes' names and order. Policies and webhooks have their places here; nothing stands in them yet."""


@dataclass(frozen=True, slots=True)
class Config:
    """`*_s` are seconds, `*_file` paths ("" where not given). Ports: 0 is any free one for REST, none for gRPC."""

    store: str
    bind_address: str
    secure_port: int
    grpc_port: int
    listen_fds: tuple[int, ...]
    tls_cert_file: str
    tls_private_key_file: str
    client_ca_file: str
    service_account_key_file: str
    service_account_signing_key_file: str
    service_account_issuer: str
    api_audiences: tuple[str, ...]
    token_auth_file: str
    token: str
    service_network: Network
    node_ports: PortRange
    advertise_address: str
    kubelet_client_certificate: str
    kubelet_client_key: str
    kubelet_certificate_authority: str
    not_ready_toleration_s: int
    unreachable_toleration_s: int
    event_ttl_s: int
    cluster_name: str
    disabled_admission: frozenset[str]
    enabled_admission: frozenset[str]
    authorization: tuple[str, ...]
    max_requests: int
    max_mutating_requests: int
    request_timeout_s: float
    write_kubeconfig: str
    log_level: str

    @property
    def standalone(self) -> bool:
        """Without certificates of its own the server makes them, and serves on loopback."""
        return not self.tls_cert_file


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(prog="apiserver", description="The Kubernetes API on SQLite or etcd.")
    add = flags.add_argument
    add("--store", default="", help="sqlite:///PATH or etcd://HOST:PORT[,...] (default: SQLite in a temporary folder)")
    add("--bind-address", default="", help="default: all addresses; 127.0.0.1 without --tls-cert-file")
    add("--secure-port", type=int, default=6443)
    add("--grpc-port", type=int, default=6444, help="0: no gRPC front end")
    add(
        "--listen-fd",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="an inherited listening socket; repeatable, the first one's port is advertised",
    )
    add("--tls-cert-file", default="", help="default: a certificate of a CA made at the start")
    add("--tls-private-key-file", default="")
    add("--client-ca-file", default="", help="whose client certificates are trusted")
    add("--service-account-key-file", default="", help="PEM keys that ServiceAccount tokens are checked with")
    add("--service-account-signing-key-file", default="", help="PEM key that they are signed with")
    add("--service-account-issuer", default=DEFAULT_ISSUER)
    add("--api-audiences", default="", help="comma-separated; default: the issuer")
    add("--token-auth-file", default="", help='lines of token,user,uid,"group1,group2"')
    add("--token", default="", help="one bearer token of an administrator, for tests")
    add("--service-cluster-ip-range", default="10.96.0.0/16")
    add("--service-node-port-range", default="30000-32767")
    add("--advertise-address", default="", help="where the kubernetes Service leads; default: the bind address")
    add("--kubelet-client-certificate", default="")
    add("--kubelet-client-key", default="")
    add("--kubelet-certificate-authority", default="")
    add("--default-not-ready-toleration-seconds", type=int, default=300)
    add("--default-unreachable-toleration-seconds", type=int, default=300)
    add("--event-ttl", default="1h", help="such as 1h, 30m, 90s")
    add("--cluster-name", default="default")
    add("--disable-admission-plugins", default="", help="comma-separated: " + ", ".join(ADMISSION_PLUGINS))
    add(
        "--enable-admission-plugins",
        default="",
        help="all are, but ServiceAccount in a server that makes its own certificates: nobody makes accounts there",
    )
    add("--authorization-mode", default="Node,RBAC", help="Node,RBAC or AlwaysAllow")
    add("--max-requests-inflight", type=int, default=400, help="reads at a time; 0: no limit")
    add("--max-mutating-requests-inflight", type=int, default=200, help="writes at a time; 0: no limit")
    add("--request-timeout", default="60s")
    add("--write-kubeconfig", default="", help="file for an administrator's kubeconfig, with --token")
    add("--log-level", default="info", help="debug, info, warning or error")
    return flags


def parse_config(argv: Sequence[str] | None = None) -> Config:
    """Raises ConfigError; SystemExit (2) where argparse itself refuses."""
    flags = parser().parse_args(argv)
    bind = flags.bind_address or ("0.0.0.0" if flags.tls_cert_file else "127.0.0.1")
    check_pairs(flags)
    return Config(
        store=flags.store,
        bind_address=parse_address("--bind-address", bind),
        secure_port=parse_port("--secure-port", flags.secure_port),
        grpc_port=parse_port("--grpc-port", flags.grpc_port),
        listen_fds=tuple(flags.listen_fd),
        tls_cert_file=flags.tls_cert_file,
        tls_private_key_file=flags.tls_private_key_file,
        client_ca_file=flags.client_ca_file,
        service_account_key_file=flags.service_account_key_file,
        service_account_signing_key_file=flags.service_account_signing_key_file,
        service_account_issuer=flags.service_account_issuer,
        api_audiences=tuple(split(flags.api_audiences)) or (flags.service_account_issuer,),
        token_auth_file=flags.token_auth_file,
        token=flags.token,
        service_network=parse_network(flags.service_cluster_ip_range),
        node_ports=parse_port_range(flags.service_node_port_range),
        advertise_address=parse_address("--advertise-address", flags.advertise_address or advertised(bind)),
        kubelet_client_certificate=flags.kubelet_client_certificate,
        kubelet_client_key=flags.kubelet_client_key,
        kubelet_certificate_authority=flags.kubelet_certificate_authority,
        not_ready_toleration_s=flags.default_not_ready_toleration_seconds,
        unreachable_toleration_s=flags.default_unreachable_toleration_seconds,
        event_ttl_s=int(parse_duration("--event-ttl", flags.event_ttl)),
        cluster_name=flags.cluster_name,
        disabled_admission=parse_plugins("--disable-admission-plugins", flags.disable_admission_plugins),
        enabled_admission=parse_plugins("--enable-admission-plugins", flags.enable_admission_plugins),
        authorization=parse_authorization(flags.authorization_mode),
        max_requests=flags.max_requests_inflight,
        max_mutating_requests=flags.max_mutating_requests_inflight,
        request_timeout_s=parse_duration("--request-timeout", flags.request_timeout),
        write_kubeconfig=flags.write_kubeconfig,
        log_level=flags.log_level,
    )


def check_pairs(flags: argparse.Namespace) -> None:
    """Flags that are nothing without one another."""
    if bool(flags.tls_cert_file) != bool(flags.tls_private_key_file):
        raise ConfigError("--tls-cert-file and --tls-private-key-file: expected both or neither")
    if bool(flags.kubelet_client_certificate) != bool(flags.kubelet_client_key):
        raise ConfigError("--kubelet-client-certificate and --kubelet-client-key: expected both or neither")


def split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_address(flag: str, text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ConfigError(f"{flag} {text}: expected an IP address, for example 127.0.0.1") from None


def advertised(bind: str) -> str:
    """The wildcard is nobody's address."""
    return "127.0.0.1" if bind in ("0.0.0.0", "::") else bind


def parse_port(flag: str, number: int) -> int:
    if not 0 <= number <= 65535:
        raise ConfigError(f"{flag} {number}: expected a port, 0 to 65535")
    return number


def parse_network(text: str) -> Network:
    try:
        network = ip_network(text)
    except ValueError as err:
        raise ConfigError(f"--service-cluster-ip-range {text}: {err}; expected for example 10.96.0.0/16") from None
    if network.num_addresses < 8:
        raise ConfigError(f"--service-cluster-ip-range {text}: too small; expected a /29 or wider")
    return network


def parse_port_range(text: str) -> PortRange:
    first, _, last = text.partition("-")
    if first.isdigit() and last.isdigit() and 0 < int(first) <= int(last) <= 65535:
        return PortRange(int(first), int(last))
    raise ConfigError(f"--service-node-port-range {text}: expected FIRST-LAST, for example 30000-32767")


def parse_duration(flag: str, text: str) -> float:
    """Seconds out of `1h`, `30m`, `90s`, `1h30m`, `500ms`."""
    import re

    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    found = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    if not found or "".join(n + u for n, u in found) != text:
        raise ConfigError(f"{flag} {text}: expected a duration, for example 1h30m or 90s")
    return sum(float(number) * units[unit] for number, unit in found)


def parse_authorization(text: str) -> tuple[str, ...]:
    modes = tuple(split(text))
    if modes == ("AlwaysAllow",) or set(modes) == {"Node", "RBAC"}:
        return modes
    raise ConfigError(f"--authorization-mode {text}: expected Node,RBAC or AlwaysAllow")


def parse_plugins(flag: str, text: str) -> frozenset[str]:
    names = frozenset(split(text))
    if unknown := sorted(names - set(ADMISSION_PLUGINS)):
        known = ", ".join(ADMISSION_PLUGINS)
        raise ConfigError(f"{flag} {unknown[0]}: unknown; expected some of {known}")
    return names
