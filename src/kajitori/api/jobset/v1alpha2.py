"""JobSet v1alpha2: Jobs that are one workload, started, restarted and ended together.

Fields, defaults, bounds and status follow kubernetes-sigs/jobset; its webhook's checks stand here as schema and CEL
rules, so that any API server makes them. CEL needs bounds to know its price, so lists have them where upstream's have
none. What cannot be said here is decided in `kajitori.groups.job_sets`: `restartPolicy: OnFailure` where a pod
template has none, and whether claims and mounts meet (the condition kajitori.dev/FieldsNotHonoured).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import (
    AGE,
    Column,
    Definition,
    Int32,
    Int64,
    Version,
    builtin,
    extra,
    map_list,
    rule,
    rules,
)
from kajitori.api.jobset import validation
from kajitori.api.kubernetes.meta_v1 import Condition, ObjectMeta

GROUP = "jobset.x-k8s.io"
PREFIX = "jobset.sigs.k8s.io/"
ALPHA_PREFIX = "alpha.jobset.sigs.k8s.io/"
CONTROLLER_NAME = PREFIX + "jobset-controller"

# Labels, and annotations of the same names, on Jobs and pods.
JOB_SET_NAME = PREFIX + "jobset-name"
JOB_SET_UID = PREFIX + "jobset-uid"
REPLICATED_JOB_NAME = PREFIX + "replicatedjob-name"
REPLICATED_JOB_REPLICAS = PREFIX + "replicatedjob-replicas"
GLOBAL_REPLICAS = PREFIX + "global-replicas"
JOB_INDEX = PREFIX + "job-index"
JOB_GLOBAL_INDEX = PREFIX + "job-global-index"
JOB_KEY = PREFIX + "job-key"
GROUP_NAME = PREFIX + "group-name"
GROUP_REPLICAS = PREFIX + "group-replicas"
JOB_GROUP_INDEX = PREFIX + "job-group-index"
COORDINATOR = PREFIX + "coordinator"
RESTART_ATTEMPT = PREFIX + "restart-attempt"
JOB_RESTART_ATTEMPT = PREFIX + "job-restart-attempt"

# Annotations that users, or what runs in a pod, write.
EXCLUSIVE_TOPOLOGY = ALPHA_PREFIX + "exclusive-topology"
NODE_SELECTOR = ALPHA_PREFIX + "node-selector"
IN_PLACE_RESTART_ATTEMPT = PREFIX + "in-place-restart-attempt"

# Node labels and taints of exclusive placement by node selector.
NAMESPACED_JOB = ALPHA_PREFIX + "namespaced-job"
NO_SCHEDULE_TAINT = ALPHA_PREFIX + "no-schedule"

# Condition types.
COMPLETED = "Completed"
FAILED = "Failed"
SUSPENDED = "Suspended"
RESTARTING = "RestartingJobSet"
STARTUP_IN_PROGRESS = "StartupPolicyInProgress"
STARTUP_COMPLETED = "StartupPolicyCompleted"

FailureAction = Literal[
    "FailJobSet",
    "RestartJobSet",
    "RestartJobSetAndIgnoreMaxRestarts",
    "RestartJob",
    "RestartJobAndIgnoreMaxRestarts",
]
RestartStrategy = Literal["Recreate", "BlockingRecreate", "InPlaceRestart"]
Operator = Literal["All", "Any"]
DependsOnStatus = Literal["Ready", "Complete"]
StartupOrder = Literal["AnyOrder", "InOrder"]
JobFailureReason = Literal[
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "FailedIndexes",
    "MaxFailedIndexesExceeded",
    "PodFailurePolicy",
]
IMMUTABLE = rules(rule("self == oldSelf", "this cannot change once it is set", reason="FieldValueForbidden"))
DnsLabel = Annotated[str, Meta(max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
ServiceName = Annotated[str, Meta(max_length=63, pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$")]
JobNames = Annotated[list[DnsLabel], Meta(max_length=validation.MOST_JOBS)]
RawObject = dict[str, Any]


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The spec of each Job: that of batch/v1, with pods that have an index unless it says otherwise."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": validation.JOB_SPEC_RULES}
    active_deadline_seconds: Int64 | None = None
    backoff_limit: Int32 | None = None
    backoff_limit_per_index: Int32 | None = None
    completion_mode: Annotated[str, Meta(max_length=63)] = "Indexed"
    completions: Int32 | None = None
    managed_by: Annotated[str, Meta(max_length=63)] | None = None
    manual_selector: bool | None = None
    max_failed_indexes: Int32 | None = None
    parallelism: Int32 | None = None
    pod_failure_policy: Annotated[RawObject, builtin("io.k8s.api.batch.v1.PodFailurePolicy")] | None = None
    pod_replacement_policy: Annotated[str, Meta(max_length=63)] | None = None
    selector: Annotated[RawObject, builtin("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")] | None = (
        None
    )
    success_policy: Annotated[RawObject, builtin("io.k8s.api.batch.v1.SuccessPolicy")] | None = None
    suspend: bool | None = None
    template: Annotated[RawObject, builtin("io.k8s.api.core.v1.PodTemplateSpec")]
    ttl_seconds_after_finished: Int32 | None = None


class JobTemplate(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What each Job of a replicated job is made from."""

    metadata: Annotated[RawObject, builtin("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")] = {}
    spec: JobSpec


class DependsOn(msgspec.Struct, frozen=True, kw_only=True):
    """What must have become of an earlier replicated job before this one is started."""

    name: DnsLabel
    status: Annotated[
        DependsOnStatus, Meta(description="All its Jobs are ready or have ended; or all have succeeded.")
    ]


class ReplicatedJob(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Jobs that are alike."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": validation.REPLICATED_JOB_RULES}
    name: DnsLabel
    group_name: Annotated[
        ServiceName, Meta(description="Replicated jobs of one group count their Jobs together.")
    ] = "default"
    template: JobTemplate
    replicas: Annotated[Int32, Meta(ge=0, description="Number of Jobs, named NAME-REPLICATEDJOB-INDEX.")] = 1
    depends_on: Annotated[
        list[DependsOn],
        Meta(max_length=5, description="Earlier replicated jobs that this one waits for."),
        map_list("name"),
    ] = []


class Network(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The names under which pods find each other."""

    enable_dns_hostnames: Annotated[
        bool, Meta(description="Pods are NAME-REPLICATEDJOB-JOB-POD.SUBDOMAIN in DNS.")
    ] = field(name="enableDNSHostnames", default=True)
    subdomain: Annotated[ServiceName, Meta(description="The headless Service; the set's name if empty.")] = ""
    publish_not_ready_addresses: bool = True


class SuccessPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Which Jobs must succeed for the set to have succeeded: all or any, of all or of some replicated jobs."""

    operator: Operator
    target_replicated_jobs: JobNames = []


class FailureRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is done when a Job fails in this way. The first rule that matches decides."""

    name: Annotated[
        str,
        Meta(
            max_length=128,
            pattern="^([A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?)?$",
            description="failurePolicyRuleN if left out, N being its index.",
        ),
    ] = ""
    action: FailureAction
    on_job_failure_reasons: Annotated[list[JobFailureReason], Meta(max_length=16)] = []
    on_job_failure_message_patterns: Annotated[
        list[Annotated[str, Meta(max_length=512)]],
        Meta(max_length=16, description="Regular expressions (RE2), one of which the message must match."),
        rules(validation.PATTERNS_ARE_VALID),
    ] = []
    target_replicated_jobs: JobNames = []


FailureRules = Annotated[
    list[FailureRule], Meta(max_length=validation.MOST_RULES), rules(validation.RULE_NAMES_DIFFER)
]


class FailurePolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What follows when a Job fails. Without rules, or if none matches, the whole set restarts."""

    max_restarts: Annotated[Int32, Meta(ge=0)] = 0
    restart_strategy: RestartStrategy = "Recreate"
    rules: FailureRules = []


class StartupPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The order in which replicated jobs are started. `dependsOn` says it more finely."""

    startup_policy_order: StartupOrder


class Coordinator(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The pod whose address all others are told."""

    replicated_job: DnsLabel
    job_index: Annotated[int, Meta(ge=0)] = 0
    pod_index: Annotated[int, Meta(ge=0)] = 0


class RetentionPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What becomes of claims."""

    when_deleted: Annotated[
        Literal["Delete", "Retain"], Meta(description="What becomes of them when the set is deleted.")
    ] = "Delete"


class ClaimMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The name of a claim, and what its PersistentVolumeClaim carries. It is made in the namespace of the set."""

    name: Annotated[str, Meta(max_length=63, pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
    namespace: Annotated[str, Meta(max_length=0)] = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: Annotated[str, extra(format="date-time", nullable=True)] | None = None


class ClaimTemplate(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a claim is made from."""

    api_version: str = ""
    kind: str = ""
    metadata: ClaimMetadata
    spec: Annotated[RawObject, builtin("io.k8s.api.core.v1.PersistentVolumeClaimSpec")] = {}
    status: Annotated[RawObject, builtin("io.k8s.api.core.v1.PersistentVolumeClaimStatus")] = {}


class VolumeClaimPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Claims that Jobs share, each named CLAIM-JOBSET and mounted by who has a volumeMount of the claim's name."""

    templates: Annotated[list[ClaimTemplate], Meta(max_length=50)] = []
    retention_policy: RetentionPolicy = field(default_factory=RetentionPolicy)


class JobSetSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The wanted Jobs and what becomes of them."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": validation.SPEC_RULES}
    replicated_jobs: Annotated[
        list[ReplicatedJob],
        Meta(max_length=validation.MOST_JOBS),
        map_list("name"),
        extra(default=[]),
    ] = []
    network: Annotated[Network, IMMUTABLE] = field(default_factory=Network)
    success_policy: Annotated[SuccessPolicy, IMMUTABLE] = field(
        default_factory=lambda: SuccessPolicy(operator="All")
    )
    failure_policy: Annotated[FailurePolicy, IMMUTABLE] | None = None
    startup_policy: Annotated[StartupPolicy, IMMUTABLE] = field(
        default_factory=lambda: StartupPolicy(startup_policy_order="AnyOrder")
    )
    suspend: Annotated[bool, Meta(description="Whether the Jobs are held back, or stopped.")] | None = None
    coordinator: Coordinator | None = None
    managed_by: (
        Annotated[
            str,
            Meta(
                max_length=63,
                pattern=validation.DOMAIN_AND_PATH,
                description="Another controller that serves this set.",
            ),
        ]
        | None
    ) = None
    ttl_seconds_after_finished: (
        Annotated[Int32, Meta(ge=0, description="The set is deleted so long after it ended.")] | None
    ) = None
    volume_claim_policies: Annotated[list[VolumeClaimPolicy], Meta(max_length=50), IMMUTABLE] = []


class ReplicatedJobStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The Jobs of one replicated job in numbers; restarts of single Jobs by index, empty before the first."""

    name: str
    ready: Int32
    succeeded: Int32
    failed: Int32
    active: Int32
    suspended: Int32
    job_restarts: Annotated[list[Int32], Meta(max_length=1024)] = []
    job_restarts_count_towards_max: Annotated[list[Int32], Meta(max_length=1024)] = []


class Restart(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One restart, and what began it. Not of upstream's API."""

    time: str
    action: str = ""
    rule: str = ""
    job: str = ""
    pod: str = ""
    container: str = ""
    exit_code: Int32 | None = None
    reason: str = ""
    message: str = ""
    node: str = ""


class JobSetStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The Jobs that were seen, and how the set stands."""

    conditions: Annotated[list[Condition], map_list("type")] = []
    restarts: Int32 = 0
    restarts_count_towards_max: Int32 = 0
    terminal_state: str = ""
    replicated_jobs_status: Annotated[list[ReplicatedJobStatus], map_list("name")] = []
    previous_in_place_restart_attempt: Annotated[Int32, Meta(ge=0)] | None = None
    current_in_place_restart_attempt: Annotated[Int32, Meta(ge=0)] | None = None
    restart_history: Annotated[
        list[Restart], Meta(description="The latest restarts, the newest last (an addition of Kajitori).")
    ] = []


class JobSet(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Jobs that are one workload: started in order, found by name, restarted and ended together."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": validation.NAME_RULES}
    api_version: str = f"{GROUP}/v1alpha2"
    kind: str = "JobSet"
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: JobSetSpec = field(default_factory=JobSetSpec)
    status: JobSetStatus = field(default_factory=JobSetStatus)


DEFINITIONS = (
    Definition(
        group=GROUP,
        kind="JobSet",
        plural="jobsets",
        versions=(
            Version(
                name="v1alpha2",
                root=JobSet,
                columns=(
                    Column("TerminalState", ".status.terminalState", description="Final state of the set"),
                    Column("Restarts", ".status.restarts", description="Number of restarts"),
                    Column("Completed", '.status.conditions[?(@.type=="Completed")].status'),
                    Column("Suspended", ".spec.suspend", description="Whether the set is suspended"),
                    AGE,
                ),
            ),
        ),
    ),
)
