"""What every container runtime promises; one class, run against each."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest

from kubelet.runtimes.base import (
    STDERR,
    STDOUT,
    ContainerId,
    ContainerMissing,
    ContainerSpec,
    LogOptions,
    PodIdentity,
    PodUid,
    Runtime,
    SandboxSpec,
    Scope,
    State,
    exec_sync,
)
from kubelet.runtimes.docker import DockerRuntime
from kubelet.runtimes.host import HostRuntime
from tests.kubelet.conftest import BUSYBOX, DOCKER_SOCKET, PAUSE, eventually, running


class RuntimeConformance:
    """Subclasses give `runtime` and `restarted` (another instance on the same scope, as a restarted kubelet makes)."""

    @pytest.fixture
    def pod(self) -> PodIdentity:
        return PodIdentity("default", "web", PodUid(f"uid-{secrets.token_hex(4)}"))

    @pytest.fixture
    async def sandbox(self, runtime: Runtime, pod: PodIdentity) -> AsyncIterator[ContainerId]:
        sandbox = await runtime.create_sandbox(SandboxSpec(pod=pod, hostname="web", grace_s=7))
        await runtime.start_sandbox(sandbox)
        yield sandbox
        await runtime.remove_pod(pod.uid)

    async def start(
        self, runtime: Runtime, sandbox: ContainerId, pod: PodIdentity, script: str, **more: object
    ) -> ContainerId:
        name = str(more.pop("name", "app"))
        root = Path(str(getattr(self, "root", "/tmp")))
        spec = ContainerSpec(
            pod=pod, name=name, image=BUSYBOX, command=("/bin/sh", "-c", script), root_dir=str(root), **more
        )  # type: ignore[arg-type]
        container = await runtime.create_container(sandbox, spec)
        await runtime.start_container(container)
        return container

    async def logs(self, runtime: Runtime, container: ContainerId, options: LogOptions | None = None) -> bytes:
        return b"".join([piece async for piece in runtime.logs(container, options or LogOptions())])

    def found(self, runtime: Runtime, pod: PodIdentity, container: ContainerId) -> object:
        record = runtime.pod(pod.uid)
        return next((c for c in record.containers if c.id == container), None) if record else None

    async def exited(self, runtime: Runtime, pod: PodIdentity, container: ContainerId) -> object:
        await eventually(
            lambda: getattr(self.found(runtime, pod, container), "state", None) is State.EXITED, what="exit not told"
        )
        return self.found(runtime, pod, container)

    async def test_a_started_sandbox_is_running_and_has_a_network_namespace_of_its_own(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        record = runtime.pod(pod.uid)
        assert record is not None and record.sandbox is not None
        assert (record.pod, record.sandbox.state, record.grace_s) == (pod, State.RUNNING, 7)
        async with runtime.netns(sandbox) as path:
            assert Path(path).stat().st_ino != Path("/proc/self/ns/net").stat().st_ino

    async def test_a_container_runs_and_tells_its_exit_code(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        changed: list[PodUid] = []
        runtime.on_change(changed.append)
        before = time.time()
        container = await self.start(runtime, sandbox, pod, "exit 3", restart_count=2, streak=1, spec_hash="abc")
        ended = await self.exited(runtime, pod, container)
        assert (ended.exit_code, ended.restart_count, ended.streak, ended.spec_hash) == (3, 2, 1, "abc")  # type: ignore[attr-defined]
        assert before - 2 < ended.started_at <= ended.finished_at < time.time() + 2  # type: ignore[attr-defined]
        assert ended.sandbox_id == sandbox and pod.uid in changed  # type: ignore[attr-defined]

    async def test_logs_hold_both_streams_in_lines(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        container = await self.start(runtime, sandbox, pod, "echo one; echo two >&2; echo three")
        await self.exited(runtime, pod, container)
        assert sorted((await self.logs(runtime, container)).splitlines()) == [b"one", b"three", b"two"]

    async def test_log_options_tail_limit_and_timestamps(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        container = await self.start(runtime, sandbox, pod, "echo one; echo two; echo three")
        await self.exited(runtime, pod, container)
        assert await self.logs(runtime, container, LogOptions(tail_lines=1)) == b"three\n"
        assert await self.logs(runtime, container, LogOptions(tail_lines=0)) == b""
        assert await self.logs(runtime, container, LogOptions(limit_bytes=6)) == b"one\ntw"
        assert await self.logs(runtime, container, LogOptions(since=time.time() + 60)) == b""
        stamped = await self.logs(runtime, container, LogOptions(timestamps=True, tail_lines=1))
        assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z three\n", stamped)

    async def test_followed_logs_arrive_as_written_and_end_with_the_container(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        container = await self.start(runtime, sandbox, pod, "echo ready; read x < /dev/zero & sleep 0.3; echo done")
        pieces = [piece async for piece in runtime.logs(container, LogOptions(follow=True))]
        assert b"".join(pieces) == b"ready\ndone\n"

    async def test_environment_working_directory_and_arguments_reach_the_process(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        spec = ContainerSpec(
            pod=pod,
            name="app",
            image=BUSYBOX,
            command=("/bin/sh", "-c", 'echo "$GREETING $0 $(pwd)"'),
            args=("argument",),
            env={"GREETING": "hello=1"},
            working_dir="/tmp",
            root_dir=str(getattr(self, "root", "/tmp")),
        )
        container = await runtime.create_container(sandbox, spec)
        await runtime.start_container(container)
        await self.exited(runtime, pod, container)
        assert await self.logs(runtime, container) == b"hello=1 argument /tmp\n"

    async def test_a_command_that_does_not_exist_is_an_exit_with_the_runtimes_word(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        spec = ContainerSpec(
            pod=pod, name="app", image=BUSYBOX, command=("/no/such",), root_dir=str(getattr(self, "root", "/tmp"))
        )
        container = await runtime.create_container(sandbox, spec)
        with pytest.raises(Exception, match="no such file"):
            await runtime.start_container(container)
        ended = await self.exited(runtime, pod, container)
        assert ended.exit_code in (127, 128) and "no such file" in ended.error  # type: ignore[attr-defined]

    async def test_stop_sends_sigterm_and_then_sigkill(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        polite = await self.start(
            runtime, sandbox, pod, "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done", name="polite"
        )
        stubborn = await self.start(
            runtime, sandbox, pod, "trap '' TERM; echo up; while :; do sleep 0.05; done", name="stubborn"
        )
        for container in (polite, stubborn):
            async for _ in runtime.logs(container, LogOptions(follow=True)):
                break
        began = time.monotonic()
        await asyncio.gather(runtime.stop_container(polite, 10), runtime.stop_container(stubborn, 0.5))
        assert time.monotonic() - began < 5
        assert (await self.exited(runtime, pod, polite)).exit_code == 5  # type: ignore[attr-defined]
        assert (await self.exited(runtime, pod, stubborn)).exit_code == 137  # type: ignore[attr-defined]
        assert await self.logs(runtime, polite) == b"up\nbye\n"

    async def test_exec_gives_streams_and_exit_code(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        container = await self.start(runtime, sandbox, pod, "while :; do sleep 1; done")
        process = await runtime.exec(container, ("/bin/sh", "-c", "cat; echo err >&2; exit 4"), stdin=True)
        await process.write(b"from outside\n")
        await process.close_stdin()
        output: dict[int, bytes] = {STDOUT: b"", STDERR: b""}
        while (piece := await process.read()) is not None:
            output[piece[0]] += piece[1]
        assert (output, await process.wait()) == ({STDOUT: b"from outside\n", STDERR: b"err\n"}, 4)
        await process.close()
        assert await exec_sync(runtime, container, ("/bin/sh", "-c", "echo yes")) == (0, b"yes\n")

    async def test_exec_with_a_terminal_can_be_resized(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        container = await self.start(runtime, sandbox, pod, "while :; do sleep 1; done")
        process = await runtime.exec(container, ("/bin/sh", "-c", "read x; stty size"), tty=True, stdin=True)
        await process.resize(101, 33)
        await process.write(b"\n")
        output = b""
        while (piece := await process.read()) is not None:
            output += piece[1]
        assert output.split()[-2:] == [b"33", b"101"]
        await process.close()

    async def test_exec_in_a_container_that_is_gone_is_an_error(self, runtime: Runtime) -> None:
        with pytest.raises(ContainerMissing):
            await runtime.exec(ContainerId("f" * 64), ("/bin/true",))

    async def test_another_instance_adopts_what_runs_and_learns_of_exits(
        self, runtime: Runtime, restarted: Runtime, pod: PodIdentity, sandbox: ContainerId, tmp_path: Path
    ) -> None:
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        from kubelet.runtimes.base import Mount

        inside = "/gate" if runtime.name == "docker" else str(gate)
        container = await self.start(
            runtime, sandbox, pod, f"read x < {inside}; exit 9", restart_count=1,
            mounts=(Mount(source=str(gate), target="/gate"),) if runtime.name == "docker" else (),
        )  # fmt: skip
        async with running(restarted):
            assert self.found(restarted, pod, container) == self.found(runtime, pod, container)
            fd = os.open(gate, os.O_RDWR | os.O_NONBLOCK)
            os.write(fd, b"go\n")
            assert (await self.exited(restarted, pod, container)).exit_code == 9  # type: ignore[attr-defined]
            os.close(fd)

    async def test_remove_pod_leaves_nothing(
        self, runtime: Runtime, restarted: Runtime, pod: PodIdentity, sandbox: ContainerId, scope: Scope
    ) -> None:
        await self.start(runtime, sandbox, pod, "while :; do sleep 1; done")
        await runtime.remove_pod(pod.uid)
        await runtime.remove_pod(pod.uid)
        assert runtime.pod(pod.uid) is None
        assert not Path(f"/sys/fs/cgroup/pids{scope.cgroup(pod.uid)}").exists()
        async with running(restarted):
            assert restarted.pod(pod.uid) is None

    async def test_a_killed_container_is_told_at_once(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        container = await self.start(runtime, sandbox, pod, "while :; do sleep 1; done")
        os.kill(self.found(runtime, pod, container).pid, 9)  # type: ignore[attr-defined]
        began = time.monotonic()
        assert (await self.exited(runtime, pod, container)).exit_code == 137  # type: ignore[attr-defined]
        assert time.monotonic() - began < 3


class TestDocker(RuntimeConformance):
    @pytest.fixture
    def runtime(self, docker_runtime: DockerRuntime) -> Runtime:
        return docker_runtime

    @pytest.fixture
    def restarted(self, docker_runtime: DockerRuntime, scope: Scope) -> Runtime:
        return DockerRuntime(scope, socket=DOCKER_SOCKET, pause_image=PAUSE)

    async def test_containers_share_the_sandboxes_network_and_hostname(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        container = await self.start(runtime, sandbox, pod, "hostname; readlink /proc/self/ns/net")
        await self.exited(runtime, pod, container)
        async with runtime.netns(sandbox) as path:
            expected = f"net:[{Path(path).stat().st_ino}]"
        assert (await self.logs(runtime, container)).decode().split() == ["web", expected]

    async def test_limits_and_security_reach_the_kernel(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        script = "id -u; id -g; touch /x 2>&1; grep NoNewPrivs /proc/self/status"
        container = await self.start(
            runtime, sandbox, pod, script, user="1000:2000", read_only_root=True, no_new_privileges=True,
            memory_bytes=64 << 20, cpu_milli=500,
        )  # fmt: skip
        await self.exited(runtime, pod, container)
        lines = (await self.logs(runtime, container)).decode().splitlines()
        assert lines[0:2] == ["1000", "2000"] and "Read-only" in lines[2] and lines[3].split() == ["NoNewPrivs:", "1"]

    async def test_an_unknown_image_is_not_found_and_cannot_be_pulled(self, runtime: Runtime) -> None:
        assert await runtime.find_image("127.0.0.1:1/nothing:v1") is None
        with pytest.raises(Exception, match=r"127\.0\.0\.1:1"):
            await runtime.pull_image("127.0.0.1:1/nothing:v1")

    async def test_host_network_is_the_anchors(
        self, engine: docker.DockerClient, scope: Scope, pod: PodIdentity
    ) -> None:
        labels = {"io.kubarium.cluster": scope.cluster, "io.kubarium.node": scope.node, "io.kubarium.kind": "anchor"}
        anchor = engine.containers.run(PAUSE, detach=True, network_mode="none", hostname="node-1", labels=labels)
        runtime = DockerRuntime(scope, socket=DOCKER_SOCKET, pause_image=PAUSE, anchor=anchor.id)
        async with running(runtime):
            sandbox = await runtime.create_sandbox(SandboxSpec(pod=pod, host_network=True))
            await runtime.start_sandbox(sandbox)
            script = "hostname; readlink /proc/self/ns/net"
            container = await self.start(runtime, sandbox, pod, script, host_network=True)
            await self.exited(runtime, pod, container)
            anchor.reload()
            expected = f"net:[{Path('/proc', str(anchor.attrs['State']['Pid']), 'ns/net').stat().st_ino}]"
            assert (await self.logs(runtime, container)).decode().split() == ["node-1", expected]
            assert anchor.id not in [c.id for r in runtime.pods().values() for c in (*r.containers, *r.sandboxes)]
            await runtime.remove_pod(pod.uid)

    async def test_a_shared_process_namespace_is_the_sandboxes(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        container = await self.start(runtime, sandbox, pod, "cat /proc/1/comm", share_pid=True)
        await self.exited(runtime, pod, container)
        assert b"cat" not in await self.logs(runtime, container)

    async def test_a_leftover_of_the_same_name_is_replaced(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        spec = ContainerSpec(pod=pod, name="app", image=BUSYBOX, command=("/bin/true",))
        first = await runtime.create_container(sandbox, spec)
        assert await runtime.create_container(sandbox, spec) != first


class TestHost(RuntimeConformance):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "host"

    @pytest.fixture
    async def runtime(self, scope: Scope, root: Path) -> AsyncIterator[Runtime]:
        async with running(HostRuntime(scope, root=root)) as runtime:
            yield runtime

    @pytest.fixture
    def restarted(self, scope: Scope, root: Path) -> Runtime:
        return HostRuntime(scope, root=root)

    async def test_processes_find_their_volumes_and_our_python(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId, tmp_path: Path
    ) -> None:
        container = await self.start(
            runtime,
            sandbox,
            pod,
            'echo "$CONTAINER_SANDBOX_MOUNT_POINT"; readlink /proc/self/ns/net; command -v python3',
        )
        await self.exited(runtime, pod, container)
        mount_point, netns, python = (await self.logs(runtime, container)).decode().split()
        async with runtime.netns(sandbox) as path:
            assert netns == f"net:[{Path(path).stat().st_ino}]"
        assert Path(mount_point).is_dir()
        import sys

        assert Path(python).parent == Path(sys.executable).parent

    async def test_the_namespace_is_named_and_goes_with_the_pod(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId, scope: Scope
    ) -> None:
        named = [p for p in Path("/run/netns").iterdir() if p.name.startswith(f"kubarium-{scope.cluster}-node-1-")]
        assert len(named) == 1
        await runtime.remove_pod(pod.uid)
        assert not named[0].exists()

    async def test_a_process_whose_shim_is_killed_does_not_run_on_unseen(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId, root: Path
    ) -> None:
        container = await self.start(runtime, sandbox, pod, "while :; do sleep 1; done")
        status = json.loads((root / pod.uid / "containers" / container / "status.json").read_text())
        os.kill(status["shim"], 9)
        assert (await self.exited(runtime, pod, container)).exit_code == 137  # type: ignore[attr-defined]
        await eventually(lambda: not Path(f"/proc/{status['pid']}").exists(), what="the process runs on")

    async def test_after_a_reboot_nothing_runs_any_more(
        self, runtime: Runtime, restarted: HostRuntime, pod: PodIdentity, sandbox: ContainerId
    ) -> None:
        container = await self.start(runtime, sandbox, pod, "while :; do sleep 1; done")
        restarted._boot = "another boot"
        async with running(restarted):
            record = restarted.pod(pod.uid)
            assert record is not None and record.sandbox is not None and record.sandbox.state is State.EXITED
            assert self.found(restarted, pod, container).state is State.EXITED  # type: ignore[attr-defined]

    async def test_a_long_log_is_rotated_and_read_across_the_cut(
        self, runtime: Runtime, pod: PodIdentity, sandbox: ContainerId, root: Path
    ) -> None:
        line = "x" * 1000
        container = await self.start(runtime, sandbox, pod, f"yes {line} | head -n 10500; echo last")
        await self.exited(runtime, pod, container)
        assert (root / pod.uid / "containers" / container / "log.1").exists()
        assert await self.logs(runtime, container, LogOptions(tail_lines=1)) == b"last\n"
        lines = (await self.logs(runtime, container)).splitlines()
        assert len(lines) == 10501 and set(lines) == {line.encode(), b"last"}
