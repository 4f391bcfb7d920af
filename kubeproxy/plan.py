"""What a packet shall meet on this node: Services and EndpointSlices in, rules out. Pure and synchronous.

One `Rule` stands for one frontend (address, protocol, port). NodePorts, external addresses and load balancer
addresses are frontends like a ClusterIP: a NodePort is planned once for each address of the node. No rule knows of
another, so one Service is planned alone and a change costs what the Service costs, however many others there are.

Sources: https://kubernetes.io/docs/reference/networking/virtual-ips/, KEP-1669 (terminating endpoints), KEP-2086
(internalTrafficPolicy), KEP-2433 (topology hints).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from kubarium.machinery.objects import Endpoint, EndpointSlice, ObjectKey, Service, ServicePort

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
OTHER_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"
DEFAULT_AFFINITY_S = 10800


class Protocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


class Scope(StrEnum):
    """Whose packets a rule is for. INTERNAL rules (sources in the cluster: pods and this node) win over ANY."""

    ANY = "any"
    INTERNAL = "internal"


class Action(StrEnum):
    PICK = "pick"
    REJECT = "reject"
    DROP = "drop"


class Frontend(NamedTuple):
    """Where a client sends its packets: the key of a rule."""

    address: IPv4Address
    protocol: Protocol
    port: int
    scope: Scope = Scope.ANY

    def __str__(self) -> str:
        return f"{self.address} {self.protocol.value} {self.port}"


class Target(NamedTuple):
    """Where the packets are translated to."""

    address: IPv4Address
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What packets to one frontend meet.

    `targets` are drawn from with equal odds (action PICK only). `masquerade`: the target sees this node's address, so
    that its answers come back through this node. `affinity_s` > 0 keeps a client on its target for that long after
    its last connection. `sources`: only these networks may use the frontend (None: all). `reason` is for people.
    """

    frontend: Frontend
    service: ObjectKey
    port_name: str
    action: Action
    targets: tuple[Target, ...] = ()
    masquerade: bool = False
    affinity_s: int = 0
    sources: tuple[IPv4Network, ...] | None = None
    reason: str = ""

    @property
    def owner(self) -> str:
        """`ns/name:port`, as it stands in comments and messages."""
        return f"{self.service}:{self.port_name or self.frontend.port}"


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """All of one Service on this node. `cluster_ips` are allocated: a port that they lack is rejected, not dropped.

    `local_targets` may be their own clients (hairpin): they run on this node, or nobody says where they run.
    """

    rules: tuple[Rule, ...] = ()
    cluster_ips: tuple[IPv4Address, ...] = ()
    local_targets: frozenset[IPv4Address] = frozenset()


NOTHING = ServicePlan()


@dataclass(frozen=True, slots=True)
class NodeView:
    """What the plan needs to know of the node: its name, zone, and the addresses that answer for NodePorts."""

    name: str
    addresses: tuple[IPv4Address, ...] = ()
    zone: str = ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One endpoint of one Service port. `usable` endpoints are ready; `last_resort` ones are serving while they
    terminate.
    """

    target: Target
    node: str
    usable: bool
    last_resort: bool
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Choice:
    """The endpoints of one Service port that this node may use, cluster-wide and on this node, and how many there
    are.
    """

    cluster: tuple[Target, ...]
    local: tuple[Target, ...]
    known: int
    own: frozenset[IPv4Address] = field(default_factory=frozenset)


def plan_service(service: Service, slices: Iterable[EndpointSlice], node: NodeView) -> ServicePlan:
    """Every rule that this node needs for one Service; `slices` are the Service's own.

    Headless and ExternalName Services, and those handed to another proxy by label, need none.
    """
    cluster_ips = _ipv4(service.spec.cluster_ips or (service.spec.cluster_ip,))
    if not cluster_ips or service.spec.type == "ExternalName" or OTHER_PROXY_LABEL in service.metadata.labels:
        return NOTHING
    usable_slices = [s for s in slices if s.address_type == "IPv4" and HEADLESS_LABEL not in s.metadata.labels]
    rules: list[Rule] = []
    own: set[IPv4Address] = set()
    for port in service.spec.ports:
        choice = _choose(_candidates(port, usable_slices), node)
        own |= choice.own
        rules += _cluster_rules(service, port, choice, cluster_ips)
        rules += _external_rules(service, port, choice, node)
    return ServicePlan(tuple(rules), cluster_ips, frozenset(own))


def _cluster_rules(
    service: Service, port: ServicePort, choice: _Choice, cluster_ips: tuple[IPv4Address, ...]
) -> Iterable[Rule]:
    local = service.spec.internal_traffic_policy == "Local"
    for address in cluster_ips:
        yield _rule(service, port, Frontend(address, _protocol(port.protocol), port.port), choice, local=local)


def _external_rules(service: Service, port: ServicePort, choice: _Choice, node: NodeView) -> Iterable[Rule]:
    """NodePorts, external addresses, load balancer addresses.

    Local keeps the client's address and so may only pick endpoints of this node; clients inside the cluster are not
    bound by that and get all endpoints, masqueraded, for they may have come here from another node.
    """
    local = service.spec.external_traffic_policy == "Local"
    for frontend, sources in _external_frontends(service, port, node):
        yield _rule(service, port, frontend, choice, local=local, masquerade=not local, sources=sources)
        if local and choice.cluster:
            inside = frontend._replace(scope=Scope.INTERNAL)
            yield _rule(service, port, inside, choice, local=False, masquerade=True, sources=sources)


def _external_frontends(
    service: Service, port: ServicePort, node: NodeView
) -> Iterable[tuple[Frontend, tuple[IPv4Network, ...] | None]]:
    protocol = _protocol(port.protocol)
    if port.node_port and service.spec.type in ("NodePort", "LoadBalancer"):
        for address in node.addresses:
            yield Frontend(address, protocol, port.node_port), None
    for address in _ipv4(service.spec.external_ips):
        yield Frontend(address, protocol, port.port), None
    if service.spec.type == "LoadBalancer":
        ingress = [i.ip for i in service.status.load_balancer.ingress if i.ip_mode != "Proxy"]
        for address in _ipv4(ingress):
            yield Frontend(address, protocol, port.port), _source_ranges(service)


def _rule(
    service: Service,
    port: ServicePort,
    frontend: Frontend,
    choice: _Choice,
    *,
    local: bool,
    masquerade: bool = False,
    sources: tuple[IPv4Network, ...] | None = None,
) -> Rule:
    targets = choice.local if local else choice.cluster
    where = " on this node (traffic policy Local)" if local else ""
    if targets:
        action, reason = Action.PICK, f"{len(targets)} usable of {choice.known} endpoints{where}"
    elif local and choice.cluster:
        action, reason = Action.DROP, f"none of {len(choice.cluster)} usable endpoints is{where}"
    else:
        action, reason = Action.REJECT, f"no usable endpoint among {choice.known}"
    return Rule(
        frontend,
        service.key,
        port.name,
        action,
        targets,
        masquerade=masquerade and bool(targets),
        affinity_s=_affinity_s(service) if targets else 0,
        sources=sources,
        reason=reason,
    )


def _candidates(port: ServicePort, slices: Iterable[EndpointSlice]) -> dict[Target, _Candidate]:
    """The port's endpoints, each once: slices overlap while the controller moves endpoints between them."""
    found: dict[Target, _Candidate] = {}
    for piece in slices:
        for slice_port in piece.ports:
            if slice_port.name != port.name or _protocol(slice_port.protocol) != _protocol(port.protocol):
                continue
            if slice_port.port is None:  # every port of the address: nothing to translate to
                continue
            for endpoint in piece.endpoints:
                for candidate in _candidate(endpoint, slice_port.port):
                    old = found.get(candidate.target)
                    if old is None or (candidate.usable, candidate.last_resort) > (old.usable, old.last_resort):
                        found[candidate.target] = candidate
    return found


def _candidate(endpoint: Endpoint, port: int) -> Iterable[_Candidate]:
    conditions = endpoint.conditions
    ready = conditions.ready is not False
    serving = ready if conditions.serving is None else conditions.serving
    zones = tuple(z.name for z in endpoint.hints.for_zones) if endpoint.hints else ()
    for address in _ipv4(endpoint.addresses[:1]):
        yield _Candidate(
            Target(address, port), endpoint.node_name, ready, serving and conditions.terminating and not ready, zones
        )


def _choose(found: Mapping[Target, _Candidate], node: NodeView) -> _Choice:
    everywhere = list(found.values())
    here = [c for c in everywhere if c.node == node.name]
    return _Choice(
        cluster=_targets(_by_hints(_usable(everywhere), node.zone)),
        local=_targets(_usable(here)),
        known=len(everywhere),
        own=frozenset(c.target.address for c in everywhere if c.node in ("", node.name)),
    )


def _usable(candidates: list[_Candidate]) -> list[_Candidate]:
    """The ready ones; where there are none, those that still serve while they terminate."""
    return [c for c in candidates if c.usable] or [c for c in candidates if c.last_resort]


def _by_hints(candidates: list[_Candidate], zone: str) -> list[_Candidate]:
    """Those meant for the node's zone, provided that every endpoint carries a hint and some are for this zone."""
    if not zone or not all(c.zones for c in candidates):
        return candidates
    return [c for c in candidates if zone in c.zones] or candidates


def _targets(candidates: Iterable[_Candidate]) -> tuple[Target, ...]:
    return tuple(sorted(c.target for c in candidates))


def _affinity_s(service: Service) -> int:
    if service.spec.session_affinity != "ClientIP":
        return 0
    config = service.spec.session_affinity_config
    seconds = config.client_ip.timeout_seconds if config and config.client_ip else None
    return seconds or DEFAULT_AFFINITY_S


def _source_ranges(service: Service) -> tuple[IPv4Network, ...] | None:
    """None where everybody may come; IPv6 ranges leave an empty tuple behind: nobody of IPv4."""
    texts = service.spec.load_balancer_source_ranges
    if not texts:
        return None
    return tuple(sorted(IPv4Network(t.strip(), strict=False) for t in texts if ":" not in t))


def _ipv4(texts: Iterable[str]) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses among `texts`; "", "None" and IPv6 addresses are left out."""
    return tuple(IPv4Address(t) for t in texts if t not in ("", "None") and ":" not in t)


def _protocol(text: str) -> Protocol:
    return Protocol(text.lower() or "tcp")
