"""The executable, as a container runtime starts it: environment and standard input in, JSON and exit code out."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

import cni

PLUGIN = Path(cni.__file__).parent / "plugin.py"
RESULT = {"cniVersion": "1.1.0", "ips": [{"address": "10.244.1.5/32", "gateway": "169.254.1.1"}]}
CONTAINER = {"CNI_CONTAINERID": "abc", "CNI_NETNS": "/proc/1/ns/net", "CNI_IFNAME": "eth0"}


def call(
    command: str, config: Any, env: dict[str, str] | None = None, *, interpreter: tuple[str, ...] = ()
) -> tuple[int, Any]:
    """(exit code, decoded standard output or None)."""
    text = config if isinstance(config, str) else json.dumps(config)
    done = subprocess.run(
        [*interpreter, str(PLUGIN)],
        input=text,
        env={"CNI_COMMAND": command, "PATH": "/usr/bin:/bin:/usr/local/bin"} | (env or {}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout) if done.stdout else None


class FakeAgent:
    """The other end of the socket: takes one request, says what it was told to say."""

    def __init__(self, path: Path, answer: dict[str, Any]) -> None:
        self.request: dict[str, Any] = {}
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        sock, _ = self._listener.accept()
        with sock, sock.makefile("rwb") as file:
            self.request = json.loads(file.readline())
            file.write(json.dumps(self._answer).encode() + b"\n")

    def done(self) -> dict[str, Any]:
        self._thread.join(timeout=5)
        self._listener.close()
        return self.request


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": "kubarium", "type": "kubarium-cni", "socket": str(tmp_path / "cni.sock")}


def test_add_passes_everything_on(config: dict[str, Any]) -> None:
    agent = FakeAgent(Path(config["socket"]), RESULT)
    args = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u-1"}
    assert call("ADD", config, CONTAINER | args) == (0, RESULT)
    request = agent.done()
    assert request["command"] == "ADD"
    assert (request["containerID"], request["netns"], request["ifname"]) == ("abc", "/proc/1/ns/net", "eth0")
    assert request["args"]["K8S_POD_NAME"] == "web"
    assert request["config"] == config


def test_an_older_configuration_gets_an_older_result(config: dict[str, Any]) -> None:
    FakeAgent(Path(config["socket"]), RESULT)
    _, answer = call("ADD", config | {"cniVersion": "0.4.0"}, CONTAINER)
    assert answer["cniVersion"] == "0.4.0"
    assert answer["ips"][0]["version"] == "4"


def test_delete_says_nothing_and_needs_no_namespace(config: dict[str, Any]) -> None:
    FakeAgent(Path(config["socket"]), {})
    assert call("DEL", config, {k: v for k, v in CONTAINER.items() if k != "CNI_NETNS"}) == (0, None)


def test_refusals_of_the_agent_reach_the_runtime(config: dict[str, Any]) -> None:
    refusal = {"cniVersion": "1.1.0", "code": 11, "msg": "no free address in 10.244.1.0/24", "details": "x"}
    FakeAgent(Path(config["socket"]), refusal)
    assert call("ADD", config, CONTAINER) == (1, refusal)


def test_version_needs_no_agent(config: dict[str, Any]) -> None:
    code, answer = call("VERSION", {"cniVersion": "1.0.0"})
    assert (code, answer["cniVersion"]) == (0, "1.0.0")
    assert answer["supportedVersions"] == ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]


@pytest.mark.parametrize(
    ("command", "change", "env", "code"),
    [
        pytest.param("ADD", {}, CONTAINER, 11, id="agent away: try again"),
        pytest.param("STATUS", {}, {}, 50, id="agent away: not available"),
        pytest.param("ADD", {}, {"CNI_CONTAINERID": "abc"}, 4, id="environment incomplete"),
        pytest.param("PING", {}, {}, 4, id="unknown command"),
        pytest.param("ADD", {}, CONTAINER | {"CNI_ARGS": "nonsense"}, 4, id="CNI_ARGS without ="),
        pytest.param("ADD", {"cniVersion": "9.9.9"}, CONTAINER, 1, id="unknown version"),
        pytest.param("GC", {"cniVersion": "1.0.0"}, {}, 1, id="command newer than the version"),
        pytest.param("ADD", {"socket": ""}, CONTAINER, 7, id="no socket configured"),
    ],
)
def test_errors_are_told_as_the_specification_has_it(
    config: dict[str, Any], command: str, change: dict[str, Any], env: dict[str, str], code: int
) -> None:
    exit_code, answer = call(command, config | change, env)
    assert exit_code == 1
    assert answer["code"] == code
    assert answer["msg"]
    assert answer["cniVersion"]


def test_input_that_is_no_json() -> None:
    assert call("ADD", "{", CONTAINER)[1]["code"] == 6
    assert call("ADD", "[]", CONTAINER)[1]["code"] == 6


def test_it_runs_on_the_standard_library_alone(config: dict[str, Any]) -> None:
    code, answer = call("VERSION", config, interpreter=("/usr/bin/env", "python3", "-I", "-S"))
    assert (code, answer["cniVersion"]) == (0, "1.1.0")
