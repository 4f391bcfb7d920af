"""Field management over HTTPS, against a real server process, and by kubectl."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubarium.testing.apiserver import Answer, ApiServer
from tests.apiserver.test_fieldmanager_updates import owned

Kubectl = Callable[..., str]
APPLY = "application/apply-patch+yaml"
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: nginx}
"""


@pytest.fixture
def ns(shared_apiserver: ApiServer) -> str:
    """A namespace of this test's own."""
    name = f"t-{secrets.token_hex(4)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert shared_apiserver.post("/api/v1/namespaces", body).status == 201
    return name


@pytest.fixture
def kc(shared_apiserver: ApiServer, kubectl: Path, ns: str) -> Kubectl:
    """Run kubectl in that namespace: what it prints, after the exit code has been checked."""
    env = {
        "KUBECONFIG": str(shared_apiserver.kubeconfig),
        "HOME": str(shared_apiserver.log.parent),
        "PATH": os.environ["PATH"],
    }

    def run(*args: str, stdin: str | None = None, code: int = 0) -> str:
        argv = [str(kubectl), "-n", ns, *args]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, env=env, check=False)
        assert done.returncode == code, f"{args}: {done.stdout}{done.stderr}"
        return done.stderr if code and not done.stdout else done.stdout

    return run


def deployments(ns: str) -> str:
    return f"/apis/apps/v1/namespaces/{ns}/deployments"


def config_maps(ns: str) -> str:
    return f"/api/v1/namespaces/{ns}/configmaps"


def apply(server: ApiServer, path: str, body: Any, manager: str = "one", more: str = "") -> Answer:
    return server.call("PATCH", f"{path}?fieldManager={manager}{more}", body, content_type=APPLY)


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def test_apply_makes_changes_and_leaves_alone(shared_apiserver: ApiServer, ns: str) -> None:
    path = f"{config_maps(ns)}/a"
    made = apply(shared_apiserver, path, config_map(k="v"))
    assert (made.status, owned(made.body)) == (201, {"one": [".data.k"]})
    again = apply(shared_apiserver, path, config_map(k="v"))
    assert (again.status, again.body) == (200, made.body)
    changed = apply(shared_apiserver, path, config_map(k="w"))
    assert changed.body["metadata"]["resourceVersion"] != made.body["metadata"]["resourceVersion"]
    assert changed.body["metadata"]["uid"] == made.body["metadata"]["uid"]


def test_dry_run_applies_nothing(shared_apiserver: ApiServer, ns: str) -> None:
    path = f"{config_maps(ns)}/a"
    assert apply(shared_apiserver, path, config_map(k="v"), more="&dryRun=All").status == 201
    assert shared_apiserver.get(path).status == 404
    made = apply(shared_apiserver, path, config_map(k="v")).body
    assert apply(shared_apiserver, path, config_map(k="w"), more="&dryRun=All").body["data"] == {"k": "w"}
    assert shared_apiserver.get(path).body == made


def test_managers_are_named_by_option_or_user_agent(shared_apiserver: ApiServer, ns: str) -> None:
    made = shared_apiserver.post(config_maps(ns), config_map(k="v")).body
    assert owned(made) == {"Python-urllib": [".data", ".data.k"]}
    path = f"{config_maps(ns)}/a"
    new = shared_apiserver.patch(f"{path}?fieldManager=me", {"data": {"k": "w"}}).body
    assert owned(new) == {"Python-urllib": [".data"], "me": [".data.k"]}


def test_what_admission_and_the_server_add_is_nobodys(shared_apiserver: ApiServer, ns: str) -> None:
    ports = {"selector": {"a": "b"}, "ports": [{"port": 80}]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": ports}
    made = shared_apiserver.post(f"/api/v1/namespaces/{ns}/services", body).body
    assert made["spec"]["clusterIP"]
    assert not [path for path in owned(made)["Python-urllib"] if "IP" in path or "ip" in path]


def test_a_conflict_and_force(shared_apiserver: ApiServer, ns: str) -> None:
    path = f"{deployments(ns)}/web"
    assert apply(shared_apiserver, path, WEB).status == 201
    three = WEB.replace("replicas: 2", "replicas: 3")
    refused = apply(shared_apiserver, path, three, "two")
    assert (refused.status, refused.body["reason"]) == (409, "Conflict")
    assert refused.body["message"] == 'Apply failed with 1 conflict: conflict with "one": .spec.replicas'
    assert apply(shared_apiserver, path, three, "two", "&force=true").body["spec"]["replicas"] == 3


def test_scale_has_an_owner_of_its_own(shared_apiserver: ApiServer, ns: str) -> None:
    path = f"{deployments(ns)}/web"
    apply(shared_apiserver, path, WEB)
    assert shared_apiserver.patch(f"{path}/scale?fieldManager=hpa", {"spec": {"replicas": 5}}).status == 200
    found = owned(shared_apiserver.get(path).body)
    assert found["hpa/scale"] == [".spec.replicas"]
    assert ".spec.replicas" not in found["one"]
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 6}}
    refused = apply(shared_apiserver, f"{path}/scale", scale, "two")
    assert refused.body["message"].endswith(
        'conflict with "hpa" with subresource "scale" using autoscaling/v1: .spec.replicas'
    )
    assert apply(shared_apiserver, f"{path}/scale", scale, "two", "&force=true").body["spec"] == {"replicas": 6}
    assert owned(shared_apiserver.get(path).body)["two/scale"] == [".spec.replicas"]


def test_a_status_is_applied_alone(shared_apiserver: ApiServer, ns: str) -> None:
    path = f"{deployments(ns)}/web"
    assert apply(shared_apiserver, f"{path}/status", WEB + "status: {replicas: 1}\n").status == 404
    apply(shared_apiserver, path, WEB)
    text = WEB.replace("replicas: 2", "replicas: 9") + "status: {replicas: 1}\n"
    new = apply(shared_apiserver, f"{path}/status", text, "two").body
    assert (new["spec"]["replicas"], new["status"]["replicas"]) == (2, 1)
    assert owned(new)["two/status"] == [".status.replicas"]


def test_binding_takes_no_field_from_anybody(shared_apiserver: ApiServer, ns: str) -> None:
    pods = f"/api/v1/namespaces/{ns}/pods"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    pod["spec"]["containers"][0]["image"] = "x"  # type: ignore[index]
    before = shared_apiserver.post(pods, pod).body
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n"}}
    assert shared_apiserver.post(f"{pods}/p/binding", binding).status == 201
    assert owned(shared_apiserver.get(f"{pods}/p").body) == owned(before)


@pytest.mark.parametrize("nothing", [[], [{}]], ids=["no entry", "one empty entry"])
def test_entries_are_reset(shared_apiserver: ApiServer, ns: str, nothing: list[dict[str, Any]]) -> None:
    shared_apiserver.post(config_maps(ns), config_map(k="v"))
    path = f"{config_maps(ns)}/a"
    assert owned(shared_apiserver.patch(path, {"metadata": {"managedFields": None}}).body)
    assert not owned(shared_apiserver.patch(path, {"metadata": {"managedFields": nothing}}).body)


def test_a_resource_version_guards_an_apply(shared_apiserver: ApiServer, ns: str) -> None:
    path = f"{config_maps(ns)}/a"
    made = apply(shared_apiserver, path, config_map(k="v")).body
    config = config_map(k="w")
    config["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    assert apply(shared_apiserver, path, config).status == 200
    refused = apply(shared_apiserver, path, config)
    assert (refused.status, "object has been modified" in refused.body["message"]) == (409, True)


@pytest.mark.parametrize(
    ("query", "kind", "message"),
    [
        ("", APPLY, "fieldManager: Required value: is required for apply patch"),
        ("fieldManager=a%01", APPLY, "invalid character"),
        ("force=true", "application/merge-patch+json", "may not be specified for non-apply patch"),
    ],
)
def test_options_that_are_refused(shared_apiserver: ApiServer, ns: str, query: str, kind: str, message: str) -> None:
    answer = shared_apiserver.call("PATCH", f"{config_maps(ns)}/a?{query}", config_map(k="v"), content_type=kind)
    assert (answer.status, message in answer.body["message"]) == (422, True), answer.body


# --- kubectl


def test_kubectl_applies_on_the_server(kc: Kubectl) -> None:
    apply_ = ("apply", "--server-side", "-f", "-")
    assert kc(*apply_, stdin=WEB) == "deployment.apps/web serverside-applied\n"
    assert kc(*apply_, stdin=WEB) == "deployment.apps/web serverside-applied\n"
    kc("scale", "deploy", "web", "--replicas=5")
    assert "conflict with" in kc(*apply_, stdin=WEB, code=1)
    kc(*apply_, "--force-conflicts", stdin=WEB)
    assert kc("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "2"


@pytest.mark.parametrize("more", [(), ("--server-side",)], ids=["client's side", "server's side"])
def test_kubectl_diff(kc: Kubectl, more: tuple[str, ...]) -> None:
    kc("apply", *more, "-f", "-", stdin=WEB)
    assert kc("diff", *more, "-f", "-", stdin=WEB) == ""
    found = kc("diff", *more, "-f", "-", stdin=WEB.replace("replicas: 2", "replicas: 3"), code=1)
    assert "-  replicas: 2\n+  replicas: 3\n" in found


def test_kubectl_moves_from_the_clients_side_to_the_servers(kc: Kubectl) -> None:
    kc("apply", "-f", "-", stdin=WEB)
    kc("apply", "--server-side", "-f", "-", stdin=WEB.replace("nginx", "apache"))
    found = json.loads(kc("get", "deploy", "web", "-o", "json", "--show-managed-fields"))
    assert {entry["operation"] for entry in found["metadata"]["managedFields"]} == {"Apply"}
    assert ".spec.replicas" in owned(found)["kubectl"]
    kc("apply", "--server-side", "-f", "-", stdin=WEB.replace("  replicas: 2\n", ""))
    assert kc("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "1"


def test_kubectl_hides_entries_unless_asked(kc: Kubectl) -> None:
    kc("create", "cm", "a", "--from-literal=k=v")
    assert "managedFields" not in kc("get", "cm", "a", "-o", "yaml")
    assert "manager: kubectl-create" in kc("get", "cm", "a", "-o", "yaml", "--show-managed-fields")
