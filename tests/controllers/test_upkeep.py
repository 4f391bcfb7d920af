"""Quotas, storage protection, disruption budgets and finished Jobs, against a real API server."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kubarium.controllers.config import Config
from kubarium.machinery.times import format_timestamp
from kubarium.testing.apiserver import Answer, ApiServer
from tests.controllers.live import eventually, running

ONLY = (
    "resourcequota-controller",
    "persistentvolumeclaim-protection-controller",
    "persistentvolume-protection-controller",
    "volumeattributesclass-protection-controller",
    "disruption-controller",
    "ttl-after-finished-controller",
    "garbage-collector-controller",
)
GUARDED = "/apis/policy/v1"


@pytest.fixture
async def ns(shared_apiserver: ApiServer) -> AsyncIterator[str]:
    name = f"t-{secrets.token_hex(4)}"
    async with running(shared_apiserver.kubeconfig, Config(controllers=ONLY)):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        assert shared_apiserver.post("/api/v1/namespaces", body).status == 201
        yield f"/api/v1/namespaces/{name}"


def grouped(ns: str, group_version: str) -> str:
    return ns.replace("/api/v1", f"/apis/{group_version}")


def pod(name: str, cpu: str = "100m", **spec: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": cpu}}
    containers = [{"name": "c", "image": "x", "resources": resources}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers, **spec}}


async def quota(server: ApiServer, ns: str, hard: dict[str, str], **spec: Any) -> None:
    """Make one, and wait until its limits are in force."""
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard, **spec}}
    assert server.post(f"{ns}/resourcequotas", body).status == 201

    async def is_in_force() -> bool:
        found = server.get(f"{ns}/resourcequotas/q").body["status"]
        return bool(found.get("hard") == hard and found.get("used", {}).keys() == hard.keys())

    await eventually(is_in_force)


async def used(server: ApiServer, ns: str, expected: dict[str, str]) -> None:
    async def check() -> bool:
        found = server.get(f"{ns}/resourcequotas/q").body["status"].get("used", {})
        assert {name: found.get(name) for name in expected} == expected
        return True

    await eventually(check)


async def test_a_quota_knows_what_was_there_and_what_has_gone(shared_apiserver: ApiServer, ns: str) -> None:
    for name in ("a", "b"):
        assert shared_apiserver.post(f"{ns}/pods", pod(name)).status == 201
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    port = {"ports": [{"port": 80}], "type": "NodePort"}
    assert shared_apiserver.post(f"{ns}/services", {**body, "spec": port}).status == 201
    hard = {
        "pods": "5",
        "requests.cpu": "1",
        "services": "2",
        "services.nodeports": "2",
        "count/leases.coordination.k8s.io": "1",
    }
    await quota(shared_apiserver, ns, hard)
    before = {"pods": "2", "requests.cpu": "200m", "services": "1", "services.nodeports": "1"}
    await used(shared_apiserver, ns, {**before, "count/leases.coordination.k8s.io": "0"})
    shared_apiserver.delete(f"{ns}/pods/a")
    shared_apiserver.delete(f"{ns}/services/s")
    await used(shared_apiserver, ns, {"pods": "1", "requests.cpu": "100m", "services": "0", "services.nodeports": "0"})


async def test_a_pod_whose_work_is_over_uses_nothing(shared_apiserver: ApiServer, ns: str) -> None:
    await quota(shared_apiserver, ns, {"pods": "1", "count/pods": "5"})
    assert shared_apiserver.post(f"{ns}/pods", pod("a")).status == 201
    assert shared_apiserver.post(f"{ns}/pods", pod("b")).status == 403
    shared_apiserver.patch(f"{ns}/pods/a/status", {"status": {"phase": "Succeeded"}})
    await used(shared_apiserver, ns, {"pods": "0", "count/pods": "1"})
    assert shared_apiserver.post(f"{ns}/pods", pod("b")).status == 201


async def test_a_quota_that_is_changed_is_counted_anew(shared_apiserver: ApiServer, ns: str) -> None:
    await quota(shared_apiserver, ns, {"pods": "1", "configmaps": "3"})
    shared_apiserver.patch(f"{ns}/resourcequotas/q", {"spec": {"hard": {"configmaps": None, "secrets": "7"}}})

    async def check() -> bool:
        status = shared_apiserver.get(f"{ns}/resourcequotas/q").body["status"]
        assert status == {"hard": {"pods": "1", "secrets": "7"}, "used": {"pods": "0", "secrets": "0"}}
        return True

    await eventually(check)


async def test_concurrent_creates_cannot_exceed_a_quota(shared_apiserver: ApiServer, ns: str) -> None:
    await quota(shared_apiserver, ns, {"configmaps": "20"})

    def make(number: int) -> Answer:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}}
        return shared_apiserver.post(f"{ns}/configmaps", body)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(make, range(60)))
    assert sorted(answer.status for answer in answers) == [201] * 20 + [403] * 40
    refusal = next(answer.body["message"] for answer in answers if answer.status == 403)
    assert refusal.endswith("exceeded quota: q, requested: configmaps=1, used: configmaps=20, limited: configmaps=20")


async def test_custom_kinds_are_counted(shared_apiserver: ApiServer, ns: str) -> None:
    group = f"g{secrets.token_hex(3)}.example.com"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]
    names = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"}
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": versions}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    limit = f"count/gadgets.{group}"
    shared_apiserver.post(f"{ns}/resourcequotas", {**body, "spec": {"hard": {limit: "1"}}})
    assert shared_apiserver.post(crds, {**crd, "metadata": {"name": f"gadgets.{group}"}, "spec": spec}).status == 201
    await used(shared_apiserver, ns, {limit: "0"})
    path = f"{grouped(ns, f'{group}/v1')}/gadgets"
    gadget = {"apiVersion": f"{group}/v1", "kind": "Gadget"}
    assert shared_apiserver.post(path, {**gadget, "metadata": {"name": "a"}}).status == 201
    assert shared_apiserver.post(path, {**gadget, "metadata": {"name": "b"}}).status == 403
    shared_apiserver.delete(f"{path}/a")
    await used(shared_apiserver, ns, {limit: "0"})
    assert shared_apiserver.delete(f"{crds}/gadgets.{group}").status == 200


# -- storage -----------------------------------------------------------------------------------------------------------


def claim(name: str, **meta: Any) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": name, **meta}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


async def test_a_claim_goes_when_no_pod_on_a_node_uses_it(shared_apiserver: ApiServer, ns: str) -> None:
    for name in ("used", "waiting", "free"):
        assert shared_apiserver.post(f"{ns}/persistentvolumeclaims", claim(name)).status == 201
    volumes = {name: [{"name": "v", "persistentVolumeClaim": {"claimName": name}}] for name in ("used", "waiting")}
    assert shared_apiserver.post(f"{ns}/pods", pod("a", nodeName="n", volumes=volumes["used"])).status == 201
    assert shared_apiserver.post(f"{ns}/pods", pod("b", volumes=volumes["waiting"])).status == 201
    for name in ("used", "waiting", "free"):
        shared_apiserver.delete(f"{ns}/persistentvolumeclaims/{name}")
    await gone(shared_apiserver, f"{ns}/persistentvolumeclaims/waiting", f"{ns}/persistentvolumeclaims/free")
    assert shared_apiserver.get(f"{ns}/persistentvolumeclaims/used").body["metadata"]["deletionTimestamp"]
    shared_apiserver.delete(f"{ns}/pods/a?gracePeriodSeconds=0")
    await gone(shared_apiserver, f"{ns}/persistentvolumeclaims/used")


async def gone(server: ApiServer, *paths: str) -> None:
    async def check() -> bool:
        left = [path for path in paths if server.get(path).status != 404]
        assert not left
        return True

    await eventually(check)


async def test_a_bound_volume_stays(shared_apiserver: ApiServer, ns: str) -> None:
    name = ns.rpartition("/")[2]
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}
    body = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    path = f"/api/v1/persistentvolumes/{name}"
    assert shared_apiserver.post("/api/v1/persistentvolumes", body).status == 201
    shared_apiserver.patch(f"{path}/status", {"status": {"phase": "Bound"}})
    shared_apiserver.delete(path)
    shared_apiserver.post(f"{ns}/persistentvolumeclaims", claim("free"))
    shared_apiserver.delete(f"{ns}/persistentvolumeclaims/free")
    await gone(shared_apiserver, f"{ns}/persistentvolumeclaims/free")  # by then the volume would be gone as well
    assert shared_apiserver.get(path).status == 200
    shared_apiserver.patch(f"{path}/status", {"status": {"phase": "Released"}})
    await gone(shared_apiserver, path)


# -- budgets and Jobs --------------------------------------------------------------------------------------------------


async def ready(server: ApiServer, path: str) -> None:
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": format_timestamp(time.time())}
    status = {"phase": "Running", "conditions": [condition]}
    assert server.patch(f"{path}/status", {"status": status}).status == 200


async def test_a_budget_tells_how_many_pods_may_go(shared_apiserver: ApiServer, ns: str) -> None:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": pod("x")["spec"]}
    spec = {"replicas": 4, "selector": {"matchLabels": labels}, "template": template}
    rs = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "rs"}, "spec": spec}
    made = shared_apiserver.post(f"{grouped(ns, 'apps/v1')}/replicasets", rs).body
    ref = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "rs",
        "uid": made["metadata"]["uid"],
        "controller": True,
    }
    for number in range(3):
        body = pod(f"p{number}")
        body["metadata"] |= {"labels": labels, "ownerReferences": [ref]}
        assert shared_apiserver.post(f"{ns}/pods", body).status == 201
        await ready(shared_apiserver, f"{ns}/pods/p{number}")
    selector = {"selector": {"matchLabels": labels}}
    budgets = f"{grouped(ns, 'policy/v1')}/poddisruptionbudgets"
    for name, limit in (("a", {"maxUnavailable": "50%"}), ("b", {"minAvailable": 3}), ("c", {"minAvailable": "50%"})):
        body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}}
        assert shared_apiserver.post(budgets, {**body, "spec": {**selector, **limit}}).status == 201
    # allowed, healthy, desired, expected
    expected = {"a": (1, 3, 2, 4), "b": (0, 3, 3, 3), "c": (1, 3, 2, 4)}

    async def check() -> bool:
        found = {item["metadata"]["name"]: item["status"] for item in shared_apiserver.get(budgets).body["items"]}
        fields = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
        assert {name: tuple(found[name].get(field) for field in fields) for name in found} == expected
        reasons = {name: found[name]["conditions"][0]["reason"] for name in found}
        assert reasons == {"a": "SufficientPods", "b": "InsufficientPods", "c": "SufficientPods"}
        return True

    await eventually(check)


async def test_a_finished_job_goes_after_its_time(shared_apiserver: ApiServer, ns: str) -> None:
    jobs = f"{grouped(ns, 'batch/v1')}/jobs"
    template = {"spec": {**pod("x")["spec"], "restartPolicy": "Never"}}
    for name, ttl_s in (("soon", 0), ("later", 3600)):
        spec = {"template": template, "ttlSecondsAfterFinished": ttl_s}
        body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
        assert shared_apiserver.post(jobs, body).status == 201
        now = format_timestamp(time.time())
        ends = [
            {"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("SuccessCriteriaMet", "Complete")
        ]
        status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": ends}
        answer = shared_apiserver.patch(f"{jobs}/{name}/status", {"status": status})
        assert answer.status == 200, answer.body
    await gone(shared_apiserver, f"{jobs}/soon")
    assert shared_apiserver.get(f"{jobs}/later").status == 200
