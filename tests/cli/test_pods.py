"""logs, exec, get -w and delete on a running cluster, beside kubectl."""

from __future__ import annotations

import os
import pty
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Commands

KUBARIUM = [sys.executable, "-m", "kubarium.cli"]
DEADLINE_S = 30.0
PODS = """\
apiVersion: v1
kind: Pod
metadata: {name: talker, labels: {app: talker}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: busybox
      command:
        - sh
        - -c
        - "for i in 1 2 3; do echo line $i; done; while [ ! -e /more ]; do sleep 0.1; done; echo more; sleep 1000"
    - {name: side, image: busybox, command: [sh, -c, "echo from the side; sleep 1000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: failing, labels: {app: failing}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: busybox, command: [sh, -c, "echo run of $(date +%N); sleep 0.5; exit 3"]}]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, kubectl: Path) -> Iterator[Commands]:
    if os.geteuid() != 0:
        pytest.skip("a cluster makes network namespaces: needs root")
    name = f"cli-{secrets.token_hex(2)}"
    env = os.environ | {"PYTHONPATH": str(ROOT)}

    def lifecycle(*words: str) -> str:
        done = subprocess.run([*KUBARIUM, *words, "--name", name], capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    try:
        lifecycle("up", "--workers", "1")
        kubeconfig = tmp_path_factory.mktemp("lab") / "kubeconfig"
        kubeconfig.write_text(lifecycle("kubeconfig"))
        commands = Commands(kubectl, kubeconfig, "default")
        assert commands.kubarium("apply", "-f", "-", stdin=PODS).code == 0
        waited = commands.kubarium("wait", "pod/talker", "--for=condition=Ready", f"--timeout={DEADLINE_S}s")
        assert waited.code == 0, waited.err
        yield commands
    finally:
        lifecycle("down")


def eventually(check: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def test_logs(lab: Commands) -> None:
    told = lab.kubarium("logs", "talker")
    assert told.out.startswith("line 1\nline 2\nline 3\n")
    assert told.err == 'Defaulted container "main" out of: main, side\n'
    lab.same("logs", "talker", "-c", "side")
    lab.same("logs", "talker", "side")
    lab.same("logs", "talker", "-c", "main", "--tail=1")
    lab.same("logs", "talker", "-c", "main", "--limit-bytes=8")
    assert lab.kubarium("logs", "talker", "-c", "none").err == (
        "error: container none is not valid for pod talker, valid ones are: main, side\n"
    )
    every = lab.kubarium("logs", "-l", "app=talker", "--all-containers", "--prefix").out
    assert "[pod/talker/main] line 3\n" in every and "[pod/talker/side] from the side\n" in every


def test_logs_of_the_container_before_its_restart(lab: Commands) -> None:
    eventually(lambda: lab.kubarium("logs", "failing", "-p").code == 0, "the pod never restarted")
    assert lab.kubarium("logs", "failing", "-p").out.startswith("run of ")


def test_logs_follow(lab: Commands) -> None:
    env = os.environ | {"KUBECONFIG": str(lab.kubeconfig), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*KUBARIUM, "logs", "talker", "-c", "main", "-f"], stdout=subprocess.PIPE, text=True, env=env
    ) as following:
        try:
            assert following.stdout is not None
            assert [following.stdout.readline() for _ in range(3)] == ["line 1\n", "line 2\n", "line 3\n"]
            assert lab.kubarium("exec", "talker", "-c", "main", "--", "touch", "/more").code == 0
            assert following.stdout.readline() == "more\n"
        finally:
            following.terminate()


def test_exec_keeps_streams_and_exit_codes_apart(lab: Commands) -> None:
    done = lab.kubarium("exec", "talker", "-c", "main", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.code, done.out) == (7, "out\n")
    assert done.err == "err\ncommand terminated with exit code 7\n"
    lab.same("exec", "talker", "-c", "side", "--", "sh", "-c", "echo hi; exit 3")
    lab.same("exec", "nope", "--", "true")


def test_exec_passes_standard_input_until_its_end(lab: Commands) -> None:
    text = "".join(f"{number}\n" for number in range(200_000))
    done = lab.kubarium("exec", "-i", "talker", "-c", "main", "--", "wc", "-c", stdin=text)
    assert (done.code, done.out.strip()) == (0, str(len(text)))


def test_exec_with_a_terminal(lab: Commands) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.environ |= {"KUBECONFIG": str(lab.kubeconfig), "PYTHONPATH": str(ROOT)}
        os.execv(KUBARIUM[0], [*KUBARIUM, "exec", "-it", "talker", "-c", "main", "--", "sh"])
    try:
        _expect(fd, b"# ")
        os.write(fd, b"tty && echo $((40+2))\r")
        assert b"/dev/pts/" in _expect(fd, b"42\r\n")
        os.write(fd, b"exit 5\r")
        _expect(fd, b"exit code 5")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    finally:
        os.close(fd)


def _expect(fd: int, wanted: bytes) -> bytes:
    """What the terminal shows, up to the wanted bytes."""
    seen = b""
    end = time.monotonic() + DEADLINE_S
    while wanted not in seen:
        ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
        assert ready, f"never saw {wanted!r} in {seen!r}"
        seen += os.read(fd, 4096)
    return seen


def test_get_watch_shows_a_pod_come_and_go(lab: Commands) -> None:
    env = os.environ | {"KUBECONFIG": str(lab.kubeconfig), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*KUBARIUM, "get", "pods", "-l", "app=brief", "-w", "-o", "name"], stdout=subprocess.PIPE, text=True, env=env
    ) as watching:
        try:
            assert watching.stdout is not None
            manifest = PODS.split("---")[1].replace("failing", "brief")
            assert lab.kubarium("apply", "-f", "-", stdin=manifest).code == 0
            assert watching.stdout.readline() == "pod/brief\n"
            started = time.monotonic()
            assert lab.kubarium("delete", "pod", "brief").out == 'pod "brief" deleted from default namespace\n'
            assert time.monotonic() - started < DEADLINE_S
            assert lab.kubarium("get", "pod", "brief").code == 1, "delete returned before the pod was gone"
        finally:
            watching.terminate()


@pytest.mark.parametrize(
    "words", ["nodes -o wide", "pods -A -o wide", "rs -A", "endpointslices -A", "events -n kube-system"]
)
def test_tables_of_a_living_cluster(lab: Commands, words: str) -> None:
    _same_at_one_moment(lab, "get", *words.split())


@pytest.mark.parametrize(
    "words", ["pod talker", "node control-plane", "svc -A", "endpointslices -A", "deploy -A", "rs -A"]
)
def test_descriptions_of_a_living_cluster(lab: Commands, words: str) -> None:
    _same_at_one_moment(lab, "describe", *words.split())


def _same_at_one_moment(lab: Commands, *argv: str) -> None:
    """Heartbeats and the failing pod change between kubectl's answer and ours now and then; not every time."""

    def same() -> bool:
        try:
            lab.same(*argv)
        except AssertionError:
            return False
        return True

    eventually(same, f"{' '.join(argv)} differs from kubectl")
