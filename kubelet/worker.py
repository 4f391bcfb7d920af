"""One pod on this node, from its binding to its last trace: a task that plans, acts, and tells the API.

Each step looks at the pod, at the runtime's record and at the clock, and starts what the plan asks for; what takes
long (sandbox, start, stop of one container) runs as an operation of its own, so the worker stays quick to hear of a
deletion. Nothing that matters is kept only here: a restarted kubelet's worker finds its pod in the runtime.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import Any

from kubarium.machinery import objects
from kubarium.machinery.errors import ApiError, ContainerError, NetworkError, NotFound
from kubarium.machinery.resources import PODS
from kubelet import make, probes
from kubelet.containers import ContainerOps, Held
from kubelet.context import NodeContext
from kubelet.network import PodNetwork
from kubelet.plan import Ended, Health, Kill, Plan, Start, Waiting, every_container, is_sidecar, latest, plan_pod
from kubelet.podvolumes import PodVolumes
from kubelet.report import StatusReporter
from kubelet.runtimes.base import Container, ContainerId, PodRecord, PodUid, Runtime, State
from kubelet.status import Facts, build_status

log = logging.getLogger(__name__)

ORPHAN_GRACE_S = 1
SANDBOX_RETRY_S = (0.25, 0.5, 1.0, 2.0, 5.0)
STEP_RETRY_S = 1.0
FINAL_RETRY_S = 1.0
MIN_STOP_S = 2.0


class PodWorker:
    """`update` tells of the pod's object (None: the API knows it no more); `run` returns when nothing is left of it."""

    def __init__(self, context: NodeContext, uid: PodUid, pod: objects.Pod | None, runtime: Runtime) -> None:
        self._context, self._uid, self._runtime = context, uid, runtime
        self._pod = pod
        self._gone = pod is None
        self._wake = asyncio.Event()
        self._ops: dict[str, asyncio.Task[None]] = {}
        self._held: dict[str, Held] = {}
        self._sandbox_failures = 0
        self._ended: Ended | None = None
        self._stopped = False
        self._initialized = False
        self._waiting: dict[str, Waiting] = {}
        self._probers = probes.Probers()
        self._ready: set[ContainerId] = set()
        self._started: set[ContainerId] = set()
        self._unhealthy: dict[ContainerId, str] = {}
        self._messages: dict[ContainerId, str] = {}
        self._start_time = float(int(time.time()))
        self._last_record: PodRecord | None = None
        self._network = PodNetwork(context, uid, runtime)
        self._group: asyncio.TaskGroup | None = None
        self._reporter: StatusReporter | None = None
        self._volumes: PodVolumes | None = None
        self._containers: ContainerOps | None = None

    # -- what comes in --------------------------------------------------------------------------------------------

    def wake(self) -> None:
        self._wake.set()

    def update(self, pod: objects.Pod | None) -> None:
        """The API's word on the pod. None: it has gone there, whether we were done or not."""
        if pod is None:
            self._gone = True
        else:
            self._pod = pod
            if self._reporter:
                self._reporter.heard(pod)
            if self._volumes:
                self._volumes.pod_changed(pod)
        self._wake.set()

    @property
    def pod(self) -> objects.Pod | None:
        return self._pod

    # -- life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                background = self._set_up(group)
                try:
                    await self._live()
                    await self._die()
                finally:
                    for task in background:
                        task.cancel()
                    await self._end_operations()
        finally:
            self._context.references.release(self)

    def _set_up(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Reporter and volumes, for a pod that the API knows."""
        pod = self._pod
        if pod is None:
            return []
        self._adopt(pod)
        self._reporter = StatusReporter(self._context.api, pod, self._build_status)
        self._volumes = PodVolumes(self._context, pod, self, self._event)
        self._volumes.changed = self._references_changed
        self._containers = ContainerOps(self._context, self._runtime, self._network, self._volumes, self._event)
        tasks = [group.create_task(self._reporter.run(), name=f"status/{pod.key}")]
        if not self._over():
            tasks.append(group.create_task(self._volumes.run(), name=f"volumes/{pod.key}"))
        return tasks

    def _adopt(self, pod: objects.Pod) -> None:
        """What the API already says of containers that still run: probes that went well need not begin anew."""
        known = {s.container_id: s for s in (*pod.status.container_statuses, *pod.status.init_container_statuses)}
        self._start_time = make.start_time(pod) or self._start_time
        record = self._runtime.pod(self._uid)
        for container in record.containers if record else ():
            status = known.get(f"{self._runtime.name}://{container.id}")
            if status is None or container.state is not State.RUNNING:
                continue
            if status.started:
                self._started.add(container.id)
            if status.ready:
                self._ready.add(container.id)
        self._network.load()

    def _over(self) -> bool:
        return self._gone or self._ended is not None or bool(self._pod and self._pod.metadata.deletion_timestamp)

    async def _live(self) -> None:
        """Step after step until the pod is deleted or has ended by itself."""
        while not self._over():
            self._wake.clear()
            try:
                not_before = self._step()
            except (ContainerError, NetworkError, ApiError) as err:
                log.warning("kubelet: pod %s: %s; will try again", self._name(), err)
                not_before = time.time() + STEP_RETRY_S
            if self._over():
                return
            limit_s = None if not_before is None else max(0.0, not_before - time.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._wake.wait()

    def _step(self) -> float | None:
        """Plan once and set going what is asked for; gives the time of the next step that no change will announce."""
        pod, record, now = self._pod, self._runtime.pod(self._uid), time.time()
        assert pod is not None
        self._observe(pod, record)
        health = Health(frozenset(self._started), dict(self._unhealthy))
        plan = plan_pod(pod, record, health, self._context.backoff, now)
        self._initialized = plan.initialized
        if plan.ended is not None and not self._ops:
            self._ended = plan.ended
            return None
        self._held = {name: held for name, held in self._held.items() if held.until > now}
        self._tell_back_off(pod, plan)
        self._waiting = {name: held.waiting for name, held in self._held.items() if held.waiting} | dict(plan.waiting)
        self._carry_out(pod, record, plan)
        self._publish()
        due = [held.until for held in self._held.values()]
        due += [plan.not_before] if plan.not_before is not None else []
        return min(due, default=None)

    def _tell_back_off(self, pod: objects.Pod, plan: Plan) -> None:
        """An event for each container that now waits for its restart and did not before."""
        meta = pod.metadata
        for name in plan.waiting.keys() - self._waiting.keys():
            text = f"Back-off restarting failed container {name} in pod {meta.name}_{meta.namespace}({meta.uid})"
            self._event("Warning", "BackOff", text, name)

    def _carry_out(self, pod: objects.Pod, record: PodRecord | None, plan: Plan) -> None:
        for kill in plan.kill:
            self._operate(f"stop/{kill.container}", self._kill(pod, kill))
        if plan.create_sandbox is not None:
            if "sandbox" not in self._held and "sandbox" not in self._ops:
                self._network.begin()
                self._operate("sandbox", self._make_sandbox(pod, plan.create_sandbox, plan.remove_sandboxes))
        elif "sandbox" not in self._ops:
            sandbox = record.sandbox if record else None
            if sandbox and sandbox.state is State.RUNNING and not self._network.is_wired(sandbox.id):
                self._operate("sandbox", self._wire_again(pod, sandbox.id))
            for dead in plan.remove_sandboxes:
                self._operate(f"remove/{dead}", self._remove_sandbox(dead))
        if plan.create_sandbox is None or "sandbox" in self._ops:
            self._start_all(pod, plan)
        starting = {key.removeprefix("start/") for key in self._ops if key.startswith("start/")}
        for container in plan.remove:
            found = next((c for c in record.containers if c.id == container), None) if record else None
            if found is not None and found.name not in starting:
                self._operate(f"remove/{container}", self._runtime.remove_container(container))

    def _start_all(self, pod: objects.Pod, plan: Plan) -> None:
        """In the order of the spec; one with a postStart hook holds up those after it, as with upstream."""
        specs = {c.name: c for c in every_container(pod)}
        for start in plan.start:
            if start.name not in self._held:
                self._operate(f"start/{start.name}", self._start(pod, specs[start.name], start))
            lifecycle = specs[start.name].lifecycle
            if lifecycle is not None and lifecycle.post_start is not None:
                return

    def _references_changed(self) -> None:
        """What a container's environment lacked may be there now: no need to sit out the delay."""
        reason = "CreateContainerConfigError"
        self._held = {k: h for k, h in self._held.items() if not (h.waiting and h.waiting.reason == reason)}
        self._wake.set()

    # -- operations -----------------------------------------------------------------------------------------------

    def _operate(self, key: str, operation: Coroutine[Any, Any, None]) -> None:
        """Begin an operation unless it is under way or put off; its end wakes the worker."""
        if key in self._ops or key in self._held or self._group is None:
            operation.close()
            return
        self._ops[key] = self._group.create_task(self._guarded(key, operation), name=f"{self._name()}/{key}")

    async def _guarded(self, key: str, operation: Coroutine[Any, Any, None]) -> None:
        try:
            await operation
        except (ContainerError, NetworkError, ApiError) as err:
            log.warning("kubelet: pod %s: %s: %s", self._name(), key, err)
            self._held[key] = Held(time.time() + STEP_RETRY_S)
        finally:
            self._ops.pop(key, None)
            self._wake.set()

    async def _end_operations(self) -> None:
        ops = list(self._ops.values())
        for task in ops:
            task.cancel()
        if ops:
            await asyncio.wait(ops)
        self._probers.keep_only(())

    async def _make_sandbox(self, pod: objects.Pod, attempt: int, dead: tuple[ContainerId, ...]) -> None:
        try:
            for sandbox in dead:
                await self._remove_sandbox(sandbox)
            await self._network.make(pod, attempt)
        except (ContainerError, NetworkError) as err:
            delay_s = SANDBOX_RETRY_S[min(self._sandbox_failures, len(SANDBOX_RETRY_S) - 1)]
            self._sandbox_failures += 1
            self._held["sandbox"] = Held(time.time() + delay_s)
            self._event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {err}")
            log.warning("kubelet: pod %s: no sandbox: %s", self._name(), err)
        else:
            self._sandbox_failures = 0
            self._publish()

    async def _wire_again(self, pod: objects.Pod, sandbox: ContainerId) -> None:
        """A kubelet died between the sandbox's start and its wiring."""
        try:
            await self._network.wire(pod, sandbox)
        except (ContainerError, NetworkError) as err:
            log.warning("kubelet: pod %s: sandbox %s cannot be wired, replaced: %s", self._name(), sandbox[:12], err)
            await self._remove_sandbox(sandbox)

    async def _remove_sandbox(self, sandbox: ContainerId) -> None:
        await self._network.unwire(sandbox)
        await self._runtime.remove_sandbox(sandbox)

    async def _start(self, pod: objects.Pod, container: objects.Container, start: Start) -> None:
        assert self._containers is not None
        held = await self._containers.start(pod, container, start)
        if held is not None:
            self._held[container.name] = held

    async def _kill(self, pod: objects.Pod, kill: Kill) -> None:
        spec = _container(pod, kill.name)
        probe_grace = None
        if spec is not None and kill.container in self._unhealthy:
            failing = spec.liveness_probe if kill.container in self._started else spec.startup_probe
            probe_grace = failing.termination_grace_period_seconds if failing else None
        grace_s = make.grace_s(pod) if probe_grace is None else probe_grace
        await self._stop(spec, kill.container, grace_s, kill.message)

    async def _stop(
        self, spec: objects.Container | None, container: ContainerId, grace_s: float, message: str = ""
    ) -> None:
        """preStop, SIGTERM, SIGKILL, all within the grace period (the stop signal gets at least a moment)."""
        name = spec.name if spec else container[:12]
        self._event("Normal", "Killing", message or f"Stopping container {name}", name)
        deadline = time.monotonic() + grace_s
        if spec is not None and spec.lifecycle and spec.lifecycle.pre_stop and grace_s > 0:
            record = self._runtime.pod(self._uid)
            found = next((c for c in record.containers if c.id == container), None) if record else None
            if found is not None:
                outcome = probes.Outcome(False, "did not end within the grace period")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(grace_s):
                        outcome = await probes.run_hook(spec.lifecycle.pre_stop, self._target(spec, found))
                if not outcome.good:
                    self._event("Warning", "FailedPreStopHook", f"PreStopHook failed: {outcome.message}", name)
        left_s = deadline - time.monotonic()
        await self._runtime.stop_container(container, max(left_s, MIN_STOP_S) if grace_s > 0 else 0)

    # -- probes ---------------------------------------------------------------------------------------------------

    def _observe(self, pod: objects.Pod, record: PodRecord | None) -> None:
        """Begin the probes of what runs now, end those of what has ended, read last words."""
        containers = record.containers if record else ()
        running = {c.id: c for c in containers if c.state is State.RUNNING}
        for known in (self._ready, self._started):
            known.intersection_update(running)
        self._unhealthy = {c: text for c, text in self._unhealthy.items() if c in running}
        self._probers.keep_only(running.keys())
        assert self._containers is not None
        for container in running.values():
            spec = _container(pod, container.name)
            if spec and not self._probers.watches(container.id) and container.id not in self._containers.starting:
                self._begin_probes(spec, container)
        for container in containers:
            if container.state is State.EXITED and container.id not in self._messages:
                self._messages[container.id] = ""
                spec = _container(pod, container.name)
                if spec is not None:
                    self._operate(f"message/{container.id}", self._read_message(spec, container))

    async def _read_message(self, spec: objects.Container, container: Container) -> None:
        assert self._containers is not None
        self._messages[container.id] = await self._containers.last_words(spec, container)
        self._publish()

    def _begin_probes(self, spec: objects.Container, container: Container) -> None:
        self._probers.add(container.id)
        if spec.startup_probe is not None and container.id not in self._started:
            self._probe(probes.Kind.STARTUP, spec.startup_probe, spec, container)
            return
        self._started.add(container.id)
        if spec.readiness_probe is None:
            self._ready.add(container.id)
        else:
            self._probe(probes.Kind.READINESS, spec.readiness_probe, spec, container)
        if spec.liveness_probe is not None:
            self._probe(probes.Kind.LIVENESS, spec.liveness_probe, spec, container)

    def _probe(self, kind: probes.Kind, probe: objects.Probe, spec: objects.Container, container: Container) -> None:
        assert self._group is not None

        def verdict(good: bool, message: str) -> None:
            match kind, good:
                case probes.Kind.STARTUP, True:
                    self._started.add(container.id)
                    self._begin_probes(spec, container)
                case probes.Kind.READINESS, True:
                    self._ready.add(container.id)
                case probes.Kind.READINESS, False:
                    self._ready.discard(container.id)
                case _, False:
                    text = f"Container {spec.name} failed {kind.lower()} probe, will be restarted"
                    self._unhealthy[container.id] = text
            self._wake.set()

        def failure(outcome: probes.Outcome) -> None:
            self._event("Warning", "Unhealthy", f"{kind} probe failed: {outcome.message}", spec.name)

        watching = probes.watch(kind, probe, self._target(spec, container), on_verdict=verdict, on_failure=failure)
        task = self._group.create_task(watching, name=f"{self._name()}/{spec.name}/{kind}")
        self._probers.add(container.id, task)

    def _target(self, spec: objects.Container, container: Container) -> probes.Target:
        return probes.Target(
            runtime=self._runtime,
            container=container.id,
            ports={port.name: port.container_port for port in spec.ports if port.name},
            pod_ip=next(iter(self._network.ips), self._context.node_ip),
            started_at=container.started_at,
        )

    # -- the end --------------------------------------------------------------------------------------------------

    async def _die(self) -> None:
        """Stop everything; keep what has ended by itself until it is deleted; then leave no trace."""
        await self._end_operations()
        await self._until_done(self._stop_pod, "stop")
        self._stopped = True
        if self._pod is not None and not self._gone:
            await self._read_last_words()
            self._publish()
        while self._ended and not self._gone and not (self._pod and self._pod.metadata.deletion_timestamp):
            self._wake.clear()
            await self._wake.wait()
        await self._until_done(self._remove_all, "removal")
        if self._pod is not None and not self._gone:
            assert self._reporter is not None
            await self._flush()
            await self._until_done(self._delete_object, "deletion")

    async def _flush(self) -> None:
        """The last status, unless the API goes without it."""
        assert self._reporter is not None
        flushed = asyncio.create_task(self._reporter.flush())
        while not flushed.done() and not self._gone:
            self._wake.clear()
            woken = asyncio.create_task(self._wake.wait())
            await asyncio.wait({flushed, woken}, return_when=asyncio.FIRST_COMPLETED)
            woken.cancel()
        flushed.cancel()

    async def _until_done(self, work: Any, what: str) -> None:
        while True:
            try:
                await work()
                return
            except (ContainerError, NetworkError, ApiError) as err:
                log.warning("kubelet: pod %s: %s: %s; will try again", self._name(), what, err)
                await asyncio.sleep(FINAL_RETRY_S)

    def _grace_s(self) -> float:
        """What is left to the pod: as its deletion says, or next to nothing for one that the API does not know."""
        if self._pod is None or self._gone:
            return ORPHAN_GRACE_S
        grace = self._pod.metadata.deletion_grace_period_seconds
        return float(make.grace_s(self._pod) if grace is None else grace)

    async def _stop_pod(self) -> None:
        """All containers, sidecars last; a shorter grace period that comes meanwhile counts at once."""
        while True:
            grace_s = self._grace_s()
            stopping = asyncio.create_task(self._stop_containers(grace_s))
            try:
                while not stopping.done() and self._grace_s() >= grace_s:
                    self._wake.clear()
                    woken = asyncio.create_task(self._wake.wait())
                    await asyncio.wait({stopping, woken}, return_when=asyncio.FIRST_COMPLETED)
                    woken.cancel()
                    self._publish()
            finally:
                stopping.cancel()
                await asyncio.wait({stopping})
            if not stopping.cancelled():
                stopping.result()
                break
        record = self._runtime.pod(self._uid)
        for sandbox in record.sandboxes if record else ():
            await self._remove_sandbox(sandbox.id)

    async def _stop_containers(self, grace_s: float) -> None:
        record = self._runtime.pod(self._uid)
        running = [c for c in record.containers if c.state is State.RUNNING] if record else []
        sidecars = [c.name for c in self._pod.spec.init_containers if is_sidecar(c)] if self._pod else []
        deadline = time.monotonic() + grace_s
        others = [c for c in running if c.name not in sidecars]
        await asyncio.gather(*(self._stop(_container(self._pod, c.name), c.id, grace_s) for c in others))
        for name in reversed(sidecars):
            found = latest(record, name)
            if found is not None and found.state is State.RUNNING:
                left_s = max(0.0, deadline - time.monotonic())
                await self._stop(_container(self._pod, name), found.id, left_s or (1.0 if grace_s > 0 else 0))

    async def _read_last_words(self) -> None:
        record = self._runtime.pod(self._uid)
        assert self._containers is not None and self._pod is not None
        for container in record.containers if record else ():
            spec = _container(self._pod, container.name)
            if spec is not None and not self._messages.get(container.id):
                self._messages[container.id] = await self._containers.last_words(spec, container)

    async def _remove_all(self) -> None:
        self._last_record = self._runtime.pod(self._uid) or self._last_record
        await self._runtime.remove_pod(self._uid)
        await self._network.forget()
        await asyncio.to_thread(self._context.folder(self._uid).remove)

    async def _delete_object(self) -> None:
        """The last word: the API may forget the pod. One that has gone or was made anew is not ours to delete."""
        assert self._pod is not None
        meta = self._pod.metadata
        with contextlib.suppress(NotFound):
            try:
                await self._context.api.delete(PODS, meta.name, meta.namespace, grace_period_s=0, uid=self._uid)
            except ApiError as err:
                if err.status_code != 409:
                    raise

    # -- what goes out --------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        if self._reporter is not None and not self._gone:
            self._reporter.publish()

    def _build_status(self, pod: objects.Pod) -> dict[str, Any]:
        record = self._runtime.pod(self._uid) or self._last_record
        facts = Facts(
            runtime=self._runtime.name,
            host_ip=self._context.node_ip,
            pod_ips=self._network.ips or self._last_ips(pod),
            start_time=self._start_time,
            ready=frozenset(self._ready),
            started=frozenset(self._started),
            starting=frozenset(self._containers.starting) if self._containers else frozenset(),
            waiting=self._waiting,
            messages=self._messages,
            image_ids=self._context.image_ids,
            initialized=self._initialized,
            ended=self._ended,
            stopped=self._stopped,
        )
        return build_status(pod, record, facts, time.time())

    def _last_ips(self, pod: objects.Pod) -> tuple[str, ...]:
        """A pod that is over keeps the addresses that it had."""
        over = self._ended is not None or self._stopped
        return tuple(address.ip for address in pod.status.pod_ips) if over else ()

    def _event(self, type_: str, reason: str, message: str, container: str = "") -> None:
        if self._pod is None or self._gone:
            return
        meta = self._pod.metadata
        field = f"spec.containers{{{container}}}" if container else ""
        for kind, containers in (
            ("initContainers", self._pod.spec.init_containers),
            ("ephemeralContainers", self._pod.spec.ephemeral_containers),
        ):
            if any(c.name == container for c in containers):
                field = f"spec.{kind}{{{container}}}"
        reference = objects.ObjectReference(
            kind="Pod", api_version="v1", namespace=meta.namespace, name=meta.name, uid=meta.uid, field_path=field
        )  # fmt: skip
        self._context.events.event(reference, type_, reason, message)

    def _name(self) -> str:
        return str(self._pod.key) if self._pod else str(self._uid)


def _container(pod: objects.Pod | None, name: str) -> objects.Container | None:
    if pod is None:
        return None
    return next((c for c in every_container(pod) if c.name == name), None)
