"""What admission adds to pods, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apiserver.admission.pods import NOT_READY, UNREACHABLE, add_tolerations, merge_tolerations
from apiserver.admission.serviceaccounts import TOKEN_FOLDER, mirror_fault, mount_token, secret_faults, wants_token
from kubarium.testing.apiserver import ApiServer, api_server

SECONDS = {NOT_READY: 3, UNREACHABLE: 4}
DEFAULT = "/api/v1/namespaces/default"


def toleration(key: str, seconds: int) -> dict[str, Any]:
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}


@pytest.mark.parametrize(
    ("own", "added"),
    [
        pytest.param([], [NOT_READY, UNREACHABLE], id="none"),
        pytest.param([{"operator": "Exists"}], [], id="everything tolerated"),
        pytest.param([toleration(NOT_READY, 9)], [UNREACHABLE], id="one"),
        pytest.param([{"key": NOT_READY, "effect": "NoSchedule"}], [NOT_READY, UNREACHABLE], id="another effect"),
    ],
)
def test_default_tolerations(own: list[dict[str, Any]], added: list[str]) -> None:
    spec: dict[str, Any] = {"tolerations": list(own)}
    add_tolerations(spec, SECONDS)
    assert spec["tolerations"] == own + [toleration(key, SECONDS[key]) for key in added]


@pytest.mark.parametrize(
    ("pod", "account", "expected"),
    [(None, None, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_the_pod_decides_about_its_token_before_the_account(
    pod: bool | None, account: bool | None, expected: bool
) -> None:
    name = "automountServiceAccountToken"
    assert wants_token({name: pod}, {name: account}) is expected


def test_the_token_is_mounted_where_nothing_else_is() -> None:
    own = {"name": "mine", "mountPath": TOKEN_FOLDER}
    spec: dict[str, Any] = {
        "initContainers": [{"name": "i"}],
        "containers": [{"name": "a", "volumeMounts": [own]}, {"name": "b"}],
    }
    mount_token(spec, "kube-api-access-x")
    assert [v["name"] for v in spec["volumes"]] == ["kube-api-access-x"]
    assert spec["containers"][0]["volumeMounts"] == [own]
    mounted = {"name": "kube-api-access-x", "readOnly": True, "mountPath": TOKEN_FOLDER}
    assert spec["containers"][1]["volumeMounts"] == spec["initContainers"][0]["volumeMounts"] == [mounted]


def pod(namespace: str = "default", **spec: Any) -> dict[str, Any]:
    meta = {"name": "p", "namespace": namespace}
    containers = [{"name": "c", "image": "x"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": containers, **spec}}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with all of admission: what a server alone leaves out is for clusters with controllers."""
    from kubarium.machinery import pki

    folder: Path = tmp_path_factory.mktemp("api")
    ca = pki.make_ca(folder)
    pki.issue(ca, "kube-apiserver", (), ("localhost",), ("127.0.0.1",), ("server",)).write(folder, "apiserver")
    _, public = pki.service_account_key(folder)
    flags = {
        "tls-cert-file": folder / "apiserver.crt",
        "tls-private-key-file": folder / "apiserver.key",
        "service-account-key-file": public,
        "default-not-ready-toleration-seconds": 3,
    }
    with api_server(folder / "api", *(f"--{k}={v}" for k, v in flags.items()), ca=folder / "ca.crt") as server:
        for name in ("default", "builder"):
            for namespace in ("default", "kube-system"):
                account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
                assert server.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", account).status == 201
        runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "host"}}
        assert server.post("/apis/node.k8s.io/v1/runtimeclasses", runtime | {"handler": "host"}).status == 201
        yield server


def test_a_pod_gets_account_token_priority_and_tolerations(strict: ApiServer) -> None:
    made = strict.post(f"{DEFAULT}/pods?dryRun=All", pod()).body
    spec = made["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    volume = spec["volumes"][0]
    assert volume["name"].startswith("kube-api-access-")
    assert volume["projected"]["sources"][1]["configMap"]["name"] == "kube-root-ca.crt"
    assert spec["containers"][0]["volumeMounts"][0]["mountPath"] == TOKEN_FOLDER
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert toleration(NOT_READY, 3) in spec["tolerations"]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        pytest.param({"serviceAccountName": "none"}, 'serviceaccount "none" not found', id="account"),
        pytest.param({"priorityClassName": "none"}, "no PriorityClass with name none was found", id="priority"),
        pytest.param({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found', id="runtime class"),
        pytest.param({"runtimeClassName": "host"}, "it may be used in kube-system only", id="host outside kube-system"),
    ],
)
def test_refused_pods(strict: ApiServer, spec: dict[str, Any], text: str) -> None:
    answer = strict.post(f"{DEFAULT}/pods", pod(**spec))
    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    assert text in answer.body["message"]


def test_system_pods_may_use_the_host_runtime_and_system_priorities(strict: ApiServer) -> None:
    wanted = pod("kube-system", runtimeClassName="host", priorityClassName="system-node-critical")
    made = strict.post("/api/v1/namespaces/kube-system/pods", wanted)
    assert (made.status, made.body["spec"]["priority"]) == (201, 2_000_001_000)


def test_nothing_is_made_in_a_namespace_that_is_not_there(strict: ApiServer) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    answer = strict.post("/api/v1/namespaces/none/configmaps", body)
    assert (answer.status, answer.body["message"]) == (404, 'namespaces "none" not found')


def test_the_kubernetes_service_leads_to_the_server_and_is_mended(tmp_path: Path) -> None:
    import time

    with api_server(tmp_path / "api", "--advertise-address", "198.18.7.10") as server:
        spec = server.get(f"{DEFAULT}/services/kubernetes").body["spec"]
        assert (spec["clusterIP"], spec["ports"][0]["port"]) == ("10.96.0.1", 443)
        endpoints = f"{DEFAULT}/endpoints/kubernetes"
        slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
        assert server.get(endpoints).body["subsets"][0]["addresses"] == [{"ip": "198.18.7.10"}]
        server.delete(slices)
        end = time.monotonic() + 15
        while (found := server.get(slices)).status != 200 and time.monotonic() < end:
            time.sleep(0.1)
        assert found.body["endpoints"][0]["addresses"] == ["198.18.7.10"]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        pytest.param({"serviceAccountName": "default"}, "may not reference service accounts", id="account"),
        pytest.param({"imagePullSecrets": [{"name": "s"}]}, "may not reference secrets", id="pull secret"),
        pytest.param(
            {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, "may not reference secrets", id="volume"
        ),
        pytest.param({"volumes": [{"name": "v", "csi": {"nodePublishSecretRef": {"name": "s"}}}]}, "secrets", id="csi"),
        pytest.param(
            {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]}, "secrets", id="environment"
        ),
        pytest.param(
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "may not use ServiceAccountToken volume projections",
            id="token",
        ),
        pytest.param({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}, "", id="nothing wrong"),
    ],
)
def test_what_mirror_pods_may_not_ask_for(spec: dict[str, Any], text: str) -> None:
    found = mirror_fault(spec)
    assert text in found
    assert bool(found) == bool(text)


def test_an_account_may_allow_its_own_secrets_only() -> None:
    account = {"metadata": {"name": "sa"}, "secrets": [{"name": "mine"}], "imagePullSecrets": [{"name": "pull"}]}
    env = [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "k"}}}]
    spec = {
        "volumes": [{"name": "a", "secret": {"secretName": "mine"}}, {"name": "b", "secret": {"secretName": "other"}}],
        "containers": [{"name": "c", "env": env}],
        "imagePullSecrets": [{"name": "pull"}, {"name": "x"}],
    }
    end = "is not allowed because service account sa does not reference that"
    assert list(secret_faults(spec, account)) == [
        f'volume with secret.secretName="other" {end} secret',
        f'container c with envVar E referencing secret.secretName="theirs" {end} secret',
        f'imagePullSecrets[1].name="x" {end} imagePullSecret',
    ]


def toleration_of(key: str = "", operator: str = "Exists", **more: Any) -> dict[str, Any]:
    return {**({"key": key} if key else {}), "operator": operator, **more}


@pytest.mark.parametrize(
    ("every", "kept"),
    [
        pytest.param([toleration_of("a"), toleration_of("a")], [0], id="equal"),
        pytest.param([toleration_of("a"), toleration_of()], [1], id="everything"),
        pytest.param([toleration_of("a", "Equal", value="v"), toleration_of("a")], [1], id="any value"),
        pytest.param([toleration_of("a", effect="NoSchedule"), toleration_of("a")], [1], id="any effect"),
        pytest.param(
            [toleration_of("a", effect="NoExecute", tolerationSeconds=5), toleration_of("a", effect="NoExecute")],
            [1],
            id="for ever",
        ),
        pytest.param([toleration_of("a"), toleration_of("b")], [0, 1], id="other keys"),
    ],
)
def test_tolerations_that_another_includes_are_dropped(every: list[dict[str, Any]], kept: list[int]) -> None:
    assert merge_tolerations(every) == [every[number] for number in kept]
