"""An unmodified kubectl that sends protobuf: what it makes itself, rather than reads from a file, goes that way."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubarium.testing.apiserver import ApiServer

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def kc(shared_apiserver: ApiServer, kubectl: Path) -> Kubectl:
    """Run kubectl; what it prints. AssertionError with all of it when it fails."""
    env = {
        "KUBECONFIG": str(shared_apiserver.kubeconfig),
        "HOME": str(shared_apiserver.log.parent),
        "PATH": os.environ["PATH"],
    }

    def run(*args: str, fails: bool = False) -> str:
        argv = [str(kubectl), *args]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env, check=False)
        assert bool(done.returncode) == fails, f"{args}: {done.stdout}{done.stderr}"
        return done.stderr if fails else done.stdout

    return run


@pytest.fixture(scope="module")
def obj(kc: Kubectl) -> Callable[..., Any]:
    """An object as the API server has it."""
    return lambda *what: json.loads(kc("get", *what, "-o", "json"))


def test_the_body_is_protobuf(kc: Kubectl, kubectl: Path, shared_apiserver: ApiServer) -> None:
    env = {"KUBECONFIG": str(shared_apiserver.kubeconfig), "HOME": str(shared_apiserver.log.parent)}
    argv = [str(kubectl), "-v=8", "create", "namespace", "seen"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert done.stdout == "namespace/seen created\n"
    assert "Content-Type: application/vnd.kubernetes.protobuf" in done.stderr


def test_namespace(kc: Kubectl, obj: Callable[..., Any]) -> None:
    assert kc("create", "namespace", "made") == "namespace/made created\n"
    assert obj("ns", "made")["status"] == {"phase": "Active"}
    assert "AlreadyExists" in kc("create", "namespace", "made", fails=True)


def test_config_map(kc: Kubectl, obj: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\x00")
    kc("create", "configmap", "settings", "--from-literal=color=r\u00f6d", f"--from-file={tmp_path / 'bytes'}")
    found = obj("cm", "settings")
    assert (found["data"], found["binaryData"]) == ({"color": "r\u00f6d"}, {"bytes": "/wA="})


def test_secret(kc: Kubectl, obj: Callable[..., Any]) -> None:
    kc("create", "secret", "generic", "login", "--from-literal=user=ann", "--from-literal=empty=")
    found = obj("secret", "login")
    assert (found["type"], found["data"]) == ("Opaque", {"user": "YW5u", "empty": ""})


def test_service_account_and_its_token(kc: Kubectl) -> None:
    assert kc("create", "serviceaccount", "robot") == "serviceaccount/robot created\n"
    assert kc("create", "token", "robot", "--duration=1h").count(".") == 2


def test_deployment_and_expose(kc: Kubectl, obj: Callable[..., Any]) -> None:
    kc("create", "deployment", "web", "--image=nginx", "--replicas=2", "--port=80")
    spec = obj("deploy", "web")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert (spec["replicas"], spec["selector"]) == (2, {"matchLabels": {"app": "web"}})
    assert (container["image"], container["ports"]) == ("nginx", [{"containerPort": 80, "protocol": "TCP"}])
    assert kc("expose", "deployment", "web", "--port=8080", "--target-port=http") == "service/web exposed\n"
    service = obj("svc", "web")["spec"]
    assert service["ports"] == [{"port": 8080, "protocol": "TCP", "targetPort": "http"}]
    assert service["selector"] == {"app": "web"}


@pytest.mark.parametrize(
    ("kind", "port"),
    [
        pytest.param("clusterip", {"port": 80, "targetPort": 8080}, id="clusterip"),
        pytest.param("nodeport", {"port": 80, "targetPort": 8080, "nodePort": 30123}, id="nodeport"),
    ],
)
def test_service(kc: Kubectl, obj: Callable[..., Any], kind: str, port: dict[str, int]) -> None:
    node_port = [f"--node-port={port['nodePort']}"] if "nodePort" in port else []
    kc("create", "service", kind, f"by-{kind}", "--tcp=80:8080", *node_port)
    assert obj("svc", f"by-{kind}")["spec"]["ports"] == [port | {"name": "80-8080", "protocol": "TCP"}]


def test_ingress(kc: Kubectl, obj: Callable[..., Any]) -> None:
    kc("create", "ingress", "front", "--class=kubarium", "--rule=example.com/api*=web:8080")
    spec = obj("ingress", "front")["spec"]
    (rule,) = spec["rules"]
    assert (spec["ingressClassName"], rule["host"]) == ("kubarium", "example.com")
    assert rule["http"]["paths"] == [
        {"path": "/api", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 8080}}}}
    ]


def test_delete_with_options(kc: Kubectl) -> None:
    kc("create", "configmap", "short-lived")
    deleted = kc("delete", "cm", "short-lived", "--cascade=foreground", "--grace-period=0", "--wait=false")
    assert deleted.startswith('configmap "short-lived" deleted')


def test_who_and_what(kc: Kubectl) -> None:
    assert json.loads(kc("auth", "whoami", "-o", "json"))["status"]["userInfo"]["username"]
    assert kc("auth", "can-i", "create", "pods") == "yes\n"
