"""The status that the kubelet reports, from pods and records."""

from __future__ import annotations

from typing import Any

import pytest

from kubelet.plan import Ended, Waiting
from kubelet.runtimes.base import ContainerId, PodRecord
from kubelet.status import Facts, build_status
from tests.kubelet.build import NOW, container, pod, record

APP = ContainerId("app-0")
RUNNING: dict[str, Any] = {"ready": frozenset({APP}), "started": frozenset({APP}), "initialized": True}


def status(
    what: PodRecord | None, spec: dict[str, Any] | None = None, /, *, of: Any = None, **facts: Any
) -> dict[str, Any]:
    known = Facts(runtime="docker", host_ip="192.0.2.1", pod_ips=("10.244.1.5",), start_time=NOW, **facts)
    return build_status(of or pod(spec), what, known, NOW)


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c.get("reason", "")) for c in found["conditions"]}


def test_a_running_pod() -> None:
    found = status(record(container(pod())), **RUNNING)
    assert (found["phase"], found["podIP"], found["podIPs"]) == ("Running", "10.244.1.5", [{"ip": "10.244.1.5"}])
    assert {status for status, _ in conditions(found).values()} == {"True"}
    (app,) = found["containerStatuses"]
    assert app["state"] == {"running": {"startedAt": "1970-01-12T13:46:38Z"}} and app["lastState"] == {}
    assert (app["containerID"], app["imageID"]) == ("docker://app-0", "docker://sha256:1")


def test_a_pod_whose_containers_are_being_made() -> None:
    found = status(None)
    assert found["phase"] == "Pending"
    assert conditions(found)["Ready"] == ("False", "ContainersNotReady")
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert conditions(found)["PodReadyToStartContainers"][0] == "False"


def test_a_crash_loop_shows_the_last_end() -> None:
    ended = container(pod(), "app", 2, exit_code=7)
    found = status(record(ended), waiting={"app": Waiting("CrashLoopBackOff", "back-off")}, initialized=True)
    (app,) = found["containerStatuses"]
    assert app["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert (app["lastState"]["terminated"]["exitCode"], app["restartCount"]) == (7, 2)
    assert found["phase"] == "Running"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"exit_code": 0}, "Completed"),
        ({"exit_code": 2}, "Error"),
        ({"exit_code": 137, "oom_killed": True}, "OOMKilled"),
        ({"exit_code": 127, "error": "no such file"}, "ContainerCannotRun"),
    ],
)
def test_why_a_container_ended(fields: dict[str, Any], reason: str) -> None:
    found = status(record(container(pod(), **fields)), initialized=True)
    assert found["containerStatuses"][0]["state"]["terminated"]["reason"] == reason


@pytest.mark.parametrize(("phase", "reason"), [("Succeeded", "PodCompleted"), ("Failed", "PodFailed")])
def test_a_pod_that_is_over(phase: str, reason: str) -> None:
    found = status(record(container(pod(), exit_code=0)), ended=Ended(phase), initialized=True)
    assert (found["phase"], conditions(found)["Ready"]) == (phase, ("False", reason))


def test_init_containers_hold_the_pod_pending() -> None:
    spec = {"initContainers": [{"name": "one", "image": "busybox"}]}
    found = status(record(container(pod(spec), "one")), spec)
    assert found["phase"] == "Pending" and conditions(found)["Initialized"] == ("False", "ContainersNotInitialized")
    assert found["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"


def test_a_readiness_gate_is_waited_for() -> None:
    spec = {"readinessGates": [{"conditionType": "example.org/lb"}]}
    found = status(record(container(pod(spec))), spec, **RUNNING)
    assert conditions(found)["Ready"] == ("False", "ReadinessGatesNotReady")
    assert conditions(found)["ContainersReady"][0] == "True"
    known = {"conditions": [{"type": "example.org/lb", "status": "True"}]}
    found = status(record(container(pod(spec))), of=pod(spec, known), **RUNNING)
    assert conditions(found)["Ready"][0] == "True" and "example.org/lb" in conditions(found)


def test_transition_times_stay_while_nothing_changes() -> None:
    since = "2020-01-01T00:00:00Z"
    known = {
        "conditions": [{"type": t, "status": "True", "lastTransitionTime": since} for t in ("Ready", "Initialized")]
    }
    found = status(None, of=pod(None, known))
    times = {c["type"]: c["lastTransitionTime"] for c in found["conditions"]}
    assert times["Initialized"] == since and times["Ready"] != since


def test_a_deleted_pod_is_shown_by_how_its_containers_ended() -> None:
    found = status(record(container(pod(), exit_code=0)), stopped=True)
    assert found["phase"] == "Succeeded"
    found = status(record(container(pod(), exit_code=137)), stopped=True)
    assert found["phase"] == "Failed"
    found = status(None, stopped=True)
    assert found["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_a_container_whose_post_start_hook_runs_is_not_running_yet() -> None:
    found = status(record(container(pod())), starting=frozenset({APP}), initialized=True)
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}


def test_an_ephemeral_container_is_told_and_never_ready() -> None:
    made = pod({"ephemeralContainers": [{"name": "debug", "image": "busybox"}]})
    found = status(record(container(made), container(made, "debug", exit_code=4)), of=made, **RUNNING)
    (debug,) = found["ephemeralContainerStatuses"]
    assert (debug["ready"], debug["state"]["terminated"]["exitCode"], "started" in debug) == (False, 4, False)
    assert (found["phase"], conditions(found)["Ready"][0]) == ("Running", "True")
    assert status(record(container(pod())), **RUNNING)["ephemeralContainerStatuses"] is None
