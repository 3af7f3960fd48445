"""What one look at a set leads to: Jobs made, deleted, held back and let go, and the status. Pure.

The status comes first in time. What it counts (restarts) is written before any Job of an earlier attempt is deleted,
so a controller that dies in between neither forgets nor repeats a restart: Jobs carry the attempt that they belong to,
and those of an earlier one are deleted whenever they are met.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.base.reason import Reason
from kajitori.groups.job_sets.actions import (
    Action,
    CreateClaim,
    CreateJob,
    CreateService,
    DeleteJob,
    DeleteSet,
    Event,
    Failure,
    MendService,
    Plan,
    ResumeJob,
    SuspendJob,
)
from kajitori.groups.job_sets.in_place import is_in_place, next_attempts
from kajitori.groups.job_sets.jobs import Object, claim_bodies, job_body, service_body
from kajitori.groups.job_sets.names import job_name, job_restarts, layout_of
from kajitori.groups.job_sets.observed import Job, World
from kajitori.groups.job_sets.options import options_of
from kajitori.groups.job_sets.policies import apply_failure, backoff_left_seconds, has_succeeded
from kajitori.groups.job_sets.release import given_up, is_empty
from kajitori.groups.job_sets.resume import changed_template
from kajitori.groups.job_sets.startup import may_begin, tell_order
from kajitori.groups.job_sets.status import (
    BLOCKED,
    FIELDS_NOT_HONOURED,
    Conditions,
    Numbers,
    count,
    replicated_statuses,
)
from kajitori.groups.job_sets.unsupported import fields_not_honoured

TAKEN_AGAIN_SECONDS = 30.0


def is_ours(job_set: v1.JobSet) -> bool:
    """Whether we serve this set: it says nothing of another controller, and is not on its way out."""
    return job_set.spec.managed_by in (None, "", v1.CONTROLLER_NAME) and not (
        job_set.metadata.deletion_timestamp
    )


def looks_at_pods(job_set: v1.JobSet) -> bool:
    """Whether the plan depends on the pods: on what an agent in them, or a gate before them, writes."""
    return is_in_place(job_set.spec) or options_of(job_set.metadata.annotations).gang == "Gate"


class _Jobs(msgspec.Struct):
    """The set's own Jobs: of the attempt that runs now, and of earlier ones. names: of all."""

    active: list[Job]
    succeeded: list[Job]
    failed: list[Job]
    previous: list[Job]

    @property
    def current(self) -> list[Job]:
        return [*self.active, *self.succeeded, *self.failed]

    @property
    def names(self) -> set[str]:
        return {job.name for job in (*self.current, *self.previous)}


def plan_job_set(world: World) -> Plan:
    """What to do now."""
    if not is_ours(world.set):
        return Plan(status=world.set.status)
    return _Planning(world).plan()


class _Planning:
    """One plan on its way."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._spec = world.set.spec
        self._options = options_of(world.set.metadata.annotations)
        self._conditions = Conditions(world.set.status.conditions, world.now)
        self._jobs = _sorted_out(world)
        self._numbers = count(self._spec, self._jobs.current)
        self._actions: list[Action] = []
        self._failure: Failure | None = None
        self._again: float | None = None
        self._status = msgspec.structs.replace(
            world.set.status,
            replicated_jobs_status=replicated_statuses(self._numbers, world.set.status),
        )

    def plan(self) -> Plan:
        if self._conditions.is_true(v1.COMPLETED) or self._conditions.is_true(v1.FAILED):
            self._finish()
        else:
            self._go_on()
            self._tell()
        return Plan(
            actions=self._actions,
            events=self._conditions.events,
            status=msgspec.structs.replace(self._status, conditions=self._conditions.all),
            failure=self._failure,
            again_after_seconds=self._again,
        )

    def _finish(self) -> None:
        """What still runs is stopped; Jobs that ended stay to be looked at, until the set's time is over."""
        self._delete([*self._jobs.previous, *self._jobs.active])
        seconds = self._spec.ttl_seconds_after_finished
        if seconds is None:
            return
        kind = v1.COMPLETED if self._conditions.is_true(v1.COMPLETED) else v1.FAILED
        left = self._conditions.since(kind) + seconds - self._world.now
        if left > 0:
            self._again = left
        else:
            self._actions.append(DeleteSet())

    def _go_on(self) -> None:
        self._delete(self._jobs.previous)
        if not self._spec.suspend and _all_ready(self._spec, self._numbers):
            self._conditions.set_false(v1.RESTARTING, "JobsReady", "all jobs are ready")
        if self._jobs.failed:
            self._status, self._failure = apply_failure(
                self._spec, self._status, self._jobs.failed, self._conditions
            )
            return
        if has_succeeded(self._spec, self._jobs.succeeded):
            message = "jobset completed successfully"
            self._conditions.set_true(v1.COMPLETED, "AllJobsCompleted", message)
            self._conditions.set_false(v1.RESTARTING, "JobSetCompleted", message)
            self._status = msgspec.structs.replace(self._status, terminal_state=v1.COMPLETED)
            return
        self._network()
        self._claims()
        self._create()
        if self._spec.suspend:
            self._suspend()
        else:
            released = given_up(self._world, self._options)
            self._take_back(released)
            self._resume(released)
        if is_in_place(self._spec):
            self._status = next_attempts(self._spec, self._status, self._world.pods, self._conditions)

    def _delete(self, jobs: Sequence[Job]) -> None:
        self._actions += [DeleteJob(job) for job in jobs if not job.dying]

    def _network(self) -> None:
        if not self._spec.network.enable_dns_hostnames:
            return
        body = service_body(self._world.set)
        name, wanted = body["metadata"]["name"], body["spec"]
        for service in self._world.services:
            owner = service.metadata.controller
            if service.metadata.name != name or owner is None or owner.uid != self._world.uid:
                continue
            published = service.spec.publish_not_ready_addresses
            if (service.spec.selector, published) != (wanted["selector"], wanted["publishNotReadyAddresses"]):
                self._actions.append(MendService(service, wanted))
            return
        if f"Service {name}" not in self._world.taken:
            self._actions.append(CreateService(self._owned(body)))

    def _owned(self, body: Object) -> Object:
        metadata: Object = {**body["metadata"], "ownerReferences": [self._world.owner_entry()]}
        return {**body, "metadata": metadata}

    def _claims(self) -> None:
        known = {claim.metadata.name for claim in self._world.claims}
        for body, goes_with_set in claim_bodies(self._world.set):
            name = body["metadata"]["name"]
            if name not in known and f"PersistentVolumeClaim {name}" not in self._world.taken:
                self._actions.append(CreateClaim(self._owned(body) if goes_with_set else body))

    def _create(self) -> None:
        policy = self._spec.failure_policy
        if self._jobs.previous and policy and policy.restart_strategy == "BlockingRecreate":
            return
        left = backoff_left_seconds(self._status, self._options.restart_backoff_seconds, self._world.now)
        if left > 0:
            self._again = left
            return
        layout, there = layout_of(self._spec), self._jobs.names
        foreign = {job.name for job in self._world.jobs} - there
        for replicated in may_begin(self._spec, self._numbers):
            for index in range(replicated.replicas):
                name = job_name(self._world.name, replicated.name, index)
                if name in there or name in foreign or f"Job {name}" in self._world.taken:
                    continue
                body = job_body(self._world.set, layout, replicated, index, self._options)
                self._actions.append(CreateJob(self._owned(body)))
        tell_order(self._spec, self._numbers, self._conditions)

    def _suspend(self) -> None:
        self._actions += [SuspendJob(job) for job in self._jobs.active if not job.spec.suspend]
        self._conditions.set_true(v1.SUSPENDED, "SuspendedJobs", "jobset is suspended")
        self._conditions.set_false(v1.RESTARTING, "JobSetSuspended", "jobset is suspended")

    def _take_back(self, released: dict[str, str]) -> None:
        for job in self._jobs.active:
            if job.name in released and not job.spec.suspend:
                self._actions.append(SuspendJob(job))
                message = f"pods of {job.name} are taken back and made again: {released[job.name]}"
                self._conditions.events.append(Event(reason="GangReleased", message=message, type="Warning"))

    def _resume(self, released: dict[str, str]) -> None:
        held: dict[str, list[Job]] = {}
        for job in self._jobs.active:
            if not job.spec.suspend or job.dying or job.name in released:
                continue
            held.setdefault(job.replicated, []).append(job)
        layout = layout_of(self._spec)
        for replicated in may_begin(self._spec, self._numbers):
            for job in held.get(replicated.name, ()):
                body = job_body(self._world.set, layout, replicated, job.index, self._options)
                template = changed_template(job, body["spec"]["template"])
                # A server refuses a new template while there are pods of the old one; gangs are taken back whole.
                if is_empty(job) or (template is None and self._options.gang != "Gate"):
                    self._actions.append(ResumeJob(job, template))
        self._conditions.set_false(v1.SUSPENDED, "ResumeJobs", "jobset is resumed")

    def _tell(self) -> None:
        """Conditions of our own."""
        taken = dict(self._world.taken)
        owned = self._jobs.names
        for job in self._world.jobs:
            if job.name not in owned and _is_wanted(self._spec, self._world.name, job):
                taken[f"Job {job.name}"] = "of somebody else"
        blocked = self._world.trouble
        if taken:
            names = ", ".join(f"{name} is {holder}" for name, holder in sorted(taken.items()))
            hint = "delete or rename what has the name; it is never taken over"
            blocked = Reason("NameTaken", f"names are in use: {names}", hint)
            if not self._conditions.is_true(v1.COMPLETED) and not self._conditions.is_true(v1.FAILED):
                self._again = min(self._again or TAKEN_AGAIN_SECONDS, TAKEN_AGAIN_SECONDS)
        self._conditions.tell(BLOCKED, blocked)
        self._conditions.tell(FIELDS_NOT_HONOURED, fields_not_honoured(self._world, self._options))


def _sorted_out(world: World) -> _Jobs:
    """Those that the set owns. What says nothing sensible of its attempt is of an earlier one."""
    jobs, status = _Jobs([], [], [], []), world.set.status
    replicas = {one.name: one.replicas for one in world.set.spec.replicated_jobs}
    for job in world.jobs:
        if job.owner_uid != world.uid:
            continue
        wanted = 0 <= job.index < replicas.get(job.replicated, 0)
        begun_anew = job_restarts(status, job.replicated, job.index) if wanted else 0
        if not wanted or job.attempt < status.restarts or job.own_attempt < begun_anew:
            jobs.previous.append(job)
        elif job.failed:
            jobs.failed.append(job)
        elif job.succeeded:
            jobs.succeeded.append(job)
        else:
            jobs.active.append(job)
    return jobs


def _is_wanted(spec: v1.JobSetSpec, name: str, job: Job) -> bool:
    """Whether a Job of the set would have this name."""
    for replicated in spec.replicated_jobs:
        prefix = f"{name}-{replicated.name}-"
        index = job.name.removeprefix(prefix)
        if job.name.startswith(prefix) and index.isdecimal() and int(index) < replicated.replicas:
            return True
    return False


def _all_ready(spec: v1.JobSetSpec, numbers: dict[str, Numbers]) -> bool:
    wanted = sum(replicated.replicas for replicated in spec.replicated_jobs)
    return wanted == sum(of.ready + of.succeeded for of in numbers.values())
