"""Questions that several controllers ask of a pod. Pure; `now` is in seconds since the epoch."""

from __future__ import annotations

from kubarium.machinery.objects import Pod, PodCondition
from kubarium.machinery.times import parse_timestamp

TERMINAL_PHASES = frozenset({"Succeeded", "Failed"})


def condition(pod: Pod, kind: str) -> PodCondition | None:
    return next((c for c in pod.status.conditions if c.type == kind), None)


def is_terminal(pod: Pod) -> bool:
    """No container of it will run again."""
    return pod.status.phase in TERMINAL_PHASES


def is_active(pod: Pod) -> bool:
    """Counts as a replica: neither finished nor being deleted."""
    return not is_terminal(pod) and not pod.metadata.deletion_timestamp


def is_ready(pod: Pod) -> bool:
    ready = condition(pod, "Ready")
    return ready is not None and ready.status == "True"


def ready_since(pod: Pod) -> float | None:
    """When the pod became ready; None where it is not, or does not say since when."""
    ready = condition(pod, "Ready")
    if ready is None or ready.status != "True" or not ready.last_transition_time:
        return None
    return parse_timestamp(ready.last_transition_time)


def available_in(pod: Pod, min_ready_s: int, now: float) -> float | None:
    """Seconds until the pod has been ready for `min_ready_s`: 0 if it is available, None while it is not ready."""
    if not is_ready(pod):
        return None
    since = ready_since(pod)
    if min_ready_s == 0:
        return 0.0
    return None if since is None else max(0.0, since + min_ready_s - now)


def restarts(pod: Pod) -> int:
    """Of the container that restarted most."""
    return max((status.restart_count for status in pod.status.container_statuses), default=0)
