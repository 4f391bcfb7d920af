"""The official Python client, unmodified, through the scenarios of its own documentation."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException

from kubarium.testing.apiserver import ApiServer

CRONTABS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "crontabs.stable.example.com"},
    "spec": {
        "group": "stable.example.com",
        "scope": "Namespaced",
        "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "cronSpec": {"type": "string"},
                                    "image": {"type": "string"},
                                    "replicas": {"type": "integer", "default": 1},
                                },
                            }
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def api(shared_apiserver: ApiServer) -> Iterator[Any]:
    with config.new_client_from_config(str(shared_apiserver.kubeconfig)) as found:
        yield found


@pytest.fixture
def namespace(api: Any) -> str:
    name = f"py-{secrets.token_hex(4)}"
    client.CoreV1Api(api).create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    return name


def deployment(image: str = "nginx:1.15.4") -> Any:
    container = client.V1Container(
        name="nginx",
        image=image,
        ports=[client.V1ContainerPort(container_port=80)],
        resources=client.V1ResourceRequirements(requests={"cpu": "100m", "memory": "200Mi"}),
    )
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": "nginx"}), spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(replicas=3, template=template, selector={"matchLabels": {"app": "nginx"}})
    return client.V1Deployment(
        api_version="apps/v1", kind="Deployment", metadata=client.V1ObjectMeta(name="web"), spec=spec
    )


def test_a_deployment_is_made_updated_restarted_and_deleted(api: Any, namespace: str) -> None:
    apps = client.AppsV1Api(api)
    made = apps.create_namespaced_deployment(namespace, deployment())
    assert made.metadata.generation == 1
    assert made.spec.strategy.rolling_update.max_surge == "25%"
    made.spec.template.spec.containers[0].image = "nginx:1.16.0"
    patched = apps.patch_namespaced_deployment("web", namespace, made)
    assert (patched.metadata.generation, patched.spec.template.spec.containers[0].image) == (2, "nginx:1.16.0")
    scaled = apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 5}})
    assert scaled.spec.replicas == 5
    assert apps.read_namespaced_deployment_scale("web", namespace).spec.replicas == 5
    apps.delete_namespaced_deployment(
        "web", namespace, body=client.V1DeleteOptions(propagation_policy="Background", grace_period_seconds=5)
    )
    with pytest.raises(ApiException) as found:
        apps.read_namespaced_deployment("web", namespace)
    assert (found.value.status, found.value.reason) == (404, "Not Found")


def test_a_list_in_pages_has_everything_once(api: Any, namespace: str) -> None:
    core = client.CoreV1Api(api)
    for number in range(7):
        core.create_namespaced_config_map(namespace, {"metadata": {"name": f"c{number}"}, "data": {"k": "v"}})
    seen: list[str] = []
    token = ""
    while True:
        page = core.list_namespaced_config_map(namespace, limit=3, _continue=token)
        seen += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
        assert page.metadata.remaining_item_count == 7 - len(seen)
    assert seen == [f"c{number}" for number in range(7)]


def test_a_watch_tells_what_happens_until_it_is_stopped(api: Any, namespace: str) -> None:
    core = client.CoreV1Api(api)
    version = core.list_namespaced_config_map(namespace).metadata.resource_version

    def change() -> None:
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "seen"}})
        core.patch_namespaced_config_map("seen", namespace, {"data": {"k": "v"}})
        core.delete_namespaced_config_map("seen", namespace)

    changes = threading.Thread(target=change)
    changes.start()
    told = []
    watcher = watch.Watch()
    calls = {"resource_version": version, "timeout_seconds": 20}
    for event in watcher.stream(core.list_namespaced_config_map, namespace, **calls):
        told.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watcher.stop()
    changes.join()
    assert told == [("ADDED", "seen"), ("MODIFIED", "seen"), ("DELETED", "seen")]


def test_manifests_are_created_with_their_errors(api: Any, namespace: str) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    (made,) = utils.create_from_dict(api, service, namespace=namespace)
    assert made.spec.cluster_ip
    with pytest.raises(utils.FailToCreateError) as found:
        utils.create_from_dict(api, service, namespace=namespace)
    assert "AlreadyExists" in str(found.value)


def test_the_dynamic_client_finds_kinds_and_applies(api: Any, namespace: str) -> None:
    dyn = dynamic.DynamicClient(api)
    configmaps = dyn.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": {"a": "1"}}
    made = configmaps.server_side_apply(body=body, namespace=namespace, field_manager="one")
    assert made.metadata.managedFields[0].manager == "one"
    body["data"] = {"a": "2"}
    with pytest.raises(dynamic.exceptions.ConflictError):
        configmaps.server_side_apply(body=body, namespace=namespace, field_manager="two")
    forced = configmaps.server_side_apply(body=body, namespace=namespace, field_manager="two", force_conflicts=True)
    assert forced.data.a == "2"


def test_custom_objects(api: Any, namespace: str) -> None:
    client.ApiextensionsV1Api(api).create_custom_resource_definition(CRONTABS)
    established = watch.Watch()
    definitions = client.ApiextensionsV1Api(api).list_custom_resource_definition
    for event in established.stream(definitions, timeout_seconds=20):
        conditions = event["object"].status.conditions or ()
        if any(c.type == "Established" and c.status == "True" for c in conditions):
            established.stop()
    custom = client.CustomObjectsApi(api)
    where = {"group": "stable.example.com", "version": "v1", "namespace": namespace, "plural": "crontabs"}
    body = {
        "apiVersion": "stable.example.com/v1",
        "kind": "CronTab",
        "metadata": {"name": "my-new-cron-object"},
        "spec": {"cronSpec": "* * * * */5", "image": "my-awesome-cron-image"},
    }
    made = custom.create_namespaced_custom_object(body=body, **where)
    assert made["spec"]["replicas"] == 1
    patch = {"spec": {"cronSpec": "* * * * */10"}}
    patched = custom.patch_namespaced_custom_object(name="my-new-cron-object", body=patch, **where)
    assert patched["spec"]["cronSpec"] == "* * * * */10"
    body["spec"] = {"replicas": "three"}
    body["metadata"] = {"name": "other"}
    with pytest.raises(ApiException) as found:
        custom.create_namespaced_custom_object(body=body, **where)
    assert found.value.status == 422
    assert "spec.replicas" in found.value.body
    custom.delete_namespaced_custom_object(name="my-new-cron-object", **where)
    assert custom.list_namespaced_custom_object(**where)["items"] == []


def test_who_may_do_what(api: Any, namespace: str) -> None:
    review = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=client.V1ResourceAttributes(namespace=namespace, verb="get", resource="pods")
        )
    )
    assert client.AuthorizationV1Api(api).create_self_subject_access_review(review).status.allowed
    me = client.AuthenticationV1Api(api).create_self_subject_review(client.V1SelfSubjectReview())
    assert "system:masters" in me.status.user_info.groups
