"""The Job controller: reads the cache, follows its plans, makes and deletes pods, counts them, writes status.

Every status is written with the version that it was decided on, so a decision on an outdated look is refused and
made again.
"""

from __future__ import annotations

import asyncio

import msgspec

from kajitori.api.resource import JOBS, PODS
from kajitori.base.errors import ApiError, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result, keys_of_owner
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers import ownership
from kajitori.laptop.controllers.jobs import plan, tracking
from kajitori.laptop.controllers.jobs.backoff import BackoffRecord
from kajitori.laptop.controllers.jobs.situation import Situation, deadline_seconds, observe
from kajitori.laptop.controllers.jobs.tracked_pods import TrackedPods, is_namespace_going
from kajitori.laptop.controllers.jobs.views import JobStatusView, JobView
from kajitori.laptop.controllers.ownership import would_adopt
from kajitori.laptop.controllers.pods import PODS_BY_CONTROLLER, claim_pods, controller_index
from kajitori.laptop.controllers.views import PodView
from kajitori.model.selection import is_empty

COMPONENT = "job-controller"
# A look costs in proportion to the pods, and each of many pods asks for one.
_SECONDS_A_POD = 5e-4
_SHORTEST_WAIT_SECONDS = 0.01


class _Outcome(msgspec.Struct):
    """What was done in this look. problem: what kept the rest from being done."""

    deleted: int = 0
    deleted_ready: int = 0
    created: int = 0
    wait_seconds: float = 0.0
    problem: ApiError | None = None


class Jobs:
    """Reconciles one Job at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._recorder = runtime.recorder(COMPONENT)
        self._looked: dict[Key, float] = {}
        self._records: dict[Key, tuple[str, BackoffRecord]] = {}
        self._jobs: Informer[JobView] = runtime.informer(JOBS, JobView)
        self._pods: Informer[PodView] = runtime.informer(
            PODS, PodView, indexers={PODS_BY_CONTROLLER: controller_index}
        )
        self._tracked = TrackedPods(self._client, self._pods, self._recorder)
        controller = runtime.controller("job", self.reconcile, workers=4)
        controller.watch(self._jobs)
        controller.watch(self._pods, keys_of_owner("Job", "batch"))
        controller.watch(self._pods, self._may_adopt, when=lambda old, new: new is not None)

    def _may_adopt(self, pod: PodView) -> list[Key]:
        return would_adopt(self._jobs.list(pod.metadata.namespace), pod)

    async def reconcile(self, key: Key) -> Result:
        job = self._jobs.get(*key)
        if job is None or job.is_foreign or job.finished is not None:
            self._records.pop(key, None)
            self._looked.pop(key, None)
            return None
        now = asyncio.get_running_loop().time()
        pods = len(self._pods.by_index(PODS_BY_CONTROLLER, job.metadata.uid))
        wait = self._looked.get(key, float("-inf")) + pods * _SECONDS_A_POD - now
        if wait > _SHORTEST_WAIT_SECONDS:
            return After(wait)
        self._looked[key] = now
        try:
            return await self._sync(key, job)
        except NotFound:
            # The job went while it was looked at; its deletion brings the key again.
            return None

    async def _sync(self, key: Key, job: JobView) -> Result:
        pods, now = await self._claim(job), self._clock.now()
        uid, record = self._records.get(key, ("", BackoffRecord()))
        if uid != job.metadata.uid:
            record = BackoffRecord()
        situation = observe(job, pods, record, now)
        status, ending = plan.started(job, now), situation.ending
        if ending is not None:
            outcome = await self._end(job, situation)
            if outcome.problem is not None:
                ending = None
        else:
            outcome = await self._scale(job, situation, pods, now)
        active = len(situation.active) - outcome.deleted + outcome.created
        if situation.ending is None:
            ending = plan.completion(job, situation, active, now)
            if ending is None and job.metadata.deletion_timestamp is None:
                status = await self._suspend_or_resume(job, status, now)
        status = msgspec.structs.replace(
            status,
            active=active,
            ready=situation.ready - outcome.deleted_ready,
            terminating=situation.terminating + outcome.deleted,
        )
        job = await self._track(key, job, status, pods, situation, ending)
        if outcome.problem is not None and not is_namespace_going(outcome.problem):
            raise outcome.problem
        waits = [wait for wait in (outcome.wait_seconds, deadline_seconds(job, now) or 0.0) if wait > 0]
        return After(min(waits) + 0.05) if waits and job.finished is None else None

    async def _claim(self, job: JobView) -> list[PodView]:
        """The job's pods, after taking those that fit and letting go of those that do not."""
        candidates = self._pods.by_index(PODS_BY_CONTROLLER, job.metadata.uid)
        if is_empty(job.spec.selector):
            return candidates
        candidates += self._pods.by_index(PODS_BY_CONTROLLER, f"none/{job.metadata.namespace}")
        claims = claim_pods(job, job.spec.selector, candidates, adoptable=lambda pod: True)
        for pod in claims.release:
            await self._tracked.let_go(job, pod)
        mine = claims.mine
        if claims.adopt and await ownership.still_there(self._client, JOBS, job):
            adopted = [await self._tracked.adopt(job, pod) for pod in claims.adopt]
            mine += [pod for pod in adopted if pod is not None]
        return mine

    async def _end(self, job: JobView, situation: Situation) -> _Outcome:
        """Delete what still runs; the finalizers stay until the pods are counted."""
        outcome = _Outcome()
        for pod in situation.active:
            try:
                await self._tracked.delete(job, pod)
            except ApiError as error:
                outcome.problem = error
                continue
            outcome.deleted += 1
            outcome.deleted_ready += pod.is_ready
        return outcome

    async def _scale(self, job: JobView, situation: Situation, pods: list[PodView], now: float) -> _Outcome:
        outcome = _Outcome()
        if job.metadata.deletion_timestamp is not None:
            return outcome
        scaling = plan.plan_scaling(job, situation, pods, now)
        outcome.wait_seconds = scaling.wait_seconds
        try:
            for pod in scaling.delete:
                # Not one that failed: it leaves without being counted.
                await self._tracked.free(pod)
                await self._tracked.delete(job, pod)
                outcome.deleted += 1
                outcome.deleted_ready += pod.is_ready
            for index in scaling.create:
                replaced = situation.waiting.get(index) if index is not None else None
                await self._tracked.create(job, index, replaced)
                outcome.created += 1
        except ApiError as error:
            outcome.problem = error
        return outcome

    async def _suspend_or_resume(self, job: JobView, status: JobStatusView, now: float) -> JobStatusView:
        status, reason = plan.with_suspension(job, status, now)
        if reason:
            await self._recorder.record(job, reason, f"Job {reason.lower()}")
        return status

    async def _track(
        self,
        key: Key,
        job: JobView,
        status: JobStatusView,
        pods: list[PodView],
        situation: Situation,
        ending: Object | None,
    ) -> JobView:
        """Count the pods that ended; returns the job as it is then. Raises what kept a finalizer from going."""
        planned = tracking.plan_tracking(job, status, pods, situation, ending, self._clock.now())
        if planned.status != job.status:
            job = await self._write_status(job, planned.status)
            self._records[key] = (job.metadata.uid, situation.record)
        held, problem = set(planned.held), None
        for pod in planned.release:
            try:
                await self._tracked.free(pod)
                held.discard(pod.metadata.uid)
            except ApiError as error:
                problem = error
        status = tracking.counted(planned.status, held)
        ended = tracking.finished(status, planned.final) if planned.is_whole and problem is None else None
        if (ended or status) != planned.status:
            job = await self._write_status(job, ended or status)
        if problem is not None:
            raise problem
        if ended is not None and planned.final is not None:
            await self._tell_finished(job, planned.final)
        return job

    async def _write_status(self, job: JobView, status: JobStatusView) -> JobView:
        patch = {
            "metadata": {"resourceVersion": job.metadata.resource_version},
            "status": status_patch(status),
        }
        stored = await self._client.patch(
            JOBS,
            job.metadata.name,
            patch,
            namespace=job.metadata.namespace,
            subresource="status",
            type=JobView,
        )
        self._jobs.remember(stored)
        return stored

    async def _tell_finished(self, job: JobView, final: Object) -> None:
        if final["type"] == "Failed":
            await self._recorder.record(job, final["reason"], final["message"], type="Warning")
            return
        if job.spec.completions is not None and job.status.succeeded > job.spec.completions:
            text = "Too many succeeded pods running after completion count reached"
            await self._recorder.record(job, "TooManySucceededPods", text, type="Warning")
        await self._recorder.record(job, "Completed", "Job completed")


def status_patch(status: JobStatusView) -> Object:
    """The merge patch that makes the stored status this one: what is empty goes, as it does on the wire."""
    patch: Object = msgspec.to_builtins(status)
    for field in ("active", "succeeded", "failed", "completedIndexes"):
        patch[field] = patch[field] or None
    uncounted = status.uncounted_terminated_pods
    patch["uncountedTerminatedPods"] = {
        "succeeded": uncounted.succeeded or None,
        "failed": uncounted.failed or None,
    }
    return patch


def register(runtime: Runtime) -> None:
    Jobs(runtime)
