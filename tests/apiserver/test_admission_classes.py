"""Default classes: of storage, of Ingresses and of priority. They hold for all: these tests have their own server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kubarium.testing.apiserver import ApiServer, api_server

NS = "/api/v1/namespaces/default"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api")) as found:
        yield found


def storage_class(server: ApiServer, name: str, **annotations: str) -> None:
    meta = {"name": name, "annotations": {f"storageclass.kubernetes.io/{k}": v for k, v in annotations.items()}}
    body = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": meta, "provisioner": "p"}
    assert server.post("/apis/storage.k8s.io/v1/storageclasses", body).status == 201


def class_of_new_claim(server: ApiServer, **spec: Any) -> str | None:
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"generateName": "c-"}, "spec": size}
    made = server.post(f"{NS}/persistentvolumeclaims?dryRun=All", body)
    assert made.status == 201, made.body
    name: str | None = made.body["spec"].get("storageClassName")
    return name


def test_claims_get_the_default_class(server: ApiServer) -> None:
    storage_class(server, "plain")
    assert class_of_new_claim(server) is None
    storage_class(server, "b", **{"is-default-class": "true"})
    assert class_of_new_claim(server) == "b"
    assert class_of_new_claim(server, storageClassName="plain") == "plain"
    assert class_of_new_claim(server, storageClassName="") == ""
    storage_class(server, "a", **{"is-default-class": "true"})
    old = server.get("/apis/storage.k8s.io/v1/storageclasses/b").body["metadata"]["creationTimestamp"]
    new = server.get("/apis/storage.k8s.io/v1/storageclasses/a").body["metadata"]["creationTimestamp"]
    assert old <= new  # the newest, or the first by name: `a` either way
    assert class_of_new_claim(server) == "a"


def test_ingresses_get_the_default_class(server: ApiServer) -> None:
    classes = "/apis/networking.k8s.io/v1/ingressclasses"
    meta = {"name": "main", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": meta}
    assert server.post(classes, {**body, "spec": {"controller": "example.com/c"}}).status == 201

    def made(annotations: dict[str, str], **spec: str) -> str | None:
        backend = {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}
        meta = {"name": "i", "annotations": annotations}
        body = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": {**backend, **spec}}
        path = "/apis/networking.k8s.io/v1/namespaces/default/ingresses?dryRun=All"
        answer = server.post(path, body)
        assert answer.status == 201, answer.body
        name: str | None = answer.body["spec"].get("ingressClassName")
        return name

    assert made({}) == "main"
    assert made({}, ingressClassName="other") == "other"
    assert made({"kubernetes.io/ingress.class": "old"}) is None


def test_there_is_one_default_priority_and_pods_get_it(server: ApiServer) -> None:
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 5, "globalDefault": True}
    assert server.post(classes, {**body, "metadata": {"name": "usual"}}).status == 201
    refused = server.post(classes, {**body, "metadata": {"name": "second"}})
    text = "PriorityClass usual is already marked as default. Only one default can exist"
    assert (refused.status, refused.body["message"]) == (
        403,
        f'priorityclasses.scheduling.k8s.io "second" is forbidden: {text}',
    )
    assert server.patch(f"{classes}/usual", {"description": "x"}).status == 200
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = server.post(f"{NS}/pods?dryRun=All", {"apiVersion": "v1", "kind": "Pod", **pod}).body["spec"]
    assert (spec["priorityClassName"], spec["priority"]) == ("usual", 5)
