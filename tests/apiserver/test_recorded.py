"""What kube-apiserver 1.36 answered is what our server answers: one test a recorded case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kubarium.testing.apiserver import ApiServer, api_server
from tests.apiserver import recordings


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server alone, where no controller changes what is compared; its address is the one of the recordings."""
    with api_server(tmp_path_factory.mktemp("api"), "--advertise-address", "192.0.2.2") as server:
        yield server


@pytest.mark.parametrize("steps", [pytest.param(steps, id=name) for name, steps in recordings.cases()])
def test_the_answers_are_those_of_kube_apiserver(alone: ApiServer, steps: list[Any]) -> None:
    found = recordings.replay(alone, steps)
    assert not found, "\n".join(found)
