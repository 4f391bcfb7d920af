"""The controller against a real API server."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import greeter
import pytest
from kubernetes import client


@pytest.fixture
def running(core: client.CoreV1Api, namespace: str) -> Iterator[None]:
    ended = threading.Event()
    thread = threading.Thread(target=greeter.run, args=(core, namespace, ended.is_set))
    thread.start()
    yield
    ended.set()
    thread.join()


def eventually(found: Callable[[], Any]) -> Any:
    """What `found` gives once it gives something; ten seconds at most."""
    end = time.monotonic() + 10
    while not (value := found()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return value


def names(core: client.CoreV1Api, namespace: str) -> set[str]:
    return {one.metadata.name for one in core.list_namespaced_config_map(namespace).items} - {"kube-root-ca.crt"}


def owner(core: client.CoreV1Api, namespace: str) -> client.V1ConfigMap:
    metadata = client.V1ObjectMeta(name="ada", labels={"greet": "yes"})
    return core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=metadata, data={"who": "Ada"}))


@pytest.mark.usefixtures("running")
def test_a_labelled_config_map_is_greeted(core: client.CoreV1Api, namespace: str) -> None:
    owner(core, namespace)
    eventually(lambda: "ada-greeting" in names(core, namespace))
    assert core.read_namespaced_config_map("ada-greeting", namespace).data == {"text": "Hello, Ada!"}


@pytest.mark.usefixtures("running")
def test_the_greeting_goes_with_its_owner(core: client.CoreV1Api, namespace: str) -> None:
    """The garbage collector does that: envtest has none."""
    owner(core, namespace)
    eventually(lambda: "ada-greeting" in names(core, namespace))
    core.delete_namespaced_config_map("ada", namespace)
    eventually(lambda: not names(core, namespace))
