"""Which API server a command talks to, and as whom."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kubarium.machinery import kubeconfig
from kubarium.machinery.errors import ClusterError
from kubarium.machinery.kubeconfig import ClientConfig


class Target:
    """A kubeconfig, read; `name` is that of a cluster of ours, or "" for a kubeconfig from elsewhere."""

    def __init__(self, config: ClientConfig, name: str) -> None:
        self.config = config
        self.name = name

    def unreachable(self, reason: str) -> ClusterError:
        """The one line for a server that does not answer."""
        if self.name:
            flag = "" if self.name == "default" else f" --name {self.name}"
            return ClusterError(
                f'cluster "{self.name}" does not answer at {self.config.server}: {reason}; '
                f"is it started? kubarium up{flag}"
            )
        return ClusterError(
            f"the server {self.config.server} does not answer: {reason}; did you specify the right one?"
        )


def home() -> Path:
    """Where clusters keep their state."""
    return Path(os.environ.get("KUBARIUM_HOME") or "/var/lib/kubarium")


def find(args: Any) -> Target:
    """--kubeconfig, else the cluster named by --cluster, else $KUBECONFIG, else the cluster `default`."""
    path = args.kubeconfig or ("" if args.cluster else os.environ.get("KUBECONFIG", "").split(":")[0])
    if path:
        return Target(kubeconfig.read(path, context=args.context), "")
    name = args.cluster or "default"
    own = home() / "clusters" / name / "kubeconfigs" / "admin.conf"
    if not own.exists():
        flag = "" if name == "default" else f" --name {name}"
        raise ClusterError(f'there is no cluster "{name}" (no {own}); start it: kubarium up{flag}')
    return Target(kubeconfig.read(own, context=args.context), name)
