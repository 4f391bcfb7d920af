"""An unmodified kubectl against a server alone: what people type, and what it prints."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubarium.testing.apiserver import ApiServer

WEB_APP = Path(__file__).parents[2] / "examples" / "web-app"
Kubectl = Callable[..., str]

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: "%s"}
"""


@pytest.fixture(scope="module")
def kc(shared_apiserver: ApiServer, kubectl: Path) -> Kubectl:
    """Run kubectl; what it prints. AssertionError with all of it when it fails."""
    env = {
        "KUBECONFIG": str(shared_apiserver.kubeconfig),
        "HOME": str(shared_apiserver.log.parent),
        "PATH": os.environ["PATH"],
    }

    def run(*args: str, stdin: str | None = None, fails: bool = False) -> str:
        argv = [str(kubectl), *args]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, env=env, check=False)
        assert bool(done.returncode) == fails, f"{args}: {done.stdout}{done.stderr}"
        return done.stderr if fails else done.stdout

    return run


def report(server: ApiServer, replicas: int) -> None:
    """What the controllers and kubelets would write into the Deployment's status."""
    path = "/apis/apps/v1/namespaces/default/deployments/web-app"
    names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    status: dict[str, Any] = dict.fromkeys(names, replicas)
    status["observedGeneration"] = server.get(path).body["metadata"]["generation"]
    status["conditions"] = [{"type": "Available", "status": "True"}]
    assert server.patch(f"{path}/status", {"status": status}).status == 200


def test_apply_creates_changes_and_leaves_alone(kc: Kubectl) -> None:
    apply = ("apply", "-f", "-")
    assert kc(*apply, stdin=CONFIG_MAP % "red") == "configmap/settings created\n"
    assert kc(*apply, stdin=CONFIG_MAP % "red") == "configmap/settings unchanged\n"
    assert kc(*apply, stdin=CONFIG_MAP % "blue") == "configmap/settings configured\n"
    assert kc("get", "cm", "settings", "-o", "jsonpath={.data.color}") == "blue"
    assert kc("delete", "cm", "settings") == 'configmap "settings" deleted from default namespace\n'
    assert "NotFound" in kc("get", "cm", "settings", fails=True)


def test_apply_of_a_bad_manifest_says_what_is_wrong(kc: Kubectl) -> None:
    bad = CONFIG_MAP % "red" + "dta: {}\n"
    assert 'unknown field "dta"' in kc("apply", "-f", "-", stdin=bad, fails=True)
    assert "cannot unmarshal" in kc("apply", "-f", "-", stdin=CONFIG_MAP.replace('"%s"', "[1]"), fails=True)


def test_the_web_app_of_the_examples(kc: Kubectl, shared_apiserver: ApiServer) -> None:
    kc("apply", "-f", str(WEB_APP))
    header = kc("get", "svc").splitlines()[0].split()
    assert header == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert "web-app" in kc("get", "deploy", "-o", "wide")
    assert "3 desired" in kc("describe", "deploy", "web-app")
    assert kc("scale", "deploy/web-app", "--replicas=5") == "deployment.apps/web-app scaled\n"
    report(shared_apiserver, 5)
    assert "successfully rolled out" in kc("rollout", "status", "deploy/web-app", "--timeout=20s")
    assert "condition met" in kc("wait", "--for=condition=Available", "deploy/web-app", "--timeout=20s")
    assert kc("label", "deploy/web-app", "tier=front") == "deployment.apps/web-app labeled\n"
    assert "web-app" in kc("get", "deploy", "-l", "tier=front", "-o", "name")
    assert kc("annotate", "deploy/web-app", "note=x").endswith("annotated\n")
    kc("delete", "-f", str(WEB_APP))
    assert kc("get", "deploy,ingress") == ""


def test_get_watches(kc: Kubectl, kubectl: Path, shared_apiserver: ApiServer) -> None:
    argv = [str(kubectl), "get", "cm", "-w", "--no-headers", "-o", "name", "--field-selector=metadata.name=watched"]
    env = {"KUBECONFIG": str(shared_apiserver.kubeconfig), "HOME": str(shared_apiserver.log.parent)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        kc("apply", "-f", "-", stdin=(CONFIG_MAP % "red").replace("settings", "watched"))
        assert process.stdout.readline() == "configmap/watched\n"
        process.terminate()


def test_wait_for_deletion(kc: Kubectl, shared_apiserver: ApiServer) -> None:
    kc("apply", "-f", "-", stdin=(CONFIG_MAP % "red").replace("settings", "ending"))
    kc("delete", "cm", "ending", "--wait=false")
    kc("wait", "--for=delete", "cm/ending", "--timeout=20s")


def test_api_resources_and_explain(kc: Kubectl) -> None:
    resources = kc("api-resources", "--no-headers").splitlines()
    assert any(line.split()[:2] == ["deployments", "deploy"] for line in resources)
    text = kc("explain", "pod.spec.containers.image")
    assert "Container image name" in text
    assert "FIELD: image <string>" in text


def test_diff_and_patch(kc: Kubectl) -> None:
    kc("apply", "-f", "-", stdin=CONFIG_MAP % "red")
    kc("patch", "cm", "settings", "--type=json", "-p", '[{"op":"replace","path":"/data/color","value":"green"}]')
    assert kc("get", "cm", "settings", "-o", "go-template={{.data.color}}") == "green"
    kc(
        "diff",
        "-f",
        "-",
        stdin=(CONFIG_MAP % "green").replace("metadata: {name: settings}", "metadata: {name: settings}"),
    )
    kc("delete", "cm", "settings")


def test_version_and_namespaces(kc: Kubectl) -> None:
    assert "Server Version: v1.36" in kc("version")
    kc("apply", "-f", "-", stdin="{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")
    assert kc("get", "ns", "shop", "--no-headers").split()[:2] == ["shop", "Active"]


def test_reviews_are_explained_too(kc: Kubectl) -> None:
    assert "TokenReview attempts to authenticate a token" in kc("explain", "tokenreviews")
    assert "checks whether or not a user or group" in kc("explain", "localsubjectaccessreviews")
