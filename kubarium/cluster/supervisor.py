"""The parent of all processes of a cluster: warmed once, it forks them, and starts again what dies.

It has no event loop, no thread, no gRPC channel and no database handle, ever: a fork must find none. It compares what
should run with what runs whenever something happens; work that takes time is done by jobs, short-lived children. It
holds the API server's listening socket of the host. It may itself die: everything else runs on, and the next
`kubarium up` or `start` takes over by replacing the processes (never the pods).

    python -m kubarium.cluster.supervisor NAME --listen-fd N
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from kubarium.cluster import cgroups, children, identities, namespaces, network, nodes
from kubarium.cluster.components import API_PORT, APISERVER, ETCD, Component, plan_components
from kubarium.cluster.dockerapi import DockerApi
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.restapi import RestApi
from kubarium.cluster.spec import CONTROL_PLANE, ClusterSpec
from kubarium.machinery.errors import ApiError, ClusterError

LINE_LIMIT = 64 * 1024
ETCD_PORT = 2379
RUNS = {ETCD: "etcd", APISERVER: "api"}  # what others wait for, and the fact that it answers
PROBE_TIMEOUT_S = 30.0
TICK_S = 0.01
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.5, 10.0
HEALTHY_S = 30.0
STOP_GRACE_S = 5.0


class Stage(StrEnum):
    """How far a node is."""

    ABSENT = "absent"
    ANCHORING = "anchoring"
    ANCHORED = "anchored"
    WIRING = "wiring"
    UP = "up"
    CLEARING = "clearing"
    KILLING = "killing"
    DEAD = "dead"


@dataclass
class Node:
    """A node's state; `pidfd` becomes readable when its anchor dies."""

    name: str
    stage: Stage = Stage.ABSENT
    pidfd: int = -1
    failures: int = 0
    retry_at: float = 0.0


@dataclass
class Process:
    """A component's state; `pid` is 0 while it does not run."""

    component: Component
    pid: int = 0
    started_at: float = 0.0
    start_at: float = 0.0
    restarts: int = -1
    failures: int = 0
    told: bool = False  # SIGTERM was sent


@dataclass
class Task:
    """A fact that one job brings about, once the facts it `needs` are there; a failed job is tried again."""

    work: Callable[[], Any]
    needs: frozenset[str] = frozenset()
    runs: bool = False
    retry_at: float = 0.0


@dataclass
class Client:
    """A connection to the control socket. `follows` ones get every event as it happens."""

    sock: socket.socket
    buffer: bytes = b""
    follows: bool = False


def backoff_s(failures: int) -> float:
    """Pause before the next start: none the first time, then doubling."""
    return 0.0 if failures <= 1 else min(FIRST_BACKOFF_S * 2 ** (failures - 2), LAST_BACKOFF_S)


@dataclass
class Supervisor:
    """One cluster's supervisor. `begun` is the time (monotonic) that the timeline counts from."""

    spec: ClusterSpec
    paths: ClusterPaths
    components: tuple[Component, ...]
    listeners: tuple[socket.socket, ...] = ()
    begun: float = field(default_factory=time.monotonic)
    bootstrap: Callable[[], Any] | None = None
    api_probe: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        self.lan = network.plan_lan(self.spec)
        self.docker = DockerApi(self.spec.docker_socket)
        self.nodes = {name: Node(name) for name in self.spec.node_names}
        self.processes = {component.key: Process(component) for component in self.components}
        self.jobs: dict[int, children.Job] = {}
        self.clients: dict[int, Client] = {}
        self.events: list[dict[str, Any]] = []
        self.facts: set[str] = set()  # keys of _FACTS and imported modules
        self.tasks = self._plan_tasks()
        self.stopping_since = 0.0
        self.poller = select.epoll()
        self.wake, self.waker = socket.socketpair()
        self.control = socket.socket(socket.AF_UNIX)

    # --- life

    def run(self) -> int:
        """Until told to stop by SIGTERM or over the control socket."""
        self._listen()
        self._replace_leftovers()
        self._warm_up()
        while not self._is_over():
            self._step()
        self.paths.control.unlink(missing_ok=True)
        return 0

    def _plan_tasks(self) -> dict[str, Task]:
        """Facts that a job brings about, and what each of them needs first."""
        tasks = {
            "identities": Task(partial(identities.ensure_identities, self.spec, self.paths, self.lan)),
            "lan": Task(partial(network.ensure_lan, self.paths, self.lan), frozenset({"pyroute2"})),
            "etcd": Task(partial(wait_for_port, ETCD_PORT, self.paths.netns(CONTROL_PLANE)), frozenset({"etcd runs"})),
            "api": Task(self.api_probe or partial(_wait_for_api, self.spec, self.paths), frozenset({"apiserver runs"})),
        }
        if self.bootstrap is not None:
            tasks["bootstrapped"] = Task(self.bootstrap, frozenset({"api"}))
        return tasks

    def _listen(self) -> None:
        self.paths.run.mkdir(parents=True, exist_ok=True)
        self.paths.control.unlink(missing_ok=True)
        self.control.bind(str(self.paths.control))
        self.paths.control.chmod(0o600)
        self.control.listen(16)
        for sock in (self.wake, self.waker, self.control):
            sock.setblocking(False)
        self.poller.register(self.control, select.EPOLLIN)
        self.poller.register(self.wake, select.EPOLLIN)
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _replace_leftovers(self) -> None:
        """Processes of a supervisor that died: pods stay, the components are started anew."""
        for node in self.spec.node_names:
            if cgroups.pids(f"{self.spec.name}/{node}/system"):
                cgroups.kill(f"{self.spec.name}/{node}/system")

    def _step(self, longest_s: float | None = None) -> None:
        """Start what is due, then take what happened, waiting for it no longer than `longest_s`."""
        timeout_s = self._reconcile(time.monotonic())
        if longest_s is not None:
            timeout_s = longest_s if timeout_s is None else min(longest_s, timeout_s)
        for fd, _ in self.poller.poll(timeout_s):
            self._dispatch(fd)

    def _warm_up(self) -> None:
        """Import everything once; what is there before a fork is shared with the child.

        Between imports the world goes on: anchors start meanwhile, and a component is forked once its own are done.
        """
        sys.dont_write_bytecode = False  # the next start is faster by half a second
        gc.disable()  # and collected never: a collection would write to every page that is shared
        self._step(0)
        for module in dict.fromkeys([*(m for c in self._by_start() for m in (*c.warm, c.module) if m), "pyroute2"]):
            try:
                importlib.import_module(module)
            except Exception:
                traceback.print_exc()  # the component's own log tells it again, where it is looked for
            self.facts.add(module)
            gc.freeze()
            self._step(0)
        self._fact("warm")

    def _by_start(self) -> list[Component]:
        return sorted(self.components, key=lambda component: component.after != "")

    # --- what should be, against what is

    def _reconcile(self, now: float) -> float | None:
        """Start what is due. Returns how long nothing needs doing unless something happens; None: for ever."""
        if self.stopping_since:
            return self._reconcile_stop(now)
        due: list[float] = []
        for node in self.nodes.values():
            due += self._reconcile_node(node, now)
        for process in self.processes.values():
            due += self._reconcile_process(process, now)
        for name, task in self.tasks.items():  # last: a start is a fact that some of them wait for
            due += self._reconcile_task(name, task, now)
        return max(min(due), 0.0) if due else None

    def _reconcile_task(self, name: str, task: Task, now: float) -> list[float]:
        if name in self.facts or task.runs or not task.needs <= self.facts:
            return []
        if now < task.retry_at:
            return [task.retry_at - now]

        def done(result: Any) -> None:
            task.runs = False
            self._fact(name)
            if name == "lan" and result:
                self._rewire()

        def failed(reason: str) -> None:
            task.runs, task.retry_at = False, time.monotonic() + FIRST_BACKOFF_S
            self._event(f"{name}: {reason}; tried again", error=True)

        task.runs = True
        self._job(name, task.work, done, failed)
        return []

    def _reconcile_node(self, node: Node, now: float) -> list[float]:
        if node.stage is Stage.ABSENT and self.paths.killed(node.name).exists():
            node.stage = Stage.DEAD
        if node.stage is Stage.ABSENT:
            if now < node.retry_at:
                return [node.retry_at - now]
            node.stage = Stage.ANCHORING
            work = partial(nodes.ensure_anchored, self.docker, self.paths, node.name)
            self._job(f"anchor {node.name}", work, partial(self._anchored, node), partial(self._node_failed, node))
        if node.stage is Stage.ANCHORED and "lan" in self.facts:
            node.stage = Stage.WIRING
            wire = partial(network.ensure_link, self.paths, self.lan, node.name)
            self._job(f"wire {node.name}", wire, partial(self._wired, node), partial(self._node_failed, node))
        return []

    def _reconcile_process(self, process: Process, now: float) -> list[float]:
        component = process.component
        needs = {"identities", component.after, component.module, *component.warm} - {""}
        if process.pid or self.nodes[component.node].stage not in self._stages(component) or not needs <= self.facts:
            return []
        if now < process.start_at:
            return [process.start_at - now]
        self._start(process, now)
        return []

    def _stages(self, component: Component) -> tuple[Stage, ...]:
        """Servers that others wait for need their node's namespace only; the rest needs the LAN."""
        if component.name in RUNS:
            return (Stage.ANCHORED, Stage.WIRING, Stage.UP)
        return (Stage.UP,)

    # --- processes

    def _start(self, process: Process, now: float) -> None:
        component = process.component
        argv = list(component.argv)
        keep = [sock.fileno() for sock in self.listeners] if component.listens else []
        argv += [f"--listen-fd={fd}" for fd in keep]
        process.started_at, process.restarts = now, process.restarts + 1
        process.pid = children.fork_component(
            component.name,
            run=partial(_run_component, component, argv),
            netns=self.paths.netns(component.node),
            cgroup=f"{self.spec.name}/{component.node}/system",
            log=self.paths.log(component.node, component.name),
            shed=self._shed,
            keep=keep,
        )
        self._event(f"{component.key} started" + (f" again (pid {process.pid})" if process.restarts else ""))
        if component.name in RUNS:
            self.facts.add(f"{component.name} runs")

    def _ended(self, process: Process, status: int) -> None:
        now, component = time.monotonic(), process.component
        process.failures = 1 if now - process.started_at > HEALTHY_S else process.failures + 1
        process.pid, process.start_at = 0, now + backoff_s(process.failures)
        if component.name in RUNS:
            self.facts -= {f"{component.name} runs", RUNS[component.name]}
        if not self.stopping_since and self.nodes[component.node].stage in self._stages(component):
            code = os.waitstatus_to_exitcode(status)
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._event(f"{component.key} ended ({how}), starts again in {backoff_s(process.failures):g} s")

    # --- nodes

    def _anchored(self, node: Node, anchor: Sequence[Any]) -> None:
        container, pid, fresh = anchor
        try:
            node.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._node_failed(node, "its anchor died")
            return
        self.poller.register(node.pidfd, select.EPOLLIN)
        node.stage = Stage.ANCHORED
        self._event(f"{node.name} anchored" if fresh else f"{node.name} found anchored ({container[:12]})")

    def _wired(self, node: Node, _: bool) -> None:
        if node.pidfd < 0:
            self._node_failed(node, "its anchor died")
            return
        node.stage, node.failures = Stage.UP, 0
        self._event(f"{node.name} on the LAN at {self.lan.link(node.name).address}")

    def _node_failed(self, node: Node, reason: str) -> None:
        node.failures += 1
        node.retry_at = time.monotonic() + max(backoff_s(node.failures + 1), FIRST_BACKOFF_S)
        self._forget_anchor(node)
        node.stage = Stage.ABSENT
        self._event(f"{node.name}: {reason}; tried again", error=True)

    def _anchor_lost(self, node: Node) -> None:
        """Its namespace cannot be joined by another container any more: the node is rebuilt."""
        self._forget_anchor(node)
        if node.stage not in (Stage.ANCHORED, Stage.UP):
            return
        self._event(f"{node.name} lost its anchor: the node is rebuilt", error=True)
        self._clear(node)

    def _clear(self, node: Node) -> None:
        node.stage = Stage.CLEARING
        self._forget_anchor(node)

        def done(_: Any) -> None:
            node.stage = Stage.ABSENT
            self._event(f"{node.name} cleared")

        work = partial(nodes.clear_node, self.docker, self.paths, node.name)
        self._job(f"clear {node.name}", work, done, partial(self._node_failed, node))

    def _forget_anchor(self, node: Node) -> None:
        if node.pidfd >= 0:
            self.poller.unregister(node.pidfd)
            os.close(node.pidfd)
            node.pidfd = -1

    def _rewire(self) -> None:
        """A LAN made anew has no links."""
        for node in self.nodes.values():
            if node.stage is Stage.UP:
                node.stage = Stage.ANCHORED

    # --- jobs

    def _job(
        self, name: str, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[str], None]
    ) -> None:
        log = self.paths.logs / "supervisor.log"
        job = children.fork_job(name, work, log=log, shed=self._shed, done=done, failed=failed)
        self.jobs[job.pid] = job

    def _shed(self) -> None:
        """In a child: let go of the parent's sockets, so that no object closes a number that means something else."""
        for sock in (self.wake, self.waker, self.control, *(client.sock for client in self.clients.values())):
            sock.detach()
        self.poller.close()

    # --- what happens

    def _dispatch(self, fd: int) -> None:
        if fd == self.wake.fileno():
            self._signalled(self.wake.recv(4096))
        elif fd == self.control.fileno():
            self._accept()
        elif fd in self.clients:
            self._read(self.clients[fd])
        else:
            for node in self.nodes.values():
                if node.pidfd == fd:
                    self._anchor_lost(node)

    def _signalled(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stop()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if job := self.jobs.pop(pid, None):
                job.finish()
            for process in self.processes.values():
                if process.pid == pid:
                    self._ended(process, status)

    def _fact(self, fact: str) -> None:
        if fact not in self.facts:
            self.facts.add(fact)
            self._event(_FACTS[fact])

    def _event(self, text: str, *, error: bool = False) -> None:
        event = {"at": round(time.monotonic() - self.begun, 3), "text": text, "error": error}
        self.events = [*self.events[-999:], event]
        print(f"{event['at']:9.3f} {text}", flush=True)
        for client in [client for client in self.clients.values() if client.follows]:
            self._send(client, event)

    # --- the control socket: one JSON object a line, each way

    def _accept(self) -> None:
        sock, _ = self.control.accept()
        sock.setblocking(False)
        self.clients[sock.fileno()] = Client(sock)
        self.poller.register(sock, select.EPOLLIN)

    def _read(self, client: Client) -> None:
        try:
            text = client.sock.recv(LINE_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        client.buffer += text
        if not text or len(client.buffer) > LINE_LIMIT:
            self._drop(client)
            return
        *lines, client.buffer = client.buffer.split(b"\n")
        for line in lines:
            try:
                request = json.loads(line)
                self._answer(client, str(request["do"]), request)
            except (ValueError, KeyError, TypeError) as err:
                self._send(client, {"error": f"not understood: {err!r}"})

    def _answer(self, client: Client, do: str, request: dict[str, Any]) -> None:
        match do:
            case "status":
                self._send(client, self._status())
            case "events":
                for event in self.events:
                    self._send(client, event)
                client.follows = True
            case "stop":
                self._stop()
                self._send(client, {"result": "stopping"})
            case "kill-node" | "heal-node":
                node = self.nodes.get(str(request.get("node")))
                if node is None:
                    self._send(client, {"error": f"no node {request.get('node')!r}; there are {', '.join(self.nodes)}"})
                elif do == "kill-node":
                    self._kill(client, node)
                else:
                    self._heal(client, node)
            case _:
                self._send(client, {"error": f"cannot {do!r}"})

    def _kill(self, client: Client, node: Node) -> None:
        if node.stage not in (Stage.UP, Stage.ABSENT, Stage.DEAD):
            self._send(client, {"busy": f"{node.name} is {node.stage}"})
            return
        mark_killed(self.paths, node.name)
        self._forget_anchor(node)
        node.stage = Stage.KILLING

        def done(_: Any) -> None:
            node.stage = Stage.DEAD
            self._event(f"{node.name} killed")
            self._send(client, {"result": "killed"})

        def failed(reason: str) -> None:
            node.stage = Stage.DEAD
            self._event(f"{node.name}: {reason}", error=True)
            self._send(client, {"error": reason})

        self._job(
            f"kill {node.name}", partial(nodes.kill_node, self.docker, self.paths, self.lan, node.name), done, failed
        )

    def _heal(self, client: Client, node: Node) -> None:
        if node.stage is not Stage.DEAD:
            self._send(
                client,
                {"busy": f"{node.name} is {node.stage}"}
                if node.stage is Stage.KILLING
                else {"result": str(node.stage)},
            )
            return
        self.paths.killed(node.name).unlink(missing_ok=True)
        for process in self.processes.values():
            if process.component.node == node.name:
                process.failures, process.start_at = 0, 0.0
        self._clear(node)
        self._send(client, {"result": "healing"})

    def _status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "facts": sorted(self.facts),
            "nodes": {node.name: str(node.stage) for node in self.nodes.values()},
            "processes": {
                key: {"pid": process.pid, "restarts": max(process.restarts, 0)}
                for key, process in self.processes.items()
            },
        }

    def _send(self, client: Client, message: dict[str, Any]) -> None:
        """Clients that are gone or do not read are dropped: nobody may hold up the supervisor."""
        if client.sock.fileno() < 0:
            return
        try:
            client.sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        if (fd := client.sock.fileno()) >= 0:
            self.poller.unregister(fd)
            self.clients.pop(fd, None)
            client.sock.close()

    # --- the end

    def _stop(self) -> None:
        if not self.stopping_since:
            self._event("stopping")
            self.stopping_since = time.monotonic()

    def _reconcile_stop(self, now: float) -> float | None:
        """First all that talks to the API server, then it, then its store; what does not end in time is killed."""
        alive = [process for process in self.processes.values() if process.pid]
        last = {ETCD: 2, APISERVER: 1}
        phase = min((last.get(process.component.name, 0) for process in alive), default=None)
        number = signal.SIGKILL if now - self.stopping_since > STOP_GRACE_S else signal.SIGTERM
        for process in alive:
            if number == signal.SIGKILL or (not process.told and last.get(process.component.name, 0) == phase):
                process.told = True
                os.kill(process.pid, number)
        return TICK_S if self._is_over() else 0.1

    def _is_over(self) -> bool:
        return bool(self.stopping_since) and not self.jobs and not any(p.pid for p in self.processes.values())


_FACTS = {
    "warm": "imports done",
    "lan": "LAN up",
    "identities": "certificates and kubeconfigs ready",
    "etcd": "etcd answers",
    "api": "API server answers",
    "bootstrapped": "kube-dns applied",
}


def mark_killed(paths: ClusterPaths, node: str) -> None:
    """Remember that a node is meant to be dead; every supervisor heeds it."""
    paths.killed(node).parent.mkdir(parents=True, exist_ok=True)
    paths.killed(node).touch()


def _run_component(component: Component, argv: list[str]) -> int:
    if component.program:
        children.execute(component.program, argv)
    if component.listens:  # what is handed over is all that it serves; the first one's port is what it advertises
        server = socket.create_server(("", API_PORT), backlog=1024)
        argv = [f"--listen-fd={server.detach()}", *argv]
    return int(importlib.import_module(component.module).main(argv) or 0)


def wait_for_port(port: int, netns: Path | None = None, timeout_s: float = PROBE_TIMEOUT_S) -> None:
    """Return once a port of loopback answers, in a node's namespace or the host's. ClusterError after `timeout_s`."""
    if netns is not None:
        namespaces.enter_netns(netns)
    deadline = time.monotonic() + timeout_s
    while not _accepts("127.0.0.1", port):
        if time.monotonic() > deadline:
            raise ClusterError(f"port {port} does not answer after {timeout_s:g} s")
        time.sleep(TICK_S)


def _wait_for_api(spec: ClusterSpec, paths: ClusterPaths, timeout_s: float = PROBE_TIMEOUT_S) -> None:
    """Return once the API server says that it is ready. Raises ApiError after `timeout_s`."""
    api = replace(RestApi.of(spec, paths), timeout_s=2.0)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            api.call("GET", "/readyz")
            return
        except ApiError:
            if time.monotonic() > deadline:
                raise
            time.sleep(TICK_S)


def _accepts(host: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(0.25)
        return sock.connect_ex((host, port)) == 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubarium.cluster.supervisor")
    parser.add_argument("name")
    parser.add_argument("--listen-fd", type=int, action="append", default=[])
    parser.add_argument("--begun", type=float, default=None, help="when `up` was called, by the monotonic clock")
    args = parser.parse_args(argv)
    cgroups.join(f"{args.name}/supervisor")
    paths = ClusterPaths.of(args.name)
    spec = ClusterSpec.load(paths.spec)
    from kubarium.cluster.bootstrap import apply_bootstrap

    supervisor = Supervisor(
        spec,
        paths,
        plan_components(spec, paths, network.plan_lan(spec)),
        tuple(socket.socket(fileno=fd) for fd in args.listen_fd),
        time.monotonic() if args.begun is None else args.begun,
        partial(apply_bootstrap, spec, paths),
    )
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
