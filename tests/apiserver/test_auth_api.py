"""Who may do what, on a running server: roles, nodes, impersonation, tokens; as an administrator and as others."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubarium.testing.apiserver import Answer, ApiServer, api_server

RBAC = "/apis/rbac.authorization.k8s.io/v1"
API_CLIENT = "kubernetes.io/kube-apiserver-client"
Json = dict[str, Any]
_numbers = itertools.count()


@pytest.fixture
def space(shared_apiserver: ApiServer) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"auth-{next(_numbers)}"
    assert shared_apiserver.post("/api/v1/namespaces", {"metadata": {"name": name}}).status == 201
    yield name
    shared_apiserver.call("DELETE", f"/api/v1/namespaces/{name}")


class As:
    """Calls in the name of somebody else."""

    def __init__(self, server: ApiServer, user: str, **more: str) -> None:
        self._server = server
        named = {f"Impersonate-{key.capitalize()}": value for key, value in more.items()}
        self._headers = {"Impersonate-User": user, **named}

    def __call__(self, method: str, path: str, body: Any = None, **kwargs: Any) -> Answer:
        return self._server.call(method, path, body, headers=self._headers, **kwargs)


def make(server: ApiServer, path: str, body: Json) -> Json:
    answer = server.post(path, body)
    assert answer.status == 201, answer.body
    found: Json = answer.body
    return found


def give(server: ApiServer, space: str, user: str, *rules: Json, name: str = "r") -> None:
    """A Role and its binding."""
    make(server, f"{RBAC}/namespaces/{space}/roles", {"metadata": {"name": name}, "rules": list(rules)})
    body = {
        "metadata": {"name": name},
        "roleRef": {"kind": "Role", "name": name},
        "subjects": [{"kind": "User", "name": user}],
    }
    make(server, f"{RBAC}/namespaces/{space}/rolebindings", body)


def rule(
    *verbs: str, resources: tuple[str, ...] = ("configmaps",), group: str = "", names: tuple[str, ...] = ()
) -> Json:
    found = {"verbs": list(verbs), "apiGroups": [group], "resources": list(resources)}
    return found | ({"resourceNames": list(names)} if names else {})


def pod(node: str, **spec: Any) -> Json:
    return {"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}], **spec}}


# -- roles -------------------------------------------------------------------------------------------------------------


def test_who_has_just_been_given_a_role_may_use_it_and_no_longer_when_it_goes(
    shared_apiserver: ApiServer, space: str
) -> None:
    kim, path = As(shared_apiserver, f"kim-{space}"), f"/api/v1/namespaces/{space}/configmaps"
    refused = kim("GET", path)
    assert refused.status == 403
    assert refused.body["message"] == (
        f'configmaps is forbidden: User "kim-{space}" cannot list resource "configmaps" in API group "" in the '
        f'namespace "{space}"'
    )
    give(shared_apiserver, space, f"kim-{space}", rule("list"))
    assert kim("GET", path).status == 200
    assert kim("GET", f"{path}/x").status == 403
    assert shared_apiserver.call("DELETE", f"{RBAC}/namespaces/{space}/rolebindings/r").status == 200
    assert shared_apiserver.get(path).status == 200  # a consistent read: the deletion is known from here on
    assert kim("GET", path).status == 403


def test_a_role_for_one_object_opens_its_list_by_name_too(shared_apiserver: ApiServer, space: str) -> None:
    kim, path = As(shared_apiserver, f"kim-{space}"), f"/api/v1/namespaces/{space}/configmaps"
    give(shared_apiserver, space, f"kim-{space}", rule("get", "list", "watch", names=("a",)))
    assert kim("GET", f"{path}/a").status == 404
    assert kim("GET", f"{path}/b").status == 403
    assert kim("GET", f"{path}?fieldSelector=metadata.name%3Da").status == 200
    refused = kim("GET", f"{path}?fieldSelector=metadata.name%3Db")
    assert refused.status == 403
    assert refused.body["message"].startswith('configmaps "b" is forbidden')
    assert kim("GET", path).status == 403


def test_a_namespace_is_judged_in_itself(shared_apiserver: ApiServer, space: str) -> None:
    kim = As(shared_apiserver, f"kim-{space}")
    give(shared_apiserver, space, f"kim-{space}", rule("get", resources=("namespaces",)))
    assert kim("GET", f"/api/v1/namespaces/{space}").status == 200
    assert kim("GET", "/api/v1/namespaces/default").body["message"] == (
        f'namespaces "default" is forbidden: User "kim-{space}" cannot get resource "namespaces" in API group "" in '
        'the namespace "default"'
    )


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/apis/none.io/v1/things", 'things.none.io is forbidden: User "kim" cannot list'),
        ("POST", "/api/v1/namespaces/default/pods/x", 'pods "x" is forbidden: User "kim" cannot create'),
        ("GET", "/metrics", 'forbidden: User "kim" cannot get path "/metrics"'),
        ("GET", "/api/v1/namespaces/default/pods/p/log", 'pods "p" is forbidden: User "kim" cannot get resource'),
    ],
)
def test_who_may_not_ask_is_not_told_what_there_is(
    shared_apiserver: ApiServer, method: str, path: str, message: str
) -> None:
    answer = As(shared_apiserver, "kim")(method, path)
    assert answer.status == 403
    assert answer.body["message"].startswith(message)


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version"])
def test_health_and_version_are_for_everybody(shared_apiserver: ApiServer, path: str) -> None:
    assert shared_apiserver.get(path, token="").status == 200


@pytest.mark.parametrize("path", ["/api", "/apis", "/openapi/v2", "/healthz/ping", "/api/v1/namespaces"])
def test_anonymous_is_told_nothing_else(shared_apiserver: ApiServer, path: str) -> None:
    answer = shared_apiserver.get(path, token="")
    assert answer.status == 403
    assert 'User "system:anonymous" cannot' in answer.body["message"]


def test_nobody_gives_more_than_he_has(shared_apiserver: ApiServer, space: str) -> None:
    kim, base = As(shared_apiserver, f"kim-{space}"), f"{RBAC}/namespaces/{space}"
    group = "rbac.authorization.k8s.io"
    of_roles = rule("get", "create", "update", "patch", resources=("roles", "rolebindings"), group=group)
    give(shared_apiserver, space, f"kim-{space}", of_roles, rule("get"))
    assert kim("POST", f"{base}/roles", {"metadata": {"name": "same"}, "rules": [rule("get")]}).status == 201
    refused = kim("POST", f"{base}/roles", {"metadata": {"name": "more"}, "rules": [rule("get", "delete", "list")]})
    assert refused.status == 403
    assert refused.body["message"] == (
        f'roles.rbac.authorization.k8s.io "more" is forbidden: user "kim-{space}" (groups=["system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["configmaps"], Verbs:["delete" "list"]}'
    )
    bound = {"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "edit"}}
    assert kim("POST", f"{base}/rolebindings", bound).status == 201, "nothing has filled edit here"
    bound = {"metadata": {"name": "c"}, "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}}
    assert kim("POST", f"{base}/rolebindings", bound).status == 403
    binds = rule("bind", resources=("clusterroles",), group=group)
    give(shared_apiserver, space, f"kim-{space}", binds, name="binder")
    assert kim("POST", f"{base}/rolebindings", bound).status == 201


def test_the_garbage_collector_needs_no_more_than_to_write(shared_apiserver: ApiServer, space: str) -> None:
    kim, path = As(shared_apiserver, f"kim-{space}"), f"{RBAC}/namespaces/{space}/roles/big"
    group = "rbac.authorization.k8s.io"
    give(shared_apiserver, space, f"kim-{space}", rule("get", "patch", resources=("roles",), group=group))
    make(shared_apiserver, path.rpartition("/")[0], {"metadata": {"name": "big"}, "rules": [rule("*")]})
    merge = {"content_type": "application/merge-patch+json"}
    assert kim("PATCH", path, {"metadata": {"finalizers": ["x.io/y"]}}, **merge).status == 200
    assert kim("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, **merge).status == 403
    assert kim("PATCH", path, {"metadata": {"finalizers": None}}, **merge).status == 200


def test_default_roles_come_back_at_a_start_and_those_of_users_stay(tmp_path: Path) -> None:
    basic, view = f"{RBAC}/clusterroles/system:basic-user", f"{RBAC}/clusterroles/system:discovery"
    with api_server(tmp_path) as server:
        rules = server.get(basic).body["rules"]
        merge = {"content_type": "application/merge-patch+json"}
        server.call("PATCH", basic, {"rules": []}, **merge)
        own = {"rbac.authorization.kubernetes.io/autoupdate": "false"}
        server.call("PATCH", view, {"rules": [], "metadata": {"annotations": own}}, **merge)
        assert server.call("DELETE", f"{RBAC}/clusterrolebindings/system:node-proxier").status == 200
    with api_server(tmp_path) as server:
        found = server.get(basic).body["rules"]
        assert {json.dumps(one["resources"]) for one in found} >= {'["selfsubjectreviews"]'}
        assert len(found) >= len(rules)
        assert not server.get(view).body["rules"]
        assert server.get(f"{RBAC}/clusterrolebindings/system:node-proxier").status == 200


# -- nodes -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def node(shared_apiserver: ApiServer, space: str) -> Iterator[tuple[str, As]]:
    """A kubelet's calls, and the name of its node."""
    name = f"n-{space}"
    calls = As(shared_apiserver, f"system:node:{name}", group="system:nodes")
    yield name, calls
    shared_apiserver.call("DELETE", f"/api/v1/nodes/{name}")


def test_a_kubelet_reads_what_its_pods_need(shared_apiserver: ApiServer, space: str, node: tuple[str, As]) -> None:
    name, kubelet = node
    base = f"/api/v1/namespaces/{space}"
    for secret in ("used", "other"):
        make(shared_apiserver, f"{base}/secrets", {"metadata": {"name": secret}})
    assert kubelet("GET", f"{base}/secrets/used").status == 403
    volumes = [{"name": "v", "secret": {"secretName": "used"}}]
    make(shared_apiserver, f"{base}/pods", pod(name, volumes=volumes))
    assert kubelet("GET", f"{base}/secrets/used").status == 200
    refused = kubelet("GET", f"{base}/secrets/other")
    assert refused.status == 403
    assert refused.body["message"].endswith(f"no relationship found between node '{name}' and this object")
    assert kubelet("GET", f"{base}/secrets").status == 403
    assert kubelet("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{name}").status == 200
    assert kubelet("GET", "/api/v1/pods").status == 403
    shared_apiserver.call("DELETE", f"{base}/pods/p?gracePeriodSeconds=0")
    assert shared_apiserver.get(f"{base}/pods").status == 200
    assert kubelet("GET", f"{base}/secrets/used").status == 403


def test_a_kubelet_writes_its_own_node_only(shared_apiserver: ApiServer, node: tuple[str, As]) -> None:
    name, kubelet = node
    refused = kubelet("POST", "/api/v1/nodes", {"metadata": {"name": "another"}})
    assert refused.body["message"] == (
        f'nodes "another" is forbidden: node "{name}" is not allowed to modify node "another"'
    )
    labels = {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/os": "linux", "mine": "x"}
    refused = kubelet("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
    assert refused.body["message"].endswith(
        f'node "{name}" is not allowed to set the following labels: node-role.kubernetes.io/control-plane'
    )
    del labels["node-role.kubernetes.io/control-plane"]
    assert kubelet("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}}).status == 201
    merge = {"content_type": "application/merge-patch+json"}
    taints = [{"key": "a", "effect": "NoSchedule"}]
    refused = kubelet("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": taints}}, **merge)
    assert refused.body["message"].endswith(f'node "{name}" is not allowed to modify taints')
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert kubelet("PATCH", f"/api/v1/nodes/{name}/status", status, **merge).status == 200
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    assert kubelet("POST", lease, {"metadata": {"name": "another"}}).status == 403
    assert kubelet("POST", lease, {"metadata": {"name": name}}).status == 201


def test_a_kubelet_gets_tokens_for_its_pods_only(shared_apiserver: ApiServer, space: str, node: tuple[str, As]) -> None:
    name, kubelet = node
    base = f"/api/v1/namespaces/{space}"
    make(shared_apiserver, f"{base}/serviceaccounts", {"metadata": {"name": "web"}})
    sources = [{"serviceAccountToken": {"path": "t"}}, {"serviceAccountToken": {"path": "v", "audience": "vault"}}]
    volumes = [{"name": "v", "projected": {"sources": sources}}]
    found = make(shared_apiserver, f"{base}/pods", pod(name, serviceAccountName="web", volumes=volumes))
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": found["metadata"]["uid"]}
    path = f"{base}/serviceaccounts/web/token"

    def asked(**spec: Any) -> Answer:
        return kubelet("POST", path, {"spec": {"boundObjectRef": bound, **spec}})

    assert asked().status == 201
    assert asked(audiences=["vault"]).status == 201
    assert "not found in pod spec volume" in asked(audiences=["bank"]).body["message"]
    assert asked(boundObjectRef=None).body["message"].endswith("node requested token not bound to a pod")
    token = asked().body["status"]["token"]
    user = shared_apiserver.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, token=token).body
    extra = user["status"]["userInfo"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["p"]
    assert extra["authentication.kubernetes.io/node-name"] == [name]
    shared_apiserver.call("DELETE", f"{base}/pods/p?gracePeriodSeconds=0")
    assert shared_apiserver.get(f"{base}/pods").status == 200
    assert shared_apiserver.get("/api", token=token).status == 401


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_bootstrap_token_asks_for_a_certificate(shared_apiserver: ApiServer) -> None:
    data = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"}
    secret = {
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": data,
    }
    make(shared_apiserver, "/api/v1/namespaces/kube-system/secrets", secret)
    role = {"kind": "ClusterRole", "name": "system:node-bootstrapper"}
    subjects = [{"kind": "Group", "name": "system:bootstrappers"}]
    body = {"metadata": {"name": "join"}, "roleRef": role, "subjects": subjects}
    make(shared_apiserver, f"{RBAC}/clusterrolebindings", body)
    token = "abcdef.0123456789abcdef"
    requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    assert shared_apiserver.get(requests, token=token).status == 200
    assert (
        shared_apiserver.get("/api/v1/nodes", token=token)
        .body["message"]
        .startswith('nodes is forbidden: User "system:bootstrap:abcdef" cannot list')
    )
    assert shared_apiserver.get(requests, token="abcdef.0123456789abcdee").status == 401


# -- certificates ------------------------------------------------------------------------------------------------------


def signing_request(subject: str, signer: str, *usages: str) -> Json:
    key = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
         "/dev/null", "-subj", subject],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    spec = {"request": base64.b64encode(key).decode(), "signerName": signer, "usages": list(usages)}
    return {"metadata": {"generateName": "csr-"}, "spec": spec}


def test_who_may_ask_approve_and_sign(shared_apiserver: ApiServer, node: tuple[str, As]) -> None:
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    refused = shared_apiserver.post(path, signing_request("/O=system:masters/CN=x", API_CLIENT, "client auth"))
    assert refused.status == 403
    assert refused.body["message"].endswith(f"use of {API_CLIENT} signer with system:masters group is not allowed")
    name, kubelet = node
    kubelet_client, usages = "kubernetes.io/kube-apiserver-client-kubelet", ("client auth", "digital signature")
    refused = kubelet("POST", path, signing_request("/O=system:nodes/CN=system:node:other", kubelet_client, *usages))
    assert refused.body["message"].endswith(f"can only create a node CSR with CN=system:node:{name}")
    wanted = signing_request(f"/O=system:nodes/CN=system:node:{name}", kubelet_client, *usages)
    made = kubelet("POST", path, wanted)
    assert made.status == 201, made.body
    assert made.body["spec"]["username"] == f"system:node:{name}"
    approval = f"{path}/{made.body['metadata']['name']}/approval"
    made.body["status"] = {"conditions": [{"type": "Approved", "status": "True", "reason": "x"}]}
    rules = [rule("update", resources=("certificatesigningrequests/approval",), group="certificates.k8s.io")]
    body = {"metadata": {"name": f"approver-{name}"}, "rules": rules}
    make(shared_apiserver, f"{RBAC}/clusterroles", body)
    subjects = [{"kind": "User", "name": f"approver-{name}"}]
    role = {"kind": "ClusterRole", "name": f"approver-{name}"}
    make(shared_apiserver, f"{RBAC}/clusterrolebindings", body | {"roleRef": role, "subjects": subjects, "rules": None})
    approver = As(shared_apiserver, f"approver-{name}")
    refused = approver("PUT", approval, made.body)
    assert refused.body["message"].endswith(
        f'user not permitted to approve requests with signerName "{kubelet_client}"'
    ), refused.body
    assert shared_apiserver.put(approval, made.body).status == 200


# -- kubectl -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(shared_apiserver: ApiServer, kubectl: Path, space: str) -> Callable[..., str]:
    """Output of kubectl in the test's namespace, whatever its exit code."""

    def run_kubectl(*args: str) -> str:
        config = f"--kubeconfig={shared_apiserver.kubeconfig}"
        done = subprocess.run([kubectl, config, "-n", space, *args], capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr

    return run_kubectl


def test_kubectl_auth(shared_apiserver: ApiServer, space: str, run: Callable[..., str], tmp_path: Path) -> None:
    assert "system:masters" in run("auth", "whoami")
    assert run("auth", "can-i", "list", "pods", "--as=kim").strip() == "no"
    run("create", "role", "reader", "--verb=list,get", "--resource=pods,pods/log")
    run("create", "rolebinding", "reader", "--role=reader", "--user=kim")
    assert run("auth", "can-i", "list", "pods", "--as=kim").strip() == "yes"
    listed = run("auth", "can-i", "--list", "--as=kim")
    assert any(line.split() == ["pods/log", "[]", "[]", "[list", "get]"] for line in listed.splitlines()), listed
    assert run("auth", "can-i", "get", "/metrics", "--as=kim").strip() == "no"
    run("create", "serviceaccount", "bot")
    token = run("create", "token", "bot", "--duration=10m").strip()
    reviewed = shared_apiserver.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}}).body
    assert reviewed["status"]["user"]["username"] == f"system:serviceaccount:{space}:bot"
    manifest = tmp_path / "role.yaml"
    manifest.write_text(json.dumps({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "reader", "namespace": space},
        "rules": [rule("watch", resources=("pods",))],
    }))  # fmt: skip
    assert "reconciled" in run("auth", "reconcile", "-f", str(manifest))
    assert run("auth", "can-i", "watch", "pods", "--as=kim").strip() == "yes"
    assert run("auth", "can-i", "list", "pods", "--as=kim").strip() == "yes"
