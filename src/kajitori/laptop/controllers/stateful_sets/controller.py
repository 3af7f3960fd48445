"""The StatefulSet controller: follows its plan, keeps revisions, creates, fixes and deletes pods and their claims.

What it writes is put into the caches at once, so a late watch never makes it do a thing twice.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kajitori.api.resource import PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from kajitori.base.errors import AlreadyExists, ApiError, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result, keys_of_owner
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers import ownership
from kajitori.laptop.controllers.amounts import status_patch
from kajitori.laptop.controllers.history import History
from kajitori.laptop.controllers.ownership import would_adopt
from kajitori.laptop.controllers.pods import (
    PODS_BY_CONTROLLER,
    claim_pods,
    controller_index,
    seconds_until_available,
)
from kajitori.laptop.controllers.revisions import RevisionView, data_hash, data_of, obsolete, revision_body
from kajitori.laptop.controllers.stateful_sets import identity
from kajitori.laptop.controllers.stateful_sets.claims import Claims
from kajitori.laptop.controllers.stateful_sets.plan import (
    Action,
    CreatePod,
    DeletePod,
    FixPod,
    MakeClaims,
    OwnClaim,
    World,
    find_update_revision,
    plan_actions,
)
from kajitori.laptop.controllers.stateful_sets.status import ALWAYS, is_outdated, plan_status
from kajitori.laptop.controllers.stateful_sets.views import StatefulSetView
from kajitori.laptop.controllers.views import PodView, View

COMPONENT = "statefulset-controller"
HASH_LABEL = "controller.kubernetes.io/hash"


class StatefulSets:
    """Reconciles one StatefulSet at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._recorder = runtime.recorder(COMPONENT)
        self._history = History(runtime)
        self._sets: Informer[StatefulSetView] = runtime.informer(STATEFUL_SETS, StatefulSetView)
        self._pods: Informer[PodView] = runtime.informer(
            PODS, PodView, indexers={PODS_BY_CONTROLLER: controller_index}
        )
        claims: Informer[View] = runtime.informer(PERSISTENT_VOLUME_CLAIMS, View, metadata_only=True)
        self._claims = Claims(self._client, claims, self._recorder)
        controller = runtime.controller("statefulset", self.reconcile, workers=4)
        controller.watch(self._sets)
        controller.watch(self._pods, keys_of_owner("StatefulSet", "apps"))
        controller.watch(self._pods, self._may_adopt, when=lambda old, new: new is not None)
        # A pod may wait for an old claim of its name to go.
        controller.watch(claims, self._keys_of_claim, when=lambda old, new: new is None)

    def _may_adopt(self, pod: PodView) -> list[Key]:
        return would_adopt(self._sets.list(pod.metadata.namespace), pod)

    def _keys_of_claim(self, claim: View) -> list[Key]:
        ordinal = identity.parent_and_ordinal(claim.metadata.name)[1]
        return [
            Key(one.metadata.namespace, one.metadata.name)
            for one in self._sets.list(claim.metadata.namespace)
            if claim.metadata.name in identity.claim_names(one, ordinal).values()
        ]

    async def reconcile(self, key: Key) -> Result:
        stateful_set = self._sets.get(*key)
        if stateful_set is None:
            return None
        revisions = await self._history.claim(STATEFUL_SETS, stateful_set, stateful_set.spec.selector)
        pods = await self._claim(stateful_set)
        update, collisions = await self._update_revision(stateful_set, revisions)
        current = next(
            (one for one in revisions if one.metadata.name == stateful_set.status.current_revision), update
        )
        world = World(
            stateful_set=stateful_set,
            pods=pods,
            claims=self._claims.named(key.namespace, identity.all_claim_names(stateful_set, pods)),
            current=current,
            update=update,
            now=self._clock.now(),
        )
        problem, deleted = await self._follow(world)
        await self._write_status(world, collisions, deleted)
        live = {current.metadata.name, update.metadata.name, *map(identity.revision_of, pods)}
        for old in obsolete(revisions, live, stateful_set.spec.revision_history_limit):
            await self._history.delete(old)
        if problem is not None:
            raise problem
        wait = seconds_until_available(pods, stateful_set.spec.min_ready_seconds, world.now)
        return After(wait + 0.05) if wait is not None else None

    async def _claim(self, stateful_set: StatefulSetView) -> list[PodView]:
        uid, namespace = stateful_set.metadata.uid, stateful_set.metadata.namespace
        candidates = self._pods.by_index(PODS_BY_CONTROLLER, uid)
        candidates += self._pods.by_index(PODS_BY_CONTROLLER, f"none/{namespace}")
        claims = claim_pods(
            stateful_set,
            stateful_set.spec.selector,
            candidates,
            adoptable=lambda pod: True,
            belongs=lambda pod: identity.belongs(stateful_set, pod),
        )
        for pod in claims.release:
            await ownership.release(self._client, PODS, pod, uid)
        mine = claims.mine
        if claims.adopt and await ownership.still_there(self._client, STATEFUL_SETS, stateful_set):
            for pod in claims.adopt:
                adopted = await ownership.adopt(self._client, PODS, pod, stateful_set)
                mine.append(self._remember(msgspec.convert(adopted, PodView)))
        return mine

    def _remember(self, pod: PodView) -> PodView:
        self._pods.remember(pod)
        return pod

    async def _update_revision(
        self, stateful_set: StatefulSetView, revisions: list[RevisionView]
    ) -> tuple[RevisionView, int]:
        """The template's revision, made or made the newest where needed, and the collision count."""
        collisions = stateful_set.status.collision_count
        wanted = find_update_revision(stateful_set, revisions)
        if wanted.found is not None:
            if wanted.found.revision == wanted.number:
                return wanted.found, collisions
            return await self._history.renumber(wanted.found, wanted.number), collisions
        template = stateful_set.spec.template
        while True:
            hash = data_hash(data_of(template), collisions)
            body = revision_body(stateful_set, template, wanted.number, hash, HASH_LABEL)
            made = await self._history.create(body)
            if made is not None:
                return made, collisions
            collisions += 1

    async def _follow(self, world: World) -> tuple[ApiError | None, int]:
        """Do what is planned, up to the first failure; returns it, and how many pods went for the update."""
        deleted = 0
        for action in plan_actions(world):
            try:
                await self._do(world, action)
            except ApiError as error:
                return error, deleted
            deleted += isinstance(action, DeletePod) and action.for_update
        return None, deleted

    async def _do(self, world: World, action: Action) -> None:
        owner = world.stateful_set
        match action:
            case CreatePod():
                await self._create(world, action)
            case MakeClaims():
                await self._claims.make(owner, action.pod_name, action.claims, world.claims)
            case OwnClaim():
                await self._own(world, action)
            case FixPod():
                await self._fix(world, action)
            case DeletePod():
                await self._delete(owner, action.pod)

    async def _tell(self, owner: StatefulSetView, verb: str, pod_name: str, error: ApiError | None) -> None:
        what = f"{verb} Pod {pod_name} in StatefulSet {owner.metadata.name}"
        text = f"{what} successful" if error is None else f"{what} failed error: {error.message}"
        kind: Literal["Normal", "Warning"] = "Normal" if error is None else "Warning"
        reason = f"Successful{verb}" if error is None else f"Failed{verb}"
        await self._recorder.record(owner, reason, text, type=kind, action=verb)

    async def _create(self, world: World, action: CreatePod) -> None:
        owner, name = world.stateful_set, action.body["metadata"]["name"]
        try:
            await self._claims.make(owner, name, action.claims, world.claims)
            self._remember(await self._client.create(PODS, action.body, type=PodView))
        except AlreadyExists:
            # Somebody else's pod, or a cache that is behind: nothing to tell people.
            raise
        except ApiError as error:
            await self._tell(owner, "Create", name, error)
            raise
        await self._tell(owner, "Create", name, None)

    async def _own(self, world: World, action: OwnClaim) -> None:
        owner = world.stateful_set
        try:
            await self._claims.own(owner, action.claim, action.owners, action.conflict)
        except ApiError as error:
            await self._tell(owner, "Update", action.pod_name, error)
            raise
        if not action.quiet:
            await self._tell(owner, "Update", action.pod_name, None)

    async def _fix(self, world: World, action: FixPod) -> None:
        owner, name, namespace = (
            world.stateful_set,
            action.pod.metadata.name,
            action.pod.metadata.namespace,
        )
        try:
            await self._claims.make(owner, name, action.claims, world.claims)
            pod = await self._client.get(PODS, name, namespace)
            pod["metadata"]["labels"] = {**pod["metadata"].get("labels", {}), **action.labels}
            if action.storage:
                ordinal = identity.ordinal_of(action.pod)
                spec: Object = pod["spec"]
                spec["volumes"] = identity.with_claims(owner, ordinal, spec.get("volumes") or [])
            self._remember(await self._client.update(PODS, pod, type=PodView))
        except ApiError as error:
            await self._tell(owner, "Update", name, error)
            raise
        await self._tell(owner, "Update", name, None)

    async def _delete(self, owner: StatefulSetView, pod: PodView) -> None:
        try:
            left = await self._client.delete(
                PODS, pod.metadata.name, pod.metadata.namespace, preconditions_uid=pod.metadata.uid
            )
        except NotFound:
            left = None
        except ApiError as error:
            await self._tell(owner, "Delete", pod.metadata.name, error)
            raise
        if left is None:
            self._pods.forget(pod)
        else:
            self._remember(msgspec.convert(left, PodView))
        await self._tell(owner, "Delete", pod.metadata.name, None)

    async def _write_status(self, world: World, collisions: int, deleted: int) -> None:
        owner = world.stateful_set
        wanted = plan_status(world, collisions, deleted)
        if not is_outdated(owner.status, wanted):
            return
        try:
            stored = await self._client.patch(
                STATEFUL_SETS,
                owner.metadata.name,
                {"metadata": {"uid": owner.metadata.uid}, "status": status_patch(wanted, ALWAYS)},
                namespace=owner.metadata.namespace,
                subresource="status",
                type=StatefulSetView,
            )
        except NotFound:
            return
        self._sets.remember(stored)


def register(runtime: Runtime) -> None:
    StatefulSets(runtime)
