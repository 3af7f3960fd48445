"""Carries out a plan: requests in the order that a crash between any two of them is harmless.

First what pods depend on (the position of a rollout, Services), then deletes, then all leaders, then all workers
whose leader was made. An error of one request does not keep the others of its kind from being tried.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import (
    CONTROLLER_REVISIONS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICES,
    STATEFUL_SETS,
)
from kajitori.base.clock import rfc3339, rfc3339_micro
from kajitori.base.errors import AlreadyExists, Forbidden
from kajitori.control.cache import Informer
from kajitori.groups.leader_worker_sets.actions import (
    Action,
    AnnotateRevision,
    ApplyStatefulSet,
    BeginDrain,
    CallOffDrain,
    CreateGangObject,
    CreatePod,
    CreateRevision,
    CreateService,
    DeleteClaim,
    DeleteGangObject,
    DeletePod,
    DeleteRevision,
    DeleteService,
    LabelPod,
    MarkComplete,
    MendService,
    NoteOnLeader,
    OwnClaim,
    Plan,
    ReleaseWorkload,
    SetGroupReady,
)
from kajitori.groups.leader_worker_sets.gang_kinds import GangKinds
from kajitori.groups.leader_worker_sets.gang_release import deadline_seconds
from kajitori.groups.leader_worker_sets.memory import Memory
from kajitori.groups.leader_worker_sets.observed import (
    COMPLETE_ANNOTATION,
    DRAINING_ANNOTATION,
    Claim,
    Pod,
    Revision,
    Service,
    StatefulSet,
    World,
)
from kajitori.groups.leader_worker_sets.restart import Restart
from kajitori.groups.requests import Requests
from kajitori.kube.client import Client
from kajitori.kube.events import EventRecorder

FIELD_MANAGER = "kajitori-groups"


class Informers(msgspec.Struct, frozen=True):
    """The caches that learn of what was done."""

    pods: Informer[Pod]
    services: Informer[Service]
    revisions: Informer[Revision]
    claims: Informer[Claim]
    stateful_sets: Informer[StatefulSet]
    gangs: GangKinds


class Execution:
    """One plan of one set on its way."""

    def __init__(
        self, client: Client, informers: Informers, recorder: EventRecorder, world: World, memory: Memory
    ) -> None:
        self._client = client
        self._informers = informers
        self._recorder = recorder
        self._world = world
        self._memory = memory
        self._requests = Requests(
            client,
            world.namespace,
            world.uid,
            lambda name, holder: memory.note_taken(name, holder, world.now),
            found_by=(v1.SET_NAME_LABEL, v1.GROUP_INDEX_LABEL, v1.WORKER_INDEX_LABEL),
        )

    async def carry_out(self, plan: Plan) -> None:
        """Raises the first error, when all was tried that could be."""
        await self._requests.all(self._do, plan.before)
        self._requests.raise_first()
        self._memory.note_plan(self._world, plan)
        await self._requests.all(self._delete_pod, plan.deletes)
        creates = [] if self._names_lead_elsewhere() else plan.creates
        await self._requests.all(self._create_pod, (create for create in creates if create.worker == 0))
        failed = {
            create.group for create in creates if create.worker == 0 and not self._is_there(create.name)
        }
        workers = (create for create in creates if create.worker > 0 and create.group not in failed)
        await self._requests.all(self._create_pod, workers)
        await self._requests.all(self._do, plan.after)
        self._requests.raise_first()

    def _names_lead_elsewhere(self) -> bool:
        """Whether a Service or a revision that the pods need turned out to be somebody else's just now."""
        found = self._memory.taken(self._world.now).keys() - self._world.taken.keys()
        return any(name.startswith(("Service ", "ControllerRevision ")) for name in found)

    def _is_there(self, name: str) -> bool:
        pod = self._informers.pods.get(self._world.namespace, name)
        return pod is not None and pod.metadata.controlled_by(self._world.uid)

    async def _do(self, action: Action) -> None:
        match action:
            case CreateService(body):
                await self._requests.create(SERVICES, body, Service, self._informers.services)
            case MendService(service, spec):
                # In a merge patch only a null takes out what another writer put in.
                selector = dict.fromkeys(service.spec.selector) | spec["selector"]
                mended = {"spec": spec | {"selector": selector}}
                await self._requests.patch(SERVICES, service, mended, Service, self._informers.services)
            case DeleteService(service):
                await self._requests.delete(SERVICES, service, self._informers.services)
            case CreateRevision() | AnnotateRevision() | DeleteRevision():
                await self._keep_revision(action)
            case CreateGangObject() | DeleteGangObject() | ReleaseWorkload():
                world = self._world
                await self._informers.gangs.carry_out(action, world.namespace, world.uid, self._memory)
            case MarkComplete() | SetGroupReady() | BeginDrain() | CallOffDrain():
                await self._note_on_leader(action)
            case NoteOnLeader(leader, _, notes, restart, because):
                reason = restart.blame.sentence() if restart and restart.blame else None
                await self._annotate_pod(leader, notes | ({because: reason} if reason else {}))
            case DeleteClaim(claim):
                await self._requests.delete(PERSISTENT_VOLUME_CLAIMS, claim, self._informers.claims)
            case OwnClaim(claim, owners):
                await self._requests.patch(
                    PERSISTENT_VOLUME_CLAIMS,
                    claim,
                    {"metadata": {"ownerReferences": owners}},
                    Claim,
                    self._informers.claims,
                )
            case LabelPod(pod, labels):
                await self._requests.patch(
                    PODS, pod, {"metadata": {"labels": labels}}, Pod, self._informers.pods
                )
            case ApplyStatefulSet(body):
                await self._apply_stateful_set(body)
            case CreatePod():
                await self._create_pod(action)
            case DeletePod():
                await self._delete_pod(action)

    async def _keep_revision(self, action: CreateRevision | AnnotateRevision | DeleteRevision) -> None:
        match action:
            case CreateRevision(body):
                await self._requests.create(CONTROLLER_REVISIONS, body, Revision, self._informers.revisions)
            case AnnotateRevision(revision, annotations, number):
                patch: dict[str, Any] = {"metadata": {"annotations": annotations}}
                if number is not None:
                    patch["revision"] = number
                await self._requests.patch(
                    CONTROLLER_REVISIONS, revision, patch, Revision, self._informers.revisions
                )
            case DeleteRevision(revision):
                await self._requests.delete(CONTROLLER_REVISIONS, revision, self._informers.revisions)

    async def _note_on_leader(self, action: MarkComplete | SetGroupReady | BeginDrain | CallOffDrain) -> None:
        match action:
            case MarkComplete(leader):
                await self._annotate_pod(leader, {COMPLETE_ANNOTATION: "true"})
            case SetGroupReady():
                await self._set_group_ready(action)
            case BeginDrain(leader, gate, since):
                # Its time first: without it nobody would know what the condition is for.
                await self._annotate_pod(leader, {DRAINING_ANNOTATION: rfc3339_micro(since)})
                message = "the group is about to be stopped"
                await self._set_group_ready(SetGroupReady(leader, gate, False, "Draining", message))
            case CallOffDrain(leader):
                await self._annotate_pod(leader, {DRAINING_ANNOTATION: None})

    async def _annotate_pod(self, pod: Pod, annotations: dict[str, str | None]) -> None:
        patch = {"metadata": {"annotations": annotations}}
        await self._requests.patch(PODS, pod, patch, Pod, self._informers.pods)

    async def _set_group_ready(self, action: SetGroupReady) -> None:
        condition = {
            "type": action.gate,
            "status": "True" if action.ready else "False",
            "reason": action.reason,
            "message": action.message,
            "lastTransitionTime": rfc3339(self._world.now),
        }
        await self._requests.patch(
            PODS,
            action.leader,
            {"status": {"conditions": [condition]}},
            Pod,
            self._informers.pods,
            subresource="status",
            # The conditions of others stay.
            patch_type="strategic",
        )

    async def _create_pod(self, create: CreatePod) -> None:
        try:
            await self._make_pod(create)
        except Forbidden as error:
            # A group that gives back what it holds waits with the rest; any other is tried until it is whole.
            if deadline_seconds(self._world.set) is None:
                raise
            self._memory.note_refused(create.group, error.message, self._world.now)

    async def _make_pod(self, create: CreatePod) -> None:
        for claim in create.claims:
            if self._informers.claims.get(self._world.namespace, claim["metadata"]["name"]) is None:
                await self._create_claim(claim)
        pod = await self._requests.create(PODS, create.body, Pod, self._informers.pods)
        if pod is not None and create.restart is not None:
            await self._tell_restart(pod, create.group, create.restart)

    async def _create_claim(self, body: dict[str, Any]) -> None:
        # One that is there already is used, whoever made it, as StatefulSets do.
        with contextlib.suppress(AlreadyExists):
            made = await self._client.create(PERSISTENT_VOLUME_CLAIMS, body, type=Claim)
            self._informers.claims.remember(made)

    async def _tell_restart(self, pod: Pod, group: int, restart: Restart) -> None:
        blame = restart.blame
        if blame is None:
            return
        message = f"Group {group} of {self._world.name} was restarted: {blame.sentence()}"
        await self._recorder.record(
            pod,
            "GroupRestarted",
            message,
            action="Recreate",
            related=pod_reference(self._world.namespace, blame.pod, blame.pod_uid),
            resource=PODS,
        )

    async def _apply_stateful_set(self, body: dict[str, Any]) -> None:
        applied = await self._client.apply(STATEFUL_SETS, body, field_manager=FIELD_MANAGER, type=StatefulSet)
        self._informers.stateful_sets.remember(applied)

    async def _delete_pod(self, delete: DeletePod) -> None:
        policy = "Foreground" if delete.foreground else None
        await self._requests.delete(PODS, delete.pod, self._informers.pods, policy)


def pod_reference(namespace: str, name: str, uid: str) -> dict[str, Any]:
    """A pod that may be gone, as `kajitori.kube.objects.reference` takes it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "uid": uid},
    }
