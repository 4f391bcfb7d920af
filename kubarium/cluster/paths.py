"""Where the files of a cluster are: state that outlives a reboot under $KUBARIUM_HOME, sockets and marks under /run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

RUN = Path("/run/kubarium")
NETNS = Path("/run/netns")


def home() -> Path:
    """$KUBARIUM_HOME, by default /var/lib/kubarium; absolute, since the processes of a cluster work in /."""
    return Path(os.environ.get("KUBARIUM_HOME") or "/var/lib/kubarium").absolute()


@dataclass(frozen=True, slots=True)
class ClusterPaths:
    """The folders and files of the cluster `name`; `base` is $KUBARIUM_HOME as it was when the cluster was made."""

    name: str
    base: Path

    @staticmethod
    def of(name: str) -> ClusterPaths:
        return ClusterPaths(name, home())

    @property
    def state(self) -> Path:
        return self.base / "clusters" / self.name

    @property
    def spec(self) -> Path:
        return self.state / "cluster.json"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def store(self) -> Path:
        return self.state / "store"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def aliases(self) -> Path:
        """Names of public images and the stand-ins that take their place; shared by all clusters."""
        return self.base / "images" / "aliases.json"

    def kubeconfig(self, user: str) -> Path:
        return self.state / "kubeconfigs" / f"{user}.conf"

    def node(self, node: str) -> Path:
        return self.state / "nodes" / node

    def killed(self, node: str) -> Path:
        """Exists while a node is meant to be dead (chaos kill-node), so that nothing brings it back by itself."""
        return self.state / "killed" / node

    def log(self, node: str, component: str) -> Path:
        return self.logs / f"{node}-{component}.log"

    @property
    def run(self) -> Path:
        return RUN / self.name

    @property
    def control(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def home_mark(self) -> Path:
        """Holds `base`, for whoever finds the cluster with another $KUBARIUM_HOME."""
        return self.run / "home"

    def node_run(self, node: str) -> Path:
        return self.run / node

    def netns(self, node: str) -> Path:
        return NETNS / f"kubarium-{self.name}-{node}"
