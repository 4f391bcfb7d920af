"""`kubarium api`: an API server alone, with and without the controllers that need no node."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubarium.testing.kubectl import kubectl_path

DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Alone:
    """A running `kubarium api`, with what it told."""

    process: subprocess.Popen[str]
    url: str
    token: str
    kubeconfig: Path

    def kubectl(self, *words: str, given: str = "") -> str:
        command = [str(kubectl_path()), "--kubeconfig", str(self.kubeconfig), *words]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def alone(*flags: str) -> Iterator[Alone]:
    command = [sys.executable, "-m", "kubarium.cli", "api", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield told(process)
    finally:
        process.kill()
        process.wait()


def told(process: subprocess.Popen[str]) -> Alone:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if line.startswith("Ready"):
            break
    found = dict(re.findall(r"^(API server|token|kubeconfig) +(\S+)$", seen, re.MULTILINE))
    assert len(found) == 3, seen
    return Alone(process, found["API server"], found["token"], Path(found["kubeconfig"]))


def eventually(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_kubectl_and_leaves_nothing_behind(number: signal.Signals) -> None:
    with alone() as server:
        assert "default" in server.kubectl("get", "namespaces", "-o", "name")
        folder = server.kubeconfig.parent
        server.process.send_signal(number)
        assert server.process.wait(DEADLINE_S) == 0
        assert not folder.exists()


def test_port_token_store_and_kubeconfig_are_the_users_to_choose(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store, config = tmp_path / "store.db", tmp_path / "kubeconfig"
    flags = ("--port", str(port), "--token", "word", "--store", f"sqlite://{store}", "--write-kubeconfig", str(config))
    with alone(*flags) as server:
        assert (server.url, server.token, server.kubeconfig) == (f"https://127.0.0.1:{port}", "word", config)
        server.kubectl("create", "configmap", "kept")
        server.process.terminate()
        server.process.wait(DEADLINE_S)
    with alone(*flags) as server:
        assert server.kubectl("get", "configmap", "kept", "-o", "name") == "configmap/kept\n"


def test_a_taken_port_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "kubarium.cli", "api", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "choose another port" in done.stderr


def test_with_controllers_namespaces_end_and_garbage_goes() -> None:
    with alone("--with-controllers") as server:
        server.kubectl("create", "namespace", "gone")
        server.kubectl("create", "configmap", "inside", "-n", "gone")
        server.kubectl("delete", "namespace", "gone", "--timeout=20s")
        server.kubectl("create", "configmap", "owner")
        uid = server.kubectl("get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}")
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
        child = {"metadata": {"name": "child", "ownerReferences": [owner]}, "apiVersion": "v1", "kind": "ConfigMap"}
        server.kubectl("apply", "-f", "-", given=json.dumps(child))
        server.kubectl("delete", "configmap", "owner")
        server.kubectl("wait", "--for=delete", "configmap/child", "--timeout=20s")


def test_with_controllers_pods_get_an_account_and_its_token() -> None:
    with alone("--with-controllers") as server:
        server.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=20s")
        server.kubectl("run", "web", "--image=web")
        pod = json.loads(server.kubectl("get", "pod", "web", "-o", "json"))
        assert pod["spec"]["serviceAccountName"] == "default"
        assert pod["spec"]["volumes"][0]["name"].startswith("kube-api-access-")


def test_the_controllers_end_with_a_killed_server_and_the_next_one_clears_its_folder() -> None:
    with alone("--with-controllers") as server:
        (controllers,) = children(server.process.pid)
        folder = server.kubeconfig.parent
        server.process.kill()
        server.process.wait(DEADLINE_S)
        eventually(lambda: not is_running(controllers), "the controllers end")
    with alone():
        assert not folder.exists()


def test_it_ends_when_the_controllers_do() -> None:
    with alone("--with-controllers") as server:
        (controllers,) = children(server.process.pid)
        subprocess.run(["kill", "-KILL", str(controllers)], check=True)
        assert server.process.wait(DEADLINE_S) == 2


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--port", "70000"), "--port 70000: expected a port"),
        (("--token", ""), "--token ''"),
        (("--token", "a b"), "--token 'a b'"),
        (("--write-kubeconfig", "/"), "kubeconfig /: "),
    ],
)
def test_wrong_flags_are_told_in_one_line(flags: tuple[str, ...], told: str) -> None:
    command = [sys.executable, "-m", "kubarium.cli", "api", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr
