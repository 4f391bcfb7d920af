"""A pod's status, built anew from what is observed: phase, conditions and container statuses, as kubelets write them.

Nothing is edited from the last status, except that transition times and the conditions of others are carried over.
Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/, https://kubernetes.io/docs/reference/
kubernetes-api/workload-resources/pod-v1/#PodStatus
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubarium.machinery import objects
from kubarium.machinery.times import format_timestamp
from kubelet.plan import Ended, Waiting, is_sidecar, latest, previous
from kubelet.runtimes.base import Container, ContainerId, PodRecord, State

OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a pod beside its object and the runtime's record.

    `ready` and `started` hold containers whose probes said so (or that have none); `messages` their last words;
    `image_ids` the full references of images, by the runtime's ID; `pod_ips` are there once the sandbox is wired.
    """

    runtime: str
    host_ip: str
    pod_ips: tuple[str, ...] = ()
    start_time: float = 0.0
    ready: frozenset[ContainerId] = frozenset()
    started: frozenset[ContainerId] = frozenset()
    starting: frozenset[ContainerId] = frozenset()
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    messages: Mapping[ContainerId, str] = field(default_factory=dict)
    image_ids: Mapping[str, str] = field(default_factory=dict)
    initialized: bool = False
    ended: Ended | None = None
    stopped: bool = False


def build_status(pod: objects.Pod, record: PodRecord | None, facts: Facts, now: float) -> dict[str, Any]:
    """The status in wire shape. Keys that must vanish from the API are there with None (JSON merge patch).

    `facts.stopped` says that every container of a deleted or ended pod is gone for good: none is shown as waiting.
    """
    containers = [_container_status(pod, c, record, facts, init=False) for c in pod.spec.containers]
    init = [_container_status(pod, c, record, facts, init=True) for c in pod.spec.init_containers]
    joined = [_ephemeral_status(pod, c, record, facts) for c in pod.spec.ephemeral_containers]
    initialized = facts.initialized or bool(facts.ended and facts.ended.phase == "Succeeded")
    phase = facts.ended.phase if facts.ended else _phase(pod, init, containers, initialized)
    if facts.stopped and phase not in ("Succeeded", "Failed"):
        phase = _final_phase(containers)
    sandbox = record.sandbox if record else None
    wired = sandbox is not None and sandbox.state is State.RUNNING and bool(facts.pod_ips)
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": _conditions(pod, phase, init, containers, initialized, wired, now),
        "hostIP": facts.host_ip,
        "hostIPs": [{"ip": facts.host_ip}],
        "podIP": facts.pod_ips[0] if facts.pod_ips else None,
        "podIPs": [{"ip": ip} for ip in facts.pod_ips] or None,
        "startTime": format_timestamp(facts.start_time) if facts.start_time else None,
        "containerStatuses": sorted(containers, key=lambda c: str(c["name"])),
        "initContainerStatuses": init or None,
        "ephemeralContainerStatuses": sorted(joined, key=lambda c: str(c["name"])) or None,
        "reason": facts.ended.reason or None if facts.ended else None,
        "message": facts.ended.message or None if facts.ended else None,
    }
    if pod.metadata.generation:
        status["observedGeneration"] = pod.metadata.generation
    return status


def _container_status(
    pod: objects.Pod, spec: objects.Container, record: PodRecord | None, facts: Facts, *, init: bool
) -> dict[str, Any]:
    found = latest(record, spec.name)
    if found is not None and (found.state is State.CREATED or found.id in facts.starting):
        found = previous(record, found) if found.state is State.CREATED else found
    known = _known(pod, spec.name)
    state, last = _states(pod, spec, record, found, facts)
    running = found is not None and "running" in state
    ready = bool(found and running and found.id in facts.ready)
    if init and found is not None and "terminated" in state and not is_sidecar(spec):
        ready = found.exit_code == 0
    status: dict[str, Any] = {
        "name": spec.name,
        "state": state,
        "lastState": last,
        "ready": ready,
        "started": bool(found and running and found.id in facts.started),
        "restartCount": found.restart_count if found else known.restart_count if known else 0,
        "image": found.image if found else spec.image,
        "imageID": _image_id(found, known, facts) if found else "",
    }
    if found is not None:
        status["containerID"] = f"{facts.runtime}://{found.id}"
    if spec.volume_mounts:
        status["volumeMounts"] = [_mount_status(mount) for mount in spec.volume_mounts]
    if spec.resources.limits or spec.resources.requests:
        status["resources"] = {
            key: dict(value)
            for key, value in (("limits", spec.resources.limits), ("requests", spec.resources.requests))
            if value
        }
        if spec.resources.requests:
            status["allocatedResources"] = dict(spec.resources.requests)
    return status


def _ephemeral_status(
    pod: objects.Pod, spec: objects.EphemeralContainer, record: PodRecord | None, facts: Facts
) -> dict[str, Any]:
    """Nothing waits for it: it is never ready, and nothing is said of its having started."""
    status = _container_status(pod, spec, record, facts, init=False) | {"ready": False}
    del status["started"]
    return status


def _states(
    pod: objects.Pod, spec: objects.Container, record: PodRecord | None, found: Container | None, facts: Facts
) -> tuple[dict[str, Any], dict[str, Any]]:
    """state and lastState of a container."""
    waiting = facts.waiting.get(spec.name)
    if found is None:
        if facts.stopped:
            return {"terminated": _unknown()}, {}
        return {"waiting": _waiting(waiting or _default_waiting(pod, spec, facts))}, {}
    before = previous(record, found)
    last = {"terminated": _terminated(before, facts)} if before is not None else {}
    if found.state is State.RUNNING:
        if found.id in facts.starting:  # its postStart hook still runs
            return {"waiting": _waiting(_default_waiting(pod, spec, facts))}, last
        return {"running": {"startedAt": format_timestamp(found.started_at)}}, last
    if waiting is not None and not facts.stopped and facts.ended is None:
        return {"waiting": _waiting(waiting)}, {"terminated": _terminated(found, facts)}
    return {"terminated": _terminated(found, facts)}, last


def _default_waiting(pod: objects.Pod, spec: objects.Container, facts: Facts) -> Waiting:
    is_init = any(c.name == spec.name for c in pod.spec.init_containers)
    if pod.spec.init_containers and not facts.initialized:
        return Waiting("PodInitializing")
    return Waiting("PodInitializing" if is_init else "ContainerCreating")


def _waiting(waiting: Waiting) -> dict[str, str]:
    return {"reason": waiting.reason} | ({"message": waiting.message} if waiting.message else {})


def _terminated(container: Container, facts: Facts) -> dict[str, Any]:
    if container.oom_killed:
        reason = "OOMKilled"
    elif container.error:
        reason = "ContainerCannotRun"
    else:
        reason = "Completed" if container.exit_code == 0 else "Error"
    message = facts.messages.get(container.id) or container.error
    return {
        "exitCode": container.exit_code,
        "reason": reason,
        **({"message": message} if message else {}),
        "startedAt": format_timestamp(container.started_at or container.finished_at),
        "finishedAt": format_timestamp(container.finished_at),
        "containerID": f"{facts.runtime}://{container.id}",
    }


def _unknown() -> dict[str, Any]:
    return {
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
        "startedAt": None,
        "finishedAt": None,
    }


def _image_id(found: Container, known: objects.ContainerStatus | None, facts: Facts) -> str:
    if found.image_id in facts.image_ids:
        return facts.image_ids[found.image_id]
    if known is not None and known.container_id == f"{facts.runtime}://{found.id}":
        return known.image_id
    return f"{facts.runtime}://{found.image_id}" if found.image_id else ""


def _known(pod: objects.Pod, name: str) -> objects.ContainerStatus | None:
    known = pod.status
    statuses = (*known.container_statuses, *known.init_container_statuses, *known.ephemeral_container_statuses)
    return next((status for status in statuses if status.name == name), None)


def _mount_status(mount: objects.VolumeMount) -> dict[str, Any]:
    status: dict[str, Any] = {"name": mount.name, "mountPath": mount.mount_path}
    return status | ({"readOnly": True, "recursiveReadOnly": "Disabled"} if mount.read_only else {})


def _phase(
    pod: objects.Pod, init: Sequence[Mapping[str, Any]], containers: Sequence[Mapping[str, Any]], initialized: bool
) -> str:
    """Running once every container has been started at least once, as upstream counts it."""
    if not initialized and pod.spec.init_containers:
        return "Pending"
    began = [c for c in containers if "waiting" not in c["state"] or "terminated" in c["lastState"]]
    # A pod's end is told by the plan (facts.ended), which knows what will be restarted.
    return "Pending" if len(began) < len(containers) else "Running"


def _final_phase(containers: Sequence[Mapping[str, Any]]) -> str:
    codes = [c["state"].get("terminated", {}).get("exitCode", 1) for c in containers]
    return "Succeeded" if codes and not any(codes) else "Failed"


def _conditions(
    pod: objects.Pod,
    phase: str,
    init: Sequence[Mapping[str, Any]],
    containers: Sequence[Mapping[str, Any]],
    initialized: bool,
    wired: bool,
    now: float,
) -> list[dict[str, Any]]:
    unready = [str(c["name"]) for c in containers if not c["ready"]]
    unready = [str(c["name"]) for c, spec in zip(init, pod.spec.init_containers, strict=True)
               if is_sidecar(spec) and not c["ready"]] + unready  # fmt: skip
    ours = [
        ("PodReadyToStartContainers", wired, "", ""),
        ("Initialized", *_initialized(phase, init, initialized or not pod.spec.init_containers)),
        ("Ready", *_ready(pod, phase, unready)),
        ("ContainersReady", *_containers_ready(phase, unready)),
        ("PodScheduled", True, "", ""),
    ]
    kept = [_wire_condition(c) for c in pod.status.conditions if c.type not in OWN_CONDITIONS]
    return [_condition(pod, *condition, now) for condition in ours] + kept


def _initialized(phase: str, init: Iterable[Mapping[str, Any]], initialized: bool) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    if initialized:
        return True, "", ""
    names = " ".join(str(c["name"]) for c in init if not c["ready"])
    return False, "ContainersNotInitialized", f"containers with incomplete status: [{names}]"


def _containers_ready(phase: str, unready: Sequence[str]) -> tuple[bool, str, str]:
    if phase in ("Succeeded", "Failed"):
        return False, "PodCompleted" if phase == "Succeeded" else "PodFailed", ""
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _ready(pod: objects.Pod, phase: str, unready: Sequence[str]) -> tuple[bool, str, str]:
    containers = _containers_ready(phase, unready)
    if not containers[0]:
        return containers
    found = {c.type: c.status for c in pod.status.conditions}
    gates = [gate.condition_type for gate in pod.spec.readiness_gates]
    missing = [
        f'corresponding condition of pod readiness gate "{gate}" does not exist.'
        if gate not in found
        else f'the status of pod readiness gate "{gate}" is not "True", but {found[gate]}'
        for gate in gates
        if found.get(gate) != "True"
    ]
    return (False, "ReadinessGatesNotReady", ", ".join(missing)) if missing else (True, "", "")


def _condition(pod: objects.Pod, type_: str, holds: bool, reason: str, message: str, now: float) -> dict[str, Any]:
    status = "True" if holds else "False"
    before = next((c for c in pod.status.conditions if c.type == type_), None)
    since = before.last_transition_time if before is not None and before.status == status else ""
    condition: dict[str, Any] = {
        "type": type_,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": since or format_timestamp(now),
    }
    condition |= {"reason": reason} if reason else {}
    condition |= {"message": message} if message else {}
    return condition | ({"observedGeneration": pod.metadata.generation} if pod.metadata.generation else {})


def _wire_condition(condition: objects.PodCondition) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "type": condition.type,
        "status": condition.status,
        "lastProbeTime": None,
        "lastTransitionTime": condition.last_transition_time or None,
    }
    wire |= {"reason": condition.reason} if condition.reason else {}
    wire |= {"message": condition.message} if condition.message else {}
    return wire | ({"observedGeneration": condition.observed_generation} if condition.observed_generation else {})
