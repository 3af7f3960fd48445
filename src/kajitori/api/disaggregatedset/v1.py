"""DisaggregatedSet v1: roles (prefill, decode, ...) of LeaderWorkerSets that are rolled out as one, in some slices.

Fields, defaults and names follow kubernetes-sigs/lws after v0.9.0, which added slices, placement policies and external
scaling to the v1 that v0.9.0 serves; all that v0.9.0 knows is here unchanged. Its webhook's checks stand here as schema
and CEL rules. What a role may say of its LeaderWorkerSets is that kind's own schema, without what only makes sense
between two versions of one LeaderWorkerSet: a changed role gets new ones.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import AGE, Column, Definition, Int32, Scale, Version, builtin, extra, map_list, rule
from kajitori.api.kubernetes.meta_v1 import Condition, ObjectMeta
from kajitori.api.leaderworkerset import v1 as lws

GROUP = "disaggregatedset.x-k8s.io"
PREFIX = f"{GROUP}/"

# Labels, on LeaderWorkerSets, their pods and Services; name and role on scalers too.
NAME_LABEL = PREFIX + "name"
ROLE_LABEL = PREFIX + "role"
SLICE_LABEL = PREFIX + "slice"
REVISION_LABEL = PREFIX + "revision"
# For people: of a slice's role whatever its revision, so never a selector.
APP_LABEL = "app"

# On LeaderWorkerSets of an old revision: how many groups it had when the rollout began.
INITIAL_REPLICAS_ANNOTATION = PREFIX + "initial-replicas"

# Condition types.
AVAILABLE = "Available"
PROGRESSING = "Progressing"
SCALER_READY = "Ready"

REVISION_LENGTH = 8

ScalingMode = Literal["Static", "External"]
PlacementType = Literal["None", "ExclusiveSlice", "ExclusiveTopology"]


class RoleScaling(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who decides how many groups a role has."""

    mode: Annotated[
        ScalingMode,
        Meta(description="Static: spec.replicas. External: the DisaggregatedSetRoleScaler NAME-ROLE."),
    ] = "Static"


class RoleRolloutStrategy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The bounds of this role while revisions replace each other; one group in excess, none missing, if left out."""

    type: Literal["RollingUpdate"] = "RollingUpdate"
    rolling_update_configuration: lws.RollingUpdateConfiguration | None = None


def _lasting(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those that compare with an earlier version."""
    return [each for each in rules if "oldSelf" not in each["rule"]]


class RoleTemplate(lws.LeaderWorkerTemplate, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What one group of the role is made of; a change rolls all roles."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": _lasting(lws.LeaderWorkerTemplate.__crd__["x-kubernetes-validations"])
    }


_ROLLING = "self.rolloutStrategy.rollingUpdateConfiguration"
_HAS_ROLLING = "has(self.rolloutStrategy) && has(self.rolloutStrategy.rollingUpdateConfiguration)"
_ROLE_SPEC_RULES = [
    rule(
        "self.replicas * self.leaderWorkerTemplate.size <= 2147483647",
        "replicas times size is more pods than can be counted",
        field_path=".replicas",
    ),
    rule(
        f"!({_HAS_ROLLING}) || {_ROLLING}.partition == 0",
        "a role cannot be updated in part: the rollout of all roles is one, so partition must be 0",
        reason="FieldValueForbidden",
        field_path=".rolloutStrategy.rollingUpdateConfiguration.partition",
    ),
    rule(
        f"!({_HAS_ROLLING}) || self.replicas == 0"
        f" || !(string({_ROLLING}.maxSurge) in ['0', '0%'] && string({_ROLLING}.maxUnavailable) in ['0', '0%'])",
        "maxUnavailable and maxSurge cannot both be 0: no group could ever be replaced",
        field_path=".rolloutStrategy.rollingUpdateConfiguration.maxUnavailable",
    ),
]


class RoleSpec(lws.LeaderWorkerSetSpec, frozen=True, kw_only=True, rename="camel"):
    """The LeaderWorkerSets of the role. replicas: groups in each slice."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": _ROLE_SPEC_RULES}
    leader_worker_template: RoleTemplate
    rollout_strategy: RoleRolloutStrategy | None = None  # type: ignore[assignment]


class Role(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One of the kinds of groups that serve together."""

    name: Annotated[str, Meta(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    scaling: RoleScaling | None = None
    metadata: (
        Annotated[
            dict[str, Any],
            builtin("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            Meta(description="Labels and annotations of the role's LeaderWorkerSets."),
        ]
        | None
    ) = None
    spec: RoleSpec


class PlacementPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the pods of a slice may be, by affinities that LeaderWorkerSets get when they are made."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "self.type == 'None' || (has(self.topology) && size(self.topology) > 0)",
                "a placement needs the node label that tells one domain from another",
                reason="FieldValueRequired",
                field_path=".topology",
            )
        ]
    }
    type: Annotated[
        PlacementType,
        Meta(
            description="ExclusiveSlice: a slice in one domain, no two slices of the set in the same."
            " ExclusiveTopology: no slice of another set there either."
        ),
    ] = "None"
    topology: Annotated[
        str,
        Meta(max_length=317, description="Label of nodes whose value is the domain, as of a rack."),
        extra(pattern="^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$|^$"),
    ] = ""


_STATIC = "self.roles.filter(r, !has(r.scaling) || r.scaling.mode != 'External')"
_EXCLUSIVE = (lws.EXCLUSIVE_TOPOLOGY_ANNOTATION, lws.SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION)


def _without_exclusive(metadata: str) -> str:
    """CEL: the metadata has neither annotation of exclusive placement."""
    annotations = f"{metadata}.annotations"
    return (
        f"(!has({metadata}) || !has({annotations}) || "
        f"!('{_EXCLUSIVE[0]}' in {annotations} || '{_EXCLUSIVE[1]}' in {annotations}))"
    )


_GROUP = "r.spec.leaderWorkerTemplate"
_SPEC_RULES = [
    rule(
        f"{_STATIC}.all(r, r.spec.replicas == 0) || {_STATIC}.all(r, r.spec.replicas > 0)",
        "replicas must be 0 for all roles or for none: a set without one of its roles serves nothing",
        field_path=".roles",
    ),
    rule(
        "self.slices == 1 || self.roles.all(r, !has(r.scaling) || r.scaling.mode != 'External')",
        "a role with scaling.mode External needs slices to be 1: its scaler counts the groups of one slice",
        reason="FieldValueForbidden",
        field_path=".slices",
    ),
    rule(
        "!has(self.placementPolicy) || self.placementPolicy.type == 'None' || self.roles.all(r,"
        f" {_without_exclusive('r.metadata')}"
        f" && {_without_exclusive(f'{_GROUP}.workerTemplate.metadata')}"
        f" && (!has({_GROUP}.leaderTemplate) || {_without_exclusive(f'{_GROUP}.leaderTemplate.metadata')}))",
        "a placement policy puts a whole slice into one domain; the annotation exclusive-topology of a role asks for"
        " one group in a domain: no pod could satisfy both",
        reason="FieldValueForbidden",
        field_path=".placementPolicy",
    ),
]


class DisaggregatedSetSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The wanted roles."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": _SPEC_RULES}
    roles: Annotated[list[Role], Meta(min_length=2, max_length=10), map_list("name")]
    slices: Annotated[
        Int32,
        Meta(ge=1, le=100, description="Independent copies of all roles; changing it rolls nothing."),
    ] = 1
    placement_policy: PlacementPolicy | None = None


class RoleStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The groups of one role in all slices."""

    name: str
    replicas: Int32 = 0
    ready_replicas: Int32 = 0
    updated_replicas: Annotated[Int32, Meta(description="Those of the newest revision.")] = 0


class DisaggregatedSetStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What was seen."""

    conditions: Annotated[list[Condition], map_list("type")] = []
    observed_generation: Annotated[int, extra(format="int64")] = 0
    role_statuses: Annotated[list[RoleStatus], map_list("name")] = []


# NAME-SLICE-REVISION-ROLE is the LeaderWorkerSet; with -prv its Service, with -GROUP-WORKER its pods.
_LEADING = "size(self.metadata.name) + size(string(self.spec.slices - 1)) + size(r.name) + 11"


class DisaggregatedSet(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Roles that serve together: each slice is one LeaderWorkerSet for each role, and all roll out as one."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "the name begins the names of Services: lower-case letters, digits and '-', a letter first,"
                " no '-' at the end",
            ),
            rule(
                f"self.spec.roles.all(r, {_LEADING} + 4 <= 63)",
                "the names are too long: NAME-SLICE-REVISION-ROLE-prv must fit the 63 characters of a Service's name,"
                " of which SLICE, REVISION and what joins them take 15",
                field_path=".spec.roles",
            ),
            rule(
                f"self.spec.roles.all(r, {_LEADING} + size(string(r.spec.replicas))"
                " + size(string(r.spec.leaderWorkerTemplate.size)) + 2 <= 63)",
                "the names are too long: NAME-SLICE-REVISION-ROLE-GROUP-WORKER must fit the 63 characters of a host"
                " name",
                field_path=".spec.roles",
            ),
        ]
    }
    api_version: str = f"{GROUP}/v1"
    kind: str = "DisaggregatedSet"
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: DisaggregatedSetSpec
    status: DisaggregatedSetStatus = field(default_factory=DisaggregatedSetStatus)


class RoleScalerSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an autoscaler writes."""

    # With a default, since /scale cannot be read while the field is missing.
    replicas: Annotated[Int32, Meta(ge=0, description="Wanted groups of the role."), extra(default=0)] = 0


class RoleScalerStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What an autoscaler reads."""

    conditions: Annotated[list[Condition], map_list("type")] = []
    observed_generation: Annotated[int, extra(format="int64")] = 0
    replicas: Annotated[Int32, Meta(description="Groups of the role, of all revisions.")] = 0
    selector: Annotated[str, Meta(description="Selects the leader of each of them.")] = ""


class DisaggregatedSetRoleScaler(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where an autoscaler sets the number of groups of one role; made for each role whose scaling is External."""

    api_version: str = f"{GROUP}/v1"
    kind: str = "DisaggregatedSetRoleScaler"
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: RoleScalerSpec = field(default_factory=RoleScalerSpec)
    status: RoleScalerStatus = field(default_factory=RoleScalerStatus)


DEFINITIONS = (
    Definition(
        group=GROUP,
        kind="DisaggregatedSet",
        plural="disaggregatedsets",
        versions=(
            Version(
                name="v1",
                root=DisaggregatedSet,
                columns=(
                    Column("Available", '.status.conditions[?(@.type=="Available")].status'),
                    Column("Progressing", '.status.conditions[?(@.type=="Progressing")].status'),
                    Column("Slices", ".spec.slices", "integer", "Copies of all roles that are wanted"),
                    AGE,
                ),
            ),
        ),
    ),
    Definition(
        group=GROUP,
        kind="DisaggregatedSetRoleScaler",
        plural="disaggregatedsetrolescalers",
        short_names=("dsrs",),
        versions=(
            Version(
                name="v1",
                root=DisaggregatedSetRoleScaler,
                columns=(
                    Column("Desired", ".spec.replicas", "integer", "Groups that are wanted"),
                    Column("Current", ".status.replicas", "integer", "Groups of all revisions"),
                    AGE,
                ),
                scale=Scale(label_selector_path=".status.selector"),
            ),
        ),
    ),
)
