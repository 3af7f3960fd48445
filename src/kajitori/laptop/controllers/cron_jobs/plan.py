"""When a CronJob starts its next Job, what that is, and which old ones go. Pure.

Of several times that were missed only the last is made up for. A Job is named after the minute of its time, so
that one time never makes two. Source: Kubernetes' documentation of CronJob; rules of its controller.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from kajitori.base.clock import parse_rfc3339, rfc3339
from kajitori.base.cron import InvalidSchedule, Schedule
from kajitori.kube.objects import owner_reference
from kajitori.laptop.controllers.cron_jobs.views import CronJobStatusView, CronJobView, JobReference, Object
from kajitori.laptop.controllers.jobs.views import JobView

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
# A look a moment after the time, so that clocks that differ a little do not miss it.
_MARGIN_SECONDS = 0.1
_MANY_MISSED = 100


class Timing(msgspec.Struct, frozen=True):
    """schedule and the zone that it is meant in."""

    schedule: Schedule
    zone: datetime.tzinfo

    def next(self, after: float) -> float | None:
        return self.schedule.next(after, self.zone)


class Event(NamedTuple):
    """Of the CronJob. type: Normal or Warning."""

    type: str
    reason: str
    message: str


class _Missed(msgspec.Struct, frozen=True):
    """since: where the search began. time: the last time that is due, if any. count: of times, roughly."""

    since: float
    time: float | None
    count: int


def _missed(cron_job: CronJobView, timing: Timing, now: float, within_deadline: bool) -> _Missed:
    """Raises InvalidSchedule for one whose times never come."""
    since = parse_rfc3339(cron_job.status.last_schedule_time or cron_job.metadata.creation_timestamp)
    deadline = cron_job.spec.starting_deadline_seconds
    if within_deadline and deadline is not None:
        since = max(since, now - deadline)
    first = timing.next(since)
    second = timing.next(first) if first is not None else None
    if first is None or second is None or second - first < 1:
        raise InvalidSchedule("time difference between two schedules is less than 1 second")
    if now < first:
        return _Missed(since, None, 0)
    if now < second:
        return _Missed(since, first, 0)
    period = round(second - first)
    count = int(now - first) // period + 1
    # Schedules are not even: begin one period early and walk to the last.
    last, following = None, timing.next(first + (count - 2) * period)
    while following is not None and following <= now:
        last, following = following, timing.next(following)
    return _Missed(since, last, count)


def next_look_seconds(cron_job: CronJobView, timing: Timing, now: float) -> float | None:
    """Until its next time; None if there is none."""
    after = now
    try:
        missed = _missed(cron_job, timing, now, within_deadline=False)
    except InvalidSchedule:
        pass
    else:
        if missed.time is not None:
            after = missed.time
        elif missed.count == 0:
            after = missed.since
    following = timing.next(after)
    return None if following is None else max(0.0, following - now) + _MARGIN_SECONDS


class Due(msgspec.Struct, frozen=True):
    """time: of the Job to start, None for none. replace: the active Jobs have to go before."""

    time: float | None = None
    replace: bool = False
    events: list[Event] = []


def plan_start(cron_job: CronJobView, timing: Timing, now: float) -> Due:
    """Whether a Job is due. Raises InvalidSchedule."""
    missed = _missed(cron_job, timing, now, within_deadline=True)
    time = missed.time
    if time is None or time > now:
        return Due()
    events: list[Event] = []
    if missed.count > _MANY_MISSED:
        text = (
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        )
        events.append(Event("Warning", "TooManyMissedTimes", text))
    deadline = cron_job.spec.starting_deadline_seconds
    if deadline is not None and time + deadline < now:
        moment = datetime.datetime.fromtimestamp(time, datetime.UTC)
        text = f"Missed scheduled time to start a job: {moment.strftime('%a, %d %b %Y %H:%M:%S %z')}"
        return Due(events=[*events, Event("Warning", "MissSchedule", text)])
    name = job_name(cron_job, time)
    started = any(reference.name == name for reference in cron_job.status.active)
    last = cron_job.status.last_schedule_time
    if started or (last is not None and parse_rfc3339(last) == time):
        return Due(events=events)
    if cron_job.spec.concurrency_policy == "Forbid" and cron_job.status.active:
        text = "Not starting job because prior execution is running and concurrency policy is Forbid"
        return Due(events=[*events, Event("Normal", "JobAlreadyActive", text)])
    return Due(time, cron_job.spec.concurrency_policy == "Replace", events)


def job_name(cron_job: CronJobView, time: float) -> str:
    return f"{cron_job.metadata.name}-{int(time) // 60}"


def new_job(cron_job: CronJobView, time: float, zone: datetime.tzinfo) -> Object:
    """The Job of that time."""
    template = cron_job.spec.job_template
    given: Object = template.get("metadata") or {}
    moment = datetime.datetime.fromtimestamp(time, zone)
    stamp = moment.isoformat().replace("+00:00", "Z")
    metadata: Object = {
        "name": job_name(cron_job, time),
        "namespace": cron_job.metadata.namespace,
        "annotations": {**(given.get("annotations") or {}), SCHEDULED_AT: stamp},
        "ownerReferences": [owner_reference(cron_job)],
    }
    if given.get("labels"):
        metadata["labels"] = given["labels"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template.get("spec") or {}}


def with_job(status: CronJobStatusView, job: JobView, time: float) -> CronJobStatusView:
    """The status after the Job of that time has started."""
    metadata = job.metadata
    reference = JobReference(
        api_version=job.api_version,
        kind=job.kind,
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
    )
    return msgspec.structs.replace(
        status, active=[*status.active, reference], last_schedule_time=rfc3339(time)
    )


def without_job(status: CronJobStatusView, uid: str | None) -> CronJobStatusView:
    active = [reference for reference in status.active if reference.uid != uid]
    return msgspec.structs.replace(status, active=active)


class Review(msgspec.Struct, frozen=True):
    """status: after what is known of the Jobs. missing: active ones that the cache has not."""

    status: CronJobStatusView
    events: list[Event]
    missing: list[JobReference]


def review_jobs(cron_job: CronJobView, jobs: Sequence[JobView]) -> Review:
    """jobs: all that the CronJob owns."""
    status, events = cron_job.status, list[Event]()
    for job in jobs:
        name, uid, ended = job.metadata.name, job.metadata.uid, job.finished
        listed = cron_job.has_active(uid)
        if ended is None:
            if not listed:
                text = f"Saw a job that the controller did not create or forgot: {name}"
                events.append(Event("Warning", "UnexpectedJob", text))
            continue
        if listed:
            status = without_job(status, uid)
            text = f"Saw completed job: {name}, condition: {ended['type']}"
            events.append(Event("Normal", "SawCompletedJob", text))
        done = job.status.completion_time if ended["type"] == "Complete" else None
        last = status.last_successful_time
        if done is not None and (last is None or parse_rfc3339(done) > parse_rfc3339(last)):
            status = msgspec.structs.replace(status, last_successful_time=done)
    known = {job.metadata.uid for job in jobs}
    missing = [reference for reference in status.active if reference.uid not in known]
    return Review(status, events, missing)


def outdated_jobs(cron_job: CronJobView, jobs: Sequence[JobView]) -> list[JobView]:
    """Ended Jobs beyond what the history keeps, the oldest first."""
    outdated: list[JobView] = []
    for type_name, limit in (
        ("Complete", cron_job.spec.successful_jobs_history_limit),
        ("Failed", cron_job.spec.failed_jobs_history_limit),
    ):
        if limit is None:
            continue
        ended = [job for job in jobs if job.finished is not None and job.finished["type"] == type_name]
        ended = [job for job in ended if job.metadata.deletion_timestamp is None]
        ended.sort(key=lambda job: (job.status.start_time or "~", job.metadata.name))
        outdated += ended[: max(0, len(ended) - limit)]
    return outdated
