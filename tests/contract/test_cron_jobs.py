"""CronJobs start their Jobs alike on both servers, and refuse the same schedules with the same words."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.servers import Server
from tests.waiting import eventually

from kajitori.base.clock import parse_rfc3339

Object = dict[str, Any]


def cron_job(name: str, schedule: str = "* * * * *", **spec: Any) -> Object:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox:1"}]}
    template = {
        "metadata": {"labels": {"made": "by-clock"}},
        "spec": {"template": {"metadata": {"annotations": {"kajitori.dev/test-exit": "0"}}, "spec": pod}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {"schedule": schedule, "jobTemplate": template, **spec},
    }


async def test_a_job_starts_at_its_minute_and_is_noted(
    server: Server, namespace: str, nodes: list[str]
) -> None:
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs"
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    spec = {"timeZone": "Asia/Kathmandu", "successfulJobsHistoryLimit": 1}
    made = (await server.http.create(path, cron_job("tick", **spec))).ok()

    async def started() -> Object | None:
        items = (await server.http.get(jobs)).ok()["items"]
        return items[0] if items else None

    job = await eventually(started, "a job starts", 75)
    minute = int(re.fullmatch(r"tick-(\d+)", job["metadata"]["name"])[1])  # type: ignore[index]
    created = parse_rfc3339(made["metadata"]["creationTimestamp"])
    assert 0 < minute * 60 - created <= 60
    stamp = job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
    assert stamp.endswith("+05:45") and parse_rfc3339(stamp) == minute * 60
    assert job["metadata"]["labels"]["made"] == "by-clock"
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("CronJob", "tick", True)

    async def noted() -> Object | None:
        status = (await server.http.get(f"{path}/tick")).ok().get("status", {})
        return status if status.get("lastSuccessfulTime") else None

    status = await eventually(noted, "the success is noted")
    assert parse_rfc3339(status["lastScheduleTime"]) == minute * 60 and "active" not in status

    async def told() -> Object | None:
        events = f"/api/v1/namespaces/{namespace}/events"
        items = (await server.http.get(events, fieldSelector="involvedObject.kind=CronJob")).ok()["items"]
        found = {one["reason"]: one["message"] for one in items}
        return found if len(found) >= 2 else None

    assert await eventually(told, "there are events") == {
        "SuccessfulCreate": f"Created job tick-{minute}",
        "SawCompletedJob": f"Saw completed job: tick-{minute}, condition: Complete",
    }


async def test_a_suspended_cron_job_starts_nothing(server: Server, namespace: str) -> None:
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs"
    made = (await server.http.create(path, cron_job("off", suspend=True))).ok()
    assert made["spec"]["suspend"] is True and made["status"] == {}


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("@often", "unrecognized descriptor: @often"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
    ],
)
async def test_a_bad_schedule_is_refused_with_the_same_words(
    server: Server, namespace: str, schedule: str, reason: str
) -> None:
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs"
    answer = await server.http.create(path, cron_job("bad", schedule))
    assert answer.code == 422
    (cause,) = answer.json["details"]["causes"]
    assert cause == {
        "reason": "FieldValueInvalid",
        "message": f'Invalid value: "{schedule}": {reason}',
        "field": "spec.schedule",
    }


async def test_an_unknown_time_zone_is_refused(server: Server, namespace: str) -> None:
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs"
    for zone, reason in (
        ("Mars/Olympus", "unknown time zone Mars/Olympus"),
        (
            "Local",
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        ),
        ("", "timeZone must be nil or non-empty string"),
    ):
        answer = await server.http.create(path, cron_job("bad", timeZone=zone))
        assert answer.code == 422, answer.body
        assert answer.json["details"]["causes"][0]["message"] == f'Invalid value: "{zone}": {reason}'
