"""What the web app of the examples must do on any cluster: called for a local one and for Compose."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from ipaddress import ip_address, ip_network

from tests.e2e.lab import ADDRESS_SERVER, CLIENT, WEB_APP, Lab, eventually

WEB = "app=web-app"


def start(lab: Lab) -> None:
    """Apply the example, wait until it answers everywhere, and put a client on each worker.

    A node that a test before has healed may still be emptied: no client goes there before its taints are gone.
    """
    taints = ("get", "nodes", "-o", "jsonpath={.items[*].spec.taints[?(@.effect=='NoExecute')].key}")
    eventually(lambda: not lab.kubectl(*taints).strip(), "nodes without a taint that evicts")
    lab.kubectl("apply", "-f", WEB_APP)
    for node in lab.workers:
        lab.kubectl("apply", "-f", "-", stdin=CLIENT.format(node=node))
    lab.kubectl("rollout", "status", "deployment/web-app", "--timeout=60s")
    lab.kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=client", "--timeout=60s")
    eventually(lambda: len(lab.endpoints("web-service")) == 3, "three ready endpoints")


def check_placement(lab: Lab) -> None:
    """Three pods on both workers, each with an address of its node's pod CIDR; the Service in the Service CIDR."""
    pods = lab.ready_pods(WEB)
    assert len(pods) == 3
    assert {p["spec"]["nodeName"] for p in pods} == set(lab.workers)
    for pod in pods:
        cidr = lab.get("node", pod["spec"]["nodeName"])["spec"]["podCIDR"]
        assert ip_address(pod["status"]["podIP"]) in ip_network(cidr)
        assert ip_network(cidr).subnet_of(ip_network("10.244.0.0/16"))
    assert ip_address(lab.get("service", "web-service")["spec"]["clusterIP"]) in ip_network("10.96.0.0/16")


def check_pod_to_pod(lab: Lab) -> None:
    """Every pod reaches every pod, and the receiver sees the sender's own address."""
    clients = {p["metadata"]["name"]: p["status"]["podIP"] for p in lab.ready_pods("app=client")}
    assert len(clients) == len(lab.workers)
    for client, address in clients.items():
        for pod in lab.ready_pods(WEB):
            answer = lab.in_pod(
                client, "timeout", "5", "wget", "-qO-", f"http://{pod['status']['podIP']}:8080/"
            ).split()
            assert answer == [pod["metadata"]["name"], address]


def check_node_to_pod_and_back(lab: Lab) -> None:
    """A node reaches every pod and a pod every node, both under their own addresses."""
    for node in lab.workers:
        for pod in lab.ready_pods(WEB):
            answer = lab.on_node(node, "curl", "-sS", "-m", "5", f"http://{pod['status']['podIP']}:8080/").split()
            assert answer == [pod["metadata"]["name"], lab.node_ip(node)]
        server = subprocess.Popen(
            [*lab.node_prefix(node), sys.executable, "-c", ADDRESS_SERVER], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            for client in lab.ready_pods("app=client"):
                url = f"http://{lab.node_ip(node)}:{port}/"
                seen = lab.in_pod(client["metadata"]["name"], "timeout", "5", "wget", "-qO-", url)
                assert seen == client["status"]["podIP"]
        finally:
            server.kill()
            server.wait()


def check_service_by_name(lab: Lab) -> None:
    """`http://web-service` answers from each of the three pods, at random, with the client's own address kept."""
    for client in lab.ready_pods("app=client"):
        script = "for i in $(seq 60); do timeout 5 wget -qO- http://web-service || exit 1; done"
        lines = lab.in_pod(client["metadata"]["name"], "sh", "-c", script).splitlines()
        hits = Counter(line.split()[0] for line in lines)
        assert set(hits) == {p["metadata"]["name"] for p in lab.ready_pods(WEB)}
        assert min(hits.values()) >= 4, f"60 requests are not spread at random: {hits}"
        assert {line.split()[1] for line in lines} == {client["status"]["podIP"]}


def check_node_port(lab: Lab) -> None:
    """The host reaches NODE_IP:30080 on each node, the control plane included, which runs no pod of the app."""
    busy = {p["spec"]["nodeName"] for p in lab.ready_pods(WEB)}
    names = {n["metadata"]["name"] for n in lab.get("nodes")["items"]}
    for node in sorted(names):
        answer = lab.on_host("curl", "-sS", "-m", "5", f"http://{lab.node_ip(node)}:30080/").split()
        assert answer[0] in {p["metadata"]["name"] for p in lab.ready_pods(WEB)}
    if names - set(lab.workers):
        assert names - busy, "no node is without a pod of the app: the check would show less than it says"


def check_restart_of_a_container(lab: Lab) -> None:
    """A container whose process dies is started again in the same pod."""
    pod = lab.ready_pods(WEB)[0]
    name, restarts = pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["restartCount"]
    lab.in_pod(name, "sh", "-c", "kill -9 -1 || true; kill 1")

    def restarted() -> bool:
        status = lab.get("pod", name)["status"]["containerStatuses"][0]
        return bool(status["restartCount"] > restarts and status["ready"])

    eventually(restarted, f"container of {name} restarted and ready")
    assert lab.get("pod", name)["metadata"]["uid"] == pod["metadata"]["uid"]


def check_replacement_of_a_pod(lab: Lab) -> None:
    """A deleted pod is replaced by another, and the endpoints follow."""
    victim = lab.ready_pods(WEB)[0]
    lab.kubectl("delete", "pod", victim["metadata"]["name"], "--timeout=30s")
    eventually(lambda: len(lab.ready_pods(WEB)) == 3, "three ready pods again")
    pods = lab.ready_pods(WEB)
    assert victim["metadata"]["uid"] not in {p["metadata"]["uid"] for p in pods}
    expected = {p["status"]["podIP"] for p in pods}
    eventually(lambda: lab.endpoints("web-service") == expected, f"endpoints {expected}")


def check_scale(lab: Lab) -> None:
    """`scale` changes the count, and the endpoints follow in both directions."""
    for count in (5, 1, 3):
        lab.kubectl("scale", "deployment/web-app", f"--replicas={count}")
        eventually(lambda n=count: len(lab.endpoints("web-service")) == n, f"{count} endpoints")  # type: ignore[misc]
        eventually(lambda n=count: len(lab.pods(WEB)) == n, f"{count} pods")  # type: ignore[misc]
    lab.kubectl("rollout", "status", "deployment/web-app", "--timeout=60s")


ALL = (
    check_placement,
    check_pod_to_pod,
    check_node_to_pod_and_back,
    check_service_by_name,
    check_node_port,
    check_restart_of_a_container,
    check_replacement_of_a_pod,
    check_scale,
)
