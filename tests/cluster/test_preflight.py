"""What is found before anything is started: one line each, with what and how to mend it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from click.testing import CliRunner

from kubarium.cluster import cgroups, engine, network, preflight
from kubarium.cluster.commands import down_cmd, kubeconfig_cmd, start_cmd, status_cmd, token_cmd, up_cmd
from kubarium.cluster.dockerapi import DockerApi
from kubarium.cluster.nodes import unmount_below
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import ClusterSpec
from kubarium.cluster.up import choose_lan, settle
from kubarium.machinery.errors import ClusterError, ConfigError
from tests.cluster.conftest import eventually


def one_line(caught: pytest.ExceptionInfo[ConfigError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError) as caught:
        preflight.check_root()
    assert "run it with sudo" in one_line(caught)


@pytest.mark.parametrize("release", ["4.19.0-amd64", "5.4.0-150-generic"])
def test_an_old_kernel(release: str) -> None:
    with pytest.raises(ConfigError) as caught:
        preflight.check_kernel(release)
    assert f"{release}: Linux 5.10 or newer is needed" in one_line(caught)


def test_this_kernel_can_do_it() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    assert preflight.try_kernel() == ""


def test_a_kernel_without_what_kube_proxy_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    monkeypatch.setattr(
        preflight, "NFT_PROBE", "add table ip t\nadd chain ip t c { type nosuch hook input priority 0 ; }\n"
    )
    reason = preflight.try_kernel()
    assert reason.startswith("the kernel lacks nftables features") and "modprobe" in reason


def test_no_engine(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        preflight.check_engine(DockerApi(str(tmp_path / "none.sock")))
    assert "no Docker engine answers" in one_line(caught) and "kubarium setup" in one_line(caught)


@pytest.mark.parametrize("host", ["tcp://10.0.0.1:2375", "unix:///nowhere/docker.sock"])
def test_an_engine_that_was_meant_and_is_not_there(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(ConfigError) as caught:
        engine.find()
    assert one_line(caught).startswith(f"DOCKER_HOST {host}: ")


def test_an_engine_without_our_images(docker: DockerApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "PAUSE", "kubarium/nosuch")
    with pytest.raises(ConfigError) as caught:
        preflight.check_engine(docker)
    assert "'kubarium setup' makes it" in one_line(caught)


def test_our_engine_leaves_the_host_alone(tmp_path: Path) -> None:
    command = engine.plan_command(str(tmp_path / "docker.sock"), tmp_path / "data")
    wanted = {"--live-restore", "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"}
    assert wanted <= set(command)


@pytest.mark.skipif(os.geteuid() != 0, reason="a Docker engine needs root")
@pytest.mark.skipif(shutil.which("dockerd") is None, reason="no dockerd here: 'kubarium setup' installs it")
def test_our_engine_starts_where_another_was_killed(tmp_path: Path) -> None:
    """Its PID file is there still, and the number belongs to somebody else by now."""
    run = Path(f"/run/kbtest-{secrets.token_hex(3)}")  # socket paths have to be short
    run.mkdir()
    (run / "docker.pid").write_text(str(os.getpid()))
    try:
        engine.start_ours(str(run / "docker.sock"), tmp_path / "data")
        assert DockerApi(str(run / "docker.sock")).answers()
        engine.start_ours(str(run / "docker.sock"), tmp_path / "data")  # a second start finds it
        for pidfile in (run / "docker.pid", run / "docker" / "containerd" / "containerd.pid"):
            os.kill(int(pidfile.read_text()), signal.SIGKILL)
        eventually(lambda: not DockerApi(str(run / "docker.sock")).answers(), "the engine's end by kill -9")
        engine.start_ours(str(run / "docker.sock"), tmp_path / "data")
        assert DockerApi(str(run / "docker.sock")).answers()
    finally:
        pid = (run / "docker.pid").read_text() if (run / "docker.pid").exists() else ""
        if pid and pid != str(os.getpid()):
            os.kill(int(pid), signal.SIGTERM)
            eventually(lambda: not (run / "docker.pid").exists(), "the engine's end")
        unmount_below(tmp_path / "data")
        shutil.rmtree(run)


def test_a_port_in_use_that_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            preflight.bind_api_port(ClusterSpec(), port)
    assert f"--api-port {port}: port {port} of 127.0.0.1 is in use" in one_line(caught)


def test_a_port_in_use_is_passed_over() -> None:
    with preflight.bind_api_port(ClusterSpec()) as first, preflight.bind_api_port(ClusterSpec()) as second:
        assert first.getsockname()[1] < second.getsockname()[1]


def test_the_remembered_port_is_taken_again() -> None:
    with preflight.bind_api_port(ClusterSpec()) as sock:
        port = sock.getsockname()[1]
    with preflight.bind_api_port(ClusterSpec(api_port=port)) as again:
        assert again.getsockname()[1] == port


def test_a_home_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBARIUM_HOME", "/dev/null/home")
    with pytest.raises(ConfigError) as caught:
        preflight.check_home()
    assert "KUBARIUM_HOME=/dev/null/home: cannot make /dev/null/home/clusters (Not a directory)" in one_line(caught)


def test_a_home_beside_the_user_is_an_absolute_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBARIUM_HOME", "mine")
    assert ClusterPaths.of("lab").base == tmp_path / "mine"


def test_a_route_of_the_host_where_the_lan_was(paths: ClusterPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ClusterSpec(name=paths.name, lan_index=9)
    monkeypatch.setattr(network, "host_routes", lambda **_: [IPv4Network("198.18.8.0/21")])
    with pytest.raises(ClusterError, match=r"the host now has a route to 198\.18\.8\.0/21"):
        choose_lan(spec, paths)


def test_settings_that_differ_from_the_cluster_that_exists(paths: ClusterPaths) -> None:
    ClusterSpec(name=paths.name, workers=2).save(paths.spec)
    assert settle(paths, paths.name, {"workers": 2}).workers == 2
    with pytest.raises(ConfigError) as caught:
        settle(paths, paths.name, {"workers": 3})
    assert "--workers 3: cluster" in one_line(caught) and "exists with 2" in one_line(caught)


def test_another_engine_than_the_one_of_the_cluster_that_exists(paths: ClusterPaths, tmp_path: Path) -> None:
    ClusterSpec(name=paths.name, docker_socket=str(tmp_path / "engine.sock")).save(paths.spec)
    (tmp_path / "link.sock").symlink_to(tmp_path / "engine.sock")
    assert settle(paths, paths.name, {"docker_socket": str(tmp_path / "link.sock")})
    with pytest.raises(ConfigError) as caught:
        settle(paths, paths.name, {"docker_socket": "/nowhere.sock"})
    assert "--docker-socket /nowhere.sock: cluster" in one_line(caught)


def test_processes_without_a_state_folder(paths: ClusterPaths) -> None:
    if os.geteuid() != 0:
        pytest.skip("cgroups need root")
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, preexec_fn=lambda: cgroups.join(f"{paths.name}/x"))  # noqa: PLW1509 - no thread runs yet
    try:
        with pytest.raises(ConfigError) as caught:
            settle(paths, paths.name, {})
        assert f"state folder is gone; 'kubarium down --name {paths.name}' removes" in one_line(caught)
    finally:
        child.kill()
        child.wait()
        cgroups.remove(paths.name)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--name", "No"], "--name 'No': expected lower-case", id="name"),
        pytest.param(["--pod-cidr", "10.96.0.0/12"], "overlaps --service-cidr", id="overlap"),
        pytest.param(["--workers", "999"], "--workers 999: expected 0 to 200", id="workers"),
        pytest.param(["--docker-socket", "/nowhere.sock"], "no Docker engine answers there", id="engine"),
    ],
)
def test_up_starts_nothing_when_something_is_wrong(
    arguments: list[str], says: str, paths: ClusterPaths, docker: DockerApi
) -> None:
    name = [] if "--name" in arguments else ["--name", paths.name]
    result = CliRunner().invoke(up_cmd, [*name, *arguments])
    assert result.exit_code == 1
    (line,) = result.output.strip().splitlines()
    assert says in line
    assert not paths.state.exists() and not paths.run.exists() and not cgroups.pids(paths.name)


@pytest.mark.parametrize("command", [start_cmd, status_cmd, kubeconfig_cmd, token_cmd])
def test_commands_on_a_cluster_that_is_not_there(command: object, paths: ClusterPaths) -> None:
    result = CliRunner().invoke(command, ["--name", paths.name])  # type: ignore[arg-type]
    assert result.exit_code == 1
    assert f"there is no cluster {paths.name}: 'kubarium up --name {paths.name}' makes one" in result.output


def test_down_of_nothing_is_no_error(paths: ClusterPaths) -> None:
    result = CliRunner().invoke(down_cmd, ["--name", paths.name])
    assert (result.exit_code, result.output) == (0, f"cluster {paths.name}: nothing to remove\n")
