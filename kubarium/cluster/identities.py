"""Who is who in a cluster: certificates, kubeconfigs and the administrator's token, made once and kept.

Users and groups are those that upstream's kubeadm gives out, so that its RBAC rules fit.
Source: https://kubernetes.io/docs/setup/best-practices/certificates/
"""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubarium.cluster.components import API_PORT, GRPC_PORT
from kubarium.cluster.network import LanPlan
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import CONTROL_PLANE, ClusterSpec

if TYPE_CHECKING:
    from kubarium.machinery.pki import Ca

ADMIN, MASTERS, NODES = "kubernetes-admin", "system:masters", "system:nodes"
SERVICE_NAMES = tuple(
    f"kubernetes{suffix}" for suffix in ("", ".default", ".default.svc", ".default.svc.cluster.local")
)


@dataclass(frozen=True, slots=True)
class Identity:
    """One certificate of the cluster; `kubeconfig` names the file that embeds it, else it is `file`.crt and .key."""

    user: str
    groups: tuple[str, ...] = ()
    file: str = ""
    kubeconfig: str = ""
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    usages: tuple[str, ...] = ("client",)


def plan_identities(spec: ClusterSpec, lan: LanPlan) -> Iterator[Identity]:
    """Everyone who needs a certificate."""
    control_plane = str(lan.link(CONTROL_PLANE).address)
    yield Identity(
        "kube-apiserver",
        file="apiserver",
        names=(*SERVICE_NAMES, "localhost", "apiserver", CONTROL_PLANE),
        addresses=("127.0.0.1", control_plane, str(spec.kubernetes_ip)),
        usages=("server",),
    )
    yield Identity("kube-apiserver-kubelet-client", file="apiserver-kubelet-client")
    yield Identity(ADMIN, (MASTERS,), kubeconfig="admin")
    yield Identity("system:kube-controller-manager", kubeconfig="controllers")
    yield Identity("system:kube-scheduler", kubeconfig="scheduler")
    yield Identity("system:kube-proxy", ("system:node-proxier",), kubeconfig="kubeproxy")
    for link in lan.links:
        user = f"system:node:{link.node}"
        yield Identity(user, (NODES,), kubeconfig=link.node)
        yield Identity(
            user,
            (NODES,),
            file=f"{link.node}-kubelet",
            names=(link.node, "localhost"),
            addresses=(str(link.address), "127.0.0.1"),
            usages=("server",),
        )


def ensure_identities(spec: ClusterSpec, paths: ClusterPaths, lan: LanPlan) -> int:
    """Make what is missing. Returns how many certificates were issued; killed halfway, the next run makes the rest."""
    from kubarium.machinery import pki

    paths.pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca = pki.make_ca(paths.pki, name=f"kubarium-{spec.name}")
    pki.service_account_key(paths.pki)
    _ensure_token(paths)
    wanted = [identity for identity in plan_identities(spec, lan) if not _exists(paths, identity)]
    for identity in wanted:
        _issue(ca, spec, paths, lan, identity)
    _follow_port(spec, paths)
    return len(wanted)


def admin_token(paths: ClusterPaths) -> str:
    """The administrator's bearer token."""
    return next(csv.reader(io.StringIO((paths.pki / "tokens.csv").read_text())))[0]


def server_url(spec: ClusterSpec) -> str:
    """Where the host reaches the API server."""
    return f"https://127.0.0.1:{spec.api_port}"


def _exists(paths: ClusterPaths, identity: Identity) -> bool:
    if identity.kubeconfig:
        return paths.kubeconfig(identity.kubeconfig).exists()
    return (paths.pki / f"{identity.file}.crt").exists()


def _issue(ca: Ca, spec: ClusterSpec, paths: ClusterPaths, lan: LanPlan, identity: Identity) -> None:
    from kubarium.machinery import kubeconfig, pki

    pair = pki.issue(ca, identity.user, identity.groups, identity.names, identity.addresses, identity.usages)
    if not identity.kubeconfig:
        pair.write(paths.pki, identity.file)
        return
    address = lan.link(CONTROL_PLANE).address
    is_admin = identity.user == ADMIN  # works from the host, where REST is all that is needed
    config = kubeconfig.ClientConfig(
        server=server_url(spec) if is_admin else f"https://{address}:{API_PORT}",
        grpc="" if is_admin else f"{address}:{GRPC_PORT}",
        ca=ca.certificate,
        certificate=pair.certificate,
        key=pair.key,
    )
    cluster = "kubarium" if spec.name == "default" else f"kubarium-{spec.name}"
    kubeconfig.write(paths.kubeconfig(identity.kubeconfig), config, user=identity.user, cluster=cluster)


def _follow_port(spec: ClusterSpec, paths: ClusterPaths) -> None:
    """The administrator's kubeconfig names the port of the host, which may be another one after a restart."""
    path = paths.kubeconfig("admin")
    document = json.loads(path.read_text())
    entry = document["clusters"][0]["cluster"]
    if entry["server"] != server_url(spec):
        entry["server"] = server_url(spec)
        _write_private(path, json.dumps(document, indent=2) + "\n")


def _ensure_token(paths: ClusterPaths) -> None:
    path = paths.pki / "tokens.csv"
    if not path.exists():
        _write_private(path, f'{secrets.token_hex(16)},{ADMIN},kubernetes-admin,"{MASTERS}"\n')


def _write_private(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
