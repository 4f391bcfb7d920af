"""Jobs: what they decide, and what becomes of them on a real API server where the test plays the kubelet."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubarium.controllers.config import Config
from kubarium.controllers.jobs.indexes import INDEX, first_pending, format_indexes, parse_indexes
from kubarium.controllers.jobs.plan import FINALIZER
from kubarium.controllers.jobs.policies import Backoff, judge_failure, succeeded_by, wait_s
from kubarium.controllers.jobs.views import JOBS, Job
from kubarium.machinery.client import PatchType
from kubarium.machinery.objects import Pod, convert
from kubarium.machinery.resources import PODS
from kubarium.machinery.times import format_timestamp
from kubarium.testing.apiserver import ApiServer
from tests.controllers.live import Space, eventually, make_space, running

ONLY = ("job-controller", "garbage-collector-controller")


@pytest.mark.parametrize(
    ("text", "indexes"),
    [("", set()), ("0", {0}), ("0,1", {0, 1}), ("0-2,5", {0, 1, 2, 5}), ("1,3-5,7,8", {1, 3, 4, 5, 7, 8})],
)
def test_indexes_are_written_as_upstream_writes_them(text: str, indexes: set[int]) -> None:
    assert parse_indexes(text, 100) == indexes
    assert format_indexes(indexes) == text


def test_indexes_beyond_the_completions_and_bad_ones_are_left_out() -> None:
    assert parse_indexes("0-9,x,12", 3) == {0, 1, 2}
    assert first_pending({0, 2}, 2, 5) == [1, 3]


def a_job(**spec: Any) -> Job:
    return convert(Job, {"metadata": {"name": "j", "namespace": "ns"}, "spec": spec})


def ended(code: int, *conditions: str) -> Pod:
    status = {
        "phase": "Failed",
        "conditions": [{"type": kind, "status": "True"} for kind in conditions],
        "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": code}}}],
    }
    return convert(Pod, {"metadata": {"name": "p", "namespace": "ns"}, "status": status})


RULES = [
    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1]}},
]


@pytest.mark.parametrize(
    ("pod", "action", "counts"),
    [
        pytest.param(ended(42), "FailJob", True, id="exit code"),
        pytest.param(ended(1, "DisruptionTarget"), "Ignore", False, id="condition"),
        pytest.param(ended(7), "FailIndex", True, id="any other exit code"),
        pytest.param(ended(1), "", True, id="no rule"),
    ],
)
def test_pod_failure_policy(pod: Pod, action: str, counts: bool) -> None:
    verdict = judge_failure(a_job(podFailurePolicy={"rules": RULES}), pod)
    assert (verdict.action, verdict.counts) == (action, counts)


def test_a_pod_that_fails_its_job_says_why() -> None:
    verdict = judge_failure(a_job(podFailurePolicy={"rules": RULES}), ended(42))
    assert verdict.message == "Container c for pod ns/p failed with exit code 42 matching FailJob rule at index 0"


@pytest.mark.parametrize(
    ("succeeded", "text"),
    [
        (set(), ""),
        ({1}, ""),
        ({0}, "Matched rules at index 0"),
        ({2, 3}, "Matched rules at index 1"),
        ({1, 4, 5}, "Matched rules at index 2"),
    ],
)
def test_success_policy(succeeded: set[int], text: str) -> None:
    rules = [{"succeededIndexes": "0"}, {"succeededIndexes": "2-4", "succeededCount": 2}, {"succeededCount": 3}]
    assert succeeded_by(a_job(completions=6, successPolicy={"rules": rules}), succeeded) == text


def test_failures_make_the_next_pod_wait_longer_and_a_success_ends_that() -> None:
    assert [wait_s(count, 100.0, 100.0) for count in (0, 1, 2, 3, 10)] == [0, 10, 20, 40, 600]
    assert wait_s(2, 100.0, 115.0) == 5
    failed = Backoff().after([], [ended(1)], 50.0)
    assert failed.failures == 1
    assert failed.after([ended(0)], [], 60.0).failures == 0


# -- live --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def space(shared_apiserver: ApiServer, tmp_path: Path) -> AsyncIterator[Space]:
    async with running(shared_apiserver.kubeconfig, Config(controllers=ONLY)) as api:
        yield await make_space(api, f"t-{secrets.token_hex(4)}")


async def start(space: Space, restart: str = "Never", **spec: Any) -> Job:
    template = {"spec": {"containers": [{"name": "c", "image": "x"}], "restartPolicy": restart}}
    return await space.create(JOBS, metadata={"name": "j"}, spec={"template": template, **spec})


async def until_pods(space: Space, count: int) -> list[Pod]:
    async def check() -> list[Pod]:
        pods = [pod for pod in await space.pods() if pod.status.phase == "Pending"]
        assert len(pods) == count, [pod.metadata.name for pod in pods]
        return pods

    return await eventually(check) if count else []


async def end(space: Space, pod: Pod, phase: str = "Succeeded", code: int = 0) -> None:
    """Play the kubelet: the pod's container has ended."""
    now = format_timestamp(time.time())
    state = {"terminated": {"exitCode": code, "startedAt": now, "finishedAt": now, "reason": "x"}}
    containers = [{"name": "c", "state": state, "image": "x", "imageID": "", "ready": False, "restartCount": 0}]
    status = {"phase": phase, "containerStatuses": containers}
    await space.api.patch(
        PODS, pod.metadata.name, {"status": status}, space.name, patch_type=PatchType.STRATEGIC, subresource="status"
    )


async def until(space: Space, kind: str, reason: str) -> Job:
    async def check() -> Job:
        job = await space.api.get(JOBS, "j", space.name)
        found = job.condition(kind)
        assert found is not None, job.status
        assert found.reason == reason
        return job

    return await eventually(check)


async def freed(space: Space) -> None:
    """Every pod has lost the finalizer."""

    async def check() -> bool:
        held = [pod.metadata.name for pod in await space.list(PODS) if FINALIZER in pod.metadata.finalizers]
        assert not held
        return True

    await eventually(check)


async def test_a_job_runs_its_pods_and_completes(space: Space) -> None:
    await start(space, completions=3, parallelism=2)
    for pod in await until_pods(space, 2):
        assert FINALIZER in pod.metadata.finalizers
        await end(space, pod)
    [last] = await until_pods(space, 1)
    await end(space, last)
    job = await until(space, "Complete", "CompletionsReached")
    assert (job.status.succeeded, job.status.failed, job.status.active, job.status.ready) == (3, 0, 0, 0)
    assert job.condition("SuccessCriteriaMet")
    assert job.status.start_time
    assert job.status.completion_time
    await freed(space)


async def test_a_job_whose_pods_fail_too_often_fails(space: Space) -> None:
    await start(space, backoffLimit=0)
    [pod] = await until_pods(space, 1)
    await end(space, pod, "Failed", 1)
    job = await until(space, "Failed", "BackoffLimitExceeded")
    assert (job.status.failed, job.status.active) == (1, 0)
    await freed(space)


async def test_a_job_fails_when_its_time_is_over(space: Space) -> None:
    await start(space, activeDeadlineSeconds=1)
    await until_pods(space, 1)
    job = await until(space, "Failed", "DeadlineExceeded")
    assert (job.status.active, job.condition("FailureTarget") is not None) == (0, True)
    assert await space.pods() == []


async def test_a_suspended_job_has_no_pods_until_it_is_resumed(space: Space) -> None:
    await start(space, suspend=True)
    await until(space, "Suspended", "JobSuspended")
    await space.api.patch(JOBS, "j", {"spec": {"suspend": False}}, space.name)
    await until_pods(space, 1)
    job = await space.api.get(JOBS, "j", space.name)
    assert job.status.start_time
    await space.api.patch(JOBS, "j", {"spec": {"suspend": True}}, space.name)

    async def has_none() -> bool:
        assert await space.pods() == []
        return True

    await eventually(has_none)
    await until(space, "Suspended", "JobSuspended")


async def test_an_indexed_job_gives_each_pod_its_number(space: Space) -> None:
    await start(space, completions=3, parallelism=3, completionMode="Indexed")
    pods = {pod.metadata.annotations[INDEX]: pod for pod in await until_pods(space, 3)}
    assert sorted(pods) == ["0", "1", "2"]
    assert pods["1"].spec.hostname == "j-1"
    assert "JOB_COMPLETION_INDEX" in [env.name for env in pods["1"].spec.containers[0].env]
    await end(space, pods["0"])
    await end(space, pods["2"])

    async def is_written() -> bool:
        return (await space.api.get(JOBS, "j", space.name)).status.completed_indexes == "0,2"

    await eventually(is_written)
    await end(space, pods["1"])
    job = await until(space, "Complete", "CompletionsReached")
    assert (job.status.completed_indexes, job.status.succeeded) == ("0-2", 3)


async def test_a_success_policy_ends_a_job_early(space: Space) -> None:
    policy = {"rules": [{"succeededIndexes": "0"}]}
    await start(space, completions=3, parallelism=3, completionMode="Indexed", successPolicy=policy)
    pods = {pod.metadata.annotations[INDEX]: pod for pod in await until_pods(space, 3)}
    await end(space, pods["0"])
    job = await until(space, "Complete", "SuccessPolicy")
    assert (job.status.completed_indexes, job.status.active) == ("0", 0)


async def test_indexes_fail_each_by_its_own_limit(space: Space) -> None:
    await start(space, completions=2, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=0)
    pods = {pod.metadata.annotations[INDEX]: pod for pod in await until_pods(space, 2)}
    await end(space, pods["0"], "Failed", 1)
    await end(space, pods["1"])
    job = await until(space, "Failed", "FailedIndexes")
    assert (job.status.failed_indexes, job.status.completed_indexes) == ("0", "1")


async def test_a_failure_policy_fails_the_job_at_once(space: Space) -> None:
    await start(space, backoffLimit=6, podFailurePolicy={"rules": RULES[:1]})
    [pod] = await until_pods(space, 1)
    await end(space, pod, "Failed", 42)
    job = await until(space, "Failed", "PodFailurePolicy")
    assert job.status.failed == 1


async def test_the_pods_of_a_deleted_job_go_too(space: Space) -> None:
    await start(space, completions=2, parallelism=2)
    await until_pods(space, 2)
    await space.api.delete(JOBS, "j", space.name, propagation="Background")

    async def is_empty() -> bool:
        assert await space.list(PODS) == ()
        return True

    await eventually(is_empty)
