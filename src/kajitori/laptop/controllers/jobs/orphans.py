"""Takes the job's finalizer from pods whose job is gone, or has ended without them: nobody will count them."""

from __future__ import annotations

from kajitori.api.resource import JOBS, PODS
from kajitori.control.cache import Informer
from kajitori.control.controller import Key, Result
from kajitori.control.runtime import Runtime
from kajitori.laptop.controllers.jobs.controller import COMPONENT
from kajitori.laptop.controllers.jobs.situation import is_tracked
from kajitori.laptop.controllers.jobs.tracked_pods import TrackedPods
from kajitori.laptop.controllers.jobs.views import JobView
from kajitori.laptop.controllers.pods import PODS_BY_CONTROLLER, controller_index
from kajitori.laptop.controllers.views import PodView


class OrphanPods:
    """Reconciles one pod at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._jobs: Informer[JobView] = runtime.informer(JOBS, JobView)
        self._pods: Informer[PodView] = runtime.informer(
            PODS, PodView, indexers={PODS_BY_CONTROLLER: controller_index}
        )
        self._tracked = TrackedPods(runtime.client, self._pods, runtime.recorder(COMPONENT))
        controller = runtime.controller("job_orphan_pod", self.reconcile)
        controller.watch(self._pods, when=lambda old, new: new is not None and self._is_orphan(new))
        controller.watch(
            self._jobs, self._keys_of_job, when=lambda old, new: new is None or bool(new.finished)
        )

    def _keys_of_job(self, job: JobView) -> list[Key]:
        return [
            Key(pod.metadata.namespace, pod.metadata.name)
            for pod in self._pods.by_index(PODS_BY_CONTROLLER, job.metadata.uid)
        ]

    def _is_orphan(self, pod: PodView) -> bool:
        if not is_tracked(pod):
            return False
        owner = pod.metadata.controller
        if owner is None:
            return True
        if owner.kind != "Job" or owner.api_version != "batch/v1":
            return False
        job = self._jobs.get(pod.metadata.namespace, owner.name)
        if job is None or job.metadata.uid != owner.uid:
            return True
        return job.finished is not None and not job.is_foreign

    async def reconcile(self, key: Key) -> Result:
        pod = self._pods.get(*key)
        if pod is not None and self._is_orphan(pod):
            await self._tracked.free(pod)
        return None


def register(runtime: Runtime) -> None:
    OrphanPods(runtime)
