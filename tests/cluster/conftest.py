"""Real clusters' worth of namespaces and containers, each test under a cluster name and a home of its own."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from kubarium.cluster import engine, images
from kubarium.cluster.dockerapi import CLUSTER_LABEL, DockerApi
from kubarium.cluster.down import down
from kubarium.cluster.paths import ClusterPaths

T = TypeVar("T")


def eventually(check: Callable[[], T], what: str, *, limit_s: float = 20.0) -> T:
    """The first true result of `check`; the assertion names what was waited for."""
    deadline = time.monotonic() + limit_s
    while not (result := check()):
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}; last seen: {result!r}"
        time.sleep(0.02)
    return result


@pytest.fixture(scope="session")
def docker() -> DockerApi:
    """An engine with the base images."""
    if os.geteuid() != 0:
        pytest.skip("containers and network namespaces need root")
    found = engine.find()
    if found is None:
        pytest.skip("no Docker engine answers: 'kubarium setup' starts one")
    for key in images.missing(found, {"pause": images.IMAGES["pause"]}):
        images.make(found, images.IMAGES[key])
    return found


@pytest.fixture
def paths(docker: DockerApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterPaths]:
    """The folders of a cluster of the test's own; whatever the test leaves, goes."""
    monkeypatch.setenv("KUBARIUM_HOME", str(tmp_path / "home"))
    paths = ClusterPaths.of(f"t-{secrets.token_hex(3)}")
    try:
        yield paths
    finally:
        down(paths.name)
    assert not docker.containers({CLUSTER_LABEL: paths.name}), "containers left behind"
