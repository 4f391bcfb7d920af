"""What all pods of this node share: settings, the API, caches, facts about the node."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from kubarium.machinery import objects
from kubarium.machinery.client import Api
from kubarium.machinery.events import EventRecorder
from kubarium.machinery.informer import Informer
from kubelet.dns import ClusterDns, Resolver
from kubelet.env import NodeFacts, Sources
from kubelet.files import PodFolder
from kubelet.images import Aliases
from kubelet.plan import Backoff
from kubelet.references import References


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeContext:
    """`image_ids` collects the full references of images by the runtime's ID, as they are found."""

    api: Api
    events: EventRecorder
    references: References
    services: Informer[objects.Service]
    node: NodeFacts
    root_dir: Path
    cni_socket: Path
    dns: ClusterDns
    resolver: Resolver
    aliases: Aliases
    backoff: Backoff
    image_backoff: Backoff
    image_ids: dict[str, str] = field(default_factory=dict)

    @property
    def node_ip(self) -> str:
        return self.node.ip

    def folder(self, uid: str) -> PodFolder:
        return PodFolder(self.root_dir, uid)

    def facts(self, pod_ips: tuple[str, ...]) -> NodeFacts:
        """The node's facts with a pod's addresses."""
        return replace(self.node, pod_ips=pod_ips)

    def sources(self, namespace: str) -> Sources:
        """Lookups of a namespace's ConfigMaps and Secrets (those acquired), and the Services."""
        return Sources(
            config_map=lambda name: self.references.config_map(namespace, name),
            secret=lambda name: self.references.secret(namespace, name),
            services=self.services.all(),
        )
