"""What the job controllers read of a Job, and small facts about one."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.laptop.controllers.views import View

Object = dict[str, Any]

OWN_NAME = "kubernetes.io/job-controller"


class UncountedView(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """Uids of pods that have ended and are not in the counts yet."""

    succeeded: list[str] = []
    failed: list[str] = []


class JobSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    parallelism: int = 1
    completions: int | None = None
    active_deadline_seconds: int | None = None
    backoff_limit: int = 6
    backoff_limit_per_index: int | None = None
    max_failed_indexes: int | None = None
    pod_failure_policy: Object | None = None
    success_policy: Object | None = None
    completion_mode: str = "NonIndexed"
    suspend: bool = False
    selector: LabelSelector = LabelSelector()
    pod_replacement_policy: str = "TerminatingOrFailed"
    ttl_seconds_after_finished: int | None = None
    managed_by: str | None = None
    template: Object = {}


class JobStatusView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    active: int = 0
    ready: int | None = None
    terminating: int | None = None
    succeeded: int = 0
    failed: int = 0
    start_time: str | None = None
    completion_time: str | None = None
    completed_indexes: str = ""
    failed_indexes: str | None = None
    uncounted_terminated_pods: UncountedView = UncountedView()
    conditions: list[Object] = []


class JobView(View, frozen=True, kw_only=True):
    kind: str = "Job"
    api_version: str = "batch/v1"
    spec: JobSpecView = JobSpecView()
    status: JobStatusView = JobStatusView()

    @property
    def is_indexed(self) -> bool:
        return self.spec.completion_mode == "Indexed"

    @property
    def is_foreign(self) -> bool:
        """Some other controller looks after it."""
        return self.spec.managed_by is not None and self.spec.managed_by != OWN_NAME

    @property
    def replaces_failed_only(self) -> bool:
        """A pod that is still ending is not replaced yet."""
        return self.spec.pod_replacement_policy == "Failed" or self.spec.pod_failure_policy is not None

    def condition(self, type_name: str) -> Object | None:
        """The condition if it is true."""
        for condition in self.status.conditions:
            if condition.get("type") == type_name and condition.get("status") == "True":
                return condition
        return None

    @property
    def finished(self) -> Object | None:
        """The condition that says it has ended, or None."""
        return self.condition("Complete") or self.condition("Failed")
