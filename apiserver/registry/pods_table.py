"""The printer columns of Pods: one word for what a pod is doing, out of its phase and its containers' states.

Source: kubernetes/pkg/printers/internalversion/printers.go, printPod.
"""

from __future__ import annotations

from typing import NamedTuple

from apiserver.registry.base import Column, Object
from apiserver.registry.cells import AGE, NAME, NONE, at, since

_ENDED = ("Succeeded", "Failed")
_COMPLETED = {
    "Succeeded": ("Succeeded", "The pod has completed successfully."),
    "Failed": ("Failed", "The pod failed."),
}


class Summary(NamedTuple):
    """What the cells Ready, Status and Restarts show."""

    ready: int
    total: int
    reason: str
    restarts: int
    last_restart: str  # RFC 3339, "" when never


def _conditions(status: Object) -> dict[str, Object]:
    return {c.get("type", ""): c for c in status.get("conditions") or ()}


def _finished(container: Object) -> str:
    return str(at(container, "lastState.terminated.finishedAt"))


def _ended_word(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


class _Init(NamedTuple):
    reason: str  # "" when initialization is over
    ready: int
    restarts: int
    last_restart: str
    sidecar_restarts: int
    sidecar_last_restart: str


def _init(spec: Object, status: Object, sidecars: set[str]) -> _Init:
    """How far the init containers have come; sidecars that have started count as containers."""
    ready = restarts = sidecar_restarts = 0
    last = sidecar_last = ""
    for i, container in enumerate(status.get("initContainerStatuses") or ()):
        count, state = container.get("restartCount", 0), container.get("state") or {}
        restarts, last = restarts + count, max(last, _finished(container))
        sidecar = container.get("name") in sidecars
        if sidecar:
            sidecar_restarts, sidecar_last = sidecar_restarts + count, max(sidecar_last, _finished(container))
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if sidecar and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            reason = _ended_word(terminated)
        elif waiting.get("reason", "PodInitializing") != "PodInitializing":
            reason = waiting["reason"]
        else:
            reason = f"{i}/{len(spec.get('initContainers') or ())}"
        return _Init(f"Init:{reason}", ready, restarts, last, sidecar_restarts, sidecar_last)
    return _Init("", ready, restarts, last, sidecar_restarts, sidecar_last)


def summarize(pod: Object) -> Summary:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    conditions = _conditions(status)
    reason = status.get("reason") or status.get("phase", "")
    if conditions.get("PodScheduled", {}).get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    sidecars = {c.get("name", "") for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    init = _init(spec, status, sidecars)
    ready, restarts, last = init.ready, init.restarts, init.last_restart
    if init.reason:
        reason = init.reason
    if not init.reason or conditions.get("Initialized", {}).get("status") == "True":
        restarts, last, running = init.sidecar_restarts, init.sidecar_last_restart, False
        for container in reversed(status.get("containerStatuses") or ()):
            restarts += container.get("restartCount", 0)
            last = max(last, _finished(container))
            state = container.get("state") or {}
            if word := (state.get("waiting") or {}).get("reason"):
                reason = word
            elif (terminated := state.get("terminated")) is not None:
                reason = _ended_word(terminated)
            elif container.get("ready") and state.get("running") is not None:
                running, ready = True, ready + 1
        if reason == "Completed" and running:
            reason = "Running" if conditions.get("Ready", {}).get("status") == "True" else "NotReady"
    if at(pod, "metadata.deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in _ENDED:
            reason = "Terminating"
    return Summary(ready, len(spec.get("containers") or ()) + len(sidecars), reason, restarts, last)


def _ready(pod: Object, _now: float) -> str:
    found = summarize(pod)
    return f"{found.ready}/{found.total}"


def _restarts(pod: Object, now: float) -> str:
    found = summarize(pod)
    if found.restarts and found.last_restart:
        return f"{found.restarts} ({since(found.last_restart, now)} ago)"
    return str(found.restarts)


def _ip(pod: Object, _now: float) -> str:
    ips = at(pod, "status.podIPs", [])
    return (ips[0].get("ip") if ips else at(pod, "status.podIP")) or NONE


def _gates(pod: Object, _now: float) -> str:
    gates = at(pod, "spec.readinessGates", [])
    if not gates:
        return NONE
    conditions = _conditions(pod.get("status") or {})
    passed = sum(conditions.get(g.get("conditionType", ""), {}).get("status") == "True" for g in gates)
    return f"{passed}/{len(gates)}"


COLUMNS = (
    NAME,
    Column("Ready", "string", "The aggregate readiness state of this pod for accepting traffic.", _ready),
    Column(
        "Status",
        "string",
        "The aggregate status of the containers in this pod.",
        lambda pod, _: summarize(pod).reason,
    ),
    Column(
        "Restarts",
        "string",
        "The number of times the containers in this pod have been restarted and when the last container in this pod "
        "has restarted.",
        _restarts,
    ),
    AGE,
    Column("IP", "string", "@PodStatus.podIP", _ip, priority=1),
    Column("Node", "string", "@PodSpec.nodeName", lambda p, _: at(p, "spec.nodeName") or NONE, priority=1),
    Column(
        "Nominated Node",
        "string",
        "@PodStatus.nominatedNodeName",
        lambda p, _: at(p, "status.nominatedNodeName") or NONE,
        priority=1,
    ),
    Column("Readiness Gates", "string", "@PodSpec.readinessGates", _gates, priority=1),
)


def row_conditions(pod: Object) -> list[Object]:
    """A pod whose work is over says so beside its cells, and kubectl can leave it out."""
    ended = _COMPLETED.get(at(pod, "status.phase"))
    if not ended:
        return []
    return [{"type": "Completed", "status": "True", "reason": ended[0], "message": ended[1]}]
