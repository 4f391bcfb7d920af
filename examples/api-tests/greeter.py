"""A controller: every ConfigMap that is labelled `greet=yes` gets a second one, `NAME-greeting`, that belongs to it."""

from collections.abc import Callable

from kubernetes import client, watch


def greeting(owner: client.V1ConfigMap) -> client.V1ConfigMap:
    reference = client.V1OwnerReference(
        api_version="v1", kind="ConfigMap", name=owner.metadata.name, uid=owner.metadata.uid, controller=True
    )
    metadata = client.V1ObjectMeta(name=f"{owner.metadata.name}-greeting", owner_references=[reference])
    return client.V1ConfigMap(metadata=metadata, data={"text": f"Hello, {owner.data['who']}!"})


def run(core: client.CoreV1Api, namespace: str, until: Callable[[], bool]) -> None:
    """Watch a namespace; `until` is asked after each change and each second."""
    while not until():
        wanted = {"label_selector": "greet=yes", "timeout_seconds": 1}
        for event in watch.Watch().stream(core.list_namespaced_config_map, namespace, **wanted):
            if event["type"] == "ADDED":
                try:
                    core.create_namespaced_config_map(namespace, greeting(event["object"]))
                except client.ApiException as err:
                    if err.status != 409:  # it is there already
                        raise
