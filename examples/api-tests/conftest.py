"""One API server for all tests, and a namespace for each."""

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a server that is there while the tests run."""
    file = tmp_path_factory.mktemp("api") / "kubeconfig"
    command = ["kubarium", "api", "--with-controllers", "--write-kubeconfig", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert any(line.startswith("Ready") for line in server.stdout), "the server did not start"
            yield file
        finally:
            server.terminate()


@pytest.fixture
def core(kubeconfig: Path) -> Iterator[client.CoreV1Api]:
    with config.new_client_from_config(str(kubeconfig)) as api:
        yield client.CoreV1Api(api)


@pytest.fixture
def namespace(core: client.CoreV1Api) -> str:
    name = f"test-{secrets.token_hex(4)}"
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    return name
