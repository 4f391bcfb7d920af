"""Fixtures for all tests: kubectl, and API servers of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubarium.testing.apiserver import ApiServer, api_server
from kubarium.testing.kubectl import kubectl_path


@pytest.fixture(scope="session")
def kubectl() -> Path:
    """An unmodified kubectl."""
    return kubectl_path()


@pytest.fixture
def apiserver(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server of this test alone."""
    with api_server(tmp_path / "api") as server:
        yield server


@pytest.fixture(scope="module")
def shared_apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server for the tests of a module, which keep to namespaces of their own."""
    with api_server(tmp_path_factory.mktemp("api")) as server:
        yield server
