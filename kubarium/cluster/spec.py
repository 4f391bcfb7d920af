"""What a cluster is made of: the settings a user gives, the ones we choose and remember, and their checks.

Kept in `cluster.json` of the cluster's state folder. All else (addresses, interface names, flags) follows from it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from kubarium.machinery.errors import ConfigError

CONTROL_PLANE = "control-plane"
LAN_POOL = IPv4Network("198.18.0.0/15")  # RFC 2544: set aside for benchmarks, routed nowhere
NEVER_ROUTED = tuple(map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")))  # RFC 6890
NODE_CIDR_BITS = 24
MAX_WORKERS = 200
RESERVED_NAMES = frozenset({"docker", "locks"})  # folders of ours beside the clusters' in /run/kubarium
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Timings:
    """How soon the cluster notices that a node is gone, and how long a failing container waits; in seconds."""

    lease_renew_s: float
    lease_duration_s: int
    status_update_s: float
    monitor_period_s: float
    monitor_grace_s: float
    startup_grace_s: float
    toleration_s: int
    backoff_s: float
    backoff_max_s: float


TIMINGS = {
    "fast": Timings(1, 4, 5, 0.5, 4, 20, 2, 1, 30),
    "upstream": Timings(10, 40, 10, 5, 50, 60, 300, 10, 300),
}


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """One cluster. `lan_index` (N of 198.18.N.0/24) and `api_port` are 0 until they have been chosen.

    `docker_socket` is the path of the engine's Unix socket, remembered so that `stop`, `start` and `down` meet the same
    engine as `up` did.
    """

    name: str = "default"
    workers: int = 2
    store: str = "sqlite"
    timings: str = "fast"
    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    docker_socket: str = ""
    lan_index: int = -1
    api_port: int = 0

    @property
    def node_names(self) -> tuple[str, ...]:
        return (CONTROL_PLANE, *(f"node-{k}" for k in range(1, self.workers + 1)))

    @property
    def pods(self) -> IPv4Network:
        return IPv4Network(self.pod_cidr)

    @property
    def services(self) -> IPv4Network:
        return IPv4Network(self.service_cidr)

    @property
    def kubernetes_ip(self) -> IPv4Address:
        return self.services[1]

    @property
    def dns_ip(self) -> IPv4Address:
        return self.services[10]

    @property
    def grace(self) -> Timings:
        return TIMINGS[self.timings]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @staticmethod
    def load(path: Path) -> ClusterSpec:
        """Read cluster.json. Raises ConfigError for a file that is not ours; FileNotFoundError when there is none."""
        known = {field.name for field in dataclasses.fields(ClusterSpec)}
        try:
            raw = json.loads(path.read_text())
            spec = ClusterSpec(**{key: value for key, value in raw.items() if key in known})
            check_spec(spec)
        except (ValueError, TypeError, AttributeError, ConfigError) as err:
            reason = "; ".join(str(err).splitlines())
            raise ConfigError(
                f"{path}: not a cluster's settings ({reason}); "
                f"'kubarium down --name {path.parent.name}' removes that cluster"
            ) from err
        return spec

    def save(self, path: Path) -> None:
        """Write cluster.json whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(self.to_json())
        draft.replace(path)


def check_name(name: str) -> None:
    """A cluster name becomes part of namespace names, container names and paths. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name!r}: expected lower-case letters, digits and '-', with a letter or digit at both ends, "
            "at most 40 characters, for example 'lab-1'"
        )
    if name in RESERVED_NAMES:
        raise ConfigError(f"--name {name}: kept for kubarium itself; choose another, for example 'lab-1'")


def check_spec(spec: ClusterSpec) -> None:
    """Raise ConfigError with every fault of the settings, one a line."""
    check_name(spec.name)
    faults = [*_choice_faults(spec)]
    pods, pod_faults = _network("--pod-cidr", spec.pod_cidr, "10.244.0.0/16")
    services, service_faults = _network("--service-cidr", spec.service_cidr, "10.96.0.0/16")
    faults += pod_faults + service_faults
    if pods is not None:
        faults += _pod_cidr_faults(pods, spec)
    if services is not None and services.prefixlen > 26:
        faults.append(
            f"--service-cidr {services}: too small for the Services of a cluster; "
            "expected /26 or wider, for example 10.96.0.0/16"
        )
    if services is not None and services.prefixlen < 12:
        faults.append(f"--service-cidr {services}: wider than the /12 that Kubernetes allows; for example 10.96.0.0/16")
    faults += _overlap_faults({"--pod-cidr": pods, "--service-cidr": services, "the nodes' network": LAN_POOL})
    if faults:
        raise ConfigError("\n".join(faults))


def _choice_faults(spec: ClusterSpec) -> list[str]:
    faults = []
    if not 0 <= spec.workers <= MAX_WORKERS:
        faults.append(f"--workers {spec.workers}: expected 0 to {MAX_WORKERS}")
    if spec.store not in ("sqlite", "etcd"):
        faults.append(f"--store {spec.store}: expected sqlite or etcd")
    if spec.timings not in TIMINGS:
        faults.append(f"--timings {spec.timings}: expected {' or '.join(TIMINGS)}")
    return faults


def _network(flag: str, text: str, example: str) -> tuple[IPv4Network | None, list[str]]:
    try:
        network = IPv4Network(text)
    except ValueError as err:
        return None, [f"{flag} {text}: {err}; expected an IPv4 network such as {example}"]
    if special := next((net for net in NEVER_ROUTED if net.overlaps(network)), None):
        return None, [f"{flag} {text}: no packet is routed to {special}; expected a private network such as {example}"]
    return network, []


def _pod_cidr_faults(pods: IPv4Network, spec: ClusterSpec) -> list[str]:
    nodes = len(spec.node_names) if 0 <= spec.workers <= MAX_WORKERS else 1
    if pods.prefixlen > NODE_CIDR_BITS:
        return [
            f"--pod-cidr {pods}: cannot be cut into /{NODE_CIDR_BITS} node ranges; "
            f"expected /{NODE_CIDR_BITS} or wider, for example 10.244.0.0/16"
        ]
    if 2 ** (NODE_CIDR_BITS - pods.prefixlen) < nodes:
        return [
            f"--pod-cidr {pods}: holds {2 ** (NODE_CIDR_BITS - pods.prefixlen)} node ranges of /{NODE_CIDR_BITS}, "
            f"the cluster has {nodes} nodes; for example 10.244.0.0/16"
        ]
    return []


def _overlap_faults(networks: dict[str, IPv4Network | None]) -> list[str]:
    known = [(flag, net) for flag, net in networks.items() if net is not None]
    return [
        f"{flag} {net} overlaps {other_flag} {other}: packets could not be told apart; choose another range"
        for i, (flag, net) in enumerate(known)
        for other_flag, other in known[i + 1 :]
        if net.overlaps(other)
    ]
