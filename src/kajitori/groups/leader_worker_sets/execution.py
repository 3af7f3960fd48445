"""Carries out a plan: requests in the order that a crash between any two of them is harmless.

First what pods depend on (the position of a rollout, Services), then deletes, then all leaders, then all workers
whose leader was made, at most so many requests at once. What the server answers goes into the cache straight away,
so that the next plan knows of it. An error of one request does not keep the others from being tried; the first is
raised at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec

from kajitori.api.resource import (
    CONTROLLER_REVISIONS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
)
from kajitori.base.clock import rfc3339, rfc3339_micro
from kajitori.base.errors import AlreadyExists, Conflict, Forbidden, KajitoriError, NotFound
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
    Metadata,
    Pod,
    Revision,
    Service,
    StatefulSet,
    World,
)
from kajitori.groups.leader_worker_sets.restart import Restart
from kajitori.kube.client import Client
from kajitori.kube.events import EventRecorder
from kajitori.kube.requests import Propagation

A = TypeVar("A")

REQUESTS_AT_ONCE = 32
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
        self._limit = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._errors: list[KajitoriError] = []

    async def carry_out(self, plan: Plan) -> None:
        """Raises the first error, when all was tried that could be."""
        await self._all(self._do, plan.before)
        self._raise_first()
        self._memory.note_plan(self._world, plan)
        await self._all(self._delete_pod, plan.deletes)
        creates = [] if self._names_lead_elsewhere() else plan.creates
        await self._all(self._create_pod, (create for create in creates if create.worker == 0))
        failed = {
            create.group for create in creates if create.worker == 0 and not self._is_there(create.name)
        }
        workers = (create for create in creates if create.worker > 0 and create.group not in failed)
        await self._all(self._create_pod, workers)
        await self._all(self._do, plan.after)
        self._raise_first()

    def _names_lead_elsewhere(self) -> bool:
        """Whether a Service or a revision that the pods need turned out to be somebody else's just now."""
        found = self._memory.taken(self._world.now).keys() - self._world.taken.keys()
        return any(name.startswith(("Service ", "ControllerRevision ")) for name in found)

    def _is_there(self, name: str) -> bool:
        pod = self._informers.pods.get(self._world.namespace, name)
        return pod is not None and pod.metadata.controlled_by(self._world.uid)

    async def _all(self, request: Callable[[A], Awaitable[None]], actions: Iterable[A]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for action in actions:
                tasks.create_task(self._try(request, action))

    async def _try(self, request: Callable[[A], Awaitable[None]], action: A) -> None:
        async with self._limit:
            try:
                await request(action)
            except KajitoriError as error:
                self._errors.append(error)

    def _raise_first(self) -> None:
        if self._errors:
            raise self._errors[0]

    async def _do(self, action: Action) -> None:
        match action:
            case CreateService(body):
                await self._create(SERVICES, body, Service, self._informers.services)
            case MendService(service, spec):
                # In a merge patch only a null takes out what another writer put in.
                selector = dict.fromkeys(service.spec.selector) | spec["selector"]
                mended = {"spec": spec | {"selector": selector}}
                await self._patch(SERVICES, service, mended, Service, self._informers.services)
            case DeleteService(service):
                await self._delete(SERVICES, service, self._informers.services)
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
                await self._delete(PERSISTENT_VOLUME_CLAIMS, claim, self._informers.claims)
            case OwnClaim(claim, owners):
                await self._patch(
                    PERSISTENT_VOLUME_CLAIMS,
                    claim,
                    {"metadata": {"ownerReferences": owners}},
                    Claim,
                    self._informers.claims,
                )
            case LabelPod(pod, labels):
                await self._patch(PODS, pod, {"metadata": {"labels": labels}}, Pod, self._informers.pods)
            case ApplyStatefulSet(body):
                await self._apply_stateful_set(body)
            case CreatePod():
                await self._create_pod(action)
            case DeletePod():
                await self._delete_pod(action)

    async def _keep_revision(self, action: CreateRevision | AnnotateRevision | DeleteRevision) -> None:
        match action:
            case CreateRevision(body):
                await self._create(CONTROLLER_REVISIONS, body, Revision, self._informers.revisions)
            case AnnotateRevision(revision, annotations, number):
                patch: dict[str, Any] = {"metadata": {"annotations": annotations}}
                if number is not None:
                    patch["revision"] = number
                await self._patch(CONTROLLER_REVISIONS, revision, patch, Revision, self._informers.revisions)
            case DeleteRevision(revision):
                await self._delete(CONTROLLER_REVISIONS, revision, self._informers.revisions)

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
        await self._patch(PODS, pod, patch, Pod, self._informers.pods)

    async def _set_group_ready(self, action: SetGroupReady) -> None:
        condition = {
            "type": action.gate,
            "status": "True" if action.ready else "False",
            "reason": action.reason,
            "message": action.message,
            "lastTransitionTime": rfc3339(self._world.now),
        }
        metadata = action.leader.metadata
        # Strategic: the conditions of others stay.
        patch = {"metadata": {"uid": metadata.uid}, "status": {"conditions": [condition]}}
        with contextlib.suppress(NotFound, Conflict):
            changed = await self._client.patch(
                PODS,
                metadata.name,
                patch,
                namespace=metadata.namespace,
                patch_type="strategic",
                subresource="status",
                type=Pod,
            )
            self._informers.pods.remember(changed)

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
        pod = await self._create(PODS, create.body, Pod, self._informers.pods)
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

    async def _create(
        self, resource: Resource, body: dict[str, Any], kind: type[Any], informer: Informer[Any]
    ) -> Any:
        """The created object; None if its name is in use."""
        name: str = body["metadata"]["name"]
        try:
            made = await self._client.create(resource, body, type=kind)
        except AlreadyExists:
            await self._look_at_holder(resource, name, kind, informer)
            return None
        informer.remember(made)
        return made

    async def _look_at_holder(
        self, resource: Resource, name: str, kind: type[Any], informer: Informer[Any]
    ) -> None:
        """The name is in use: by ourselves, so that the cache is late, or by somebody else."""
        try:
            held = await self._client.get(resource, name, self._world.namespace, type=kind)
        except NotFound as gone:
            raise Conflict(f"{resource.kind} {name} was there a moment ago", reason="Conflict") from gone
        metadata: Metadata = held.metadata
        if metadata.controlled_by(self._world.uid):
            informer.remember(held)
            return
        owner = metadata.controller()
        holder = f"of {owner.kind} {owner.name}" if owner else "of somebody else"
        self._memory.note_taken(f"{resource.kind} {name}", holder, self._world.now)

    async def _patch(
        self,
        resource: Resource,
        obj: Pod | Service | Revision | Claim,
        patch: dict[str, Any],
        kind: type[Any],
        informer: Informer[Any],
    ) -> None:
        # With its uid in the patch, an object that was deleted and made again is not taken for the one we saw.
        patch = {**patch, "metadata": {**patch.get("metadata", {}), "uid": obj.metadata.uid}}
        try:
            changed = await self._client.patch(
                resource, obj.metadata.name, patch, namespace=obj.metadata.namespace, type=kind
            )
        except (NotFound, Conflict):
            # Gone or replaced: the watch will tell, and the next plan sees it.
            return
        informer.remember(changed)

    async def _apply_stateful_set(self, body: dict[str, Any]) -> None:
        applied = await self._client.apply(STATEFUL_SETS, body, field_manager=FIELD_MANAGER, type=StatefulSet)
        self._informers.stateful_sets.remember(applied)

    async def _delete_pod(self, delete: DeletePod) -> None:
        policy = "Foreground" if delete.foreground else None
        await self._delete(PODS, delete.pod, self._informers.pods, policy)

    async def _delete(
        self,
        resource: Resource,
        obj: Pod | Service | Revision | Claim,
        informer: Informer[Any],
        propagation_policy: Propagation | None = None,
    ) -> None:
        try:
            lingering = await self._client.delete(
                resource,
                obj.metadata.name,
                obj.metadata.namespace,
                propagation_policy=propagation_policy,
                preconditions_uid=obj.metadata.uid,
            )
        except (NotFound, Conflict):
            lingering = None
        if lingering is None:
            informer.forget(obj)
        else:
            informer.remember(msgspec.convert(lingering, type(obj)))


def pod_reference(namespace: str, name: str, uid: str) -> dict[str, Any]:
    """A pod that may be gone, as `kajitori.kube.objects.reference` takes it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "uid": uid},
    }
