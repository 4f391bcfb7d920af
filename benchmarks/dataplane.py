"""Requests/s from a pod to a pod's address against through its ClusterIP: same pods, same path, taken in turns.

The load generator runs in the client pod's network namespace, since that is where a Service's clients are.
"""

from __future__ import annotations

import statistics

from benchmarks.lab import NAME, ROOT, Bench, Row, cluster, requests_per_second, run, wait_until

ROUNDS = 5
SECONDS = 3
CLIENT = """
apiVersion: v1
kind: Pod
metadata: {{name: client-{node}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, infinity]}}]
"""


def inside_pod(lab: Bench, name: str) -> list[str]:
    """The argv that enters a pod's network namespace."""
    docker = ["docker", "-H", f"unix://{lab.status()['docker_socket']}"]
    labels = (f"io.kubarium.cluster={NAME}", f"io.kubernetes.pod.name={name}", "io.kubarium.kind=sandbox")
    sandbox = run([*docker, "ps", "-q", *(f"--filter=label={label}" for label in labels)]).strip()
    pid = run([*docker, "inspect", "-f", "{{.State.Pid}}", sandbox]).strip()
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def measure() -> list[Row]:
    rows = []
    with cluster() as lab:
        lab.kubarium("apply", "-f", str(ROOT / "examples" / "web-app"))
        lab.kubarium("scale", "deployment/web-app", "--replicas=1")
        lab.kubarium("rollout", "status", "deployment/web-app")
        wait_until(lambda: len(lab.get("pods", "-l", "app=web-app")["items"]) == 1)
        pod = lab.get("pods", "-l", "app=web-app")["items"][0]
        direct = f"http://{pod['status']['podIP']}:8080/"
        service = f"http://{lab.get('service', 'web-service')['spec']['clusterIP']}/"
        other = next(n for n in ("node-1", "node-2") if n != pod["spec"]["nodeName"])
        for where, node in (("same node", pod["spec"]["nodeName"]), ("other node", other)):
            lab.kubarium("apply", "-f", "-", stdin=CLIENT.format(node=node))
            lab.kubarium("wait", "--for=condition=Ready", f"pod/client-{node}", "--timeout=60s")
            load = [*inside_pod(lab, f"client-{node}"), "wrk", "-t1", "-c16", f"-d{SECONDS}s"]
            plain, through = [], []
            for _ in range(ROUNDS):
                plain.append(requests_per_second(run([*load, direct])))
                through.append(requests_per_second(run([*load, service])))
            ratio = statistics.median(t / p for t, p in zip(through, plain, strict=True))
            rows.append(
                Row(
                    f"ClusterIP against the pod's address, {where}",
                    f"{ratio:.3f} ({statistics.median(through):,.0f} / {statistics.median(plain):,.0f} requests/s)",
                    ">= 0.95",
                )
            )
    return rows
