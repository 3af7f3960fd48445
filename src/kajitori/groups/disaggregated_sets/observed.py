"""What a plan looks at: the set, its LeaderWorkerSets, Services and scalers.

What a role says of its LeaderWorkerSets is kept as it came: a field that a newer definition knows and we do not goes
on to them unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kajitori.api.disaggregatedset import v1
from kajitori.api.kubernetes.meta_v1 import ObjectMeta, OwnerReference
from kajitori.api.leaderworkerset.v1 import LeaderWorkerSet
from kajitori.base.reason import Reason
from kajitori.groups.disaggregated_sets.percent import resolve

Body = dict[str, Any]

# Written by users on a set: its rollout stays where it is, as one of a LeaderWorkerSet does.
PAUSED_ANNOTATION = "groups.kajitori.dev/paused"

# On LeaderWorkerSets that we made.
GENERATION_ANNOTATION = "groups.kajitori.dev/set-generation"
PLACEMENT_ANNOTATION = "groups.kajitori.dev/placement"
ROLE_METADATA_ANNOTATION = "groups.kajitori.dev/role-metadata"


class RoleView(msgspec.Struct, frozen=True, rename="camel"):
    """A role as its author wrote it. sub_roles: of a newer definition."""

    name: str
    spec: Body
    metadata: Body | None = None
    scaling: v1.RoleScaling | None = None
    sub_roles: list[Any] | None = None

    @property
    def external(self) -> bool:
        return self.scaling is not None and self.scaling.mode == "External"

    @property
    def template(self) -> Body:
        return self.spec["leaderWorkerTemplate"]

    @property
    def replicas(self) -> int:
        """As the spec says; 1 if it does not."""
        replicas = self.spec.get("replicas")
        return 1 if replicas is None else replicas

    def metadata_of(self, kind: str) -> dict[str, str]:
        """The `labels` or `annotations` that its LeaderWorkerSets shall have."""
        return (self.metadata or {}).get(kind) or {}

    def bounds(self, target: int) -> tuple[int, int]:
        """Groups that may be in excess and that may be missing; never both 0."""
        strategy = self.spec.get("rolloutStrategy") or {}
        configuration = strategy.get("rollingUpdateConfiguration")
        if configuration is None:
            return 1, 0
        surge = resolve(configuration.get("maxSurge", 0), target, up=True)
        unavailable = resolve(configuration.get("maxUnavailable", 0), target, up=False)
        return (surge, unavailable) if surge or unavailable else (0, 1)


class SetSpec(msgspec.Struct, frozen=True, rename="camel"):
    roles: tuple[RoleView, ...] = ()
    slices: int = 1
    placement_policy: v1.PlacementPolicy | None = None


class SetView(msgspec.Struct, frozen=True, rename="camel"):
    """A DisaggregatedSet as a plan reads it."""

    metadata: ObjectMeta
    spec: SetSpec
    status: v1.DisaggregatedSetStatus = v1.DisaggregatedSetStatus()

    @property
    def name(self) -> str:
        return self.metadata.name or ""

    @property
    def namespace(self) -> str:
        return self.metadata.namespace or ""

    @property
    def uid(self) -> str:
        return self.metadata.uid or ""

    @property
    def role_names(self) -> list[str]:
        return [role.name for role in self.spec.roles]


class PartialMetadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    deletion_timestamp: str | None = None


class ServiceSpec(msgspec.Struct, frozen=True):
    selector: dict[str, str] = {}


class Service(msgspec.Struct, frozen=True):
    """Whose it is and which pods it finds."""

    metadata: PartialMetadata
    spec: ServiceSpec = ServiceSpec()

    @property
    def slice(self) -> int:
        """0 where there is no label, as v0.9.0 made them."""
        number = self.metadata.labels.get(v1.SLICE_LABEL) or "0"
        return int(number) if number.isdecimal() else 0


class Scaler(msgspec.Struct, frozen=True):
    """The scaler of one role."""

    metadata: ObjectMeta
    spec: v1.RoleScalerSpec = v1.RoleScalerSpec()
    status: v1.RoleScalerStatus = v1.RoleScalerStatus()


class Child(msgspec.Struct, frozen=True):
    """A LeaderWorkerSet of the set, with what its labels say. slice: 0 where there is no label, as v0.9.0 made them."""

    lws: LeaderWorkerSet
    name: str
    role: str
    revision: str
    slice: int

    @property
    def replicas(self) -> int:
        return self.lws.spec.replicas

    @property
    def ready(self) -> int:
        return self.lws.status.ready_replicas

    @property
    def sliced(self) -> bool:
        return v1.SLICE_LABEL in self.lws.metadata.labels

    @property
    def dying(self) -> bool:
        return self.lws.metadata.deletion_timestamp is not None

    @property
    def settled(self) -> bool:
        """All groups that it shall have are there and ready, by a status that knows of them."""
        status = self.lws.status
        known = not status.observed_generation or status.observed_generation >= (
            self.lws.metadata.generation or 0
        )
        return known and status.replicas == self.replicas and status.ready_replicas >= self.replicas

    @property
    def gone(self) -> bool:
        """It has no groups and wants none."""
        return self.replicas == 0 and self.lws.status.replicas == 0

    def annotation(self, key: str) -> str:
        return self.lws.metadata.annotations.get(key, "")


def child_of(lws: LeaderWorkerSet) -> Child | None:
    """None if its labels do not say what it is."""
    labels = lws.metadata.labels
    role, revision = labels.get(v1.ROLE_LABEL), labels.get(v1.REVISION_LABEL)
    number = labels.get(v1.SLICE_LABEL) or "0"
    if not role or not revision or not number.isdecimal():
        return None
    return Child(lws, lws.metadata.name or "", role, revision, int(number))


class World(msgspec.Struct, frozen=True, kw_only=True):
    """One set and what there is around it.

    children: what it controls and is not being deleted. dying: names of those that are. foreign: LeaderWorkerSets
    and scalers of others by name, with whose they are. taken: other names that were refused, as `Service x-prv`.
    now: seconds since 1970. trouble: why the last attempt failed.
    """

    set: SetView
    children: Sequence[Child] = ()
    dying: frozenset[str] = frozenset()
    services: Sequence[Service] = ()
    scalers: Mapping[str, Scaler] = {}
    foreign: Mapping[str, str] = {}
    foreign_scalers: Mapping[str, str] = {}
    taken: Mapping[str, str] = {}
    now: float
    paused: bool = False
    trouble: Reason | None = None
