"""Which processes make a cluster, on which node, with which flags. Pure: settings in, processes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kubarium.cluster.anchors import container_name
from kubarium.cluster.network import NODE_INTERFACE, LanPlan
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import CONTROL_PLANE, NODE_CIDR_BITS, ClusterSpec

API_PORT, GRPC_PORT = 6443, 6444
APISERVER, ETCD = "apiserver", "etcd"
CLUSTER_DOMAIN = "cluster.local"
ROLE_LABEL = "node-role.kubernetes.io/control-plane"


@dataclass(frozen=True, slots=True)
class Component:
    """One process. `module` has `main(argv)` and is forked warm; `program` is executed instead where it is set.

    `after` names what must answer before it starts: "" (nothing), "etcd" or "api". One that `listens` gets the sockets
    that the supervisor holds, and one of its node at API_PORT, as `--listen-fd N`. `warm` are modules that it imports
    late and that the supervisor imports for it, before the fork.
    """

    node: str
    name: str
    module: str
    argv: tuple[str, ...]
    after: str = "api"
    program: str = ""
    listens: bool = False
    warm: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.node}/{self.name}"


def plan_components(spec: ClusterSpec, paths: ClusterPaths, lan: LanPlan) -> tuple[Component, ...]:
    """Every process of a cluster, in the order in which they start."""
    return (
        *_control_plane(spec, paths, lan),
        *(c for node in spec.node_names for c in plan_node(spec, paths, lan, node)),
    )


def _control_plane(spec: ClusterSpec, paths: ClusterPaths, lan: LanPlan) -> Iterator[Component]:
    if spec.store == "etcd":
        yield Component(CONTROL_PLANE, ETCD, "", _etcd(paths), after="", program="etcd")
    yield Component(
        CONTROL_PLANE,
        APISERVER,
        "apiserver.__main__",
        _apiserver(spec, paths, lan),
        after="etcd" if spec.store == "etcd" else "",
        listens=True,
        warm=(*_SERVER, f"apiserver.store.{spec.store}", "apiserver.grpcdoor", "apiserver.assembly"),
    )
    yield Component(
        CONTROL_PLANE,
        "controllers",
        "kubarium.controllers.__main__",
        _controllers(spec, paths),
        warm=(*_CLIENT, "kubarium.controllers.manager"),
    )
    yield Component(
        CONTROL_PLANE,
        "scheduler",
        "kubarium.scheduler.__main__",
        _scheduler(paths),
        warm=(*_CLIENT, "kubarium.machinery.election", "kubarium.scheduler.scheduler"),
    )


def plan_node(spec: ClusterSpec, paths: ClusterPaths, lan: LanPlan, node: str) -> Iterator[Component]:
    """The processes of one node."""
    network = (*_CLIENT, "pyroute2", "nftables", "pyroute2.netlink.nfnetlink.nfctsocket")
    yield Component(node, "cni", "cni.__main__", _cni(spec, paths, node), warm=network)
    yield Component(node, "kubeproxy", "kubeproxy.__main__", _kubeproxy(spec, paths, node), warm=network)
    kubelet = _kubelet(spec, paths, lan, node)
    yield Component(node, "kubelet", "kubelet.__main__", kubelet, warm=(*_CLIENT, "docker"))


_SERVER = ("uvloop", "orjson", "msgspec", "aiohttp.web", "grpc.aio", "jwt", "prometheus_client")
_CLIENT = ("uvloop", "grpc.aio", "kubarium.machinery.client.grpcapi", "aiohttp.web", "prometheus_client")


def _etcd(paths: ClusterPaths) -> tuple[str, ...]:
    return (
        f"--data-dir={paths.store / 'etcd'}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--log-level=warn",
        "--logger=zap",
    )


def _apiserver(spec: ClusterSpec, paths: ClusterPaths, lan: LanPlan) -> tuple[str, ...]:
    pki, tolerate = paths.pki, spec.grace.toleration_s
    store = "etcd://127.0.0.1:2379" if spec.store == "etcd" else f"sqlite:///{paths.store / 'kubarium.db'}"
    address = lan.link(CONTROL_PLANE).address
    return (
        f"--store={store}",
        "--bind-address=0.0.0.0",
        f"--secure-port={API_PORT}",
        f"--grpc-port={GRPC_PORT}",
        f"--advertise-address={address}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        f"--token-auth-file={pki / 'tokens.csv'}",
        f"--service-cluster-ip-range={spec.service_cidr}",
        "--service-node-port-range=30000-32767",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--default-not-ready-toleration-seconds={tolerate}",
        f"--default-unreachable-toleration-seconds={tolerate}",
        f"--cluster-name={spec.name}",
    )


def _controllers(spec: ClusterSpec, paths: ClusterPaths) -> tuple[str, ...]:
    grace = spec.grace
    return (
        f"--kubeconfig={paths.kubeconfig('controllers')}",
        f"--cluster-cidr={spec.pod_cidr}",
        f"--node-cidr-mask-size={NODE_CIDR_BITS}",
        f"--service-cluster-ip-range={spec.service_cidr}",
        f"--node-monitor-period={_duration(grace.monitor_period_s)}",
        f"--node-monitor-grace-period={_duration(grace.monitor_grace_s)}",
        f"--node-startup-grace-period={_duration(grace.startup_grace_s)}",
        f"--root-ca-file={paths.pki / 'ca.crt'}",
        f"--service-account-private-key-file={paths.pki / 'sa.key'}",
        f"--cluster-signing-cert-file={paths.pki / 'ca.crt'}",
        f"--cluster-signing-key-file={paths.pki / 'ca.key'}",
        "--healthz-port=10257",
    )


def _scheduler(paths: ClusterPaths) -> tuple[str, ...]:
    return (f"--kubeconfig={paths.kubeconfig('scheduler')}", "--healthz-port=10259")


def _kubelet(spec: ClusterSpec, paths: ClusterPaths, lan: LanPlan, node: str) -> tuple[str, ...]:
    control_plane = node == CONTROL_PLANE
    labels = {"kubernetes.io/hostname": node}
    grace = spec.grace
    return (
        f"--kubeconfig={paths.kubeconfig(node)}",
        f"--hostname-override={node}",
        f"--node-ip={lan.link(node).address}",
        f"--root-dir={paths.node(node) / 'kubelet'}",
        f"--cluster-name={spec.name}",
        "--container-runtime=docker",
        f"--docker-socket=unix://{spec.docker_socket}",
        f"--cni-socket={paths.node_run(node) / 'cni.sock'}",
        f"--cluster-dns={spec.dns_ip}",
        f"--cluster-domain={CLUSTER_DOMAIN}",
        f"--node-labels={','.join(f'{key}={value}' for key, value in labels.items())}",
        *([f"--register-with-taints={ROLE_LABEL}=:NoSchedule"] if control_plane and spec.workers else []),
        f"--tls-cert-file={paths.pki / f'{node}-kubelet.crt'}",
        f"--tls-private-key-file={paths.pki / f'{node}-kubelet.key'}",
        f"--client-ca-file={paths.pki / 'ca.crt'}",
        "--port=10250",
        "--grpc-port=10251",
        "--healthz-port=10248",
        f"--image-aliases={paths.aliases}",
        f"--anchor-container={container_name(spec.name, node)}",
        f"--node-status-update-frequency={_duration(grace.status_update_s)}",
        f"--node-lease-duration-seconds={grace.lease_duration_s}",
        f"--lease-renew-interval={_duration(grace.lease_renew_s)}",
        f"--crash-loop-backoff={_duration(grace.backoff_s)}",
        f"--crash-loop-backoff-max={_duration(grace.backoff_max_s)}",
        f"--image-pull-backoff={_duration(grace.backoff_s)}",
        f"--image-pull-backoff-max={_duration(grace.backoff_max_s)}",
    )


def _cni(spec: ClusterSpec, paths: ClusterPaths, node: str) -> tuple[str, ...]:
    return (
        f"--kubeconfig={paths.kubeconfig(node)}",
        f"--node-name={node}",
        f"--socket={paths.node_run(node) / 'cni.sock'}",
        f"--ipam-socket={paths.node_run(node) / 'ipam.sock'}",
        f"--state-dir={paths.node(node) / 'cni'}",
        f"--lan-interface={NODE_INTERFACE}",
        f"--cluster-cidr={spec.pod_cidr}",
        f"--service-cidr={spec.service_cidr}",
        f"--cluster-name={spec.name}",
        "--healthz-port=10258",
    )


def _kubeproxy(spec: ClusterSpec, paths: ClusterPaths, node: str) -> tuple[str, ...]:
    return (
        f"--kubeconfig={paths.kubeconfig('kubeproxy')}",
        f"--hostname-override={node}",
        "--proxy-mode=nftables",
        f"--cluster-cidr={spec.pod_cidr}",
        f"--service-cidr={spec.service_cidr}",
        f"--lan-interface={NODE_INTERFACE}",
        f"--socket={paths.node_run(node) / 'proxy.sock'}",
        f"--cluster-name={spec.name}",
        "--healthz-port=10256",
        "--metrics-port=10249",
    )


def _duration(seconds: float) -> str:
    """As Go writes durations: `4s`, `0.5s`."""
    return f"{seconds:g}s"
