"""Streams into pods with an unmodified kubectl: run -it, attach, cp, debug, port-forward."""

from __future__ import annotations

import hashlib
import secrets
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.lab import CommandFailed, Lab, eventually
from tests.e2e.terminal import Terminal

SERVER = """
apiVersion: v1
kind: Pod
metadata: {name: streams}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: busybox
      imagePullPolicy: IfNotPresent
      command: [sh, -c, "nc -ll -p 7000 -e cat & mkdir /www; cd /www; exec httpd -f -p 127.0.0.1:8080"]
"""
IMAGE = ("--image=busybox", "--image-pull-policy=IfNotPresent")


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[Lab]:
    """A pod that sends back what comes to port 7000, and serves /www on its loopback interface alone."""
    lab.kubectl("apply", "-f", "-", stdin=SERVER)
    lab.kubectl("wait", "--for=condition=Ready", "pod/streams", "--timeout=60s")
    yield lab
    lab.kubectl("delete", "pod", "streams", "--now", "--ignore-not-found")


def argv(lab: Lab, *args: str) -> list[str]:
    return [lab.kubectl_path, "--kubeconfig", lab.kubeconfig, *args]


def test_run_with_a_terminal_gives_its_size_and_its_exit_code(lab: Lab) -> None:
    flags = ("-it", "--rm", "--restart=Never")
    with Terminal(argv(lab, "run", "typed", *IMAGE, *flags, "--", "sh")) as terminal:
        terminal.expect("# ")
        terminal.type("stty size\n")
        terminal.expect("40 100")
        terminal.resize(33, 77)
        terminal.type("while [ \"$(stty size)\" != '33 77' ]; do :; done; echo it-$((6 * 7))\n")
        terminal.expect("it-42")
        terminal.type("exit 3\n")
        assert terminal.wait() == 3
        assert 'pod "typed" deleted' in terminal.rest


def test_run_with_input_from_a_pipe(lab: Lab) -> None:
    flags = ("-i", "--rm", "--restart=Never")
    text = lab.kubectl("run", "piped", *IMAGE, *flags, "--", "cat", stdin="from a pipe\n")
    assert text.startswith("from a pipe\n")


def test_attach_comes_back_to_the_same_shell(lab: Lab) -> None:
    lab.kubectl("run", "shell", *IMAGE, "-it", "--attach=false", "--restart=Never", "--", "sh")
    lab.kubectl("wait", "--for=condition=Ready", "pod/shell", "--timeout=60s")
    with Terminal(argv(lab, "attach", "-it", "shell")) as terminal:
        terminal.expect("try pressing enter")
        terminal.type("X=kept; echo set-$X\n")
        terminal.expect("set-kept")
        terminal.kill()
    with Terminal(argv(lab, "attach", "-it", "shell")) as terminal:
        terminal.expect("try pressing enter")
        terminal.type("echo still-$X\n")
        terminal.expect("still-kept")
        terminal.type("exit\n")
        assert terminal.wait() == 0
    lab.kubectl("delete", "pod", "shell")


def test_cp_there_and_back(server: Lab, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    (source / "deep").mkdir(parents=True)
    (source / "large").write_bytes(secrets.token_bytes(5_000_000))
    (source / "deep" / "small").write_text("small")
    server.kubectl("cp", str(source), "streams:/tmp/there")
    server.kubectl("cp", "streams:/tmp/there", str(back))
    assert (back / "deep" / "small").read_text() == "small"
    digests = [hashlib.sha256((folder / "large").read_bytes()).hexdigest() for folder in (source, back)]
    assert digests[0] == digests[1]


def test_debug_joins_the_processes_and_network_of_a_container(server: Lab) -> None:
    flags = ("-it", *IMAGE, "-c", "debugger", "--target=main")
    with Terminal(argv(server, "debug", "streams", *flags)) as terminal:
        terminal.expect("# ")
        terminal.type("ps | grep -c 'nc -l[l]'; echo hello | nc -w 1 127.0.0.1 7000; echo done-$?\n")
        assert "\r\n1\r\nhello" in terminal.expect("done-0")
        terminal.type("exit 4\n")
        terminal.wait()

    def ended() -> dict[str, object]:
        (status,) = server.get("pod", "streams")["status"].get("ephemeralContainerStatuses") or [{}]
        return status.get("state", {}).get("terminated")  # type: ignore[no-any-return]

    assert eventually(ended, "the debugger's end")["exitCode"] == 4
    assert server.get("pod", "streams")["status"]["phase"] == "Running"
    with pytest.raises(CommandFailed, match=r'unable to upgrade connection: container not found \("debugger"\)'):
        server.kubectl("exec", "streams", "-c", "debugger", "--", "true")


@contextmanager
def forwarding(lab: Lab, *ports: str) -> Iterator[tuple[list[int], list[str]]]:
    """The local ports, and what kubectl prints."""
    command = argv(lab, "port-forward", "pod/streams", "--address=127.0.0.1", *ports)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda out: lines.extend(iter(out.readline, "")), args=(process.stdout,))
    reader.start()
    try:
        eventually(lambda: len([line for line in lines if line.startswith("Forwarding from")]) == len(ports), "ports")
        yield [int(line.split()[2].rpartition(":")[2]) for line in lines if line.startswith("Forwarding")], lines
    finally:
        process.terminate()
        process.wait()
        reader.join()
        process.stdout.close()


def echoed(port: int, data: bytes) -> bytes:
    """Send all, say that it is all, and read to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(connection.sendall, data)
        sending.add_done_callback(lambda _: connection.shutdown(socket.SHUT_WR))
        with connection.makefile("rb") as file:
            return file.read()


def test_port_forward_carries_each_direction_to_its_end(server: Lab) -> None:
    data = secrets.token_bytes(3_000_000)
    with forwarding(server, ":7000") as ((port,), _):
        assert echoed(port, data) == data
        assert echoed(port, b"again") == b"again"


def test_port_forward_carries_several_connections_to_loopback_at_once(server: Lab) -> None:
    server.in_pod("streams", "sh", "-c", "head -c 1000000 /dev/urandom > /www/data")
    (digest,) = server.in_pod("streams", "md5sum", "/www/data").split()[:1]

    def fetched(port: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/data", timeout=30) as answer:
            return hashlib.md5(answer.read()).hexdigest()

    with forwarding(server, ":8080", ":8080") as (ports, _), ThreadPoolExecutor(6) as pool:
        assert list(pool.map(fetched, ports * 6)) == [digest] * 12


def test_port_forward_tells_that_nothing_listens(server: Lab) -> None:
    with forwarding(server, ":7001") as ((port,), lines):
        with suppress(ConnectionError):
            assert echoed(port, b"anybody there?") == b""
        text = "connect: connection refused"
        eventually(lambda: any("error forwarding port 7001 to pod" in line and text in line for line in lines), text)
