"""When CronJobs start their Jobs, on plans and on a real embedded API server."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kajitori.api.resource import CORE_EVENTS, CRON_JOBS, JOBS
from kajitori.base.clock import parse_rfc3339, rfc3339
from kajitori.base.cron import InvalidSchedule, parse_schedule
from kajitori.control.cache import Metadata
from kajitori.laptop.controllers import cron_jobs
from kajitori.laptop.controllers.cron_jobs import plan
from kajitori.laptop.controllers.cron_jobs.plan import Timing
from kajitori.laptop.controllers.cron_jobs.views import (
    CronJobSpecView,
    CronJobStatusView,
    CronJobView,
    JobReference,
)

CREATED = parse_rfc3339("2026-11-26T10:00:10Z")


def cron_job(schedule="*/10 * * * *", *, active=(), last=None, **spec):
    return CronJobView(
        metadata=Metadata(name="tick", namespace="default", uid="cj", creation_timestamp=rfc3339(CREATED)),
        spec=CronJobSpecView(schedule=schedule, **spec),
        status=CronJobStatusView(
            active=[JobReference(name=name, uid=name) for name in active],
            last_schedule_time=rfc3339(last) if last is not None else None,
        ),
    )


def timing(schedule="*/10 * * * *"):
    return Timing(parse_schedule(schedule), datetime.UTC)


def due(one, seconds, schedule=None):
    return plan.plan_start(one, timing(schedule or one.spec.schedule), CREATED + seconds)


def test_nothing_is_due_before_the_first_time_after_its_creation():
    assert due(cron_job(), 589) == plan.Due()
    assert due(cron_job(), 590).time == CREATED + 590


def test_of_several_missed_times_only_the_last_is_made_up_for():
    found = due(cron_job(), 3 * 600 + 100)
    assert found.time == CREATED - 10 + 3 * 600 and not found.events


def test_more_than_a_hundred_missed_times_are_told():
    found = due(cron_job(), 200 * 600)
    assert found.time is not None and [event.reason for event in found.events] == ["TooManyMissedTimes"]


def test_a_time_that_is_older_than_the_deadline_is_missed():
    found = due(cron_job(starting_deadline_seconds=30), 590 + 31)
    assert found == plan.Due()
    assert due(cron_job(starting_deadline_seconds=30), 590 + 29).time is not None


def test_a_time_starts_once_even_if_the_status_was_not_written():
    one = cron_job()
    name = plan.job_name(one, CREATED + 590)
    assert name == f"tick-{int(CREATED + 590) // 60}"
    assert due(cron_job(active=[name]), 600) == plan.Due()
    assert due(cron_job(last=CREATED + 590), 600) == plan.Due()


def test_forbid_waits_for_the_running_job_and_replace_removes_it():
    forbidden = due(cron_job(active=["old"], concurrency_policy="Forbid"), 600)
    assert forbidden.time is None and [event.reason for event in forbidden.events] == ["JobAlreadyActive"]
    replaced = due(cron_job(active=["old"], concurrency_policy="Replace"), 600)
    assert replaced.time is not None and replaced.replace


def test_a_schedule_without_times_is_invalid():
    with pytest.raises(InvalidSchedule):
        due(cron_job("0 0 31 2 *"), 600)


@given(
    st.sampled_from(["*/10 * * * *", "30 6-16/4 * * 1-5", "0 0 1 * *", "@every 45s", "5 4 * * sun"]),
    st.floats(0, 40 * 86400),
    st.one_of(st.none(), st.integers(10, 10**6)),
)
def test_the_next_look_is_at_the_next_time_and_finds_it_due(schedule, seconds, deadline):
    # Counted from the deadline's window, a delay longer than the window is never over: so it is on a real cluster.
    assume(not schedule.startswith("@every") or deadline is None or deadline > 45)
    one = cron_job(schedule, starting_deadline_seconds=deadline)
    now = CREATED + seconds
    found = due(one, seconds)
    if found.time is not None:
        assert found.time <= now
        one = cron_job(schedule, starting_deadline_seconds=deadline, last=found.time)
    wait = plan.next_look_seconds(one, timing(schedule), now)
    assert wait is not None and wait > 0
    assert due(one, seconds + wait, schedule).time is not None


async def test_a_job_of_the_template_starts_at_its_time_and_the_history_keeps_the_last(world):
    world.clock.offset_seconds = 0
    await world.start(cron_jobs)
    template = {
        "metadata": {"labels": {"made": "by-clock"}, "annotations": {"a": "b"}},
        "spec": {
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
        },
    }
    spec = {
        "schedule": "* * * * *",
        "timeZone": "Europe/Berlin",
        "successfulJobsHistoryLimit": 1,
        "jobTemplate": template,
    }
    await world.client.create(CRON_JOBS, {"metadata": {"name": "tick", "namespace": "default"}, "spec": spec})

    async def jobs(count):
        found = (await world.client.list(JOBS, "default")).items
        assert len(found) == count
        return sorted(found, key=lambda job: job["metadata"]["name"])

    async def next_minute():
        world.clock.offset_seconds += 61
        await world.client.patch(
            CRON_JOBS,
            "tick",
            {"metadata": {"labels": {"at": f"{world.clock.offset_seconds:.0f}"}}},
            namespace="default",
        )

    await next_minute()
    (job,) = await world.until(lambda: jobs(1))
    minute = int(job["metadata"]["name"].removeprefix("tick-"))
    assert job["metadata"]["labels"]["made"] == "by-clock"
    assert job["metadata"]["ownerReferences"][0]["kind"] == "CronJob"
    stamp = job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
    assert parse_rfc3339(stamp) == minute * 60 and stamp.endswith(("+01:00", "+02:00"))

    async def active():
        status = (await world.client.get(CRON_JOBS, "tick", "default"))["status"]
        assert [one["name"] for one in status["active"]] == [job["metadata"]["name"]]
        return status["lastScheduleTime"]

    assert parse_rfc3339(await world.until(active)) == minute * 60
    ended = rfc3339(world.clock.now())
    for one in [job]:
        await complete(world, one, ended)

    async def successful():
        status = (await world.client.get(CRON_JOBS, "tick", "default"))["status"]
        assert "active" not in status
        return status["lastSuccessfulTime"]

    assert await world.until(successful) == ended
    await next_minute()
    _, second = await world.until(lambda: jobs(2))
    await complete(world, second, rfc3339(world.clock.now()))
    (left,) = await world.until(lambda: jobs(1))
    assert left["metadata"]["name"] == second["metadata"]["name"]

    async def told():
        events = await world.client.list(CORE_EVENTS, "default", field_selector="involvedObject.kind=CronJob")
        return {"SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"} <= {
            event["reason"] for event in events.items
        }

    await world.until(told)


async def complete(world, job, ended):
    conditions = [
        {"type": type_name, "status": "True", "lastTransitionTime": ended, "lastProbeTime": ended,
         "reason": "CompletionsReached", "message": "done"}
        for type_name in ("SuccessCriteriaMet", "Complete")
    ]  # fmt: skip
    status = {"startTime": ended, "completionTime": ended, "succeeded": 1, "conditions": conditions}
    await world.client.patch(
        JOBS, job["metadata"]["name"], {"status": status}, namespace="default", subresource="status"
    )
