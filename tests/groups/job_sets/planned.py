"""A cluster in dicts, for plans: it does what a plan asks, and its Jobs do what a test asks."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import msgspec

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.base.clock import rfc3339
from kajitori.groups.job_sets import actions
from kajitori.groups.job_sets.actions import Plan
from kajitori.groups.job_sets.blame import restart_entry, with_entry
from kajitori.groups.job_sets.controller import status_patch
from kajitori.groups.job_sets.observed import Claim, Job, Pod, Service, World
from kajitori.groups.job_sets.plan import plan_job_set
from kajitori.groups.job_sets.status import same_status

Object = dict[str, Any]


def replicated(name: str, replicas: int = 1, pods: int = 1, **fields: Any) -> Object:
    """A replicated job. fields: `job={...}` of the Job's spec (None: left out), `pod={...}` of the pod's; others its own.

    meta, marks: metadata of the Job's template and of the pod's.
    """
    pod = {"containers": [{"name": "worker", "image": "busybox:1"}], **fields.pop("pod", {})}
    spec = {
        "parallelism": pods,
        "completions": pods,
        "backoffLimit": 0,
        **fields.pop("job", {}),
        "template": {"metadata": fields.pop("marks", {}), "spec": pod},
    }
    spec = {key: value for key, value in spec.items() if value is not None}
    return {
        "name": name,
        "replicas": replicas,
        "template": {"metadata": fields.pop("meta", {}), "spec": spec},
        **fields,
    }


def job_set(*jobs: Object, name: str = "x", annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations or {}},
        "spec": {"replicatedJobs": list(jobs), **spec},
    }


class Planned:
    """One set and its Jobs; `look` plans once and does what the plan asks for."""

    def __init__(self, manifest: Object) -> None:
        self.set = copy.deepcopy(manifest)
        self.set["metadata"]["uid"] = "set-uid"
        self.jobs: dict[str, Object] = {}
        self.services: dict[str, Object] = {}
        self.claims: dict[str, Object] = {}
        self.pods: list[Object] = []
        self.gone = False
        self.now = 1_000_000_000.0
        self.events: list[tuple[str, str]] = []
        self.created: list[str] = []
        self._uids = itertools.count(1)

    def world(self) -> World:
        jobs = [msgspec.convert(job, Job) for job in self.jobs.values()]
        return World(
            set=msgspec.convert(self.set, v1.JobSet),
            jobs=jobs,
            services=[msgspec.convert(one, Service) for one in self.services.values()],
            claims=[msgspec.convert(one, Claim) for one in self.claims.values()],
            pods=[msgspec.convert(one, Pod) for one in self.pods],
            now=self.now,
        )

    def plan(self) -> Plan:
        return plan_job_set(self.world())

    def look(self) -> Plan:
        """One reconcile, as the controller does it."""
        world = self.world()
        plan = plan_job_set(world)
        if plan.failure is not None and plan.failure.restarts:
            entry = restart_entry(plan.failure, world.pods, self.now)
            history = with_entry(plan.status.restart_history, entry)
            plan = msgspec.structs.replace(
                plan, status=msgspec.structs.replace(plan.status, restart_history=history)
            )
        for action in plan.actions:
            self._do(action)
        if not same_status(world.set.status, plan.status):
            written = status_patch(plan.status)
            self.set["status"] = {key: value for key, value in written.items() if value is not None}
        self.events += [(event.reason, event.message) for event in plan.events]
        return plan

    def settle(self, rounds: int = 30) -> Planned:
        """Look until nothing is asked for any more; what is deleted is gone at the next look."""
        for _ in range(rounds):
            before = copy.deepcopy(self.set.get("status"))
            plan = self.look()
            dying = [name for name, job in self.jobs.items() if "deletionTimestamp" in job["metadata"]]
            for name in dying:
                del self.jobs[name]
            if not plan.actions and not dying and before == self.set.get("status"):
                return self
        raise AssertionError("never settles")

    def _do(self, action: actions.Action) -> None:
        match action:
            case actions.CreateJob(body):
                name = body["metadata"]["name"]
                assert name not in self.jobs, f"{name} is made twice"
                body["metadata"]["uid"] = f"job-{next(self._uids)}"
                self.jobs[name] = body
                self.created.append(name)
            case actions.DeleteJob(job):
                self.jobs[job.name]["metadata"]["deletionTimestamp"] = rfc3339(self.now)
            case actions.SuspendJob(job):
                self.jobs[job.name]["spec"]["suspend"] = True
            case actions.ResumeJob(job, template):
                spec = self.jobs[job.name]["spec"]
                spec["suspend"] = False
                if template is not None:
                    spec["template"]["metadata"] |= template["metadata"]
                    for key, value in template["spec"].items():
                        spec["template"]["spec"][key] = value
            case actions.CreateService(body):
                self.services[body["metadata"]["name"]] = body
            case actions.MendService(service, spec):
                self.services[service.metadata.name]["spec"] |= spec
            case actions.CreateClaim(body):
                self.claims[body["metadata"]["name"]] = body
            case actions.DeleteSet():
                self.gone = True

    # What Jobs do

    def ready(self, *names: str) -> Planned:
        for name in names or list(self.jobs):
            job = self.jobs[name]
            if "conditions" not in job.get("status", {}):
                job["status"] = {"ready": job["spec"]["parallelism"], "active": job["spec"]["parallelism"]}
        return self

    def complete(self, *names: str) -> Planned:
        for name in names:
            self._end(name, "Complete", "CompletionsReached", "")
        return self

    def fail(self, name: str, reason: str = "BackoffLimitExceeded", message: str = "too often") -> Planned:
        self._end(name, "Failed", reason, message)
        return self

    def _end(self, name: str, kind: str, reason: str, message: str) -> None:
        self.now += 1
        condition = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": rfc3339(self.now),
        }
        self.jobs[name]["status"] = {"conditions": [condition]}

    # What tests look at

    @property
    def status(self) -> Object:
        return self.set.get("status", {})

    def condition(self, kind: str) -> str:
        """Its status, empty if it is not there."""
        return next((one["status"] for one in self.status.get("conditions", ()) if one["type"] == kind), "")

    def why(self, kind: str) -> str:
        found = [one for one in self.status.get("conditions", ()) if one["type"] == kind]
        return f"{found[0]['reason']}: {found[0]['message']}" if found else ""

    def numbers(self, name: str) -> Object:
        return next(one for one in self.status["replicatedJobsStatus"] if one["name"] == name)

    def labels(self, name: str) -> dict[str, str]:
        labels = self.jobs[name]["metadata"]["labels"]
        return {key.rpartition("/")[2]: value for key, value in labels.items()}

    def pod(self, name: str) -> Object:
        return self.jobs[name]["spec"]["template"]

    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.events]
