"""CronJobs: schedules by table, and a real API server."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kubarium.controllers.config import Config
from kubarium.controllers.cronjobs.plan import CRONJOBS, CronJob, job_of, plan_due, surplus
from kubarium.controllers.cronjobs.schedule import most_recent, parse_schedule
from kubarium.controllers.jobs.views import JOBS, Job
from kubarium.machinery.objects import convert
from kubarium.testing.apiserver import ApiServer
from tests.controllers.live import Space, eventually, make_space, running

ONLY = ("cronjob-controller", "garbage-collector-controller")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        ("* * * * *", "", "2026-03-01T10:00:30", "2026-03-01T10:01"),
        ("*/15 * * * *", "", "2026-03-01T10:00", "2026-03-01T10:15"),
        ("5 4 * * *", "", "2026-03-01T10:00", "2026-03-02T04:05"),
        ("0 9-17/4 * * MON-FRI", "", "2026-03-06T17:00", "2026-03-09T09:00"),
        ("0 0 1,15 * *", "", "2026-03-02T00:00", "2026-03-15T00:00"),
        ("0 0 13 * FRI", "", "2026-03-01T00:00", "2026-03-06T00:00"),  # either day, as both are restricted
        ("0 0 29 2 *", "", "2026-03-01T00:00", "2028-02-29T00:00"),
        ("0 0 * jan,jul ?", "", "2026-03-01T00:00", "2026-07-01T00:00"),
        ("@hourly", "", "2026-03-01T10:00", "2026-03-01T11:00"),
        ("@weekly", "", "2026-03-02T10:00", "2026-03-08T00:00"),
        ("@every 1h30m", "", "2026-03-01T10:00", "2026-03-01T11:30"),
        ("0 12 * * *", "America/New_York", "2026-01-01T00:00", "2026-01-01T17:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00", "2026-03-30T00:30"),  # the clock skips that half past two
    ],
)
def test_the_next_time(schedule: str, zone: str, after: str, expected: str) -> None:
    assert parse_schedule(schedule, zone)(at(after)) == at(expected)


def test_a_day_that_never_comes_is_no_time() -> None:
    assert parse_schedule("0 0 31 2 *")(at("2026-01-01T00:00")) is None


@pytest.mark.parametrize("text", ["", "* * * *", "60 * * * *", "* * * * XXX", "*/0 * * * *", "@never", "5-1 * * * *"])
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_schedule(text)


def test_an_unknown_time_zone_is_told() -> None:
    with pytest.raises(ValueError, match="unknown time zone Nowhere/Land"):
        parse_schedule("* * * * *", "Nowhere/Land")


def test_the_last_time_before_now() -> None:
    hourly = parse_schedule("@hourly")
    assert most_recent(hourly, at("2026-03-01T10:30"), at("2026-03-01T10:59")) == (None, 0)
    assert most_recent(hourly, at("2026-03-01T10:30"), at("2026-03-01T13:05")) == (at("2026-03-01T13:00"), 3)
    assert most_recent(hourly, at("2020-03-01T10:30"), at("2026-03-01T13:05")) == (at("2026-03-01T13:00"), 101)


def a_cron_job(schedule: str = "* * * * *", **spec: Any) -> CronJob:
    meta = {"name": "c", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-03-01T10:00:00Z"}
    return convert(CronJob, {"metadata": meta, "spec": {"schedule": schedule, **spec}})


def test_a_time_that_is_over_by_its_deadline_makes_no_job() -> None:
    schedule = parse_schedule("0 * * * *")
    late = plan_due(a_cron_job(startingDeadlineSeconds=60), schedule, at("2026-03-01T12:02"))
    assert late.at is None
    assert plan_due(a_cron_job(startingDeadlineSeconds=180), schedule, at("2026-03-01T12:02")).at == at(
        "2026-03-01T12:00"
    )


def test_a_job_is_named_after_its_minute() -> None:
    made = job_of(a_cron_job(), at("2026-03-01T10:01"))
    assert made["metadata"]["name"] == f"c-{int(at('2026-03-01T10:01')) // 60}"
    assert made["metadata"]["annotations"] == {
        "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-03-01T10:01:00Z"
    }


def test_the_oldest_finished_jobs_go() -> None:
    def job(name: str, kind: str) -> Job:
        status = {"startTime": f"2026-03-01T10:0{name[-1]}:00Z", "conditions": [{"type": kind, "status": "True"}]}
        return convert(Job, {"metadata": {"name": name}, "status": status})

    jobs = [job(f"j{number}", "Complete") for number in (3, 1, 2, 4)] + [job("f1", "Failed"), job("f2", "Failed")]
    assert [one.metadata.name for one in surplus(a_cron_job(), jobs)] == ["j1", "f1"]


# -- live --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def space(shared_apiserver: ApiServer, tmp_path: Path) -> AsyncIterator[Space]:
    async with running(shared_apiserver.kubeconfig, Config(controllers=ONLY)) as api:
        yield await make_space(api, f"t-{secrets.token_hex(4)}")


async def test_a_cron_job_makes_jobs_and_follows_them(space: Space) -> None:
    template = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x"}], "restartPolicy": "Never"}}}}
    spec = {"schedule": "@every 1s", "jobTemplate": template, "concurrencyPolicy": "Forbid"}
    await space.create(CRONJOBS, metadata={"name": "c"}, spec=spec)

    async def has_begun() -> CronJob:
        found = await space.api.get(CRONJOBS, "c", space.name)
        assert found.status.active
        assert found.status.last_schedule_time
        return found

    found = await eventually(has_begun)
    [job] = await space.list(JOBS)
    assert [ref.uid for ref in found.status.active] == [job.metadata.uid]
    await space.api.patch(CRONJOBS, "c", {"spec": {"suspend": True}}, space.name)
    await space.api.delete(JOBS, job.metadata.name, space.name, propagation="Background")

    async def knows() -> bool:
        return not (await space.api.get(CRONJOBS, "c", space.name)).status.active

    await eventually(knows)
    assert await space.list(JOBS) == ()
