"""Stop, start, reboot, kill -9, down: with real components and a real web app, each test on clusters of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubarium.cluster import cgroups
from tests.e2e import web_app
from tests.e2e.conftest import start_lab
from tests.e2e.lab import KUBARIUM, Lab, condition, eventually, run

Start = Callable[..., Lab]


@pytest.fixture
def start(tmp_path: Path, kubectl: Path) -> Iterator[Start]:
    """Starts clusters with names of their own; all are removed at the end."""
    if os.geteuid() != 0:
        pytest.skip("clusters make network namespaces: they need root")
    names: list[str] = []

    def begin(*flags: str) -> Lab:
        names.append(f"life-{secrets.token_hex(2)}")
        return start_lab(names[-1], tmp_path, kubectl, *flags)

    try:
        yield begin
    finally:
        for name in names:
            subprocess.run([KUBARIUM, "down", "--name", name], check=True, timeout=120, capture_output=True)


def state_folder(name: str) -> Path:
    return Path(os.environ.get("KUBARIUM_HOME", "/var/lib/kubarium"), "clusters", name)


def engine_of(lab: Lab) -> list[str]:
    socket = json.loads(run([KUBARIUM, "status", "--name", lab.name, "-o", "json"]))["docker_socket"]
    return ["docker", "-H", f"unix://{socket}"]


def traces(name: str, engine: list[str]) -> list[str]:
    """Everything on this machine that still bears the cluster's name."""
    containers = run([*engine, "ps", "-aq", "--filter", f"label=io.kubarium.cluster={name}"]).split()
    namespaces = [p.name for p in Path("/run/netns").glob(f"kubarium-{name}-*")]
    groups = [str(p) for root in Path("/sys/fs/cgroup").glob("*") for p in root.glob(f"kubarium/{name}")]
    groups += [str(p) for p in Path("/sys/fs/cgroup").glob(f"kubarium/{name}")]
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if f"/{name}/" in line]
    links = [line for line in run(["ip", "-o", "link"]).splitlines() if f"kubarium {name}" in line]
    folders = [str(p) for p in (state_folder(name), Path("/run/kubarium", name)) if p.exists()]
    tables = [line for line in run(["nft", "list", "tables"]).splitlines() if "kubarium" in line]
    return [*containers, *namespaces, *groups, *mounts, *links, *folders, *tables]


def host_state() -> tuple[str, str, str]:
    """Routes, rules and forwarding of the host: none of ours to change, but for the LAN's own link and route."""
    routes = "\n".join(line for line in run(["ip", "route"]).splitlines() if not line.startswith("198.18."))
    forward = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    return routes, run(["nft", "list", "ruleset"]), forward


@pytest.mark.timeout(300)
def test_stop_and_start_keep_the_web_app(start: Start) -> None:
    lab = start()
    web_app.start(lab)
    before = {p["metadata"]["uid"] for p in lab.ready_pods(web_app.WEB)}
    run([KUBARIUM, "stop", "--name", lab.name], timeout_s=90)
    run([KUBARIUM, "start", "--name", lab.name], timeout_s=120)
    eventually(lambda: len(lab.ready_pods(web_app.WEB)) == 3, "three ready pods after the start")
    assert {p["metadata"]["uid"] for p in lab.ready_pods(web_app.WEB)} == before, "pods are kept, not replaced"
    eventually(lambda: len(lab.ready_pods("app=client")) == 2, "two clients")
    eventually(lambda: len(lab.endpoints("web-service")) == 3, "three endpoints")
    web_app.check_pod_to_pod(lab)
    web_app.check_node_port(lab)


@pytest.mark.timeout(300)
def test_a_reboot_keeps_the_web_app(start: Start) -> None:
    """Processes, containers, namespaces and /run are gone at once, as after a power cut."""
    lab = start()
    web_app.start(lab)
    cgroups.kill(lab.name)  # the containers too: their cgroups are below
    for path in Path("/run/netns").glob(f"kubarium-{lab.name}-*"):
        run(["ip", "netns", "delete", path.name])
    shutil.rmtree(Path("/run/kubarium", lab.name))
    run([KUBARIUM, "start", "--name", lab.name], timeout_s=120)
    eventually(lambda: len(lab.ready_pods(web_app.WEB)) == 3, "three ready pods after the reboot")
    eventually(lambda: len(lab.ready_pods("app=client")) == 2, "two clients")
    eventually(lambda: len(lab.endpoints("web-service")) == 3, "three endpoints")
    web_app.check_service_by_name(lab)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", ["nothing", "supervisor", "everything"])
def test_down_leaves_no_trace_even_without_its_state_folder(start: Start, first: str) -> None:
    host = host_state()
    lab = start()
    web_app.start(lab)
    engine = engine_of(lab)
    match first:
        case "supervisor":
            cgroups.kill(f"{lab.name}/supervisor")
            shutil.rmtree(state_folder(lab.name), ignore_errors=True)
        case "everything":
            cgroups.kill(lab.name)
            shutil.rmtree(state_folder(lab.name), ignore_errors=True)
    run([KUBARIUM, "down", "--name", lab.name], timeout_s=90)
    assert traces(lab.name, engine) == []
    assert host_state() == host


@pytest.mark.timeout(300)
@pytest.mark.parametrize("after_s", [0.3, 0.8, 1.3, 2.0])
def test_up_killed_at_any_moment_is_cleaned_by_down(start: Start, after_s: float) -> None:
    name = f"cut-{secrets.token_hex(2)}"
    with contextlib.suppress(subprocess.TimeoutExpired):  # which kills it
        subprocess.run([KUBARIUM, "up", "--name", name], timeout=after_s, capture_output=True)
    run([KUBARIUM, "down", "--name", name], timeout_s=90)
    lab = start()
    assert traces(name, engine_of(lab)) == []


@pytest.mark.timeout(300)
def test_two_clusters_side_by_side_do_not_know_of_each_other(start: Start) -> None:
    one, two = start(), start()
    web_app.start(one)
    assert not two.pods(web_app.WEB)
    web_app.start(two)
    assert one.node_ip("node-1") != two.node_ip("node-1")
    run([KUBARIUM, "down", "--name", two.name], timeout_s=90)
    web_app.check_service_by_name(one)
    web_app.check_node_port(one)
    assert all(condition(n, "Ready") == "True" for n in one.get("nodes")["items"])
