"""How the DNS server stands in the cluster: the objects, on the wire, that the lab applies at start-up.

The pod runs with RuntimeClass `host` (a plain process in the pod's network namespace), so no image is needed for a
cluster to resolve names; the image named is never pulled.
"""

from __future__ import annotations

from typing import Any

NAMESPACE = "kube-system"
NAME = "kube-dns"
LABELS = {"k8s-app": NAME}
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
IMAGE = "kubarium/host"
HEALTH_PORT = 8080


def runtime_class() -> dict[str, Any]:
    """Pods that run as processes of the node; admission refuses it outside kube-system."""
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "host"},
        "handler": "host",
    }


def service_account() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
    }


def service(cluster_ip: str) -> dict[str, Any]:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": "dns-tcp"},
    ]
    labels = {**LABELS, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "ClusterDNS"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {"clusterIP": cluster_ip, "selector": LABELS, "ports": ports},
    }


def deployment(*, domain: str, replicas: int, forward: bool) -> dict[str, Any]:
    command = ["python3", "-m", "kubarium.clusterdns", "--listen=0.0.0.0:53", f"--domain={domain}"]
    command += [f"--healthz-port={HEALTH_PORT}", *(["--forward"] if forward else [])]
    container = {
        "name": "dns",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        # the cluster's CA comes with the ServiceAccount; parsing the machine's bundle costs a quarter of the start
        "env": [{"name": "SSL_CERT_FILE", "value": "/dev/null"}],
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/livez", "port": "health"}, "periodSeconds": 10, "failureThreshold": 5},
        "resources": {"requests": {"cpu": "50m", "memory": "48Mi"}},
    }
    exists = {"operator": "Exists"}
    spec = {
        "serviceAccountName": NAME,
        "runtimeClassName": "host",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "nodeSelector": {CONTROL_PLANE: ""},
        "tolerations": [
            {"key": CONTROL_PLANE, "effect": "NoSchedule", **exists},
            {"key": "CriticalAddonsOnly", **exists},
            {"key": "node.kubernetes.io/not-ready", **exists},
        ],
        "terminationGracePeriodSeconds": 2,
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": LABELS}, "spec": spec},
        },
    }


def manifests(
    cluster_ip: str = "10.96.0.10", *, domain: str = "cluster.local", replicas: int = 1, forward: bool = False
) -> list[dict[str, Any]]:
    """Everything, in the order in which it is to be created."""
    return [
        runtime_class(),
        service_account(),
        service(cluster_ip),
        deployment(domain=domain, replicas=replicas, forward=forward),
    ]
