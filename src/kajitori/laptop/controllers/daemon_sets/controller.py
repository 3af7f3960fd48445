"""The DaemonSet controller: follows its plan, keeps revisions, creates and deletes pods, writes status.

Pods that it creates or deletes are put into the cache at once, so that a late watch never makes it do it twice.
"""

from __future__ import annotations

import msgspec

from kajitori.api.resource import DAEMON_SETS, NODES, PODS
from kajitori.base.errors import ApiError, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result, keys_of_owner
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers import ownership
from kajitori.laptop.controllers.amounts import status_patch
from kajitori.laptop.controllers.daemon_sets.backoff import FailureBackoff
from kajitori.laptop.controllers.daemon_sets.history import find_present, hash_of, obsolete
from kajitori.laptop.controllers.daemon_sets.placement import HASH_LABEL, Rules, pod_body, target_node
from kajitori.laptop.controllers.daemon_sets.plan import Changes, Layout, World, plan_changes, plan_status
from kajitori.laptop.controllers.daemon_sets.views import DaemonSetView
from kajitori.laptop.controllers.history import History
from kajitori.laptop.controllers.ownership import would_adopt
from kajitori.laptop.controllers.pod_writes import PodWrites
from kajitori.laptop.controllers.pods import (
    PODS_BY_CONTROLLER,
    claim_pods,
    controller_index,
    seconds_until_available,
)
from kajitori.laptop.controllers.revisions import RevisionView, data_hash, data_of, revision_body
from kajitori.laptop.controllers.views import NodeView, PodView
from kajitori.model.selection import is_empty

COMPONENT = "daemonset-controller"
# So often in a row a new revision may find its name taken by another template's.
_MOST_COLLISIONS = 20


class DaemonSets:
    """Reconciles one DaemonSet at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._recorder = runtime.recorder(COMPONENT)
        self._history = History(runtime)
        self._backoff = FailureBackoff()
        self._sets: Informer[DaemonSetView] = runtime.informer(DAEMON_SETS, DaemonSetView)
        self._nodes: Informer[NodeView] = runtime.informer(NODES, NodeView)
        self._pods: Informer[PodView] = runtime.informer(
            PODS, PodView, indexers={PODS_BY_CONTROLLER: controller_index}
        )
        self._writes = PodWrites(self._client, self._pods, self._recorder)
        controller = runtime.controller("daemonset", self.reconcile, workers=2)
        controller.watch(self._sets)
        controller.watch(self._history.revisions, keys_of_owner("DaemonSet", "apps"))
        controller.watch(self._pods, keys_of_owner("DaemonSet", "apps"))
        controller.watch(self._pods, self._may_adopt, when=lambda old, new: new is not None)
        controller.watch(self._nodes, self._keys_of_node, when=_node_matters)

    def _may_adopt(self, pod: PodView) -> list[Key]:
        return would_adopt(self._sets.list(pod.metadata.namespace), pod)

    def _keys_of_node(self, node: NodeView) -> list[Key]:
        """Sets that have something to do on the node, or to count there no more."""
        name = node.metadata.name
        gone = self._nodes.get("", name) is None
        keys: list[Key] = []
        for one in self._sets.list():
            place = Rules(one).place(node)
            pods = self._pods.by_index(PODS_BY_CONTROLLER, one.metadata.uid)
            present = any(target_node(pod) == name for pod in pods)
            if present != place.run or gone or (present and one.status.number_misscheduled):
                keys.append(Key(one.metadata.namespace, one.metadata.name))
        return keys

    async def reconcile(self, key: Key) -> Result:
        daemon_set = self._sets.get(*key)
        if daemon_set is None or daemon_set.metadata.deletion_timestamp is not None:
            return None
        if is_empty(daemon_set.spec.selector):
            text = "This daemon set is selecting all pods. A non-empty selector is required."
            await self._recorder.record(daemon_set, "SelectingAll", text, type="Warning")
            return None
        pods = await self._claim(daemon_set)
        present, old = await self._present_revision(daemon_set, pods)
        layout = Layout(self._look(daemon_set, pods, hash_of(present)))
        changes = plan_changes(layout)
        problem = await self._follow(daemon_set, changes, layout.world)
        mine = self._pods.by_index(PODS_BY_CONTROLLER, daemon_set.metadata.uid)
        layout = Layout(self._look(daemon_set, mine, hash_of(present)))
        await self._write_status(layout)
        if problem is not None:
            raise problem
        live = {pod.metadata.labels.get(HASH_LABEL, "") for pod in mine}
        for one in obsolete(old, live, daemon_set.spec.revision_history_limit):
            await self._history.delete(one)
        available = seconds_until_available(mine, daemon_set.spec.min_ready_seconds, self._clock.now())
        waits = [wait for wait in (available, changes.wait_seconds) if wait is not None]
        return After(min(waits) + 0.05) if waits else None

    def _look(self, daemon_set: DaemonSetView, pods: list[PodView], hash: str) -> World:
        now = self._clock.now()
        failed = {target_node(pod) for pod in pods if pod.status.phase == "Failed"}
        self._backoff.forget_old(now)
        return World(
            daemon_set=daemon_set,
            nodes=self._nodes.list(),
            pods=pods,
            hash=hash,
            backoff_seconds={
                node: self._backoff.remaining_seconds(_backoff_key(daemon_set, node), now) for node in failed
            },
            now=now,
        )

    async def _claim(self, daemon_set: DaemonSetView) -> list[PodView]:
        uid, namespace = daemon_set.metadata.uid, daemon_set.metadata.namespace
        candidates = self._pods.by_index(PODS_BY_CONTROLLER, uid)
        candidates += self._pods.by_index(PODS_BY_CONTROLLER, f"none/{namespace}")
        claims = claim_pods(daemon_set, daemon_set.spec.selector, candidates, adoptable=lambda pod: True)
        for pod in claims.release:
            await ownership.release(self._client, PODS, pod, uid)
        mine = claims.mine
        if claims.adopt and await ownership.still_there(self._client, DAEMON_SETS, daemon_set):
            for pod in claims.adopt:
                adopted = await ownership.adopt(self._client, PODS, pod, daemon_set)
                taken = msgspec.convert(adopted, PodView)
                self._pods.remember(taken)
                mine.append(taken)
        return mine

    async def _present_revision(
        self, daemon_set: DaemonSetView, pods: list[PodView]
    ) -> tuple[RevisionView, list[RevisionView]]:
        """The template's revision, made or made the newest where needed, and those of other templates."""
        revisions = await self._history.claim(DAEMON_SETS, daemon_set, daemon_set.spec.selector, release=True)
        present = find_present(daemon_set, revisions)
        found = present.found
        if found is None:
            return await self._new_revision(daemon_set, present.number), present.old
        if present.doubles:
            await self._unite(found, present.doubles, pods)
        if found.revision != present.number:
            found = await self._history.renumber(found, present.number)
        return found, present.old

    async def _new_revision(self, daemon_set: DaemonSetView, number: int) -> RevisionView:
        template = daemon_set.spec.template
        collisions = daemon_set.status.collision_count
        for _ in range(_MOST_COLLISIONS):
            hash = data_hash(data_of(template), collisions)
            made = await self._history.create(revision_body(daemon_set, template, number, hash, HASH_LABEL))
            if made is not None:
                return made
            collisions += 1
            await self._patch_status(daemon_set, {"collisionCount": collisions})
        raise ApiError(f"no name is free for a revision of DaemonSet {daemon_set.metadata.name}")

    async def _unite(self, kept: RevisionView, doubles: list[RevisionView], pods: list[PodView]) -> None:
        """Keep one of several revisions of the same template, and have all its pods say so."""
        hash, others = hash_of(kept), {hash_of(one) for one in doubles}
        for pod in pods:
            if pod.metadata.labels.get(HASH_LABEL, "") in others:
                patch: Object = {"metadata": {"uid": pod.metadata.uid, "labels": {HASH_LABEL: hash}}}
                await self._client.patch(PODS, pod.metadata.name, patch, namespace=pod.metadata.namespace)
        for one in doubles:
            await self._history.delete(one)

    async def _follow(self, daemon_set: DaemonSetView, changes: Changes, world: World) -> ApiError | None:
        """Do what is planned; returns the first failure. One node's failure keeps no other from its pod."""
        problem: ApiError | None = None
        for pod in changes.failed:
            self._backoff.note(_backoff_key(daemon_set, target_node(pod)), world.now)
            await self._tell_ended(daemon_set, pod, "FailedDaemonPod", "failed", "kill")
        for pod in changes.succeeded:
            await self._tell_ended(daemon_set, pod, "SucceededDaemonPod", "succeeded", "delete")
        for node in changes.create:
            try:
                await self._writes.create(daemon_set, pod_body(daemon_set, world.hash, node))
            except ApiError as error:
                # The next ones would fail alike.
                problem = error
                break
        for pod in changes.delete:
            try:
                await self._writes.delete(daemon_set, pod)
            except ApiError as error:
                problem = problem or error
        return problem

    async def _tell_ended(
        self, daemon_set: DaemonSetView, pod: PodView, reason: str, how: str, verb: str
    ) -> None:
        where = f"{pod.metadata.namespace}/{pod.metadata.name} on node {target_node(pod)}"
        text = f"Found {how} daemon pod {where}, will try to {verb} it"
        kind = "Warning" if how == "failed" else "Normal"
        await self._recorder.record(daemon_set, reason, text, type=kind)

    async def _write_status(self, layout: Layout) -> None:
        daemon_set, wanted = layout.world.daemon_set, plan_status(layout)
        if wanted != daemon_set.status:
            body = status_patch(
                wanted,
                ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"),
            )
            body.pop("collisionCount")
            await self._patch_status(daemon_set, body)

    async def _patch_status(self, daemon_set: DaemonSetView, body: Object) -> None:
        try:
            stored = await self._client.patch(
                DAEMON_SETS,
                daemon_set.metadata.name,
                {"metadata": {"uid": daemon_set.metadata.uid}, "status": body},
                namespace=daemon_set.metadata.namespace,
                subresource="status",
                type=DaemonSetView,
            )
        except NotFound:
            return
        self._sets.remember(stored)


def _backoff_key(daemon_set: DaemonSetView, node: str) -> tuple[str, int, str]:
    return daemon_set.metadata.uid, daemon_set.status.observed_generation, node


def _node_matters(old: NodeView | None, new: NodeView | None) -> bool:
    if old is None or new is None:
        return True
    return old.metadata.labels != new.metadata.labels or old.spec.taints != new.spec.taints


def register(runtime: Runtime) -> None:
    DaemonSets(runtime)
