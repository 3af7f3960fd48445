"""LeaderWorkerSet v1: replicas of a group, each one leader pod and `size - 1` worker pods.

Fields, defaults, bounds and status follow kubernetes-sigs/lws; its webhook's checks stand here as schema and CEL
rules, so that any API server makes them. Two things cannot be said there and are decided in `kajitori.groups.leader_worker_sets`:
`restartPolicy: Default` means `None`, and a rule about annotations.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import AGE, Column, Definition, Int32, Scale, Version, builtin, extra, map_list, rule
from kajitori.api.kubernetes.meta_v1 import Condition, ObjectMeta

GROUP = "leaderworkerset.x-k8s.io"
PREFIX = "leaderworkerset.sigs.k8s.io/"

# Labels, on every pod of a group.
SET_NAME_LABEL = PREFIX + "name"
GROUP_INDEX_LABEL = PREFIX + "group-index"
WORKER_INDEX_LABEL = PREFIX + "worker-index"
GROUP_KEY_LABEL = PREFIX + "group-key"
REVISION_LABEL = PREFIX + "template-revision-hash"
SUBGROUP_INDEX_LABEL = PREFIX + "subgroup-index"
SUBGROUP_KEY_LABEL = PREFIX + "subgroup-key"

# Annotations, on pods.
SIZE_ANNOTATION = PREFIX + "size"
LEADER_NAME_ANNOTATION = PREFIX + "leader-name"
LEADER_ADDRESS_ANNOTATION = PREFIX + "leader-address"
SUBDOMAIN_POLICY_ANNOTATION = PREFIX + "subdomainPolicy"
SUBGROUP_SIZE_ANNOTATION = PREFIX + "subgroup-size"
SUBGROUP_POLICY_TYPE_ANNOTATION = PREFIX + "subgroup-policy-type"
LEADER_REQUESTS_TPUS_ANNOTATION = PREFIX + "leader-requests-tpus"

# Annotations that users write on a LeaderWorkerSet.
EXCLUSIVE_TOPOLOGY_ANNOTATION = PREFIX + "exclusive-topology"
SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION = PREFIX + "subgroup-exclusive-topology"
RECREATE_AFTER_START_ANNOTATION = PREFIX + "experimental-recreate-group-after-start"

# Environment of every container.
LEADER_ADDRESS_VARIABLE = "LWS_LEADER_ADDRESS"
GROUP_SIZE_VARIABLE = "LWS_GROUP_SIZE"
WORKER_INDEX_VARIABLE = "LWS_WORKER_INDEX"

# Condition types.
AVAILABLE = "Available"
PROGRESSING = "Progressing"
UPDATE_IN_PROGRESS = "UpdateInProgress"

StartupPolicy = Literal["LeaderCreated", "LeaderReady"]
RestartPolicy = Literal["Default", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"]
SubdomainPolicy = Literal["Shared", "UniquePerReplica"]
GroupIdentity = Literal["Ordinal", "Hash"]
GroupReplacementPolicy = Literal["PostTermination", "Immediate"]
SubGroupPolicyType = Literal["LeaderWorker", "LeaderExcluded"]

_INT_OR_PERCENT = extra(minimum=0, maxLength=4, pattern="^(100|[1-9]?[0-9])%$")
IntOrPercent = Annotated[int | str, _INT_OR_PERCENT]
PodTemplate = Annotated[dict[str, Any], builtin("io.k8s.api.core.v1.PodTemplateSpec")]


class RollingUpdateConfiguration(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many groups may be missing, or there in excess, while a new revision replaces an old one."""

    partition: Annotated[
        Int32, Meta(ge=0, description="Groups with an index below it keep their revision.")
    ] = 0
    max_unavailable: Annotated[
        IntOrPercent, Meta(description="Groups that may be unready at a time; a percentage is rounded down.")
    ] = 1
    max_surge: Annotated[
        IntOrPercent, Meta(description="Groups that may exist beyond replicas; a percentage is rounded up.")
    ] = 0


class RolloutStrategy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a change of the templates reaches the groups."""

    # Clients in Go write an empty type where nobody chose one.
    type: Literal["RollingUpdate", ""] = "RollingUpdate"
    rolling_update_configuration: RollingUpdateConfiguration = field(
        default_factory=RollingUpdateConfiguration
    )


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The names under which pods find each other."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!has(oldSelf.subdomainPolicy) || has(self.subdomainPolicy)",
                "the subdomain policy can be changed but not taken away",
                reason="FieldValueRequired",
                field_path=".subdomainPolicy",
            )
        ]
    }
    subdomain_policy: (
        Annotated[SubdomainPolicy, Meta(description="One headless Service for all groups, or one for each.")]
        | None
    ) = None


class SubGroupPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Parts of a group that are placed together."""

    sub_group_policy_type: SubGroupPolicyType = "LeaderWorker"
    sub_group_size: Annotated[Int32, Meta(ge=1)]


_SUBGROUP_RULES = [
    rule(
        "!has(self.subGroupPolicy) || self.subGroupPolicy.subGroupSize <= self.size",
        "a subgroup cannot be larger than its group",
        field_path=".subGroupPolicy.subGroupSize",
    ),
    rule(
        "!has(self.subGroupPolicy) || self.subGroupPolicy.subGroupSize < 1"
        " || (self.size - 1) % self.subGroupPolicy.subGroupSize == 0"
        " || (self.subGroupPolicy.subGroupPolicyType != 'LeaderExcluded'"
        " && self.size % self.subGroupPolicy.subGroupSize == 0)",
        "the group must divide into subgroups: size or size - 1 by subGroupSize, size - 1 if the leader is excluded",
        field_path=".subGroupPolicy.subGroupSize",
    ),
    rule(
        "has(self.subGroupPolicy) == has(oldSelf.subGroupPolicy)",
        "subgroups cannot be added to or removed from a set that exists",
        reason="FieldValueForbidden",
    ),
    rule(
        "!has(self.subGroupPolicy) || !has(oldSelf.subGroupPolicy)"
        " || self.subGroupPolicy.subGroupSize == oldSelf.subGroupPolicy.subGroupSize",
        "the size of subgroups cannot change",
        field_path=".subGroupPolicy.subGroupSize",
    ),
]


def _names_no_leader(template: str) -> str:
    metadata = f"self.{template}.metadata"
    return f"!has({metadata}) || !has({metadata}.annotations) || !('{LEADER_NAME_ANNOTATION}' in {metadata}.annotations)"


_LEADER_RULES = [
    rule(
        f"has(self.leaderTemplate) ? {_names_no_leader('leaderTemplate')} : {_names_no_leader('workerTemplate')}",
        f"the annotation {LEADER_NAME_ANNOTATION} would make the leader another one's worker",
        reason="FieldValueForbidden",
    )
]


class LeaderWorkerTemplate(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What one group is made of."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": [*_SUBGROUP_RULES, *_LEADER_RULES]}
    leader_template: (
        Annotated[PodTemplate, Meta(description="The leader's pod; the worker's template if left out.")]
        | None
    ) = None
    worker_template: PodTemplate
    size: Annotated[Int32, Meta(ge=1, description="Pods in a group, the leader included.")] = 1
    restart_policy: Annotated[
        RestartPolicy, Meta(description="What happens to a group when one of its pods fails.")
    ] = "RecreateGroupOnPodRestart"
    sub_group_policy: SubGroupPolicy | None = None
    volume_claim_templates: list[
        Annotated[dict[str, Any], builtin("io.k8s.api.core.v1.PersistentVolumeClaim")]
    ] = []
    persistent_volume_claim_retention_policy: (
        Annotated[
            dict[str, Any],
            builtin("io.k8s.api.apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy"),
        ]
        | None
    ) = None


_ROLLING = "self.rolloutStrategy.rollingUpdateConfiguration"
_UNAVAILABLE = f"{_ROLLING}.maxUnavailable"
_SURGE = f"{_ROLLING}.maxSurge"


def _percent(value: str) -> str:
    return f"int(string({value}).replace('%', ''))"


# A scale-down must not fail on this: 10 % may come to 0 of fewer groups (then one at a time is replaced).
_UNCHANGED = (
    f"oldSelf.hasValue() && {_UNAVAILABLE} == {_UNAVAILABLE.replace('self', 'oldSelf.value()', 1)}"
    f" && {_SURGE} == {_SURGE.replace('self', 'oldSelf.value()', 1)}"
)
_RESOLVED_UNAVAILABLE = (
    f"(type({_UNAVAILABLE}) == int ? int({_UNAVAILABLE}) : {_percent(_UNAVAILABLE)} * self.replicas / 100)"
)
# Rounded up it is 0 only if the percentage is.
_RESOLVED_SURGE = f"(type({_SURGE}) == int ? int({_SURGE}) : {_percent(_SURGE)})"
_SPEC_RULES = [
    rule(
        "self.groupIdentity == oldSelf.groupIdentity",
        "groups cannot be named another way in a set that exists",
        field_path=".groupIdentity",
    ),
    rule(
        f"self.groupIdentity != 'Hash' || {_ROLLING}.partition == 0",
        "groups that are named by hashes have no order, so there is no partition",
        field_path=".rolloutStrategy.rollingUpdateConfiguration.partition",
    ),
    rule(
        "self.groupIdentity != 'Hash' || !has(self.leaderWorkerTemplate.volumeClaimTemplates)"
        " || size(self.leaderWorkerTemplate.volumeClaimTemplates) == 0",
        "a group that is named by a hash never comes back under its name, so it cannot keep a volume claim;"
        " use ephemeral volumes",
        field_path=".leaderWorkerTemplate.volumeClaimTemplates",
    ),
    rule(
        "self.groupIdentity == 'Hash' || self.groupReplacementPolicy != 'Immediate'",
        "a numbered group can only begin when the one before it is gone",
        field_path=".groupReplacementPolicy",
    ),
    rule(
        "self.replicas * self.leaderWorkerTemplate.size <= 2147483647",
        "replicas times size is more pods than can be counted",
        field_path=".replicas",
    ),
    rule(
        f"self.replicas == 0 || !(string({_SURGE}) in ['0', '0%'] && string({_UNAVAILABLE}) in ['0', '0%'])",
        "maxUnavailable and maxSurge cannot both be 0: no group could ever be replaced",
        field_path=".rolloutStrategy.rollingUpdateConfiguration.maxUnavailable",
    ),
    rule(
        f"self.replicas == 0 || ({_UNCHANGED}) || {_RESOLVED_UNAVAILABLE} + {_RESOLVED_SURGE} > 0",
        "maxUnavailable is a percentage that is less than one of so few replicas, and maxSurge is 0: no group could ever"
        " be replaced",
        field_path=".rolloutStrategy.rollingUpdateConfiguration.maxUnavailable",
        optional_old_self=True,
    ),
]


class LeaderWorkerSetSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The wanted groups."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": _SPEC_RULES}
    replicas: Annotated[Int32, Meta(ge=0, le=1_000_000, description="Number of groups.")] = 1
    leader_worker_template: LeaderWorkerTemplate
    rollout_strategy: RolloutStrategy = field(default_factory=RolloutStrategy)
    startup_policy: Annotated[
        StartupPolicy, Meta(description="Whether workers start with the leader, or once it is ready.")
    ] = "LeaderCreated"
    group_identity: Annotated[
        GroupIdentity,
        Meta(description="Whether groups are numbered, or named by hashes and interchangeable; immutable."),
    ] = "Ordinal"
    group_replacement_policy: Annotated[
        GroupReplacementPolicy,
        Meta(
            description="Whether a group that is named by a hash begins before the one it replaces is gone."
        ),
    ] = "PostTermination"
    network_config: Annotated[NetworkConfig, extra(default={"subdomainPolicy": "Shared"})] | None = None


class GroupRestart(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One restart of a group: who began it, how, and what came of it. Ours; upstream's definition has no such field."""

    time: Annotated[str, extra(format="date-time")]
    group: Annotated[str, Meta(description="Its index, or its digits where groups have no order.")]
    attempt: Annotated[Int32, Meta(description="Restarts of this group in a row, this one counted.")]
    pod: Annotated[str, Meta(description="The pod that began it.")] = ""
    # Words rather than an enumeration: what a newer version writes must not stop an older one.
    how: Annotated[
        str,
        Meta(
            description="What happened to the pod: Deleted, ContainerRestarted, Failed, Gone, NotPlaced, or Lifted:"
            " a failed group was begun anew because its user wanted it."
        ),
    ]
    outcome: Annotated[
        str,
        Meta(
            description="Recreated: begun anew with new pods. InPlace: its containers restarted. Failed: left as it is"
            " for inspection."
        ),
    ]
    container: str = ""
    exit_code: Int32 | None = None
    signal: Int32 | None = None
    reason: str = ""
    node: str = ""
    by: Annotated[str, Meta(description="Who deleted the pod, where that is known.")] = ""
    last_log: Annotated[
        str, Meta(description="The last lines of the container, without what looks secret.")
    ] = ""
    not_before: (
        Annotated[str, extra(format="date-time"), Meta(description="The group waits until then.")] | None
    ) = None


class LeaderWorkerSetStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The groups that were seen."""

    conditions: Annotated[list[Condition], map_list("type")] = []
    hpa_pod_selector: Annotated[str, Meta(description="Selects the leaders, for autoscalers.")] = ""
    observed_generation: Annotated[int, extra(format="int64")] = 0
    ready_replicas: Int32 = 0
    replicas: Int32 = 0
    restarts: Annotated[
        list[GroupRestart], Meta(max_length=20, description="The last restarts of groups, the newest last.")
    ] = []
    updated_replicas: Int32 = 0


class LeaderWorkerSet(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Groups of one leader pod and its workers, created, placed, updated and restarted as one."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name becomes the name of a Service: lower-case letters, digits and '-', a letter first,"
                " no '-' at the end",
            ),
            rule(
                # Groups beyond replicas, while a rollout has its surge, have the longest names.
                "size(self.metadata.name) + size(string(self.spec.leaderWorkerTemplate.size)) + 2"
                " + (self.spec.groupIdentity == 'Hash' ? 8 : size(string(self.spec.replicas"
                f" * (string({_SURGE.replace('self', 'self.spec', 1)}) in ['0', '0%'] ? 1 : 2)))) <= 63",
                "metadata.name is too long: NAME-GROUP-WORKER must fit the 63 characters of a host name",
            ),
        ]
    }
    api_version: str = f"{GROUP}/v1"
    kind: str = "LeaderWorkerSet"
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: LeaderWorkerSetSpec
    status: LeaderWorkerSetStatus = field(default_factory=LeaderWorkerSetStatus)


DEFINITIONS = (
    Definition(
        group=GROUP,
        kind="LeaderWorkerSet",
        plural="leaderworkersets",
        short_names=("lws",),
        versions=(
            Version(
                name="v1",
                root=LeaderWorkerSet,
                columns=(
                    Column("Ready", ".status.readyReplicas", "integer", "Groups that are ready"),
                    Column("Desired", ".spec.replicas", "integer", "Groups that are wanted"),
                    Column(
                        "Up-to-date", ".status.updatedReplicas", "integer", "Groups of the newest revision"
                    ),
                    AGE,
                ),
                scale=Scale(label_selector_path=".status.hpaPodSelector"),
            ),
        ),
    ),
)
