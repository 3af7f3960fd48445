"""What a plan looks at: narrow projections of pods, Services and ControllerRevisions, and the world of one set.

A projection decodes only the fields that a decision reads, so that ten thousand pods stay small in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import field

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import Resource
from kajitori.base.whole_numbers import index_of_label
from kajitori.groups.leader_worker_sets.identity import group_of_label

if TYPE_CHECKING:
    from kajitori.base.reason import Reason
    from kajitori.groups.leader_worker_sets.budget import Life
    from kajitori.groups.leader_worker_sets.feasibility import Nodes
    from kajitori.groups.leader_worker_sets.options import GangDefault
    from kajitori.groups.leader_worker_sets.restart import Restart

INCARNATION_ANNOTATION = "groups.kajitori.dev/incarnation"
DRAINING_ANNOTATION = "groups.kajitori.dev/draining-since"
COMPLETE_ANNOTATION = "groups.kajitori.dev/complete"
RESTARTS_ANNOTATION = "groups.kajitori.dev/restarts"
RESTARTED_BECAUSE_ANNOTATION = "groups.kajitori.dev/restarted-because"


class OwnerReference(msgspec.Struct, frozen=True, rename="camel"):
    uid: str = ""
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: tuple[str, ...] = ()

    def controlled_by(self, uid: str) -> bool:
        return any(owner.controller and owner.uid == uid for owner in self.owner_references)

    def controller(self) -> OwnerReference | None:
        return next((owner for owner in self.owner_references if owner.controller), None)


class Terminated(msgspec.Struct, frozen=True, rename="camel"):
    exit_code: int = 0
    signal: int | None = None
    reason: str = ""
    message: str = ""
    finished_at: str | None = None


class Running(msgspec.Struct, frozen=True):
    """That it runs is all that matters."""


class ContainerState(msgspec.Struct, frozen=True, rename="camel"):
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class Condition(msgspec.Struct, frozen=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()

    def has(self, condition: str) -> bool:
        return any(one.type == condition and one.status == "True" for one in self.conditions)


class ReadinessGate(msgspec.Struct, frozen=True, rename="camel"):
    condition_type: str = ""


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""
    readiness_gates: tuple[ReadinessGate, ...] = ()


class Pod(msgspec.Struct, frozen=True):
    """A pod of a group. What plans ask of every pod at every look is worked out once, when it is decoded.

    group, worker: from its labels, -1 if they say nothing sensible (see `identity`); worker 0 is the leader. revision: hash of its
    templates. owner_uid: of its controller. dying: it is being deleted. ready: it runs, is Ready, and is not dying.
    suspect: it is dying, has ended, or a container of it was restarted.
    """

    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()
    group: int = -1
    worker: int = -1
    revision: str = ""
    incarnation: str = ""
    owner_uid: str = ""
    dying: bool = False
    ready: bool = False
    suspect: bool = False

    def __post_init__(self) -> None:
        metadata, status = self.metadata, self.status
        owner = metadata.controller()
        dying = metadata.deletion_timestamp is not None
        work_out = msgspec.structs.force_setattr
        work_out(self, "group", group_of_label(metadata.labels.get(v1.GROUP_INDEX_LABEL)))
        work_out(self, "worker", index_of_label(metadata.labels.get(v1.WORKER_INDEX_LABEL)))
        work_out(self, "revision", metadata.labels.get(v1.REVISION_LABEL, ""))
        work_out(self, "incarnation", metadata.annotations.get(INCARNATION_ANNOTATION, ""))
        work_out(self, "owner_uid", owner.uid if owner else "")
        work_out(self, "dying", dying)
        work_out(self, "ready", not dying and status.phase == "Running" and status.has("Ready"))
        containers = (*status.container_statuses, *status.init_container_statuses)
        ended = status.phase in ("Failed", "Succeeded")
        work_out(self, "suspect", dying or ended or any(one.restart_count for one in containers))

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def pending(self) -> bool:
        return self.status.phase == "Pending"


class GangObject(msgspec.Struct, frozen=True):
    """What another scheduler knows of a group."""

    metadata: Metadata


class OtherSchedulers(msgspec.Struct, frozen=True):
    """What the ways of placing gangs need that matter to a set. All by the name of the way.

    kinds: those that the cluster serves. absent: those that it does not. objects: of the set, as they are.
    """

    kinds: Mapping[str, Resource] = {}
    absent: frozenset[str] = frozenset()
    objects: Mapping[str, Sequence[GangObject]] = {}


class Claim(msgspec.Struct, frozen=True):
    """A PersistentVolumeClaim."""

    metadata: Metadata


def label_index(labels: Mapping[str, str], label: str) -> int:
    """The number in a label; -1 if it says nothing sensible."""
    return index_of_label(labels.get(label))


class ServiceSpec(msgspec.Struct, frozen=True, rename="camel"):
    selector: dict[str, str] = {}
    publish_not_ready_addresses: bool = False


class Service(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()


class Revision(msgspec.Struct, frozen=True):
    """A ControllerRevision: the templates as they were, and its place in their order."""

    metadata: Metadata
    revision: int = 0
    data: dict[str, Any] = {}

    @property
    def hash(self) -> str:
        return self.metadata.labels.get(v1.REVISION_LABEL, "")


class RollingUpdate(msgspec.Struct, frozen=True):
    partition: int = 0


class UpdateStrategy(msgspec.Struct, frozen=True, rename="camel"):
    rolling_update: RollingUpdate = RollingUpdate()


class StatefulSetSpec(msgspec.Struct, frozen=True, rename="camel"):
    replicas: int = 1
    update_strategy: UpdateStrategy = UpdateStrategy()


class StatefulSet(msgspec.Struct, frozen=True):
    """Of leaders, or of the workers of one leader; only sets that ask for StatefulSets have any."""

    metadata: Metadata
    spec: StatefulSetSpec = StatefulSetSpec()


class Refusal(msgspec.Struct, frozen=True):
    """What the API server said of a pod that it did not take. until: not to be tried again before, seconds since 1970."""

    message: str
    until: float


def place_of(pod: Pod) -> str:
    """What two pods have in common of which one took the other's place: who made them, and their name."""
    return f"{pod.owner_uid}/{pod.name}"


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the plan of one set depends on.

    pods, services, revisions, claims, stateful_sets: those labelled with the set's name in its namespace, whoever owns them.
    now: seconds since 1970. token: fresh for each reconcile; names the incarnations that this plan begins.
    restarts: for each group index the end that an earlier plan decided, until the group is there anew.
    nodes: those of the cluster, if pods wait for one. trouble: what the last attempt to carry out a plan ran into.
    taken: names (`Pod x-0`, `Service x`) that a create found in use by an object of somebody else, which is in words.
    gang_default: how groups are placed on this cluster if nobody says. schedulers: what is known of others. idle: uids of draining leaders whose engine says
    that it has nothing to do. lives: what is known of groups that were restarted. unrecorded: restarts that the status
    does not tell of yet. node_states: what is wrong with nodes of pods that do not end. commands_refused: why no command
    can be run in containers; command_failures: what became of one, by group. pods_before: uids of pods of StatefulSets
    when the set was looked at last, by `place_of`.
    """

    set: v1.LeaderWorkerSet
    pods: Sequence[Pod] = ()
    services: Sequence[Service] = ()
    revisions: Sequence[Revision] = ()
    claims: Sequence[Claim] = ()
    stateful_sets: Sequence[StatefulSet] = ()
    now: float = 0.0
    token: str = ""
    restarts: Mapping[int, Restart] = field(default_factory=dict[int, "Restart"])
    nodes: Nodes | None = None
    trouble: Reason | None = None
    taken: Mapping[str, str] = field(default_factory=dict[str, str])
    gang_default: GangDefault = "None"
    schedulers: OtherSchedulers = OtherSchedulers()
    idle: Collection[str] = ()
    refused: Mapping[int, Refusal] = field(default_factory=dict[int, Refusal])
    lives: Mapping[int, Life] = field(default_factory=dict[int, "Life"])
    unrecorded: Sequence[v1.GroupRestart] = ()
    node_states: Mapping[str, str] = field(default_factory=dict[str, str])
    commands_refused: str = ""
    command_failures: Mapping[int, str] = field(default_factory=dict[int, str])
    pods_before: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def uid(self) -> str:
        return self.set.metadata.uid or ""

    @property
    def name(self) -> str:
        return self.set.metadata.name or ""

    @property
    def namespace(self) -> str:
        return self.set.metadata.namespace or ""

    def owner_entry(self) -> dict[str, Any]:
        """How everything that is made for the set names it in `ownerReferences`."""
        return {
            "apiVersion": f"{v1.GROUP}/v1",
            "kind": "LeaderWorkerSet",
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
