"""Pods and runtime records for tests of the pure parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kubarium.machinery import objects
from kubelet.plan import every_container, spec_hash
from kubelet.runtimes.base import Container, ContainerId, PodIdentity, PodRecord, PodUid, Sandbox, State

NOW = 1_000_000.0
SANDBOX = ContainerId("sandbox")


def pod(spec: Mapping[str, Any] | None = None, status: Mapping[str, Any] | None = None, **meta: Any) -> objects.Pod:
    """A pod with one container `app`, unless `spec` says otherwise."""
    default = {"containers": [{"name": "app", "image": "busybox"}], "restartPolicy": "Always"}
    wire = {
        "metadata": {"namespace": "default", "name": "web", "uid": "uid-1"} | meta,
        "spec": default | dict(spec or {}),
        "status": dict(status or {}),
    }
    return msgspec.convert(wire, objects.Pod)


def spec_of(pod: objects.Pod, name: str) -> objects.Container:
    return next(c for c in every_container(pod) if c.name == name)


def container(pod: objects.Pod, name: str = "app", /, count: int = 0, **fields: Any) -> Container:
    """A running container of the pod in SANDBOX; `exit_code` given: one that has ended 1 s ago, after 1 s."""
    ended = "exit_code" in fields
    defaults = {
        "id": ContainerId(f"{name}-{count}"),
        "sandbox_id": SANDBOX,
        "state": State.EXITED if ended else State.RUNNING,
        "spec_hash": spec_hash(spec_of(pod, name)),
        "image": "busybox",
        "image_id": "sha256:1",
        "started_at": NOW - 2,
        "finished_at": NOW - 1 if ended else 0.0,
    }
    return Container(name=name, restart_count=count, **(defaults | fields))


def sandbox(state: State = State.RUNNING, attempt: int = 0, id_: str = SANDBOX) -> Sandbox:
    return Sandbox(id=ContainerId(id_), attempt=attempt, state=state, created_at=NOW - 10)


def record(*containers: Container, sandboxes: tuple[Sandbox, ...] = (sandbox(),)) -> PodRecord:
    ordered = sorted(containers, key=lambda c: (c.name, c.restart_count))
    return PodRecord(PodIdentity("default", "web", PodUid("uid-1")), sandboxes, tuple(ordered))
