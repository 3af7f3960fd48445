"""The controller of JobSets: looks, asks the plan, writes the status, carries the plan out.

Reads come from caches that hold only what has a set's name on it; pods are watched only once a set restarts them in
place or holds them at a gate, and listed when a Job has failed. A status is written with the version that it was decided on, so a restart that
was decided on an outdated look is refused, not counted.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.api.resource import JOB_SETS, JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES
from kajitori.base.errors import ApiError, Conflict, Forbidden, Invalid, NotFound
from kajitori.base.reason import Reason
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Controller, Key, Result
from kajitori.control.gate import Gate
from kajitori.control.runtime import Runtime
from kajitori.groups.job_sets.actions import Event, Plan
from kajitori.groups.job_sets.blame import restart_entry, sentence, with_entry
from kajitori.groups.job_sets.execution import Execution, Informers
from kajitori.groups.job_sets.observed import Claim, Job, Pod, Service, World
from kajitori.groups.job_sets.plan import is_ours, looks_at_pods, plan_job_set
from kajitori.groups.job_sets.release import JOB_NAME_LABEL
from kajitori.groups.job_sets.status import same_status
from kajitori.groups.late_cache import filled
from kajitori.groups.names_in_use import NamesInUse

COMPONENT = "kajitori.dev/job-sets"
WORKERS = 4
# Nobody tells us that a quota, a policy or a rule of a definition no longer stands in the way.
LONGEST_BACKOFF_SECONDS = 60.0
# A set of many Jobs changes many times a second: looking at a thousand of them at most ten times a second keeps the
# work in proportion to the Jobs.
JOBS_LOOKED_AT_PER_SECOND = 10_000


class JobSetController:
    """Reconciles one JobSet at a time and key. gate: closed while another controller serves the kind."""

    def __init__(self, runtime: Runtime, gate: Gate) -> None:
        self._runtime = runtime
        self._gate = gate
        self._client = runtime.client
        self._clock = runtime.clock
        self._recorder = runtime.recorder(COMPONENT)
        self._names: dict[Key, NamesInUse] = {}
        self._pods: Informer[Pod] | None = None
        by_set = {"set": _set_of}
        self._sets = runtime.informer(JOB_SETS, v1.JobSet, optional=True)
        self._informers = Informers(
            jobs=runtime.informer(JOBS, Job, label_selector=v1.JOB_SET_NAME, indexers=by_set),
            services=runtime.informer(SERVICES, Service, label_selector=v1.JOB_SET_NAME, indexers=by_set),
            claims=runtime.informer(
                PERSISTENT_VOLUME_CLAIMS,
                Claim,
                label_selector=v1.JOB_SET_NAME,
                indexers=by_set,
                metadata_only=True,
            ),
        )
        self._controller = runtime.controller(
            "jobset", self.reconcile, workers=WORKERS, longest_backoff_seconds=LONGEST_BACKOFF_SECONDS
        )
        self._controller.watch(self._sets)
        self._controller.watch(self._informers.jobs, _keys)
        self._controller.watch(self._informers.services, _keys)
        self._controller.watch(self._informers.claims, _keys)
        gate.on_change(lambda: self._begin_again(self._controller))

    def _begin_again(self, controller: Controller) -> None:
        """What others did with the sets meanwhile is for the plan to find out."""
        self._names.clear()
        for job_set in self._sets.list():
            controller.enqueue(Key(job_set.metadata.namespace or "", job_set.metadata.name or ""))

    async def reconcile(self, key: Key) -> Result:
        """One look at one set."""
        if self._gate.closed is not None:
            return None
        index = f"{key.namespace}/{key.name}"
        if jobs := len(self._informers.jobs.by_index("set", index)):
            await asyncio.sleep(jobs / JOBS_LOOKED_AT_PER_SECOND)
        job_set = self._sets.get(*key)
        if job_set is None:
            self._names.pop(key, None)
            return None
        if not is_ours(job_set):
            return None
        names = self._names.get(key)
        if names is None or names.uid != job_set.metadata.uid:
            names = self._names[key] = NamesInUse(job_set.metadata.uid or "")
        world = self._look(job_set, index, names)
        try:
            if looks_at_pods(job_set):
                world = msgspec.structs.replace(world, pods=await self._pods_of(index))
            plan = await self._with_blame(world, plan_job_set(world))
            if plan.failure is not None:
                await self._write_status(job_set, plan)
            await Execution(self._client, self._informers, world, names).carry_out(plan)
        except ApiError as error:
            await self._report(world, error)
            raise
        if plan.failure is None:
            taken = names.fresh(world.now)
            if taken != world.taken:
                # Names were found in use on the way.
                plan = plan_job_set(msgspec.structs.replace(world, taken=taken))
            await self._write_status(job_set, plan)
        return After(plan.again_after_seconds) if plan.again_after_seconds is not None else None

    def _look(self, job_set: v1.JobSet, index: str, names: NamesInUse) -> World:
        now = self._clock.now()
        return World(
            set=job_set,
            jobs=self._informers.jobs.by_index("set", index),
            services=self._informers.services.by_index("set", index),
            claims=self._informers.claims.by_index("set", index),
            now=now,
            taken=names.fresh(now),
        )

    async def _pods_of(self, index: str) -> list[Pod]:
        """From a cache that is filled when the first set needs it."""
        if self._pods is None:
            self._pods = self._runtime.informer(
                PODS, Pod, label_selector=v1.JOB_SET_NAME, indexers={"set": _set_of}, optional=True
            )
            self._controller.watch(self._pods, _keys)
        return (await filled(self._pods)).by_index("set", index)

    async def _with_blame(self, world: World, plan: Plan) -> Plan:
        """The plan, with what is known of a failure's cause in its events and in the history."""
        if plan.failure is None:
            return plan
        name = plan.failure.job.name
        found = await self._client.list(
            PODS, world.namespace, label_selector=f"{JOB_NAME_LABEL}={name}", type=Pod
        )
        entry = restart_entry(plan.failure, found.items, world.now)
        cause = sentence(entry)
        events = [
            msgspec.structs.replace(event, message=f"{event.message}: {cause}")
            if event.blamed and cause
            else event
            for event in plan.events
        ]
        history = plan.status.restart_history
        if plan.failure.restarts:
            history = with_entry(history, entry)
        status = msgspec.structs.replace(plan.status, restart_history=history)
        return msgspec.structs.replace(plan, events=events, status=status)

    async def _say(self, job_set: v1.JobSet, events: list[Event]) -> None:
        for event in events:
            await self._recorder.record(
                job_set, event.reason, event.message, type=event.type, action="Reconciling"
            )

    async def _report(self, world: World, error: ApiError) -> None:
        """A refused request goes into the status, where its author looks."""
        if isinstance(error, Conflict) or not isinstance(error, Forbidden | Invalid):
            return
        trouble = Reason(_what_failed(error), error.message, error.hint)
        plan = plan_job_set(msgspec.structs.replace(world, trouble=trouble))
        await self._write_status(world.set, plan)

    async def _write_status(self, job_set: v1.JobSet, plan: Plan) -> None:
        """And say what changed. Raises Conflict if the set is not any more what was looked at."""
        if not same_status(job_set.status, plan.status):
            metadata = {"uid": job_set.metadata.uid, "resourceVersion": job_set.metadata.resource_version}
            try:
                written = await self._client.patch(
                    JOB_SETS,
                    job_set.metadata.name or "",
                    {"metadata": metadata, "status": status_patch(plan.status)},
                    namespace=job_set.metadata.namespace,
                    subresource="status",
                    type=v1.JobSet,
                )
            except NotFound:
                # Deleted meanwhile.
                return
            self._sets.remember(written)
        await self._say(job_set, plan.events)


def _what_failed(error: ApiError) -> str:
    """The word that upstream's events have for it. A refusal names the kind in the singular or in the plural."""
    kind = str(error.details.get("kind", "")).lower()
    known = {"service": "HeadlessServiceCreationFailed", "persistentvolumeclaim": "PVCCreationFailed"}
    return known.get(kind.removesuffix("s"), "JobCreationFailed")


def status_patch(status: v1.JobSetStatus) -> dict[str, Any]:
    """With its zeros written out: in a merge patch a field that is left out keeps its old value."""
    patch = {
        "conditions": msgspec.to_builtins(status.conditions),
        "restarts": status.restarts,
        "restartsCountTowardsMax": status.restarts_count_towards_max or None,
        "terminalState": status.terminal_state or None,
        "replicatedJobsStatus": msgspec.to_builtins(status.replicated_jobs_status),
        "previousInPlaceRestartAttempt": status.previous_in_place_restart_attempt,
        "currentInPlaceRestartAttempt": status.current_in_place_restart_attempt,
    }
    if status.restart_history:
        # Upstream's definition does not know it.
        patch["restartHistory"] = msgspec.to_builtins(status.restart_history)
    return patch


def _set_of(obj: Job | Service | Claim | Pod) -> list[str]:
    name = obj.metadata.labels.get(v1.JOB_SET_NAME)
    return [f"{obj.metadata.namespace}/{name}"] if name else []


def _keys(obj: Job | Service | Claim | Pod) -> list[Key]:
    name = obj.metadata.labels.get(v1.JOB_SET_NAME)
    return [Key(obj.metadata.namespace, name)] if name else []


def register(runtime: Runtime, gate: Gate | None = None) -> None:
    """Add the controller to a runtime."""
    JobSetController(runtime, gate or Gate())
