"""An unmodified kubectl against a running cluster, with the kubeconfig that `kubarium kubeconfig` prints."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import pytest

from tests.e2e.lab import CommandFailed, Lab, eventually

JOB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: talker, labels: {app: talker}}
spec:
  replicas: 1
  selector: {matchLabels: {app: talker}}
  template:
    metadata: {labels: {app: talker}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: main
          image: busybox
          imagePullPolicy: IfNotPresent
          env:
            - {name: GREETING, value: hello}
            - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
          command: [sh, -c, 'echo "$GREETING from $POD_IP"; exec sleep infinity']
"""


@pytest.fixture(scope="module")
def talker(lab: Lab) -> Lab:
    lab.kubectl("apply", "-f", "-", stdin=JOB)
    lab.kubectl("rollout", "status", "deployment/talker", "--timeout=60s")
    return lab


def test_the_server_is_on_loopback(lab: Lab) -> None:
    config = Path(lab.kubeconfig).read_text()
    assert "https://127.0.0.1:" in config


def test_nodes_are_ready_and_described(lab: Lab) -> None:
    nodes = lab.kubectl("get", "nodes").splitlines()
    assert len(nodes) == 4
    assert all(" Ready " in line for line in nodes[1:])
    assert "PodCIDR:" in lab.kubectl("describe", "node", "node-1")


def test_logs_show_what_the_container_wrote(talker: Lab) -> None:
    (pod,) = talker.ready_pods("app=talker")
    expected = f"hello from {pod['status']['podIP']}\n"
    eventually(lambda: talker.kubectl("logs", pod["metadata"]["name"]) == expected, expected)
    assert talker.kubectl("logs", "deployment/talker", "--tail=1") == expected


def test_exec_passes_input_output_and_exit_code(talker: Lab) -> None:
    (pod,) = talker.ready_pods("app=talker")
    name = pod["metadata"]["name"]
    assert talker.kubectl("exec", "-i", name, "--", "cat", stdin="from outside\n") == "from outside\n"
    assert talker.kubectl("exec", name, "--", "hostname").strip() == name
    with pytest.raises(CommandFailed, match="exit code 7"):
        talker.kubectl("exec", name, "--", "sh", "-c", "exit 7")


def test_a_service_account_token_lets_the_pod_in(talker: Lab, tmp_path: Path) -> None:
    (pod,) = talker.ready_pods("app=talker")
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    listing = talker.in_pod(pod["metadata"]["name"], "ls", folder).split()
    assert set(listing) == {"ca.crt", "namespace", "token"}
    assert talker.in_pod(pod["metadata"]["name"], "cat", f"{folder}/namespace") == "default"
    token = talker.in_pod(pod["metadata"]["name"], "cat", f"{folder}/token")
    config = json.loads(Path(talker.kubeconfig).read_text())
    config["users"][0]["user"] = {"token": token}  # a client certificate beside it would come first
    own = tmp_path / "kubeconfig"
    own.write_text(json.dumps(config))
    who = json.loads(talker.kubectl("--kubeconfig", str(own), "auth", "whoami", "-o", "json"))
    assert who["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"


def test_describe_pod_tells_its_events(talker: Lab) -> None:
    (pod,) = talker.ready_pods("app=talker")
    text = talker.kubectl("describe", "pod", pod["metadata"]["name"])
    for word in ("Scheduled", "Created", "Started", "Successfully assigned default/"):
        assert word in text


def test_scale_and_wait(talker: Lab) -> None:
    talker.kubectl("scale", "deployment/talker", "--replicas=3")
    talker.kubectl("rollout", "status", "deployment/talker", "--timeout=60s")
    talker.kubectl("wait", "--for=jsonpath={.status.readyReplicas}=3", "deployment/talker", "--timeout=30s")
    talker.kubectl("scale", "deployment/talker", "--replicas=1")
    eventually(lambda: len(talker.pods("app=talker")) == 1, "one pod")


def test_rollout_of_a_change_and_back(talker: Lab) -> None:
    talker.kubectl("set", "env", "deployment/talker", "GREETING=goodbye")
    talker.kubectl("rollout", "status", "deployment/talker", "--timeout=60s")
    eventually(lambda: "goodbye" in talker.kubectl("logs", "deployment/talker"), "the new greeting")
    talker.kubectl("rollout", "undo", "deployment/talker")
    talker.kubectl("rollout", "status", "deployment/talker", "--timeout=60s")
    eventually(lambda: "hello" in talker.kubectl("logs", "deployment/talker"), "the old greeting")


def test_get_watch_shows_a_change(talker: Lab) -> None:
    argv = [talker.kubectl_path, "--kubeconfig", talker.kubeconfig, "get", "configmaps", "-w", "-o", "name"]
    watcher = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    lines: list[str] = []
    assert watcher.stdout is not None
    reader = threading.Thread(target=lambda out: lines.extend(iter(out.readline, "")), args=(watcher.stdout,))
    reader.start()
    try:
        eventually(lambda: any("kube-root-ca.crt" in line for line in lines), "the list at the start")
        talker.kubectl("create", "configmap", "watched")
        eventually(lambda: any("configmap/watched" in line for line in lines), "the event")
    finally:
        watcher.kill()
        watcher.wait()
        reader.join()
        talker.kubectl("delete", "configmap", "watched")


def test_deletion_takes_all_that_belongs_to_it(lab: Lab) -> None:
    lab.kubectl("create", "namespace", "short")
    lab.kubectl("create", "deployment", "gone", "--image=busybox", "--replicas=2", "-n", "short", "--", "sleep", "9999")
    eventually(lambda: len(lab.get("pods", "-n", "short")["items"]) == 2, "two pods")
    lab.kubectl("delete", "namespace", "short", "--timeout=90s")
    with pytest.raises(CommandFailed, match="NotFound"):
        lab.kubectl("get", "namespace", "short")


def test_unschedulable_pods_say_why(lab: Lab) -> None:
    lab.kubectl("run", "too-big", "--image=busybox", "--restart=Never",
                "--overrides", json.dumps({"spec": {"containers": [{"name": "too-big", "image": "busybox",
                "resources": {"requests": {"memory": "900Gi"}}}]}}))  # fmt: skip

    def why() -> str:
        conditions = lab.get("pod", "too-big")["status"].get("conditions") or []
        return next((c.get("message", "") for c in conditions if c["type"] == "PodScheduled"), "")

    message = eventually(why, "a PodScheduled condition with a message")
    assert message.startswith("0/3 nodes are available:")
    assert "2 Insufficient memory" in message
    eventually(lambda: "FailedScheduling" in lab.kubectl("describe", "pod", "too-big"), "FailedScheduling Event")
    lab.kubectl("delete", "pod", "too-big")


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        pytest.param("{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, dota: {}}", "dota", id="unknown field"),
        pytest.param(
            "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: 70000}]}}",
            "spec.ports[0].port: Invalid value: 70000",
            id="bad port",
        ),
        pytest.param(
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {replicas: many}}",
            "replicas",
            id="wrong type",
        ),
        pytest.param(
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: nowhere}}",
            'namespaces "nowhere" not found',
            id="missing namespace",
        ),
        pytest.param(
            "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}}",
            "provided IP is already allocated",
            id="address in use",
        ),
        pytest.param(
            "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {clusterIP: 10.1.2.3, ports: [{port: 80}]}}",
            "the provided network does not match the current range",
            id="address outside the Service CIDR",
        ),
    ],
)  # fmt: skip
def test_a_bad_manifest_gets_the_error_of_kubernetes(lab: Lab, manifest: str, text: str) -> None:
    with pytest.raises(CommandFailed) as failure:
        lab.kubectl("create", "-f", "-", stdin=manifest)
    assert text in str(failure.value)
    with pytest.raises(CommandFailed, match="NotFound"):
        lab.kubectl("get", "configmap,service,deployment", "x")


def test_a_duplicate_name_is_refused(lab: Lab) -> None:
    lab.kubectl("create", "configmap", "twice")
    with pytest.raises(CommandFailed, match="already exists"):
        lab.kubectl("create", "configmap", "twice")
    lab.kubectl("delete", "configmap", "twice")
