"""The commands on objects say and do what kubectl says and does, against a real API server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubarium.testing.apiserver import ApiServer
from tests.cli.conftest import Commands

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "web-app"
WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "nginx:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, annotations: {note: "yes"}}
data: {number: "1", text: "a\\nb\\n", date: "2026-01-31"}
"""
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: one}, finalizers: [example.com/hold]}
spec: {containers: [{name: main, image: busybox, command: [sleep, "1"]}]}
"""


def ok(cli: Commands, *words: str, stdin: str | None = None) -> str:
    done = cli.kubarium(*words, stdin=stdin)
    assert done.code == 0, done.err
    return done.out


@pytest.fixture
def web(cli: Commands) -> Commands:
    ok(cli, "apply", "-f", "-", stdin=WEB)
    return cli


def test_apply_creates_leaves_and_changes(cli: Commands) -> None:
    said = ok(cli, "apply", "-f", "-", stdin=WEB)
    assert said == "deployment.apps/web created\nservice/web created\nconfigmap/web created\n"
    assert ok(cli, "apply", "-f", "-", stdin=WEB) == said.replace("created", "unchanged")
    changed = WEB.replace("replicas: 3", "replicas: 2").replace("nginx:1", "nginx:2")
    assert ok(cli, "apply", "-f", "-", stdin=changed).splitlines()[0] == "deployment.apps/web configured"
    assert ok(cli, "get", "deploy", "web", "-o", "jsonpath={.spec.replicas} {..image}") == "2 nginx:2"


def test_apply_removes_what_left_the_manifest_and_keeps_what_others_set(web: Commands) -> None:
    ok(web, "label", "deploy", "web", "team=a")
    ok(web, "apply", "-f", "-", stdin=WEB.replace("labels: {app: web}}\nspec:\n  r", "labels: {x: y}}\nspec:\n  r"))
    labels = json.loads(ok(web, "get", "deploy", "web", "-o", "json"))["metadata"]["labels"]
    assert labels == {"team": "a", "x": "y"}


def test_kubectl_finds_nothing_to_do_after_our_apply(web: Commands, tmp_path: Path) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text(WEB)
    done = web.kubectl("apply", "--validate=false", "-f", str(manifest))
    assert done.out.count("unchanged") == 3, done


def test_apply_of_a_folder(cli: Commands) -> None:
    said = ok(cli, "apply", "-f", str(EXAMPLE))
    assert "deployment.apps/" in said and "ingress.networking.k8s.io/" in said and "service/" in said
    assert {line.split()[-1] for line in said.splitlines()} == {"created"}


@pytest.mark.parametrize(
    "words",
    [
        "svc",
        "svc web",
        "deploy -o wide",
        "deploy,svc",
        "all",
        "svc/web deploy/web",
        "cm web --show-labels",
        "svc --no-headers",
        "svc -L app",
        "deploy -l app=web",
        "deploy -l app=none",
        "pods",
        "pods -A",
        "ns",
        "svc nope",
        "deploy web nope",
        "svc -o name",
        "deploy,svc -o name",
        "cm web -o yaml",
        "cm web -o json",
        "deploy,svc,cm -o yaml",
        "svc -o jsonpath={.items[*].spec.ports[*].port}",
        "nonsense",
        "svc --nonsense",
        "svc -o custom-columns=NAME:.metadata.name,PORT:.spec.ports[*].port",
        "svc --sort-by=.metadata.name",
        "cm --field-selector metadata.name=web",
        "deployments.apps",
        "deployment.v1.apps web",
        "svc --ignore-not-found nope",
    ],
)
def test_get_prints_what_kubectl_prints(web: Commands, words: str) -> None:
    web.same("get", *words.split())


@pytest.mark.parametrize("words", ["svc web", "deploy web", "cm web", "svc/web cm/web", "pods", "pod nope", "sa nope"])
def test_describe_prints_what_kubectl_prints(web: Commands, words: str) -> None:
    web.same("describe", *words.split())


def test_api_resources_are_those_that_kubectl_lists(cli: Commands) -> None:
    for words in ([], ["-o", "wide"], ["-o", "name"], ["--namespaced=false"]):
        ours, theirs = cli.kubarium("api-resources", *words), cli.kubectl("api-resources", *words)
        assert ours.out == theirs.out


def test_version_names_both_sides(cli: Commands) -> None:
    said = ok(cli, "version")
    assert "Client Version: v" in said and "Server Version: v" in said


def test_bad_manifests_are_refused_with_field_and_file(cli: Commands, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(WEB.replace("replicas: 3", "replicas: -1"))
    done = cli.kubarium("apply", "-f", str(bad))
    assert done.code == 1 and done.out.splitlines() == ["service/web created", "configmap/web created"]
    assert done.err == (
        'The Deployment "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0\n'
    )
    bad.write_text(WEB.replace("replicas:", "replicaz:"))
    assert f'error when creating "{bad}"' in cli.kubarium("apply", "-f", str(bad)).err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "error parsing STDIN: error converting YAML to JSON: yaml: line"),
        ("apiVersion: v1", "Object 'Kind' is missing"),
        ("apiVersion: x/v1\nkind: Foo\nmetadata: {name: f}", 'no matches for kind "Foo" in version "x/v1"'),
        ("", "no objects passed to apply"),
        ("- 1", "expected an object, found list"),
    ],
)
def test_what_is_no_manifest_is_said_in_one_line(cli: Commands, text: str, complaint: str) -> None:
    done = cli.kubarium("apply", "-f", "-", stdin=text)
    assert done.code == 1 and complaint in done.err and "Traceback" not in done.err


def test_a_manifest_that_is_no_text(cli: Commands, tmp_path: Path) -> None:
    (tmp_path / "random.yaml").write_bytes(b"kind: \xff\xfe")
    done = cli.kubarium("apply", "-f", str(tmp_path / "random.yaml"))
    assert (done.code, done.err) == (1, f"error: error parsing {tmp_path}/random.yaml: not text in UTF-8 (byte 6)\n")


def test_create_from_flags(cli: Commands) -> None:
    assert ok(cli, "create", "configmap", "c", "--from-literal=a=1") == "configmap/c created\n"
    assert ok(cli, "create", "secret", "generic", "s", "--from-literal=p=x") == "secret/s created\n"
    assert ok(cli, "create", "deployment", "d", "--image=nginx:1", "--replicas=2") == "deployment.apps/d created\n"
    assert ok(cli, "get", "secret", "s", "-o", "jsonpath={.data.p}") == "eA=="
    assert ok(cli, "get", "deploy", "d", "-o", "jsonpath={.spec.replicas} {..containers[0].name}") == "2 nginx"
    done = cli.kubarium("create", "configmap", "c")
    assert (done.code, done.err) == (1, 'Error from server (AlreadyExists): configmaps "c" already exists\n')


def test_scale(web: Commands) -> None:
    assert ok(web, "scale", "deploy/web", "--replicas=5") == "deployment.apps/web scaled\n"
    assert ok(web, "get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "5"
    done = web.kubarium("scale", "deploy/web", "--replicas=6", "--current-replicas=1")
    assert done.err == "error: Expected replicas to be 1, was 5\n"
    done = web.kubarium("scale", "svc/web", "--replicas=2")
    assert done.err == "error: services cannot be scaled: they have no number of replicas\n"
    web.same("scale", "deploy/nope", "--replicas=2")


def test_label(web: Commands) -> None:
    assert ok(web, "label", "svc", "web", "tier=a", "x/y=b") == "service/web labeled\n"
    assert ok(web, "label", "svc", "web", "tier=a") == "service/web not labeled\n"
    assert web.kubarium("label", "svc", "web", "tier=b").err == (
        "error: 'tier' already has a value (a), and --overwrite is false\n"
    )
    assert web.kubarium("label", "svc", "web", "tier=b=c").err.startswith('error: invalid label value: "tier=b=c": ')
    assert ok(web, "label", "svc", "web", "tier=b", "--overwrite") == "service/web labeled\n"
    assert ok(web, "label", "svc", "web", "tier-", "x/y-") == "service/web unlabeled\n"


def test_delete_waits_until_finalizers_are_done(cli: Commands, shared_apiserver: ApiServer) -> None:
    ok(cli, "apply", "-f", "-", stdin=POD)
    said = f'pod "one" deleted from {cli.namespace} namespace\n'
    done = cli.kubarium("delete", "pod", "one", "--now", "--timeout=1s")
    assert (done.code, done.out) == (1, said)
    assert done.err == "error: timed out waiting for the condition on pods/one\n"
    path = f"/api/v1/namespaces/{cli.namespace}/pods/one"
    assert shared_apiserver.patch(path, {"metadata": {"finalizers": None}}).status == 200
    assert cli.kubarium("delete", "pod", "one", "--force").code in (0, 1)
    cli.same("get", "pod", "one")


def test_delete_by_selector_and_what_is_missing(web: Commands) -> None:
    web.same("delete", "svc", "nope")
    assert ok(web, "delete", "svc", "nope", "--ignore-not-found") == ""
    assert ok(web, "delete", "deploy,svc", "-l", "app=web").startswith('deployment.apps "web" deleted from')
    assert ok(web, "get", "deploy", "-o", "name") == ""


def test_wait(web: Commands, shared_apiserver: ApiServer) -> None:
    assert ok(web, "wait", "deploy/web", "--for=jsonpath={.spec.replicas}=3") == "deployment.apps/web condition met\n"
    web.same("wait", "deploy/web", "--for=condition=Available", "--timeout=1s")
    web.same("wait", "pod/nope", "--for=condition=Ready", "--timeout=1s")
    assert "expected for example jsonpath=" in web.kubarium("wait", "deploy/web", "--for=jsonpath={.x").err
    assert ok(web, "wait", "deploy/web", "--for=create") == "deployment.apps/web condition met\n"
    path = f"/apis/apps/v1/namespaces/{web.namespace}/deployments/web/status"
    status = {"observedGeneration": 1, "conditions": [{"type": "Available", "status": "True"}]}
    assert shared_apiserver.patch(path, {"status": status}).status == 200
    web.same("wait", "deploy/web", "--for=condition=Available", "--timeout=5s")


def test_rollout_status(web: Commands, shared_apiserver: ApiServer) -> None:
    path = f"/apis/apps/v1/namespaces/{web.namespace}/deployments/web/status"
    web.same("rollout", "status", "deploy/web", "--watch=false")
    counts = {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 1}
    assert shared_apiserver.patch(path, {"status": counts}).status == 200
    web.same("rollout", "status", "deploy/web", "--watch=false")
    web.same("rollout", "status", "deploy/web", "--timeout=1s")
    assert shared_apiserver.patch(path, {"status": {"availableReplicas": 3}}).status == 200
    web.same("rollout", "status", "deploy/web")


def test_no_server_is_one_line(cli: Commands, tmp_path: Path) -> None:
    document = json.loads(cli.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    other = tmp_path / "kubeconfig"
    other.write_text(json.dumps(document))
    for words in (["get", "pods"], ["apply", "-f", str(EXAMPLE)], ["logs", "x"]):
        done = cli.kubarium(*words, "--kubeconfig", str(other))
        assert done.code == 1 and done.err.count("\n") == 1, done.err
        assert "https://127.0.0.1:1 does not answer: connection refused" in done.err


def test_a_cluster_that_is_not_there_says_how_to_start_it(cli: Commands) -> None:
    done = cli.kubarium("get", "pods", "--cluster", "nowhere")
    assert done.code == 1 and done.err.count("\n") == 1
    assert 'there is no cluster "nowhere"' in done.err and "kubarium up --name nowhere" in done.err
