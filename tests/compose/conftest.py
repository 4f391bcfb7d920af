"""An ordinary Docker engine (bridge, iptables) in a network namespace of its own, so that the host's rules stay."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubarium.cluster import cgroups, engine, images
from kubarium.cluster.dockerapi import DockerApi
from kubarium.cluster.nodes import mounts_below, unmount_below
from kubarium.cluster.setup import ensure_images, ensure_wheels
from kubarium.machinery import netns

ROOT = Path(__file__).parents[2]
IMAGE = "kubarium/kubarium:latest"


def quiet(*_: object) -> None:
    """Steps of the set-up are not shown in tests."""


@dataclass(frozen=True)
class Engine:
    """`netns` is where it runs: its bridges, iptables rules and published ports are there only."""

    socket: Path
    netns: Path

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", f"--net={self.netns}"]


@pytest.fixture(scope="session")
def built() -> DockerApi:
    """Our own engine, holding the image of the services, built from this tree without any network."""
    if os.geteuid() != 0:
        pytest.skip("containers and network namespaces need root")
    if (own := engine.find()) is None:
        pytest.skip("no Docker engine answers: 'kubarium setup' starts one")
    ensure_images(own, quiet, compose=True)
    ensure_wheels(quiet)
    command = ["docker", "build", "-q", "--network=none", "-t", IMAGE, "--build-arg=BASE_IMAGE=kubarium/python"]
    run = subprocess.run(
        [*command, "-f", "compose/Dockerfile", "."],
        cwd=ROOT,
        env=os.environ | {"DOCKER_HOST": f"unix://{own.path}", "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return own


@pytest.fixture(scope="session")
def ordinary_engine(built: DockerApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine as everybody has it, with the images that a registry would give."""
    if shutil.which("dockerd") is None or shutil.which("iptables") is None:
        pytest.skip("an engine of the test's own needs dockerd and iptables: 'kubarium setup --dev' installs them")
    folder = Path("/run") / f"kbtest-{secrets.token_hex(3)}"  # socket paths have to be short
    data = tmp_path_factory.mktemp("docker")
    space = netns.create(folder.name)
    netns.run_in_netns(space, subprocess.run, ["ip", "link", "set", "lo", "up"], check=True)
    folder.mkdir()
    process = netns.run_in_netns(space, start_engine, folder, data)
    try:
        wait_for(lambda: DockerApi(str(folder / "docker.sock")).answers(), data / "log")
        found = Engine(folder / "docker.sock", space)
        names = [image.image for image in (*images.IMAGES.values(), images.COMPOSE_IMAGES["etcd"])]
        copy_images(built, found, [IMAGE, *names])
        yield found
    finally:
        process.terminate()
        process.wait(30)
        for place in (folder, data):
            unmount_below(place)
            assert not mounts_below(place)
            shutil.rmtree(place, ignore_errors=True)
        netns.delete(folder.name)


def start_engine(folder: Path, data: Path) -> subprocess.Popen[bytes]:
    command = ["dockerd", f"--host=unix://{folder / 'docker.sock'}", f"--data-root={data}"]
    command += [f"--exec-root={folder / 'exec'}", f"--pidfile={folder / 'pid'}", "--cgroup-parent=/kbtest"]
    with (data / "log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def wait_for(check: Callable[[], bool], log: Path, limit_s: float = 40.0) -> None:
    deadline = time.monotonic() + limit_s
    while not check():
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
        time.sleep(0.05)


def copy_images(source: DockerApi, target: Engine, names: list[str]) -> None:
    save = subprocess.Popen(["docker", "-H", f"unix://{source.path}", "save", *names], stdout=subprocess.PIPE)
    subprocess.run(["docker", "-H", target.host, "load", "-q"], stdin=save.stdout, check=True, stdout=sys.stderr)
    assert save.wait() == 0


@pytest.fixture
def name() -> Iterator[str]:
    """A cluster of the test's own; nothing of it is left."""
    name = f"c-{secrets.token_hex(3)}"
    yield name
    assert not cgroups.pids(name)
