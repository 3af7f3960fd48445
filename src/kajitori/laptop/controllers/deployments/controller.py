"""The Deployment controller: finds or makes the ReplicaSet of the template, moves sizes step by step, writes status.

Decisions are in `plan` and `status`; this is what carries them to the server. Every size is
written with the version that it was decided on, so a decision on an outdated look is refused and made again.
"""

from __future__ import annotations

import msgspec

from kajitori.api.resource import DEPLOYMENTS, PODS, REPLICA_SETS
from kajitori.base.errors import AlreadyExists, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result, keys_of_owner
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object, owner_reference
from kajitori.laptop.controllers import ownership
from kajitori.laptop.controllers.amounts import status_patch
from kajitori.laptop.controllers.deployments import plan
from kajitori.laptop.controllers.deployments.status import next_look_seconds, plan_status
from kajitori.laptop.controllers.ownership import would_adopt
from kajitori.laptop.controllers.pods import PODS_BY_CONTROLLER, controller_index
from kajitori.laptop.controllers.views import DeploymentView, PodView, ReplicaSetView
from kajitori.model.selection import is_empty, matches

COMPONENT = "deployment-controller"

Note = tuple[str, str]


class Deployments:
    """Reconciles one Deployment at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._recorder = runtime.recorder(COMPONENT)
        self._deployments: Informer[DeploymentView] = runtime.informer(DEPLOYMENTS, DeploymentView)
        self._sets: Informer[ReplicaSetView] = runtime.informer(
            REPLICA_SETS, ReplicaSetView, indexers={PODS_BY_CONTROLLER: controller_index}
        )
        self._pods: Informer[PodView] = runtime.informer(
            PODS, PodView, indexers={PODS_BY_CONTROLLER: controller_index}
        )
        controller = runtime.controller("deployment", self.reconcile, workers=4)
        controller.watch(self._deployments)
        controller.watch(self._sets, keys_of_owner("Deployment", "apps"))
        controller.watch(self._sets, self._may_adopt, when=lambda old, new: new is not None)
        # Recreate waits for the last old pod to go; its ReplicaSet says nothing about pods that are ending.
        controller.watch(self._pods, self._keys_of_pod, when=lambda old, new: new is None)

    def _may_adopt(self, replica_set: ReplicaSetView) -> list[Key]:
        return would_adopt(self._deployments.list(replica_set.metadata.namespace), replica_set)

    def _keys_of_pod(self, pod: PodView) -> list[Key]:
        owner = pod.metadata.controller
        if owner is None or owner.kind != "ReplicaSet":
            return []
        replica_set = self._sets.get(pod.metadata.namespace, owner.name)
        above = replica_set.metadata.controller if replica_set is not None else None
        if above is None or above.kind != "Deployment":
            return []
        deployment = self._deployments.get(pod.metadata.namespace, above.name)
        if deployment is None or deployment.spec.strategy.type != "Recreate":
            return []
        return [Key(pod.metadata.namespace, above.name)]

    async def reconcile(self, key: Key) -> Result:
        deployment = self._deployments.get(*key)
        if deployment is None or is_empty(deployment.spec.selector):
            return None
        sets = await self._claim(deployment)
        if deployment.metadata.deletion_timestamp is not None:
            return await self._write_status(deployment, sets, None)
        new_set = plan.find_new_set(deployment, sets)
        if deployment.spec.paused or plan.was_scaled(deployment, sets):
            sizes = plan.proportional_sizes(deployment, new_set, sets)
            sets = await self._resize(deployment, sets, sizes)
            if not deployment.spec.paused:
                sets = await self._note_sizes(deployment, sets)
            return await self._write_status(deployment, sets, None)
        if deployment.spec.strategy.type == "Recreate":
            sets, note, collisions = await self._recreate(deployment, sets)
        else:
            sets, note, collisions = await self._roll(deployment, sets)
        return await self._write_status(deployment, sets, note, collisions)

    async def _claim(self, deployment: DeploymentView) -> list[ReplicaSetView]:
        """The Deployment's ReplicaSets, after taking those that fit and letting go of those that do not."""
        uid, namespace = deployment.metadata.uid, deployment.metadata.namespace
        ending = deployment.metadata.deletion_timestamp is not None
        sets: list[ReplicaSetView] = []
        for one in self._sets.by_index(PODS_BY_CONTROLLER, uid):
            if matches(deployment.spec.selector, one.metadata.labels):
                sets.append(one)
            elif not ending:
                await ownership.release(self._client, REPLICA_SETS, one, uid)
        strays = [
            one
            for one in self._sets.by_index(PODS_BY_CONTROLLER, f"none/{namespace}")
            if matches(deployment.spec.selector, one.metadata.labels)
            and one.metadata.deletion_timestamp is None
        ]
        if strays and not ending and await ownership.still_there(self._client, DEPLOYMENTS, deployment):
            for one in strays:
                adopted = await ownership.adopt(self._client, REPLICA_SETS, one, deployment)
                sets.append(self._remember(msgspec.convert(adopted, ReplicaSetView)))
        return plan.by_age(sets)

    async def _roll(
        self, deployment: DeploymentView, sets: list[ReplicaSetView]
    ) -> tuple[list[ReplicaSetView], Note | None, int]:
        sets, new_set, note, collisions = await self._new_set(deployment, sets)
        if new_set is None:
            return sets, note, collisions
        size = plan.new_set_size(deployment, new_set.spec.replicas, sets)
        sets = await self._resize(deployment, sets, {new_set.metadata.name: size})
        new_set = next(one for one in sets if one.metadata.name == new_set.metadata.name)
        old_sets = [one for one in sets if one is not new_set]
        sets = await self._resize(deployment, sets, plan.old_set_sizes(deployment, new_set, old_sets))
        await self._forget_history(deployment, new_set, sets)
        return sets, note, collisions

    async def _recreate(
        self, deployment: DeploymentView, sets: list[ReplicaSetView]
    ) -> tuple[list[ReplicaSetView], Note | None, int]:
        new_set = plan.find_new_set(deployment, sets)
        old_sets = [one for one in sets if one is not new_set]
        shrinking = {one.metadata.name: 0 for one in old_sets if one.spec.replicas > 0}
        sets = await self._resize(deployment, sets, shrinking)
        if shrinking or any(
            not pod.has_ended
            for one in old_sets
            for pod in self._pods.by_index(PODS_BY_CONTROLLER, one.metadata.uid)
        ):
            return sets, None, deployment.status.collision_count
        sets, new_set, note, collisions = await self._new_set(deployment, sets)
        if new_set is not None:
            size = {new_set.metadata.name: deployment.spec.replicas}
            sets = await self._resize(deployment, sets, size)
            await self._forget_history(deployment, new_set, sets)
        return sets, note, collisions

    async def _new_set(
        self, deployment: DeploymentView, sets: list[ReplicaSetView]
    ) -> tuple[list[ReplicaSetView], ReplicaSetView | None, Note | None, int]:
        """Find or create the ReplicaSet of the template and give it its revision.

        Returns the sets with it, itself (None if its name was taken; the next look tries another), what to note
        as progress, and the collision count.
        """
        collisions = deployment.status.collision_count
        new_set = plan.find_new_set(deployment, sets)
        if new_set is not None:
            others = [one for one in sets if one is not new_set]
            annotations = plan.set_annotations(deployment, new_set.metadata.annotations, others)
            patch: Object = {}
            if annotations != new_set.metadata.annotations:
                patch["metadata"] = {"annotations": annotations}
            if new_set.spec.min_ready_seconds != deployment.spec.min_ready_seconds:
                patch["spec"] = {"minReadySeconds": deployment.spec.min_ready_seconds}
            note = None
            if not any(c.get("type") == "Progressing" for c in deployment.status.conditions):
                note = "FoundNewReplicaSet", f'Found new replica set "{new_set.metadata.name}"'
            if patch:
                new_set = await self._patch_set(new_set, patch)
            await self._write_revision(deployment, new_set)
            return _replaced(sets, new_set), new_set, note, collisions
        new_set = await self._create_set(deployment, sets)
        if new_set is None:
            await self._client.patch(
                DEPLOYMENTS,
                deployment.metadata.name,
                {"status": {"collisionCount": collisions + 1}},
                namespace=deployment.metadata.namespace,
                subresource="status",
            )
            return sets, None, None, collisions + 1
        await self._write_revision(deployment, new_set)
        note = "NewReplicaSetCreated", f'Created new replica set "{new_set.metadata.name}"'
        return [*sets, new_set], new_set, note, collisions

    async def _create_set(
        self, deployment: DeploymentView, sets: list[ReplicaSetView]
    ) -> ReplicaSetView | None:
        """The new ReplicaSet; None if another template's has its name."""
        template = deployment.spec.template
        suffix = plan.template_hash(template, deployment.status.collision_count)
        metadata: Object = template.get("metadata") or {}
        labels = {**(metadata.get("labels") or {}), plan.HASH_LABEL: suffix}
        selector: Object = msgspec.to_builtins(deployment.spec.selector)
        selector["matchLabels"] = {**selector.get("matchLabels", {}), plan.HASH_LABEL: suffix}
        size = plan.new_set_size(deployment, 0, sets)
        body: Object = {
            "apiVersion": REPLICA_SETS.api_version,
            "kind": REPLICA_SETS.kind,
            "metadata": {
                "name": f"{deployment.metadata.name}-{suffix}",
                "namespace": deployment.metadata.namespace,
                "labels": labels,
                "annotations": {
                    **plan.set_annotations(deployment, {}, sets),
                    **plan.size_annotations(deployment),
                },
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {
                "replicas": size,
                "minReadySeconds": deployment.spec.min_ready_seconds,
                "selector": selector,
                "template": {**template, "metadata": {**metadata, "labels": labels}},
            },
        }
        try:
            made = await self._client.create(REPLICA_SETS, body, type=ReplicaSetView)
        except AlreadyExists:
            return await self._created_before(deployment, body["metadata"]["name"])
        self._remember(made)
        if size > 0:
            await self._tell_scaled(deployment, made, 0, size)
        return made

    async def _created_before(self, deployment: DeploymentView, name: str) -> ReplicaSetView | None:
        """The set of this name if it is ours after all: the answer to its creation was lost on its way."""
        try:
            live = await self._client.get(
                REPLICA_SETS, name, deployment.metadata.namespace, type=ReplicaSetView
            )
        except NotFound:
            return None
        owner = live.metadata.controller
        ours = owner is not None and owner.uid == deployment.metadata.uid
        if not ours or not plan.same_template(live.spec.template, deployment.spec.template):
            return None
        return self._remember(live)

    async def _resize(
        self, deployment: DeploymentView, sets: list[ReplicaSetView], sizes: dict[str, int]
    ) -> list[ReplicaSetView]:
        """Write the sizes that differ; returns the sets as they are then."""
        annotations = plan.size_annotations(deployment)
        for one in list(sets):
            size = sizes.get(one.metadata.name)
            if size is None or size == one.spec.replicas:
                continue
            patch: Object = {"metadata": {"annotations": annotations}, "spec": {"replicas": size}}
            changed = await self._patch_set(one, patch)
            sets = _replaced(sets, changed)
            await self._tell_scaled(deployment, changed, one.spec.replicas, size)
        return sets

    async def _note_sizes(
        self, deployment: DeploymentView, sets: list[ReplicaSetView]
    ) -> list[ReplicaSetView]:
        """Mark active sets as sized for the Deployment's present `replicas`, where their size stays as it is."""
        annotations = plan.size_annotations(deployment)
        for one in list(sets):
            if one.spec.replicas > 0 and not annotations.items() <= one.metadata.annotations.items():
                changed = await self._patch_set(one, {"metadata": {"annotations": annotations}})
                sets = _replaced(sets, changed)
        return sets

    async def _patch_set(self, replica_set: ReplicaSetView, patch: Object) -> ReplicaSetView:
        metadata = {**patch.get("metadata", {}), "resourceVersion": replica_set.metadata.resource_version}
        return self._remember(
            await self._client.patch(
                REPLICA_SETS,
                replica_set.metadata.name,
                {**patch, "metadata": metadata},
                namespace=replica_set.metadata.namespace,
                type=ReplicaSetView,
            )
        )

    def _remember(self, replica_set: ReplicaSetView) -> ReplicaSetView:
        self._sets.remember(replica_set)
        return replica_set

    async def _tell_scaled(
        self, deployment: DeploymentView, replica_set: ReplicaSetView, before: int, after: int
    ) -> None:
        direction = "up" if after > before else "down"
        text = f"Scaled {direction} replica set {replica_set.metadata.name} from {before} to {after}"
        await self._recorder.record(deployment, "ScalingReplicaSet", text, action="Scale")

    async def _write_revision(self, deployment: DeploymentView, new_set: ReplicaSetView) -> None:
        """The Deployment carries the revision of its newest ReplicaSet."""
        current = new_set.metadata.annotations.get(plan.REVISION, "")
        if deployment.metadata.annotations.get(plan.REVISION) != current:
            await self._client.patch(
                DEPLOYMENTS,
                deployment.metadata.name,
                {"metadata": {"annotations": {plan.REVISION: current}}},
                namespace=deployment.metadata.namespace,
                # By the status, as upstream does it: a change of annotations asks for a new generation elsewhere.
                subresource="status",
            )

    async def _forget_history(
        self, deployment: DeploymentView, new_set: ReplicaSetView, sets: list[ReplicaSetView]
    ) -> None:
        old_sets = [one for one in sets if one.metadata.uid != new_set.metadata.uid]
        for one in plan.obsolete_sets(deployment, old_sets):
            try:
                await self._client.delete(
                    REPLICA_SETS,
                    one.metadata.name,
                    one.metadata.namespace,
                    preconditions_uid=one.metadata.uid,
                    preconditions_resource_version=one.metadata.resource_version,
                )
            except NotFound:
                pass
            self._sets.forget(one)

    async def _write_status(
        self,
        deployment: DeploymentView,
        sets: list[ReplicaSetView],
        note: Note | None,
        collisions: int | None = None,
    ) -> Result:
        now = self._clock.now()
        new_set = plan.find_new_set(deployment, sets)
        wanted = plan_status(deployment, new_set, sets, note, now, collisions)
        if wanted != deployment.status:
            try:
                await self._client.patch(
                    DEPLOYMENTS,
                    deployment.metadata.name,
                    {"status": status_patch(wanted, ("terminatingReplicas",))},
                    namespace=deployment.metadata.namespace,
                    subresource="status",
                )
            except NotFound:
                return None
        wait = next_look_seconds(deployment, wanted, now)
        # Times in conditions are whole seconds: look just after the deadline, not just before.
        return After(max(0.0, wait) + 1.0) if wait is not None else None


def _replaced(sets: list[ReplicaSetView], changed: ReplicaSetView) -> list[ReplicaSetView]:
    return [changed if one.metadata.uid == changed.metadata.uid else one for one in sets]


def register(runtime: Runtime) -> None:
    Deployments(runtime)
