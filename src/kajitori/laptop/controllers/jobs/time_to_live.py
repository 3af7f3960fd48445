"""Deletes jobs with `ttlSecondsAfterFinished` so long after their end, with their pods.

Source: Kubernetes' documentation of automatic cleanup for finished Jobs.
"""

from __future__ import annotations

from kajitori.api.resource import JOBS
from kajitori.base.clock import parse_rfc3339
from kajitori.base.errors import NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result
from kajitori.control.runtime import Runtime
from kajitori.laptop.controllers.jobs.views import JobView


def seconds_left(job: JobView, now: float) -> float | None:
    """Until the job shall go; None if it stays."""
    ended, limit = job.finished, job.spec.ttl_seconds_after_finished
    if ended is None or limit is None or job.metadata.deletion_timestamp is not None:
        return None
    return parse_rfc3339(ended["lastTransitionTime"]) + limit - now


class TimeToLive:
    """Reconciles one Job at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._jobs: Informer[JobView] = runtime.informer(JOBS, JobView)
        controller = runtime.controller("ttl_jobs_to_delete", self.reconcile)
        controller.watch(
            self._jobs, when=lambda old, new: new is not None and seconds_left(new, 0.0) is not None
        )

    async def reconcile(self, key: Key) -> Result:
        job = self._jobs.get(*key)
        left = seconds_left(job, self._clock.now()) if job is not None else None
        if left is None:
            return None
        if left > 0:
            return After(left)
        try:
            # What the cache knows may be outdated: the time may have been prolonged.
            live = await self._client.get(JOBS, key.name, key.namespace, type=JobView)
            left = seconds_left(live, self._clock.now())
            if left is not None and left <= 0:
                await self._client.delete(
                    JOBS,
                    key.name,
                    key.namespace,
                    propagation_policy="Foreground",
                    preconditions_uid=live.metadata.uid,
                )
        except NotFound:
            return None
        return After(left) if left is not None and left > 0 else None


def register(runtime: Runtime) -> None:
    TimeToLive(runtime)
