"""batch/v1 as structs; made by tools/generate_kubernetes_schemas.py from Kubernetes v1.36.3, not edited by hand."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from kajitori.api.kubernetes import core_v1
from kajitori.api.kubernetes import meta_v1


class Job(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "batch/v1"
    kind: str = "Job"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: JobSpec = field(default_factory=lambda: JobSpec())
    status: JobStatus = field(default_factory=lambda: JobStatus())


class JobSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    active_deadline_seconds: int | None = None
    backoff_limit: int | None = None
    backoff_limit_per_index: int | None = None
    completion_mode: str | None = None
    completions: int | None = None
    managed_by: str | None = None
    manual_selector: bool | None = None
    max_failed_indexes: int | None = None
    parallelism: int | None = None
    pod_failure_policy: PodFailurePolicy | None = None
    pod_replacement_policy: str | None = None
    selector: meta_v1.LabelSelector | None = None
    success_policy: SuccessPolicy | None = None
    suspend: bool | None = None
    template: core_v1.PodTemplateSpec = field(default_factory=lambda: core_v1.PodTemplateSpec())
    ttl_seconds_after_finished: int | None = None


class PodFailurePolicy(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    rules: list[PodFailurePolicyRule] = []


class PodFailurePolicyRule(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    action: str = ''
    on_exit_codes: PodFailurePolicyOnExitCodesRequirement | None = None
    on_pod_conditions: list[PodFailurePolicyOnPodConditionsPattern] = []


class PodFailurePolicyOnExitCodesRequirement(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    container_name: str | None = None
    operator: str = ''
    values: list[int] = []


class PodFailurePolicyOnPodConditionsPattern(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    status: str = ''
    type: str = ''


class SuccessPolicy(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    rules: list[SuccessPolicyRule] = []


class SuccessPolicyRule(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    succeeded_count: int | None = None
    succeeded_indexes: str | None = None


class JobStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    active: int | None = None
    completed_indexes: str | None = None
    completion_time: str | None = None
    conditions: list[JobCondition] = []
    failed: int | None = None
    failed_indexes: str | None = None
    ready: int | None = None
    start_time: str | None = None
    succeeded: int | None = None
    terminating: int | None = None
    uncounted_terminated_pods: UncountedTerminatedPods | None = None


class JobCondition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str = ''
    type: str = ''


class UncountedTerminatedPods(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    failed: list[str] = []
    succeeded: list[str] = []


class CronJob(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "batch/v1"
    kind: str = "CronJob"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: CronJobSpec = field(default_factory=lambda: CronJobSpec())
    status: CronJobStatus = field(default_factory=lambda: CronJobStatus())


class CronJobSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    concurrency_policy: str | None = None
    failed_jobs_history_limit: int | None = None
    job_template: JobTemplateSpec | None = None
    schedule: str = ''
    starting_deadline_seconds: int | None = None
    successful_jobs_history_limit: int | None = None
    suspend: bool | None = None
    time_zone: str | None = None


class JobTemplateSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: JobSpec = field(default_factory=lambda: JobSpec())


class CronJobStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    active: list[core_v1.ObjectReference] = []
    last_schedule_time: str | None = None
    last_successful_time: str | None = None
