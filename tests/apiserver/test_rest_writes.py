"""Create, update, patch, delete over HTTPS, against a real server process."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kubarium.testing.apiserver import Answer, ApiServer


@pytest.fixture
def ns(shared_apiserver: ApiServer) -> str:
    """A namespace of this test's own; the path of its core resources."""
    name = f"t-{secrets.token_hex(4)}"
    assert shared_apiserver.post("/api/v1/namespaces", {"metadata": {"name": name}} | kind("Namespace")).status == 201
    return f"/api/v1/namespaces/{name}"


def kind(name: str, api_version: str = "v1") -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": name}


def config_map(name: str = "a", **more: Any) -> dict[str, Any]:
    return kind("ConfigMap") | {"metadata": {"name": name, **more}, "data": {"k": "v"}}


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    return kind("Pod") | {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x"}], **spec}}


def service(name: str, **spec: Any) -> dict[str, Any]:
    return kind("Service") | {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def failure(answer: Answer) -> tuple[int, str, str]:
    assert answer.body["kind"] == "Status", answer.body
    return answer.status, answer.body.get("reason", ""), answer.body["message"]


def test_create_gives_the_object_its_metadata(shared_apiserver: ApiServer, ns: str) -> None:
    sent = config_map(uid="mine", creationTimestamp="2001-01-01T00:00:00Z", deletionTimestamp="2001-01-01T00:00:00Z")
    made = shared_apiserver.post(f"{ns}/configmaps", sent)
    assert made.status == 201
    meta = made.body["metadata"]
    assert meta["namespace"] == ns.rpartition("/")[2]
    assert meta["uid"] != "mine"
    assert meta["creationTimestamp"] > "2026"
    assert int(meta["resourceVersion"]) > 0
    assert "deletionTimestamp" not in meta
    assert shared_apiserver.get(f"{ns}/configmaps/a").body == made.body


def test_generate_name_makes_names_that_differ(shared_apiserver: ApiServer, ns: str) -> None:
    sent = kind("ConfigMap") | {"metadata": {"generateName": "web-"}}
    names = {shared_apiserver.post(f"{ns}/configmaps", sent).body["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


def test_a_second_create_is_refused(shared_apiserver: ApiServer, ns: str) -> None:
    shared_apiserver.post(f"{ns}/configmaps", config_map())
    again = shared_apiserver.post(f"{ns}/configmaps", config_map())
    assert failure(again) == (409, "AlreadyExists", 'configmaps "a" already exists')
    assert again.body["details"] == {"kind": "configmaps", "name": "a"}


def test_dry_run_writes_nothing(shared_apiserver: ApiServer, ns: str) -> None:
    answer = shared_apiserver.post(f"{ns}/configmaps?dryRun=All", config_map())
    assert answer.status == 201
    assert "resourceVersion" not in answer.body["metadata"]
    assert shared_apiserver.get(f"{ns}/configmaps/a").status == 404
    made = shared_apiserver.post(f"{ns}/configmaps", config_map()).body
    shared_apiserver.patch(f"{ns}/configmaps/a?dryRun=All", {"data": {"k": "other"}})
    assert shared_apiserver.delete(f"{ns}/configmaps/a?dryRun=All").status == 200
    assert shared_apiserver.get(f"{ns}/configmaps/a").body == made
    refused = shared_apiserver.post(f"{ns}/configmaps?dryRun=Some", config_map("b"))
    assert failure(refused)[:2] == (422, "Invalid")


def test_an_update_is_guarded_by_the_version_it_names(shared_apiserver: ApiServer, ns: str) -> None:
    made = shared_apiserver.post(f"{ns}/configmaps", config_map()).body
    newer = shared_apiserver.put(f"{ns}/configmaps/a", made | {"data": {"k": "2"}})
    assert newer.status == 200
    assert newer.body["metadata"]["resourceVersion"] > made["metadata"]["resourceVersion"]
    stale = shared_apiserver.put(f"{ns}/configmaps/a", made | {"data": {"k": "3"}})
    text = "the object has been modified; please apply your changes to the latest version and try again"
    assert failure(stale) == (409, "Conflict", f'Operation cannot be fulfilled on configmaps "a": {text}')


def test_an_update_that_changes_nothing_keeps_the_version(shared_apiserver: ApiServer, ns: str) -> None:
    made = shared_apiserver.post(f"{ns}/configmaps", config_map()).body
    assert shared_apiserver.put(f"{ns}/configmaps/a", made).body == made
    assert shared_apiserver.patch(f"{ns}/configmaps/a", {"data": {"k": "v"}}).body == made


def test_concurrent_patches_all_take_effect(shared_apiserver: ApiServer, ns: str) -> None:
    shared_apiserver.post(f"{ns}/configmaps", config_map())

    def patch(number: int) -> int:
        return shared_apiserver.patch(f"{ns}/configmaps/a", {"data": {f"k{number}": "x"}}).status

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(patch, range(24))) == {200}
    assert len(shared_apiserver.get(f"{ns}/configmaps/a").body["data"]) == 25


def test_leases_can_be_made_by_an_update_and_config_maps_cannot(shared_apiserver: ApiServer, ns: str) -> None:
    leases = ns.replace("/api/v1", "/apis/coordination.k8s.io/v1") + "/leases"
    lease = kind("Lease", "coordination.k8s.io/v1") | {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
    assert shared_apiserver.put(f"{leases}/l", lease).status == 201
    assert failure(shared_apiserver.put(f"{ns}/configmaps/none", config_map("none")))[:2] == (404, "NotFound")


def test_a_finalizer_holds_an_object_until_it_is_taken_away(shared_apiserver: ApiServer, ns: str) -> None:
    shared_apiserver.post(f"{ns}/configmaps", config_map(finalizers=["example.com/f"]))
    ending = shared_apiserver.delete(f"{ns}/configmaps/a")
    assert ending.body["metadata"]["deletionGracePeriodSeconds"] == 0
    assert shared_apiserver.get(f"{ns}/configmaps/a").status == 200
    assert shared_apiserver.patch(f"{ns}/configmaps/a", {"metadata": {"finalizers": None}}).status == 200
    assert shared_apiserver.get(f"{ns}/configmaps/a").status == 404


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_propagation_policies_are_finalizers(shared_apiserver: ApiServer, ns: str, policy: str, finalizer: str) -> None:
    shared_apiserver.post(f"{ns}/configmaps", config_map())
    answer = shared_apiserver.delete(f"{ns}/configmaps/a", {"propagationPolicy": policy})
    assert answer.body["metadata"]["finalizers"] == [finalizer]


def test_delete_answers_with_a_status_and_checks_its_preconditions(shared_apiserver: ApiServer, ns: str) -> None:
    made = shared_apiserver.post(f"{ns}/configmaps", config_map()).body["metadata"]
    wrong = shared_apiserver.delete(f"{ns}/configmaps/a", {"preconditions": {"uid": "other"}})
    assert failure(wrong)[:2] == (409, "Conflict")
    right = {"preconditions": {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}}
    done = shared_apiserver.delete(f"{ns}/configmaps/a", kind("DeleteOptions") | right)
    assert done.body["status"] == "Success"
    assert done.body["details"] == {"name": "a", "kind": "configmaps", "uid": made["uid"]}


def test_deletecollection_takes_what_the_selector_selects(shared_apiserver: ApiServer, ns: str) -> None:
    for name, color in (("a", "red"), ("b", "blue"), ("c", "red")):
        shared_apiserver.post(f"{ns}/configmaps", config_map(name, labels={"color": color}))
    answer = shared_apiserver.delete(f"{ns}/configmaps?labelSelector=color%3Dred")
    assert answer.body["kind"] == "ConfigMapList"
    left = shared_apiserver.get(f"{ns}/configmaps").body["items"]
    assert [item["metadata"]["name"] for item in left] == ["b"]


def test_a_bound_pod_ends_gracefully(shared_apiserver: ApiServer, ns: str) -> None:
    shared_apiserver.post(f"{ns}/pods", pod(terminationGracePeriodSeconds=20))
    bind = kind("Binding") | {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    assert shared_apiserver.post(f"{ns}/pods/p/binding", bind).status == 201
    bound = shared_apiserver.get(f"{ns}/pods/p").body
    assert bound["spec"]["nodeName"] == "n1"
    assert {c["type"]: c["status"] for c in bound["status"]["conditions"]}["PodScheduled"] == "True"
    again = shared_apiserver.post(f"{ns}/pods/p/binding", bind)
    text = 'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"'
    assert failure(again) == (409, "Conflict", text)

    ending = shared_apiserver.delete(f"{ns}/pods/p").body["metadata"]
    assert ending["deletionGracePeriodSeconds"] == 20
    assert ending["generation"] == 2
    shorter = shared_apiserver.delete(f"{ns}/pods/p?gracePeriodSeconds=5").body["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    assert shorter["deletionTimestamp"] < ending["deletionTimestamp"]
    longer = shared_apiserver.delete(f"{ns}/pods/p?gracePeriodSeconds=50").body["metadata"]
    assert longer["deletionGracePeriodSeconds"] == 5
    assert shared_apiserver.delete(f"{ns}/pods/p", {"gracePeriodSeconds": 0}).status == 200
    assert shared_apiserver.get(f"{ns}/pods/p").status == 404


def test_an_evicted_pod_without_a_node_is_gone_at_once(shared_apiserver: ApiServer, ns: str) -> None:
    shared_apiserver.post(f"{ns}/pods", pod())
    eviction = kind("Eviction", "policy/v1") | {"metadata": {"name": "p"}}
    assert shared_apiserver.post(f"{ns}/pods/p/eviction", eviction).status == 201
    assert shared_apiserver.get(f"{ns}/pods/p").status == 404


def test_status_and_spec_are_changed_apart(shared_apiserver: ApiServer, ns: str) -> None:
    shared_apiserver.post(f"{ns}/pods", pod())
    both = {"metadata": {"labels": {"a": "b"}}, "spec": {"activeDeadlineSeconds": 9}, "status": {"phase": "Running"}}
    status = shared_apiserver.patch(f"{ns}/pods/p/status", both).body
    assert status["status"]["phase"] == "Running"
    assert "activeDeadlineSeconds" not in status["spec"]
    main = shared_apiserver.patch(f"{ns}/pods/p", {"status": {"phase": "Failed"}}).body
    assert main["status"]["phase"] == "Running"


def test_scale(shared_apiserver: ApiServer, ns: str) -> None:
    deployments = ns.replace("/api/v1", "/apis/apps/v1") + "/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
    spec = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    shared_apiserver.post(deployments, kind("Deployment", "apps/v1") | {"metadata": {"name": "d"}, "spec": spec})
    scale = shared_apiserver.get(f"{deployments}/d/scale").body
    assert (scale["kind"], scale["spec"], scale["status"]) == (
        "Scale", {"replicas": 2}, {"replicas": 0, "selector": "a=b"},
    )  # fmt: skip
    assert shared_apiserver.put(f"{deployments}/d/scale", scale | {"spec": {"replicas": 5}}).status == 200
    assert failure(shared_apiserver.put(f"{deployments}/d/scale", scale))[1] == "Conflict"
    assert shared_apiserver.patch(f"{deployments}/d/scale", {"spec": {"replicas": 7}}).body["spec"] == {"replicas": 7}
    found = shared_apiserver.get(f"{deployments}/d").body
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (7, 3)
    assert failure(shared_apiserver.patch(f"{deployments}/d/scale", {"spec": {"replicas": -1}}))[0] == 422


def test_a_namespace_ends_when_it_is_finalized(shared_apiserver: ApiServer) -> None:
    name = f"t-{secrets.token_hex(4)}"
    path = f"/api/v1/namespaces/{name}"
    shared_apiserver.post("/api/v1/namespaces", kind("Namespace") | {"metadata": {"name": name}})
    assert shared_apiserver.delete(path).body["status"]["phase"] == "Terminating"
    refused = shared_apiserver.post(f"{path}/configmaps", config_map())
    assert failure(refused)[:2] == (403, "Forbidden")
    assert refused.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    ending = shared_apiserver.get(path).body
    ending["spec"]["finalizers"] = []
    assert shared_apiserver.put(f"{path}/finalize", ending).status == 200
    assert shared_apiserver.get(path).status == 404


@pytest.mark.parametrize("name", ["default", "kube-system"])
def test_the_first_namespaces_stay(shared_apiserver: ApiServer, name: str) -> None:
    text = f'namespaces "{name}" is forbidden: this namespace may not be deleted'
    assert failure(shared_apiserver.delete(f"/api/v1/namespaces/{name}")) == (403, "Forbidden", text)


def test_services_get_addresses_and_ports_of_their_own(shared_apiserver: ApiServer, ns: str) -> None:
    first = shared_apiserver.post(f"{ns}/services", service("a", type="NodePort")).body["spec"]
    assert first["clusterIP"].startswith("10.96.")
    port = first["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    taken = shared_apiserver.post(f"{ns}/services", service("b", clusterIP=first["clusterIP"]))
    assert failure(taken)[0] == 422
    assert taken.body["details"]["causes"][0]["field"] == "spec.clusterIPs"
    wanted = service("c", type="NodePort", ports=[{"port": 80, "nodePort": port}])
    assert "provided port is already allocated" in failure(shared_apiserver.post(f"{ns}/services", wanted))[2]
    shared_apiserver.delete(f"{ns}/services/a")
    assert shared_apiserver.post(f"{ns}/services", wanted).status == 201
    assert shared_apiserver.post(f"{ns}/services", service("b", clusterIP=first["clusterIP"])).status == 201


def test_a_service_that_changes_its_type_gives_back_and_takes(shared_apiserver: ApiServer, ns: str) -> None:
    made = shared_apiserver.post(f"{ns}/services", service("a", type="NodePort")).body["spec"]
    plain = shared_apiserver.patch(f"{ns}/services/a", {"spec": {"type": "ClusterIP"}}).body["spec"]
    assert plain["clusterIP"] == made["clusterIP"]
    assert "nodePort" not in plain["ports"][0]
    port = made["ports"][0]["nodePort"]
    other = service("b", type="NodePort", ports=[{"port": 80, "nodePort": port}])
    assert shared_apiserver.post(f"{ns}/services", other).status == 201


def test_service_creations_at_once_never_share_an_address(shared_apiserver: ApiServer, ns: str) -> None:
    def create(number: int) -> str:
        return str(shared_apiserver.post(f"{ns}/services", service(f"s{number}")).body["spec"]["clusterIP"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(create, range(40)))) == 40


def test_a_token_of_a_service_account_works_until_its_pod_is_gone(shared_apiserver: ApiServer, ns: str) -> None:
    namespace = ns.rpartition("/")[2]
    shared_apiserver.post(f"{ns}/serviceaccounts", kind("ServiceAccount") | {"metadata": {"name": "sa"}})
    uid = shared_apiserver.post(f"{ns}/pods", pod(serviceAccountName="sa")).body["metadata"]["uid"]
    ref = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}
    ask = kind("TokenRequest", "authentication.k8s.io/v1") | {"spec": {"expirationSeconds": 600, "boundObjectRef": ref}}
    token = shared_apiserver.post(f"{ns}/serviceaccounts/sa/token", ask).body["status"]["token"]
    assert shared_apiserver.get("/api", token=token).status == 200
    review = kind("TokenReview", "authentication.k8s.io/v1") | {"spec": {"token": token}}
    status = shared_apiserver.post("/apis/authentication.k8s.io/v1/tokenreviews", review).body["status"]
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:sa"
    shared_apiserver.delete(f"{ns}/pods/p", {"gracePeriodSeconds": 0})
    assert shared_apiserver.get("/api", token=token).status == 401
    short = kind("TokenRequest", "authentication.k8s.io/v1") | {"spec": {"expirationSeconds": 10}}
    refused = failure(shared_apiserver.post(f"{ns}/serviceaccounts/sa/token", short))
    assert refused[2].endswith(
        "spec.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes"
    )


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        pytest.param(
            {"metadata": {"name": "x", "namespace": "other"}}, 400, "does not match the namespace", id="namespace"
        ),
        pytest.param(
            {"metadata": {"name": "x", "resourceVersion": "3"}}, 500, "resourceVersion should not be set", id="rv"
        ),
        pytest.param({"metadata": {"name": "Bad_Name"}}, 422, "metadata.name: Invalid value", id="name"),
        pytest.param({"metadata": {}}, 422, "name or generateName is required", id="no name"),
        pytest.param({"metadata": {"name": "x"}, "data": {"k": 1}}, 400, "cannot unmarshal number", id="type"),
    ],
)
def test_bad_creates(shared_apiserver: ApiServer, ns: str, body: dict[str, Any], code: int, text: str) -> None:
    answer = shared_apiserver.post(f"{ns}/configmaps", kind("ConfigMap") | body)
    assert answer.status == code
    assert text in answer.body["message"]


def test_unknown_fields_warn_or_are_refused(shared_apiserver: ApiServer, ns: str) -> None:
    bad = config_map() | {"dta": {}}
    strict = shared_apiserver.post(f"{ns}/configmaps?fieldValidation=Strict", bad)
    assert failure(strict)[2].endswith('strict decoding error: unknown field "dta"')
    warned = shared_apiserver.post(f"{ns}/configmaps", bad)
    assert (warned.status, warned.warnings) == (201, ('299 - "unknown field \\"dta\\""',))


def test_a_name_that_differs_from_the_path_is_refused(shared_apiserver: ApiServer, ns: str) -> None:
    shared_apiserver.post(f"{ns}/configmaps", config_map())
    text = "the name of the object (b) does not match the name on the URL (a)"
    assert failure(shared_apiserver.put(f"{ns}/configmaps/a", config_map("b"))) == (400, "BadRequest", text)
