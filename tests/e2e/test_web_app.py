"""The main job: the web app of the examples on a local cluster of one control plane and two workers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.e2e import web_app
from tests.e2e.lab import KUBARIUM, WEB_APP, Lab, eventually, run

TWO_CONTAINERS = """
apiVersion: v1
kind: Pod
metadata: {name: two-containers}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: server
      image: busybox
      imagePullPolicy: IfNotPresent
      command: [sh, -c, "mkdir /www; echo hello next door >/www/index.html; exec httpd -fp 127.0.0.1:7000 -h /www"]
    - name: client
      image: busybox
      imagePullPolicy: IfNotPresent
      command: [sleep, infinity]
"""


@pytest.fixture(scope="module")
def web(lab: Lab) -> Lab:
    web_app.start(lab)
    return lab


@pytest.mark.parametrize("check", web_app.ALL, ids=lambda check: check.__name__.removeprefix("check_"))
def test_web_app(web: Lab, check: Callable[[Lab], None]) -> None:
    check(web)


def kubarium(lab: Lab, *args: str) -> str:
    return run([KUBARIUM, "--cluster", lab.name, *args])


def test_kubarium_prints_the_columns_of_kubectl(web: Lab) -> None:
    for args in (["get", "pods"], ["get", "pods", "-o", "wide"], ["get", "svc"], ["get", "nodes", "-o", "wide"]):
        ours, theirs = kubarium(web, *args).splitlines(), web.kubectl(*args).splitlines()
        assert ours[0].split() == theirs[0].split()
        assert [line.split()[0] for line in ours] == [line.split()[0] for line in theirs]


def test_the_same_manifests_applied_again_change_nothing(web: Lab) -> None:
    lines = kubarium(web, "apply", "-f", WEB_APP).splitlines()
    assert lines
    assert all(line.endswith("unchanged") for line in lines), lines


def test_kubarium_scale(web: Lab) -> None:
    assert "scaled" in kubarium(web, "scale", "deployment/web-app", "--replicas=2")
    eventually(lambda: len(web.endpoints("web-service")) == 2, "two endpoints")
    kubarium(web, "scale", "deployment/web-app", "--replicas=3")
    kubarium(web, "rollout", "status", "deployment/web-app")


def test_the_ingress_is_stored_as_it_was_sent(web: Lab) -> None:
    rule = web.get("ingress", "web-ingress")["spec"]["rules"][0]
    assert rule["host"] == "myapp.example.com"
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": "web-service", "port": {"number": 80}}


def test_containers_of_a_pod_meet_on_localhost(lab: Lab) -> None:
    lab.kubectl("apply", "-f", "-", stdin=TWO_CONTAINERS)
    lab.kubectl("wait", "--for=condition=Ready", "pod/two-containers", "--timeout=60s")
    ask = ["timeout", "5", "wget", "-qO-", "http://127.0.0.1:7000/"]
    answer = eventually(lambda: lab.in_pod("two-containers", *ask, container="client"), "an answer on localhost")
    assert answer.strip() == "hello next door"
    lab.kubectl("delete", "pod", "two-containers")


def test_a_service_without_endpoints_refuses_at_once(lab: Lab, web: Lab) -> None:
    manifest = """
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
"""
    lab.kubectl("apply", "-f", "-", stdin=manifest)
    address = lab.get("service", "nobody")["spec"]["clusterIP"]

    def refused() -> bool:
        argv = [*lab.node_prefix("node-1"), "curl", "-sS", "-m", "5", f"http://{address}/"]
        return subprocess.run(argv, capture_output=True, timeout=20).returncode == 7

    eventually(refused, "connection refused (curl's code 7)")
    lab.kubectl("delete", "service", "nobody")


def test_an_unknown_image_fails_to_pull_and_says_so(lab: Lab) -> None:
    lab.kubectl("run", "no-image", "--image=no-such-image.invalid/x:1", "--restart=Never")

    def reason() -> str:
        statuses = lab.get("pod", "no-image")["status"].get("containerStatuses") or [{}]
        return str(statuses[0].get("state", {}).get("waiting", {}).get("reason", ""))

    eventually(lambda: reason() in ("ErrImagePull", "ImagePullBackOff"), "ErrImagePull or ImagePullBackOff")
    lab.kubectl("delete", "pod", "no-image", "--force", "--grace-period=0")
