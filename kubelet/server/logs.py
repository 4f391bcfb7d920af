"""Which container's log is meant, with which options; shared by the REST and the gRPC front end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from kubarium.machinery import objects
from kubarium.machinery.errors import ApiError, BadRequest, NotFound
from kubarium.machinery.times import parse_timestamp
from kubelet.plan import every_container, latest, previous
from kubelet.pods import Pods
from kubelet.runtimes.base import Container, LogOptions, PodRecord, Runtime, State


@dataclass(frozen=True, slots=True)
class Found:
    """A container of a pod of this node, as the runtime has it."""

    runtime: Runtime
    container: Container


def find_container(pods: Pods, namespace: str, pod: str, name: str, *, before: bool = False) -> Found:
    """The newest container of that name (`before`: the one before it).

    Raises NotFound, or BadRequest in upstream's words where it has not been started.
    """
    found = pods.find(namespace, pod)
    if found is None:
        raise NotFound(f'pod "{pod}" not found')
    view, runtime, record = found
    names = [c.name for c in every_container(view)]
    if not name and len(view.spec.containers) == 1:
        name = view.spec.containers[0].name
    if name not in names:
        raise NotFound(f"container {name} not found in pod {pod}")
    newest = latest(record, name)
    if newest is not None and newest.state is State.CREATED:
        newest = previous(record, newest)
    if before:
        return Found(runtime, _terminated(record, newest, name, pod))
    if newest is None:
        raise BadRequest(f'container "{name}" in pod "{pod}" is waiting to start: {_reason(view, name)}')
    return Found(runtime, newest)


def find_running(pods: Pods, namespace: str, pod: str, name: str) -> Found:
    """The container of that name that runs now. Raises ApiError in upstream's words."""
    found = pods.find(namespace, pod)
    if found is None:
        raise NotFound("pod does not exist")
    _, runtime, record = found
    container = latest(record, name)
    if container is None or container.state is not State.RUNNING:
        raise ApiError(f'container not found ("{name}")', code=500, reason="InternalError")
    return Found(runtime, container)


def _terminated(record: PodRecord | None, newest: Container | None, name: str, pod: str) -> Container:
    """The last container that has ended and been replaced, or ended and not been restarted yet."""
    if newest is not None:
        if (older := previous(record, newest)) is not None:
            return older
        if newest.state is State.EXITED:
            return newest
    raise BadRequest(f'previous terminated container "{name}" in pod "{pod}" not found')


def _reason(pod: objects.Pod, name: str) -> str:
    known = pod.status
    statuses = (*known.container_statuses, *known.init_container_statuses, *known.ephemeral_container_statuses)
    waiting = next((s.state.waiting for s in statuses if s.name == name and s.state.waiting), None)
    return waiting.reason if waiting and waiting.reason else "ContainerCreating"


def parse_options(query: Mapping[str, str]) -> tuple[LogOptions, bool]:
    """PodLogOptions as query parameters -> options, and whether the previous container is meant. Raises BadRequest."""
    since = 0.0
    if seconds := _number(query, "sinceSeconds"):
        since = time.time() - seconds
    if text := query.get("sinceTime", ""):
        try:
            since = parse_timestamp(text) or 0.0
        except ValueError as err:
            raise BadRequest(f"invalid sinceTime: {err}") from err
    options = LogOptions(
        follow=_truth(query, "follow"),
        timestamps=_truth(query, "timestamps"),
        tail_lines=_number(query, "tailLines"),
        since=since,
        limit_bytes=_number(query, "limitBytes"),
    )
    return options, _truth(query, "previous")


def _truth(query: Mapping[str, str], key: str) -> bool:
    return query.get(key, "").lower() in ("1", "true")


def _number(query: Mapping[str, str], key: str) -> int | None:
    text = query.get(key, "")
    if not text:
        return None
    if not text.isdigit():
        raise BadRequest(f"invalid {key}: {text!r} is not a number")
    return int(text)


def as_api_error(err: Exception) -> ApiError:
    """What the runtime said, as the server's answer."""
    return err if isinstance(err, ApiError) else ApiError(str(err))
