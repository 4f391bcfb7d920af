"""Pods on a real node: API server, CNI agent, Docker, kernel."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from apiserver.admission.serviceaccounts import mount_token
from kubelet.runtimes import cgroups
from kubelet.runtimes.base import LABEL_CLUSTER, Scope
from tests.kubelet.lab import NODE, NODE_IP, STAY, Node, condition, make_pod, node, status


@pytest.fixture(scope="module")
def the_node(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    scope = Scope(f"t{secrets.token_hex(4)}", NODE)
    try:
        with node(scope, tmp_path_factory.mktemp("node")) as made:
            yield made
    finally:
        for container in engine.containers.list(all=True, filters={"label": f"{LABEL_CLUSTER}={scope.cluster}"}):
            container.remove(force=True)
        cgroups.kill(f"/kubarium/{scope.cluster}")
        cgroups.remove(f"/kubarium/{scope.cluster}")


@pytest.fixture
def name(the_node: Node) -> Iterator[str]:
    """A pod's name; the pod is gone without grace at the end."""
    name = f"pod-{secrets.token_hex(3)}"
    yield name
    if the_node.pod(name):
        the_node.delete(name, gracePeriodSeconds=0)


def test_a_pod_runs_with_the_status_that_kubelets_write(the_node: Node, name: str) -> None:
    the_node.create(make_pod(name))
    pod = the_node.wait_ready(name)
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"].startswith("10.244.1.") and pod["status"]["podIPs"] == [
        {"ip": pod["status"]["podIP"]}
    ]
    assert (pod["status"]["hostIP"], pod["status"]["hostIPs"]) == (NODE_IP, [{"ip": NODE_IP}])
    found = status(pod)
    assert (found["ready"], found["started"], found["restartCount"], found["image"]) == (True, True, 0, "busybox")
    assert found["containerID"].startswith("docker://") and found["imageID"].startswith("docker://sha256:")
    assert found["state"]["running"]["startedAt"] and found["lastState"] == {}
    types = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
    assert [condition(pod, type_) for type_ in types] == ["True"] * 5
    reasons = [reason for reason, _ in the_node.events(name)]
    assert [r for r in reasons if r in ("Pulled", "Created", "Started")] == ["Pulled", "Created", "Started"]


def test_deleting_a_pod_leaves_nothing(the_node: Node, engine: docker.DockerClient, name: str) -> None:
    uid = the_node.create(make_pod(name))["metadata"]["uid"]
    the_node.wait_ready(name)
    the_node.delete(name)
    the_node.wait_gone(name)
    assert engine.containers.list(all=True, filters={"label": f"io.kubernetes.pod.uid={uid}"}) == []
    assert not (the_node.root / "pods" / uid).exists()
    assert not Path(f"/sys/fs/cgroup/pids{the_node.scope.cgroup(uid)}").exists()  # type: ignore[arg-type]


def test_a_container_that_fails_is_restarted_with_back_off(the_node: Node, name: str) -> None:
    the_node.create(make_pod(name, "echo run; exit 3"))

    def crashed(pod: dict) -> bool:
        waiting = status(pod).get("state", {}).get("waiting", {})
        return status(pod).get("restartCount", 0) >= 2 and waiting.get("reason") == "CrashLoopBackOff"

    pod = the_node.wait(name, crashed, what="CrashLoopBackOff")
    assert pod["status"]["phase"] == "Running" and condition(pod, "Ready") == "False"
    last = status(pod)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (3, "Error")
    assert "restarting failed container=app" in status(pod)["state"]["waiting"]["message"]
    assert any(reason == "BackOff" for reason, _ in the_node.events(name))
    assert the_node.logs(name, previous="true") == "run\n"


@pytest.mark.parametrize(
    ("policy", "script", "phase"),
    [("Never", "exit 0", "Succeeded"), ("Never", "exit 1", "Failed"), ("OnFailure", "exit 0", "Succeeded")],
)
def test_a_pod_ends_as_its_restart_policy_says(the_node: Node, name: str, policy: str, script: str, phase: str) -> None:
    the_node.create(make_pod(name, script, spec={"restartPolicy": policy}))
    pod = the_node.wait_phase(name, phase)
    expected = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}[phase]
    assert [c["reason"] for c in pod["status"]["conditions"] if c["type"] == "Ready"] == [expected]
    assert status(pod)["state"]["terminated"]["exitCode"] == int(script[-1])


def test_init_containers_run_one_after_the_other_before_the_rest(the_node: Node, name: str) -> None:
    mount = [{"name": "shared", "mountPath": "/shared"}]
    init = [
        {
            "name": n,
            "image": "busybox",
            "command": ["/bin/sh", "-c", f"echo {n} >> /shared/order"],
            "volumeMounts": mount,
        }
        for n in ("first", "second")
    ]
    spec = {"initContainers": init, "volumes": [{"name": "shared", "emptyDir": {}}]}
    the_node.create(
        make_pod(name, "cat /shared/order; sleep 0.1; while :; do sleep 0.1; done", spec=spec, volumeMounts=mount)
    )
    pod = the_node.wait_ready(name)
    assert the_node.logs(name, container="app") == "first\nsecond\n"
    assert [c["state"]["terminated"]["reason"] for c in pod["status"]["initContainerStatuses"]] == ["Completed"] * 2


def test_a_failing_init_container_keeps_the_pod_pending(the_node: Node, name: str) -> None:
    init = [{"name": "first", "image": "busybox", "command": ["/bin/sh", "-c", "exit 1"]}]
    the_node.create(make_pod(name, spec={"initContainers": init}))
    pod = the_node.wait(name, lambda p: status(p, "first").get("restartCount", 0) >= 1, what="restart of init")
    assert pod["status"]["phase"] == "Pending" and condition(pod, "Initialized") == "False"
    assert status(pod)["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_a_sidecar_starts_first_stays_and_does_not_keep_the_pod_from_ending(the_node: Node, name: str) -> None:
    script = "trap 'exit 0' TERM; touch /shared/up; while :; do sleep 0.1; done"
    mount = [{"name": "shared", "mountPath": "/shared"}]
    probe = {"exec": {"command": ["cat", "/shared/up"]}, "periodSeconds": 1}
    sidecar = make_pod("", script, volumeMounts=mount, startupProbe=probe)["spec"]["containers"][0]
    sidecar |= {"name": "side", "restartPolicy": "Always"}
    spec = {"initContainers": [sidecar], "restartPolicy": "Never", "volumes": [{"name": "shared", "emptyDir": {}}]}
    the_node.create(make_pod(name, "cat /shared/up && echo fine", spec=spec, volumeMounts=mount))
    the_node.wait_phase(name, "Succeeded")
    assert the_node.logs(name, container="app") == "fine\n"


def test_environment_from_everywhere(the_node: Node, name: str) -> None:
    base = "/api/v1/namespaces/default"
    the_node.ok("POST", f"{base}/configmaps", {"metadata": {"name": name}, "data": {"color": "blue", "size": "3"}})
    the_node.ok("POST", f"{base}/secrets", {"metadata": {"name": name}, "stringData": {"pass": "word"}})
    env = [
        {"name": "PLAIN", "value": "a-$(COLOR)-$$(COLOR)-$(NOTHING)"},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "PASS", "valueFrom": {"secretKeyRef": {"name": name, "key": "pass"}}},
        {"name": "MISSING", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "no", "optional": True}}},
    ]
    env.insert(0, {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": name, "key": "color"}}})
    the_node.create(
        make_pod(
            name, "env; while :; do sleep 0.1; done", env=env, args=["$(PLAIN)"],
            envFrom=[{"prefix": "X_", "configMapRef": {"name": name}}], resources={"limits": {"memory": "64Mi"}},
        )
    )  # fmt: skip
    pod = the_node.wait_ready(name)
    found = dict(line.split("=", 1) for line in the_node.logs(name).splitlines())
    expected = {"PLAIN": "a-blue-$(COLOR)-$(NOTHING)", "NAME": name, "LABEL": name, "IP": pod["status"]["podIP"],
                "NODE": NODE, "MEM": "64", "PASS": "word", "X_size": "3"}  # fmt: skip
    assert {key: found.get(key) for key in expected} == expected
    assert (
        "MISSING" not in found and found["KUBERNETES_SERVICE_HOST"] and found["KUBERNETES_PORT_443_TCP_PROTO"] == "tcp"
    )


def test_a_missing_config_map_is_told_and_waited_for(the_node: Node, name: str) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": name, "key": "a"}}}]
    the_node.create(make_pod(name, env=env))
    reason = "CreateContainerConfigError"
    the_node.wait(name, lambda p: status(p).get("state", {}).get("waiting", {}).get("reason") == reason, what=reason)
    the_node.ok("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": name}, "data": {"a": "b"}})
    the_node.wait_ready(name)


def test_volumes_show_their_sources_and_follow_them(the_node: Node, name: str) -> None:
    base = "/api/v1/namespaces/default"
    the_node.ok("POST", f"{base}/configmaps", {"metadata": {"name": name}, "data": {"a.txt": "one", "b.txt": "two"}})
    the_node.ok("POST", f"{base}/secrets", {"metadata": {"name": name}, "stringData": {"key": "hidden"}})
    volumes = [
        {"name": "config", "configMap": {"name": name, "items": [{"key": "a.txt", "path": "sub/a", "mode": 0o600}]}},
        {"name": "whole", "configMap": {"name": name}},
        {"name": "secret", "secret": {"secretName": name, "defaultMode": 0o400}},
        {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
    mounts.append({"name": "whole", "mountPath": "/single", "subPath": "b.txt"})
    script = (
        "cat /config/sub/a /secret/key /info/labels /single; echo; stat -L -c %a /config/sub/a /secret/key; "
        "grep /memory.tmpfs /proc/mounts | head -n1; while :; do cat /whole/a.txt; echo; sleep 0.1; done"
    )
    the_node.create(make_pod(name, script, spec={"volumes": volumes}, volumeMounts=mounts))
    the_node.wait_ready(name)
    the_node.eventually(lambda: "one\none" in the_node.logs(name), what="first content")
    text = the_node.logs(name)
    assert text.startswith(f'onehiddenapp="{name}"two\n') and "\n600\n400\ntmpfs /memory tmpfs" in text
    the_node.ok(
        "PATCH",
        f"{base}/configmaps/{name}",
        {"data": {"a.txt": "changed"}},
        content_type="application/merge-patch+json",
    )
    the_node.eventually(lambda: "changed" in the_node.logs(name, tailLines="3"), what="the update")


def test_the_service_account_is_there(the_node: Node, name: str) -> None:
    script = "cd /var/run/secrets/kubernetes.io/serviceaccount; ls; cat namespace ca.crt; echo; cat token; echo"
    the_node.create(with_token(make_pod(name, f"{script}; {STAY}")))
    the_node.wait_ready(name)
    the_node.eventually(lambda: len(the_node.logs(name).splitlines()) == 5, what="listing")
    lines = the_node.logs(name).splitlines()
    assert lines[:3] == ["ca.crt", "namespace", "token"] and lines[3] == "defaultCA" and lines[4].count(".") == 2


def test_resolv_conf_hosts_and_hostname(the_node: Node, name: str) -> None:
    spec = {"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["db"]}]}
    the_node.create(make_pod(name, "cat /etc/resolv.conf /etc/hosts; hostname; while :; do sleep 0.1; done", spec=spec))
    pod = the_node.wait_ready(name)
    text = the_node.logs(name)
    assert text.startswith(
        "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
    )
    assert f"{pod['status']['podIP']}\t{name}\n" in text and "192.0.2.1\tdb\n" in text and text.endswith(f"\n{name}\n")


def test_an_unknown_image_fails_to_pull_and_backs_off(the_node: Node, name: str) -> None:
    the_node.create(make_pod(name, image="127.0.0.1:1/no/such:v1"))
    seen = set()

    def both(pod: dict) -> bool:
        seen.add(status(pod).get("state", {}).get("waiting", {}).get("reason"))
        return {"ErrImagePull", "ImagePullBackOff"} <= seen

    pod = the_node.wait(name, both, what="ErrImagePull and ImagePullBackOff")
    assert pod["status"]["phase"] == "Pending"
    assert any(m.startswith('Failed to pull image "127.0.0.1:1/no/such:v1"') for _, m in the_node.events(name))


def test_never_pull_says_so(the_node: Node, name: str) -> None:
    the_node.create(make_pod(name, image="nothing/here:v1", imagePullPolicy="Never"))
    reason = "ErrImageNeverPull"
    the_node.wait(name, lambda p: status(p).get("state", {}).get("waiting", {}).get("reason") == reason, what=reason)


def test_a_command_that_cannot_be_run_is_told(the_node: Node, name: str) -> None:
    the_node.create(make_pod(name, command=["/no/such/program"]))
    pod = the_node.wait(name, lambda p: status(p).get("restartCount", 0) >= 1, what="a second try")
    last = status(pod)["lastState"].get("terminated") or status(pod)["state"]["terminated"]
    assert last["reason"] == "ContainerCannotRun" and "no such file" in last["message"]


def test_readiness_follows_the_probe(the_node: Node, name: str) -> None:
    probe = {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    the_node.create(make_pod(name, readinessProbe=probe))
    the_node.wait_phase(name, "Running")
    the_node.wait(name, lambda p: p and any(r == "Unhealthy" for r, _ in the_node.events(name)), what="Unhealthy")
    assert condition(the_node.pod(name) or {}, "Ready") == "False"
    pid = _exec(the_node, name, "touch /tmp/ready")
    assert pid == 0
    the_node.wait_ready(name)
    _exec(the_node, name, "rm /tmp/ready")
    the_node.wait_ready(name, False)


def test_a_failed_liveness_probe_restarts_the_container(the_node: Node, name: str) -> None:
    probe = {"exec": {"command": ["cat", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = "touch /tmp/alive; trap 'exit 0' TERM; sleep 1; rm /tmp/alive; while :; do sleep 0.1; done"
    the_node.create(make_pod(name, script, livenessProbe=probe))
    the_node.wait(name, lambda p: status(p).get("restartCount", 0) >= 1, what="restart")
    assert any("failed liveness probe, will be restarted" in message for _, message in the_node.events(name))


def test_an_http_probe_makes_a_server_ready_at_once(the_node: Node, name: str) -> None:
    probe = {"httpGet": {"path": "/index.html", "port": "web"}, "periodSeconds": 10}
    script = "mkdir /tmp/www; echo hi > /tmp/www/index.html; sleep 0.5; exec httpd -f -p 8080 -h /tmp/www"
    ports = [{"name": "web", "containerPort": 8080}]
    the_node.create(
        make_pod(name, script, readinessProbe=probe, ports=ports, spec={"terminationGracePeriodSeconds": 0})
    )
    pod = the_node.wait_ready(name)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_hooks_run_and_the_grace_period_ends_them(the_node: Node, name: str) -> None:
    folder = the_node.folder / name
    folder.mkdir()
    lifecycle = {
        "postStart": {"exec": {"command": ["/bin/sh", "-c", "echo post >> /shared/log"]}},
        "preStop": {"exec": {"command": ["/bin/sh", "-c", "echo pre >> /shared/log"]}},
    }
    spec = {"volumes": [{"name": "shared", "hostPath": {"path": str(folder), "type": "Directory"}}]}
    script = "trap 'echo term >> /shared/log; exit 0' TERM; while :; do sleep 0.1; done"
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    the_node.create(make_pod(name, script, spec=spec, lifecycle=lifecycle, volumeMounts=mounts))
    the_node.wait_ready(name)
    the_node.delete(name)
    the_node.wait_gone(name)
    assert (folder / "log").read_text() == "post\npre\nterm\n"


def test_termination_messages(the_node: Node, name: str) -> None:
    spec = {"restartPolicy": "Never"}
    pod = make_pod(name, "echo because > /dev/termination-log; exit 1", spec=spec)
    other = {"name": "other", "image": "busybox", "command": ["/bin/sh", "-c", "echo last words; exit 2"],
             "terminationMessagePolicy": "FallbackToLogsOnError"}  # fmt: skip
    pod["spec"]["containers"].append(other)
    the_node.create(pod)
    the_node.wait_phase(name, "Failed")
    messages = ("because\n", "last words\n")
    the_node.wait(
        name,
        lambda p: tuple(status(p, c)["state"]["terminated"].get("message") for c in ("app", "other")) == messages,
        what="messages",
    )


def test_a_killed_container_comes_back(the_node: Node, engine: docker.DockerClient, name: str) -> None:
    the_node.create(make_pod(name))
    pod = the_node.wait_ready(name)
    engine.containers.get(status(pod)["containerID"].removeprefix("docker://")).kill()
    pod = the_node.wait(name, lambda p: status(p).get("restartCount") == 1 and status(p).get("ready"), what="restart")
    assert status(pod)["lastState"]["terminated"]["exitCode"] == 137


def test_a_killed_sandbox_is_replaced(the_node: Node, engine: docker.DockerClient, name: str) -> None:
    uid = the_node.create(make_pod(name))["metadata"]["uid"]
    the_node.wait_ready(name)
    filters = {"label": [f"io.kubernetes.pod.uid={uid}", "io.kubarium.kind=sandbox"]}
    (sandbox,) = engine.containers.list(filters=filters)
    sandbox.kill()
    the_node.wait(name, lambda p: status(p).get("restartCount") == 1 and status(p).get("ready"), what="restart")
    the_node.eventually(lambda: len(engine.containers.list(all=True, filters=filters)) == 1, what="one sandbox")
    assert engine.containers.list(filters=filters)[0].id != sandbox.id


def test_exec_and_logs_with_kubectl(the_node: Node, name: str, kubectl: Path) -> None:
    the_node.create(make_pod(name, "echo hello; while :; do sleep 0.1; done"))
    the_node.wait_ready(name)
    done = the_node.kubectl(
        kubectl, "exec", "-i", name, "--", "/bin/sh", "-c", "cat; echo err >&2; exit 7", stdin=b"in\n"
    )
    assert (done.stdout, done.returncode) == (b"in\n", 7), done.stderr
    assert b"err" in done.stderr
    assert the_node.kubectl(kubectl, "logs", name).stdout == b"hello\n"


def test_host_network_and_the_host_runtime(the_node: Node, name: str) -> None:
    the_node.call("POST", "/apis/node.k8s.io/v1/runtimeclasses", {"metadata": {"name": "host"}, "handler": "host"})
    the_node.call("POST", "/api/v1/namespaces/kube-system/serviceaccounts", {"metadata": {"name": "default"}})
    the_node.call("POST", "/api/v1/namespaces/kube-system/configmaps",
                  {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "CA"}})  # fmt: skip
    script = "cat $CONTAINER_SANDBOX_MOUNT_POINT/var/run/secrets/kubernetes.io/serviceaccount/namespace"
    pod = with_token(make_pod(name, f"{script}; {STAY}", spec={"runtimeClassName": "host"}))
    pod["metadata"]["namespace"] = "kube-system"
    the_node.create(pod)
    path = f"/api/v1/namespaces/kube-system/pods/{name}"
    the_node.eventually(lambda: condition(the_node.ok("GET", path), "Ready") == "True", what="host pod Ready")
    found = the_node.ok("GET", path)
    assert found["status"]["podIP"].startswith("10.244.1.")
    assert status(found)["containerID"].startswith("host://")
    assert the_node.ok("GET", f"{path}/log") == "kube-system"
    the_node.ok("DELETE", path)
    the_node.eventually(lambda: the_node.call("GET", path).status == 404, what="host pod gone")


def test_a_restarted_kubelet_loses_and_doubles_nothing(the_node: Node, engine: docker.DockerClient, name: str) -> None:
    crash = f"{name}-crash"
    the_node.create(make_pod(name))
    the_node.create(make_pod(crash, "exit 1"))
    before = the_node.wait_ready(name)
    the_node.wait(crash, lambda p: status(p).get("restartCount", 0) >= 2, what="restarts")
    gone = the_node.create(make_pod(f"{name}-gone"))
    the_node.wait_ready(f"{name}-gone")
    the_node.kill_kubelet()
    count = status(the_node.pod(crash) or {})["restartCount"]
    the_node.delete(f"{name}-gone", gracePeriodSeconds=0)
    the_node.start_kubelet()
    the_node.wait(crash, lambda p: status(p).get("restartCount", 0) > count, what="counting on")
    after = the_node.pod(name)
    assert after is not None and after["status"] == before["status"] | {"conditions": after["status"]["conditions"]}
    assert condition(after, "Ready") == "True"
    filters = {"label": f"io.kubernetes.pod.uid={gone['metadata']['uid']}"}
    the_node.eventually(lambda: not engine.containers.list(all=True, filters=filters), what="orphan not removed")
    the_node.delete(crash, gracePeriodSeconds=0)


def test_the_server_wants_a_certificate_of_an_administrator(the_node: Node) -> None:
    def get(name: str | None) -> int:
        import ssl
        import urllib.error
        import urllib.request

        context = ssl.create_default_context(cafile=str(the_node.folder / "pki" / "ca.crt"))
        if name:
            pki = the_node.folder / "pki"
            context.load_cert_chain(pki / f"{name}.crt", pki / f"{name}.key")
        try:
            with urllib.request.urlopen("https://127.0.0.1:10250/pods", context=context, timeout=10) as answer:
                json.load(answer)
                return int(answer.status)
        except urllib.error.HTTPError as err:
            return err.code

    assert [the_node.inside(get, name) for name in (None, "nobody", "admin")] == [401, 403, 200]


def test_the_grpc_service_tells_status_and_logs_to_administrators(the_node: Node, name: str) -> None:
    the_node.create(make_pod(name, f"echo hello; {STAY}"))
    the_node.wait_ready(name)
    script = """
import sys, grpc, pathlib
from kubarium.machinery.pb import kubelet_pb2 as pb, kubelet_pb2_grpc as rpc
pki, who, pod = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
read = lambda name: (pki / name).read_bytes()
credentials = grpc.ssl_channel_credentials(read("ca.crt"), read(who + ".key"), read(who + ".crt"))
with grpc.secure_channel("127.0.0.1:10251", credentials) as channel:
    kubelet = rpc.KubeletStub(channel)
    try:
        lines = {line.name: line for line in kubelet.Status(pb.KubeletStatusRequest(), timeout=10).pods}
        request = pb.LogsRequest(namespace="default", pod=pod, container="app", tail_lines=-1)
        text = b"".join(chunk.data for chunk in kubelet.Logs(request, timeout=10)).decode().strip()
        print(lines[pod].phase, lines[pod].containers[0].state, text)
    except grpc.RpcError as err:
        print(err.code().name)
"""

    def ask(who: str) -> str:
        argv = [sys.executable, "-c", script, str(the_node.folder / "pki"), who, name]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout.strip()

    assert the_node.inside(ask, "admin") == "Running running hello"
    assert the_node.inside(ask, "nobody") == "PERMISSION_DENIED"


def test_a_kubelet_killed_again_and_again_under_load_makes_each_pod_once(
    the_node: Node, engine: docker.DockerClient, name: str
) -> None:
    names = [f"{name}-{number}" for number in range(6)]
    uids = []
    for number, pod in enumerate(names):
        uids.append(the_node.create(make_pod(pod))["metadata"]["uid"])
        if number % 2:
            the_node.kill_kubelet()
            the_node.start_kubelet()
    pods = [the_node.wait_ready(pod) for pod in names]
    assert len({pod["status"]["podIP"] for pod in pods}) == len(names)
    for uid in uids:
        running = engine.containers.list(filters={"label": f"io.kubernetes.pod.uid={uid}"})
        assert sorted(c.labels["io.kubarium.kind"] for c in running) == ["container", "sandbox"]
    for pod in names:
        the_node.delete(pod)
    the_node.kill_kubelet()
    the_node.start_kubelet()
    for pod in names:
        the_node.wait_gone(pod)
    for uid in uids:
        assert engine.containers.list(all=True, filters={"label": f"io.kubernetes.pod.uid={uid}"}) == []


def test_an_api_server_that_cannot_be_reached_stops_no_pod(
    the_node: Node, engine: docker.DockerClient, name: str
) -> None:
    the_node.create(make_pod(name))
    container = status(the_node.wait_ready(name))["containerID"].removeprefix("docker://")
    assert the_node.server is not None
    the_node.kill_kubelet()
    the_node.server.process.send_signal(signal.SIGSTOP)
    try:
        before = the_node.log.stat().st_size
        the_node.start_kubelet()
        failed = lambda: "not registered yet" in the_node.log.read_text()[before:]  # noqa: E731
        the_node.eventually(failed, what="a failed call", limit_s=60)
        assert engine.containers.get(container).status == "running"
    finally:
        the_node.server.process.send_signal(signal.SIGCONT)
    the_node.wait_ready(name)
    assert engine.containers.get(container).status == "running"


def test_removing_the_pods_on_exit(the_node: Node, engine: docker.DockerClient, name: str) -> None:
    the_node.create(make_pod(name))
    the_node.wait_ready(name)
    the_node.kill_kubelet()
    the_node.start_kubelet("--remove-pods-on-exit")
    the_node.eventually(lambda: "10250" in the_node.inside(_listening), what="second kubelet")
    the_node.eventually(the_node.is_ready, what="node ready")
    the_node.kill_kubelet(signal.SIGTERM)
    label = f"{LABEL_CLUSTER}={the_node.scope.cluster}"
    assert engine.containers.list(all=True, filters={"label": label}) == []
    the_node.start_kubelet()
    the_node.wait_ready(name)


def _listening() -> str:
    return subprocess.run(["ss", "-ltn"], capture_output=True, text=True, check=True).stdout


def with_token(pod: dict) -> dict:
    """What the ServiceAccount admission adds to a pod (a stand-alone API server leaves it out)."""
    pod["spec"]["serviceAccountName"] = "default"
    mount_token(pod["spec"], "kube-api-access-test")
    return pod


def _exec(the_node: Node, name: str, script: str) -> int:
    from kubarium.testing.kubectl import kubectl_path

    return the_node.kubectl(kubectl_path(), "exec", name, "--", "/bin/sh", "-c", script).returncode


def test_the_lease_is_renewed_and_the_node_described(the_node: Node) -> None:
    lease = the_node.ok("GET", f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}")
    assert lease["spec"]["holderIdentity"] == NODE
    found = the_node.ok("GET", f"/api/v1/nodes/{NODE}")
    assert found["metadata"]["labels"]["kubernetes.io/hostname"] == NODE
    assert found["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.36.")
    assert int(found["status"]["capacity"]["cpu"]) == os.cpu_count()
