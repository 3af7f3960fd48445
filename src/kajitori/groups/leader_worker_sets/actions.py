"""What a plan asks to be done, as values: the controller carries them out, tests and dry runs read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import field

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import Resource
from kajitori.groups.leader_worker_sets.budget import Life
from kajitori.groups.leader_worker_sets.gang import GangChoice
from kajitori.groups.leader_worker_sets.in_place import RestartContainer
from kajitori.groups.leader_worker_sets.observed import Claim, GangObject, Pod, Revision, Service
from kajitori.groups.leader_worker_sets.restart import Blame, Restart


class CreatePod(msgspec.Struct, frozen=True):
    """Make one pod, its claims first. A worker is made only after its leader was.

    claims: volume claims to make if there are none of their names. restart: what the pod comes back from. gang: what it was marked
    with, if its scheduler wants to know more.
    """

    group: int
    worker: int
    body: dict[str, Any]
    claims: list[dict[str, Any]] = []
    restart: Restart | None = None
    gang: GangChoice | None = None

    @property
    def name(self) -> str:
        return self.body["metadata"]["name"]


class CreateGangObject(msgspec.Struct, frozen=True):
    """Make what another scheduler must know of a group before its pods are there."""

    resource: Resource
    body: dict[str, Any]


class DeleteGangObject(msgspec.Struct, frozen=True):
    resource: Resource
    object: GangObject


class ReleaseWorkload(msgspec.Struct, frozen=True):
    """Delete Kueue's record of a gang of this name, so that it lets go of the pods."""

    name: str


class DeletePod(msgspec.Struct, frozen=True):
    """Delete this very pod (its uid is a precondition). foreground: what it owns goes first."""

    pod: Pod
    foreground: bool = False


class LabelPod(msgspec.Struct, frozen=True):
    """Put labels on a pod that somebody else made."""

    pod: Pod
    labels: dict[str, str]


class ApplyStatefulSet(msgspec.Struct, frozen=True):
    """Make the StatefulSet what the body says."""

    body: dict[str, Any]


class MarkComplete(msgspec.Struct, frozen=True):
    """Note on the leader that all pods of its group were there, so that a missing one is a loss from now on."""

    leader: Pod


class SetGroupReady(msgspec.Struct, frozen=True):
    """Write the condition of the leader's readiness gate, and why."""

    leader: Pod
    gate: str
    ready: bool
    reason: str
    message: str


class BeginDrain(msgspec.Struct, frozen=True):
    """Note on the leader that its group is about to be stopped, then take it out of the endpoints.

    since: seconds since 1970.
    """

    leader: Pod
    gate: str
    since: float


class CallOffDrain(msgspec.Struct, frozen=True):
    """The group shall serve after all."""

    leader: Pod


class NoteOnLeader(msgspec.Struct, frozen=True):
    """Write on the leader what becomes of its group while its pods stay.

    restart, because: the restart that it is about, and the annotation that takes its sentence.
    """

    leader: Pod
    group: int
    annotations: dict[str, str | None]
    restart: Restart | None = None
    because: str = ""


class CreateService(msgspec.Struct, frozen=True):
    body: dict[str, Any]


class MendService(msgspec.Struct, frozen=True):
    """Put back the fields of the spec that make the Service ours."""

    service: Service
    spec: dict[str, Any]


class DeleteService(msgspec.Struct, frozen=True):
    service: Service


class CreateRevision(msgspec.Struct, frozen=True):
    body: dict[str, Any]


class AnnotateRevision(msgspec.Struct, frozen=True):
    """Write where a rollout stands. number: a new place in the order of revisions, or None."""

    revision: Revision
    annotations: dict[str, str]
    number: int | None = None


class DeleteRevision(msgspec.Struct, frozen=True):
    revision: Revision


class DeleteClaim(msgspec.Struct, frozen=True):
    claim: Claim


class OwnClaim(msgspec.Struct, frozen=True):
    """Let the claim go with the set, or not any more."""

    claim: Claim
    owners: list[dict[str, Any]]


Action = (
    CreatePod
    | DeletePod
    | MarkComplete
    | NoteOnLeader
    | SetGroupReady
    | BeginDrain
    | CallOffDrain
    | CreateService
    | MendService
    | DeleteService
    | CreateRevision
    | AnnotateRevision
    | DeleteRevision
    | DeleteClaim
    | OwnClaim
    | LabelPod
    | ApplyStatefulSet
    | CreateGangObject
    | DeleteGangObject
    | ReleaseWorkload
)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event about the set. group, blame: the group that restarts, and who began it (the related object)."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"
    action: str = ""
    group: int = -1
    blame: Blame | None = None

    def text(self) -> str:
        return f"{self.message}: {self.blame.story()}" if self.blame else self.message


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Actions in order, and what to say.

    before: must be there before any pod is (revisions, Services). status: as it shall be written, if it differs.
    restarts: those on their way after this plan, by group; handed back in with the next world, as are lives.
    begun: the restarts that this very plan decides. restart_containers: done last. again_after_seconds: look again even if nothing changes.
    """

    before: list[Action] = field(default_factory=list[Action])
    deletes: list[DeletePod] = field(default_factory=list[DeletePod])
    creates: list[CreatePod] = field(default_factory=list[CreatePod])
    after: list[Action] = field(default_factory=list[Action])
    events: list[Event] = field(default_factory=list[Event])
    status: v1.LeaderWorkerSetStatus
    restarts: Mapping[int, Restart] = field(default_factory=dict[int, Restart])
    begun: Mapping[int, Restart] = field(default_factory=dict[int, Restart])
    lives: Mapping[int, Life] = field(default_factory=dict[int, Life])
    restart_containers: list[RestartContainer] = field(default_factory=list[RestartContainer])
    again_after_seconds: float | None = None
