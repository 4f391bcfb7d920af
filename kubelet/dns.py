"""The files resolv.conf and hosts of a pod, as text. Pure.

Source: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubarium.machinery import objects

MAX_NAMESERVERS, MAX_SEARCHES = 3, 32
HOSTS_HEAD = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


@dataclass(frozen=True, slots=True)
class ClusterDns:
    """The cluster's DNS servers and domain."""

    servers: tuple[str, ...]
    domain: str


@dataclass(frozen=True, slots=True)
class Resolver:
    """The three kinds of lines in resolv.conf."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolv_conf(text: str) -> Resolver:
    """The last search line counts, options add up."""
    nameservers, searches, options = [], [], []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        match words[:1]:
            case ["nameserver"]:
                nameservers += words[1:2]
            case ["search"]:
                searches = words[1:]
            case ["options"]:
                options += words[1:]
    return Resolver(tuple(nameservers), tuple(searches), tuple(options))


def plan_resolver(pod: objects.Pod, cluster: ClusterDns, node: Resolver) -> Resolver:
    """dnsPolicy and dnsConfig applied; `node` is what the node itself uses."""
    policy = pod.spec.dns_policy or "ClusterFirst"
    if policy == "ClusterFirst" and pod.spec.host_network:
        policy = "Default"
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet") and cluster.servers:
        domain, namespace = cluster.domain, pod.metadata.namespace
        own = (f"{namespace}.svc.{domain}", f"svc.{domain}", domain)
        base = Resolver(cluster.servers, _unique((*own, *node.searches)), ("ndots:5",))
    elif policy == "None":
        base = Resolver()
    else:
        base = node
    config = pod.spec.dns_config
    if config is None:
        return base
    options = {option.split(":", 1)[0]: option for option in base.options}
    options |= {o.name: f"{o.name}:{o.value}" if o.value else o.name for o in config.options}
    return Resolver(
        _unique((*base.nameservers, *config.nameservers))[:MAX_NAMESERVERS],
        _unique((*base.searches, *config.searches))[:MAX_SEARCHES],
        tuple(options.values()),
    )


def format_resolver(resolver: Resolver) -> str:
    lines = [f"nameserver {address}\n" for address in resolver.nameservers]
    lines = [f"search {' '.join(resolver.searches)}\n", *lines] if resolver.searches else lines
    return "".join(lines) + (f"options {' '.join(resolver.options)}\n" if resolver.options else "")


def format_hosts(pod: objects.Pod, pod_ips: Sequence[str], domain: str) -> str:
    """The hosts file of a pod with a network of its own."""
    hostname, names = pod_hostname(pod), [pod_hostname(pod)]
    if pod.spec.subdomain:
        names.insert(0, f"{hostname}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{domain}")
    text = HOSTS_HEAD + "".join(f"{ip}\t{chr(9).join(names)}\n" for ip in pod_ips)
    if pod.spec.host_aliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join(f"{alias.ip}\t{chr(9).join(alias.hostnames)}\n" for alias in pod.spec.host_aliases)
    return text


def pod_hostname(pod: objects.Pod) -> str:
    """At most 63 characters, as the kernel and DNS allow."""
    return (pod.spec.hostname or pod.metadata.name)[:63].rstrip("-.")


def _unique(items: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
