"""Settings of the controllers. Durations are in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from kubarium.machinery.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Config:
    """Defaults are those of a lab: a dead node is noticed in seconds. Upstream's are named in brackets."""

    cluster_cidr: str = "10.244.0.0/16"
    node_cidr_mask_size: int = 24
    service_cluster_ip_range: str = "10.96.0.0/16"
    node_monitor_period_s: float = 1.0  # [5]
    node_monitor_grace_period_s: float = 4.0  # [50]
    node_startup_grace_period_s: float = 10.0  # [60]
    root_ca_file: str = ""
    service_account_private_key_file: str = ""
    cluster_signing_cert_file: str = ""
    cluster_signing_key_file: str = ""
    cluster_signing_duration_s: float = 365 * 24 * 3600.0
    terminated_pod_gc_threshold: int = 12500
    controllers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        for cidr in self.cluster_cidrs:
            if not cidr.prefixlen <= self.node_cidr_mask_size <= 30:
                raise ConfigError(
                    f"--cluster-cidr {cidr}: a /{cidr.prefixlen} cannot be cut into /{self.node_cidr_mask_size} node "
                    f"ranges; expected --node-cidr-mask-size between {cidr.prefixlen} and 30"
                )
            for other in self.service_cidrs:
                if cidr.overlaps(other):
                    raise ConfigError(
                        f"--cluster-cidr {cidr} overlaps --service-cluster-ip-range {other}; choose ranges apart"
                    )
        for flag, value in (
            ("--node-monitor-period", self.node_monitor_period_s),
            ("--node-monitor-grace-period", self.node_monitor_grace_period_s),
            ("--node-startup-grace-period", self.node_startup_grace_period_s),
        ):
            if value <= 0:
                raise ConfigError(f"{flag} {value}: expected more than 0 seconds")

    @property
    def cluster_cidrs(self) -> tuple[IPv4Network, ...]:
        return _networks("--cluster-cidr", self.cluster_cidr)

    @property
    def service_cidrs(self) -> tuple[IPv4Network, ...]:
        return _networks("--service-cluster-ip-range", self.service_cluster_ip_range)

    def enabled(self, name: str) -> bool:
        """As upstream's --controllers: `*` is all, `foo` one more, `-foo` one less."""
        if f"-{name}" in self.controllers:
            return False
        return name in self.controllers or "*" in self.controllers


def _networks(flag: str, text: str) -> tuple[IPv4Network, ...]:
    try:
        networks = tuple(ip_network(part.strip()) for part in text.split(","))
    except ValueError as err:
        raise ConfigError(f"{flag} {text}: {err}; expected a network such as 10.244.0.0/16") from err
    if any(network.version != 4 for network in networks):
        raise ConfigError(f"{flag} {text}: only IPv4 ranges are served")
    return tuple(network for network in networks if isinstance(network, IPv4Network))
