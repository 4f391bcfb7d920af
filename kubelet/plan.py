"""What to do next for one pod: its object and the runtime's record of it -> containers to start, kill and remove.

Pure and restartable: restart counts, crash streaks and times all come from the runtime's records, so a kubelet that was
killed plans on as if it had never gone. What is already under way the caller leaves out of the result.
Source: https://kubernetes.io/docs/concepts/workloads/pods/ (pod-lifecycle, init-containers, sidecar-containers)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kubarium.machinery import objects
from kubarium.machinery.times import parse_timestamp
from kubelet.runtimes.base import Container, ContainerId, PodRecord, Sandbox, State

KEEP_PER_NAME = 2  # the container and the one before it, for lastState and `logs --previous`


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delay before the n-th restart in a row: none, `first_s`, twice that, ... `most_s`; forgotten after a good run."""

    first_s: float = 10.0
    most_s: float = 300.0

    def delay_s(self, streak: int) -> float:
        return 0.0 if streak <= 0 else float(min(self.most_s, self.first_s * 2 ** min(streak - 1, 30)))

    @property
    def good_run_s(self) -> float:
        return 2 * self.most_s


@dataclass(frozen=True, slots=True)
class Health:
    """What probes and hooks found out: containers that are started, and why others must be killed."""

    started: frozenset[ContainerId] = frozenset()
    unhealthy: Mapping[ContainerId, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    name: str
    restart_count: int = 0
    streak: int = 0


@dataclass(frozen=True, slots=True)
class Kill:
    container: ContainerId
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The pod is over: its phase, and the reason where it is not the containers' doing."""

    phase: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`create_sandbox` is the attempt's number; `not_before` the time at which a plan may differ without any change."""

    create_sandbox: int | None = None
    remove_sandboxes: tuple[ContainerId, ...] = ()
    start: tuple[Start, ...] = ()
    kill: tuple[Kill, ...] = ()
    remove: tuple[ContainerId, ...] = ()
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    not_before: float | None = None
    initialized: bool = False
    ended: Ended | None = None


def spec_hash(container: objects.Container) -> str:
    """What of a container may change in a living pod (its image): a new value means a restart."""
    return hashlib.blake2b(f"{container.name}\0{container.image}".encode(), digest_size=4).hexdigest()


def every_container(pod: objects.Pod) -> tuple[objects.Container, ...]:
    """Init, ordinary and ephemeral containers."""
    return (*pod.spec.init_containers, *pod.spec.containers, *pod.spec.ephemeral_containers)


def is_sidecar(container: objects.Container) -> bool:
    return container.restart_policy == "Always"


def latest(record: PodRecord | None, name: str) -> Container | None:
    """The newest container of that name."""
    if record is None:
        return None
    return next((c for c in reversed(record.containers) if c.name == name), None)


def previous(record: PodRecord | None, container: Container) -> Container | None:
    """The one before, of the same name."""
    older = [c for c in record.containers if c.name == container.name] if record else []
    return next((c for c in reversed(older) if c.restart_count < container.restart_count), None)


def plan_pod(pod: objects.Pod, record: PodRecord | None, health: Health, backoff: Backoff, now: float) -> Plan:
    """The next steps of a pod that is not being deleted. `now`: seconds since the epoch."""
    if ended := _ended_already(pod, now):
        return Plan(ended=ended)
    planner = _Planner(pod, record, health, backoff, now)
    return planner.plan()


def _ended_already(pod: objects.Pod, now: float) -> Ended | None:
    if pod.status.phase in ("Succeeded", "Failed"):
        return Ended(pod.status.phase, pod.status.reason, pod.status.message)
    started = parse_timestamp(pod.status.start_time)
    limit_s = pod.spec.active_deadline_seconds
    if limit_s is not None and started is not None and now >= started + limit_s:
        text = "Pod was active on the node longer than the specified deadline"
        return Ended("Failed", "DeadlineExceeded", text)
    return None


class _Planner:
    """One planning: collects steps while it walks through the containers."""

    def __init__(
        self, pod: objects.Pod, record: PodRecord | None, health: Health, backoff: Backoff, now: float
    ) -> None:
        self._pod, self._health, self._backoff, self._now = pod, health, backoff, now
        self._whole, self._record = record, without_unstarted(record)
        newest = record.sandbox if record else None
        self._sandbox: Sandbox | None = newest if newest and newest.state is State.RUNNING else None
        self._start: list[Start] = []
        self._kill: list[Kill] = []
        self._waiting: dict[str, Waiting] = {}
        self._due: list[float] = []
        self._failed = False

    def plan(self) -> Plan:
        initialized = self._plan_init()
        if initialized and not self._failed:
            for container in self._pod.spec.containers:
                self._plan_container(container)
        ended = None if self._start or self._kill or self._waiting else self._ending(initialized)
        if ended is not None:
            return Plan(ended=ended, initialized=initialized)
        if (deadline := self._deadline()) is not None:
            self._due.append(deadline)
        joining = self._plan_ephemeral() if self._start or self._sandbox is not None else []
        attempt = None
        if self._start and self._sandbox is None:
            newest = self._record.sandbox if self._record else None
            attempt = newest.attempt + 1 if newest else 0
        return Plan(
            create_sandbox=attempt,
            remove_sandboxes=self._dead_sandboxes(),
            start=(*joining, *self._start),
            kill=tuple(self._kill),
            remove=self._surplus(),
            waiting=self._waiting,
            not_before=min(self._due, default=None),
            initialized=initialized,
        )

    def _plan_ephemeral(self) -> list[Start]:
        """Those that have never been started: they run once, and no pod waits for their start or end."""
        tried = {status.name for status in self._pod.status.ephemeral_container_statuses if status.container_id}
        starts = []
        for container in self._pod.spec.ephemeral_containers:
            found = latest(self._record, container.name)
            if found is None and container.name not in tried:
                starts.append(Start(container.name))
            elif found is not None and found.state is State.RUNNING and not self._is_current(found):
                self._kill.append(Kill(found.id, container.name, self._objection(container, found)))
        return starts

    def _plan_init(self) -> bool:
        """Init containers one after the other; True once all have done their part (sidecars: are started)."""
        done_before = self._main_containers_began()
        for container in self._pod.spec.init_containers:
            if is_sidecar(container):
                running = self._plan_container(container)
                if not done_before and not (running and running.id in self._health.started):
                    return False
            elif not done_before and not self._init_done(container):
                return False
        return True

    def _main_containers_began(self) -> bool:
        names = {c.name for c in self._pod.spec.containers}
        return any(self._is_current(c) and c.name in names for c in (self._record.containers if self._record else ()))

    def _init_done(self, container: objects.Container) -> bool:
        found = latest(self._record, container.name)
        if found is not None and self._is_current(found) and found.state is State.EXITED:
            if found.exit_code == 0:
                return True
            if self._pod.spec.restart_policy == "Never":
                self._failed = True
                return False
        if found is not None and found.state is State.EXITED and found.exit_code == 0:
            self._start.append(Start(container.name, found.restart_count + 1))  # done, but for another sandbox
            return False
        self._plan_container(container)
        return False

    def _plan_container(self, container: objects.Container) -> Container | None:
        """Start, kill or leave one container; gives it if it runs as it should."""
        found = latest(self._record, container.name)
        if found is None:
            self._start.append(Start(container.name, self._restarts_known(container.name)))
            return None
        match found.state:
            case State.RUNNING:
                if message := self._objection(container, found):
                    self._kill.append(Kill(found.id, container.name, message))
                    return None
                return found
            case State.EXITED if self._restarts(container, found):
                self._plan_restart(container, found)
        return None

    def _objection(self, container: objects.Container, running: Container) -> str:
        if not self._is_current(running):
            return "Pod sandbox changed, it will be killed and re-created."
        if running.spec_hash and running.spec_hash != spec_hash(container):
            return f"Container {container.name} definition changed, will be restarted"
        return self._health.unhealthy.get(running.id, "")

    def _restarts(self, container: objects.Container, ended: Container) -> bool:
        if is_sidecar(container):
            return True
        match self._pod.spec.restart_policy:
            case "Never":
                return False
            case "OnFailure":
                return ended.exit_code != 0
            case _:
                return True

    def _plan_restart(self, container: objects.Container, ended: Container) -> None:
        changed = ended.spec_hash != spec_hash(container)
        ran_well = ended.started_at > 0 and ended.finished_at - ended.started_at >= self._backoff.good_run_s
        streak = 0 if ran_well or changed else ended.streak
        delay_s = self._backoff.delay_s(streak)
        due = ended.finished_at + delay_s
        if due <= self._now:
            self._start.append(Start(container.name, ended.restart_count + 1, streak + 1))
            return
        self._due.append(due)
        meta = self._pod.metadata
        text = (
            f"back-off {go_duration(delay_s)} restarting failed container={container.name} "
            f"pod={meta.name}_{meta.namespace}({meta.uid})"
        )
        self._waiting[container.name] = Waiting("CrashLoopBackOff", text)

    def _restarts_known(self, name: str) -> int:
        """A container that the API knows and the runtime has lost counts as one more restart."""
        status = self._pod.status
        for known in (*status.container_statuses, *status.init_container_statuses):
            if known.name == name and known.container_id:
                return known.restart_count + 1
        return 0

    def _is_current(self, container: Container) -> bool:
        return self._sandbox is not None and container.sandbox_id == self._sandbox.id

    def _ending(self, initialized: bool) -> Ended | None:
        """The pod's end, once no container runs or will run again."""
        if self._failed:
            return Ended("Failed")
        if not initialized:
            return None
        found = [latest(self._record, c.name) for c in self._pod.spec.containers]
        if any(c is None or c.state is not State.EXITED for c in found):
            return None
        return Ended("Succeeded" if all(c is not None and c.exit_code == 0 for c in found) else "Failed")

    def _deadline(self) -> float | None:
        started = parse_timestamp(self._pod.status.start_time)
        limit_s = self._pod.spec.active_deadline_seconds
        return started + limit_s if started is not None and limit_s is not None else None

    def _dead_sandboxes(self) -> tuple[ContainerId, ...]:
        """Those that no running container uses any more."""
        if self._record is None:
            return ()
        used = {c.sandbox_id for c in self._record.containers if c.state is State.RUNNING}
        alive = self._sandbox.id if self._sandbox else None
        return tuple(s.id for s in self._record.sandboxes if s.id != alive and s.id not in used)

    def _surplus(self) -> tuple[ContainerId, ...]:
        """Created and never started (a kubelet died there), and ended ones beyond those kept for their logs."""
        if self._whole is None or self._record is None:
            return ()
        surplus = [c.id for c in self._whole.containers if c.state is State.CREATED]
        for name in {c.name for c in self._record.containers}:
            same = [c for c in self._record.containers if c.name == name]
            surplus += [c.id for c in same[:-KEEP_PER_NAME] if c.state is State.EXITED]
        return tuple(surplus)


def without_unstarted(record: PodRecord | None) -> PodRecord | None:
    """The record without containers that were only created: those do not count as attempts."""
    if record is None:
        return None
    return replace(record, containers=tuple(c for c in record.containers if c.state is not State.CREATED))


def go_duration(seconds: float) -> str:
    """`10s`, `1m20s`, `5m0s`, `1.5s`: as Go prints a duration."""
    minutes, rest = divmod(seconds, 60)
    text = f"{rest:g}s"
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text
