"""The CronJob controller: follows its plan, makes and deletes Jobs, writes status.

It looks at a CronJob when that or one of its Jobs changes, and at each of its times.
"""

from __future__ import annotations

import msgspec

from kajitori.api.resource import CRON_JOBS, JOBS
from kajitori.base.cron import InvalidSchedule, parse_schedule
from kajitori.base.errors import AlreadyExists, ApiError, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result, keys_of_owner
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.cron_jobs import plan
from kajitori.laptop.controllers.cron_jobs.plan import Event, Timing
from kajitori.laptop.controllers.cron_jobs.views import CronJobStatusView, CronJobView
from kajitori.laptop.controllers.cron_jobs.zones import zone_named
from kajitori.laptop.controllers.jobs.views import JobView
from kajitori.laptop.controllers.pods import controller_index

COMPONENT = "cronjob-controller"
JOBS_BY_CONTROLLER = "controller"


class CronJobs:
    """Reconciles one CronJob at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._recorder = runtime.recorder(COMPONENT)
        self._schedules: dict[Key, tuple[str, str, str | None]] = {}
        self._cron_jobs: Informer[CronJobView] = runtime.informer(CRON_JOBS, CronJobView)
        self._jobs: Informer[JobView] = runtime.informer(
            JOBS, JobView, indexers={JOBS_BY_CONTROLLER: controller_index}
        )
        controller = runtime.controller("cronjob", self.reconcile, workers=2)
        controller.watch(self._cron_jobs)
        controller.watch(self._jobs, keys_of_owner("CronJob", "batch"))

    async def reconcile(self, key: Key) -> Result:
        cron_job = self._cron_jobs.get(*key)
        if cron_job is None:
            self._schedules.pop(key, None)
            return None
        jobs = self._jobs.by_index(JOBS_BY_CONTROLLER, cron_job.metadata.uid)
        before = cron_job.status
        cron_job = await self._remove_outdated(cron_job, jobs)
        cron_job = await self._review(cron_job, jobs)
        after: float | None = None
        try:
            if cron_job.metadata.deletion_timestamp is None:
                cron_job, after = await self._start_if_due(key, cron_job)
        finally:
            # What was done before something failed is noted all the same.
            await self._write_status(cron_job, before)
        return After(after) if after is not None else None

    async def _remove_outdated(self, cron_job: CronJobView, jobs: list[JobView]) -> CronJobView:
        status = cron_job.status
        for job in plan.outdated_jobs(cron_job, jobs):
            if await self._delete_job(cron_job, job):
                status = plan.without_job(status, job.metadata.uid)
        return msgspec.structs.replace(cron_job, status=status)

    async def _delete_job(self, cron_job: CronJobView, job: JobView) -> bool:
        """Whether it is gone or going; its pods follow."""
        name = job.metadata.name
        try:
            left = await self._client.delete(
                JOBS, name, job.metadata.namespace, propagation_policy="Background"
            )
        except ApiError as error:
            await self._tell(cron_job, Event("Warning", "FailedDelete", f"Deleted job: {error.message}"))
            return isinstance(error, NotFound)
        if left is None:
            self._jobs.forget(job)
        await self._tell(cron_job, Event("Normal", "SuccessfulDelete", f"Deleted job {name}"))
        return True

    async def _review(self, cron_job: CronJobView, jobs: list[JobView]) -> CronJobView:
        """With the status that its Jobs ask for."""
        review = plan.review_jobs(cron_job, jobs)
        for event in review.events:
            await self._tell(cron_job, event)
        status = review.status
        for reference in review.missing:
            # The cache may only be late.
            if await self._get_job(reference.namespace, reference.name) is None:
                text = f"Active job went missing: {reference.name}"
                await self._tell(cron_job, Event("Normal", "MissingJob", text))
                status = plan.without_job(status, reference.uid)
        return msgspec.structs.replace(cron_job, status=status)

    async def _get_job(self, namespace: str | None, name: str | None) -> JobView | None:
        try:
            return await self._client.get(JOBS, name or "", namespace, type=JobView)
        except NotFound:
            return None

    async def _start_if_due(self, key: Key, cron_job: CronJobView) -> tuple[CronJobView, float | None]:
        """The CronJob as it is then, and when to look again."""
        spec = cron_job.spec
        try:
            zone = zone_named(spec.time_zone)
        except ValueError as error:
            text = f'invalid timeZone: "{spec.time_zone}": {error}'
            await self._tell(cron_job, Event("Warning", "UnknownTimeZone", text))
            return cron_job, None
        if spec.suspend:
            return cron_job, None
        try:
            timing = Timing(parse_schedule(spec.schedule), zone)
        except InvalidSchedule as error:
            text = f'unparseable schedule: "{spec.schedule}" : {error}'
            await self._tell(cron_job, Event("Warning", "UnparseableSchedule", text))
            return cron_job, None
        now = self._clock.now()
        if self._is_rescheduled(key, cron_job):
            # Times that the new schedule had before it was given are nobody's.
            return cron_job, plan.next_look_seconds(cron_job, timing, now)
        try:
            due = plan.plan_start(cron_job, timing, now)
        except InvalidSchedule as error:
            text = f"invalid schedule: {spec.schedule} : {error}"
            await self._tell(cron_job, Event("Warning", "InvalidSchedule", text))
            return cron_job, None
        for event in due.events:
            await self._tell(cron_job, event)
        if due.time is not None:
            if due.replace:
                cron_job = await self._remove_active(cron_job)
            cron_job = await self._start(cron_job, due.time, timing)
        return cron_job, plan.next_look_seconds(cron_job, timing, now)

    def _is_rescheduled(self, key: Key, cron_job: CronJobView) -> bool:
        """Whether this CronJob had another schedule when it was looked at before."""
        present = (cron_job.metadata.uid, cron_job.spec.schedule, cron_job.spec.time_zone)
        known = self._schedules.get(key)
        self._schedules[key] = present
        return known is not None and known[0] == present[0] and known != present

    async def _remove_active(self, cron_job: CronJobView) -> CronJobView:
        status = cron_job.status
        for reference in cron_job.status.active:
            job = await self._get_job(reference.namespace, reference.name)
            if job is None or await self._delete_job(cron_job, job):
                status = plan.without_job(status, reference.uid)
        return msgspec.structs.replace(cron_job, status=status)

    async def _start(self, cron_job: CronJobView, time: float, timing: Timing) -> CronJobView:
        """Make the Job of that time, unless it is there already."""
        body = plan.new_job(cron_job, time, timing.zone)
        try:
            job = await self._client.create(JOBS, body, type=JobView)
        except AlreadyExists:
            known = await self._get_job(cron_job.metadata.namespace, body["metadata"]["name"])
            owner = known.metadata.controller if known is not None else None
            if known is None or owner is None or owner.uid != cron_job.metadata.uid:
                return cron_job
            # Made in an earlier look whose status was not written.
            job = known
        except ApiError as error:
            if not any(cause.get("reason") == "NamespaceTerminating" for cause in error.causes):
                text = f"Error creating job: {error.message}"
                await self._tell(cron_job, Event("Warning", "FailedCreate", text))
            raise
        else:
            text = f"Created job {job.metadata.name}"
            await self._tell(cron_job, Event("Normal", "SuccessfulCreate", text))
        self._jobs.remember(job)
        if cron_job.has_active(job.metadata.uid):
            return cron_job
        return msgspec.structs.replace(cron_job, status=plan.with_job(cron_job.status, job, time))

    async def _write_status(self, cron_job: CronJobView, before: CronJobStatusView) -> None:
        if cron_job.status == before:
            return
        patch: Object = {
            "metadata": {"resourceVersion": cron_job.metadata.resource_version},
            "status": msgspec.to_builtins(cron_job.status),
        }
        patch["status"]["active"] = patch["status"]["active"] or None
        try:
            stored = await self._client.patch(
                CRON_JOBS,
                cron_job.metadata.name,
                patch,
                namespace=cron_job.metadata.namespace,
                subresource="status",
                type=CronJobView,
            )
        except NotFound:
            return
        self._cron_jobs.remember(stored)

    async def _tell(self, cron_job: CronJobView, event: Event) -> None:
        level = "Warning" if event.type == "Warning" else "Normal"
        await self._recorder.record(cron_job, event.reason, event.message, type=level)


def register(runtime: Runtime) -> None:
    CronJobs(runtime)
