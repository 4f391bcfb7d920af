"""What the kubelet decides to do next for a pod."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubelet.plan import Backoff, Ended, Health, Kill, Plan, Start, go_duration, plan_pod
from kubelet.runtimes.base import ContainerId, PodRecord, State
from tests.kubelet.build import NOW, container, pod, record, sandbox

BACKOFF = Backoff(10, 300)
UNKNOWN = Health()
TWO = {"containers": [{"name": "app", "image": "busybox"}, {"name": "log", "image": "busybox"}]}
INIT = {"initContainers": [{"name": "one", "image": "busybox"}, {"name": "two", "image": "busybox"}]}
DEBUG = {"ephemeralContainers": [{"name": "debug", "image": "busybox", "targetContainerName": "app"}]}
SIDE = {"initContainers": [{"name": "side", "image": "busybox", "restartPolicy": "Always"}]}


def planned(spec: dict[str, Any], what: PodRecord | None, health: Health = UNKNOWN, **status: Any) -> Plan:
    return plan_pod(pod(spec, status), what, health, BACKOFF, NOW)


def has_started(*ids: str) -> Health:
    return Health(frozenset(ContainerId(i) for i in ids))


def test_a_new_pod_gets_a_sandbox_and_all_its_containers_together() -> None:
    plan = planned(TWO, None)
    assert (plan.create_sandbox, plan.start) == (0, (Start("app"), Start("log")))


def test_a_pod_that_runs_is_left_alone() -> None:
    plan = planned({}, record(container(pod())))
    assert plan == Plan(initialized=True)


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_an_ended_container_is_restarted_as_the_policy_says(policy: str, code: int, again: bool) -> None:
    spec = {"restartPolicy": policy}
    plan = planned(spec, record(container(pod(spec), exit_code=code)))
    assert plan.start == ((Start("app", 1, 1),) if again else ())
    assert plan.ended == (None if again else Ended("Succeeded" if code == 0 else "Failed"))


@pytest.mark.parametrize(("streak", "delay_s"), [(0, 0), (1, 10), (2, 20), (5, 160), (6, 300), (40, 300)])
def test_restarts_in_a_row_wait_longer_and_longer(streak: int, delay_s: float) -> None:
    ended = container(pod(), exit_code=1, streak=streak, count=streak, finished_at=NOW - delay_s + 0.5)
    if delay_s:
        plan = planned({}, record(ended))
        assert plan.start == () and plan.not_before == pytest.approx(ended.finished_at + delay_s)
        assert plan.waiting["app"].reason == "CrashLoopBackOff"
        expected = f"back-off {go_duration(delay_s)} restarting failed container=app pod=web_default(uid-1)"
        assert plan.waiting["app"].message == expected
    due = replace(ended, finished_at=NOW - delay_s)
    assert planned({}, record(due)).start == (Start("app", streak + 1, streak + 1),)


def test_a_long_good_run_forgets_the_crashes_before() -> None:
    ended = container(pod(), exit_code=1, streak=6, count=9, started_at=NOW - 700, finished_at=NOW)
    assert planned({}, record(ended)).start == (Start("app", 10, 1),)


def test_an_unhealthy_container_is_killed_with_its_reason() -> None:
    health = Health(frozenset(), {ContainerId("app-0"): "Container app failed liveness probe, will be restarted"})
    plan = planned({}, record(container(pod())), health)
    assert plan.kill == (Kill(ContainerId("app-0"), "app", "Container app failed liveness probe, will be restarted"),)


def test_a_changed_image_replaces_the_container() -> None:
    plan = planned({}, record(container(pod(), spec_hash="old")))
    assert [kill.message for kill in plan.kill] == ["Container app definition changed, will be restarted"]


def test_a_dead_sandbox_is_replaced_once_nothing_runs_in_it() -> None:
    dead = (sandbox(State.EXITED),)
    plan = planned({}, record(container(pod()), sandboxes=dead))
    assert [kill.container for kill in plan.kill] == ["app-0"] and plan.remove_sandboxes == ()
    plan = planned({}, record(container(pod(), exit_code=137), sandboxes=dead))
    assert (plan.create_sandbox, plan.remove_sandboxes) == (1, ("sandbox",))
    assert plan.start == (Start("app", 1, 1),)


def test_a_pod_of_policy_never_gets_no_second_sandbox() -> None:
    spec = {"restartPolicy": "Never"}
    plan = planned(spec, record(container(pod(spec), exit_code=137), sandboxes=(sandbox(State.EXITED),)))
    assert (plan.create_sandbox, plan.ended) == (None, Ended("Failed"))


def test_what_a_dead_kubelet_only_created_is_removed_and_started_again() -> None:
    plan = planned({}, record(container(pod(), state=State.CREATED)))
    assert (plan.remove, plan.start) == (("app-0",), (Start("app"),))


def test_one_old_container_is_kept_for_its_logs() -> None:
    web = pod()
    old = [container(web, "app", n, exit_code=1) for n in range(3)]
    assert planned({}, record(*old, container(web, "app", 3))).remove == ("app-0", "app-1")


def test_a_container_that_the_runtime_lost_counts_as_a_restart() -> None:
    known = [{"name": "app", "containerID": "docker://x", "restartCount": 4}]
    assert planned({}, record(), containerStatuses=known).start == (Start("app", 5),)


def test_init_containers_go_one_by_one() -> None:
    web = pod(INIT)
    assert planned(INIT, None).start == (Start("one"),)
    assert planned(INIT, record(container(web, "one"))).start == ()
    one = container(web, "one", exit_code=0)
    assert planned(INIT, record(one)).start == (Start("two"),)
    plan = planned(INIT, record(one, container(web, "two", exit_code=0)))
    assert (plan.start, plan.initialized) == ((Start("app"),), True)


def test_init_containers_are_not_repeated_for_a_restarted_container() -> None:
    web = pod(INIT)
    plan = planned(INIT, record(container(web, "app", exit_code=1)))
    assert plan.start == (Start("app", 1, 1),)


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    web = pod(INIT)
    ended = [container(web, n, exit_code=0) for n in ("one", "two", "app")]
    plan = planned(INIT, record(*ended, sandboxes=(sandbox(State.EXITED),)))
    assert (plan.create_sandbox, plan.start) == (1, (Start("one", 1),))


def test_a_failing_init_container_fails_a_pod_that_never_restarts() -> None:
    spec = INIT | {"restartPolicy": "Never"}
    assert planned(spec, record(container(pod(spec), "one", exit_code=1))).ended == Ended("Failed")
    assert planned(INIT, record(container(pod(INIT), "one", exit_code=1))).start == (Start("one", 1, 1),)


def test_a_sidecar_holds_up_the_rest_until_it_has_started() -> None:
    web = pod(SIDE)
    assert planned(SIDE, None).start == (Start("side"),)
    assert planned(SIDE, record(container(web, "side"))).start == ()
    assert planned(SIDE, record(container(web, "side")), has_started("side-0")).start == (Start("app"),)


def test_a_sidecar_is_restarted_beside_running_containers_and_does_not_keep_the_pod() -> None:
    web = pod(SIDE)
    plan = planned(SIDE, record(container(web, "side", exit_code=0), container(web)))
    assert plan.start == (Start("side", 1, 1),)
    spec = SIDE | {"restartPolicy": "Never"}
    plan = planned(spec, record(container(pod(spec), "side"), container(pod(spec), exit_code=0)), has_started("side-0"))
    assert plan.ended == Ended("Succeeded")


def test_the_deadline_ends_a_pod() -> None:
    spec = {"activeDeadlineSeconds": 60}
    plan = planned(spec, record(container(pod(spec))), startTime="1970-01-12T13:45:00Z")  # NOW - 100
    assert plan.ended is not None and (plan.ended.phase, plan.ended.reason) == ("Failed", "DeadlineExceeded")
    plan = planned(spec, record(container(pod(spec))), startTime="1970-01-12T13:46:00Z")
    assert (plan.ended, plan.not_before) == (None, NOW + 20)


def test_an_ended_pod_stays_ended() -> None:
    assert planned({}, None, phase="Succeeded").ended == Ended("Succeeded")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5s"), (10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")]
)
def test_durations_read_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_an_ephemeral_container_joins_what_runs() -> None:
    plan = planned(DEBUG, record(container(pod(DEBUG))))
    assert plan == Plan(start=(Start("debug"),), initialized=True)


@pytest.mark.parametrize("code", [0, 1])
def test_an_ephemeral_container_runs_once(code: int) -> None:
    made = pod(DEBUG)
    assert planned(DEBUG, record(container(made), container(made, "debug", exit_code=code))).start == ()
    known: dict[str, Any] = {"ephemeralContainerStatuses": [{"name": "debug", "containerID": "docker://lost"}]}
    assert planned(DEBUG, record(container(made)), **known).start == ()


def test_no_pod_stays_for_its_ephemeral_containers() -> None:
    spec = DEBUG | {"restartPolicy": "Never"}
    made = pod(spec)
    ended = container(made, exit_code=0)
    assert planned(spec, record(ended)).ended == Ended("Succeeded")
    assert planned(spec, record(ended, container(made, "debug"))).ended == Ended("Succeeded")


def test_ephemeral_containers_need_no_init_containers_to_have_ended() -> None:
    spec = DEBUG | INIT
    plan = planned(spec, record(container(pod(spec), "one")))
    assert (plan.start, plan.initialized) == ((Start("debug"),), False)
