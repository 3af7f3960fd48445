"""The side of the claims: binds them, makes volumes for them, lets go of those that nobody uses any more.

A claim of a class that waits for its consumer is dealt with once a pod with it has a node. The folder provisioner
makes a folder of this machine below the class's parameter `folder`; other provisioners are left to whoever runs
them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from kajitori.api.resource import (
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)
from kajitori.base.errors import AlreadyExists, NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import Key, Result
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.storage import plan
from kajitori.laptop.controllers.storage.views import (
    BIND_COMPLETED,
    FOLDER_PROVISIONER,
    NO_PROVISIONER,
    PODS_BY_CLAIM,
    SELECTED_NODE,
    STORAGE_PROVISIONER,
    ClaimView,
    ClassView,
    VolumeView,
    claim_index,
)
from kajitori.laptop.controllers.views import NodeView, PodView

COMPONENT = "persistentvolume-controller"
PROTECTION = "kubernetes.io/pvc-protection"
_FOLDER_MODE = 0o777


class Claims:
    """Reconciles one PersistentVolumeClaim at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._recorder = runtime.recorder(COMPONENT)
        self._claims: Informer[ClaimView] = runtime.informer(PERSISTENT_VOLUME_CLAIMS, ClaimView)
        self._volumes: Informer[VolumeView] = runtime.informer(PERSISTENT_VOLUMES, VolumeView)
        self._classes: Informer[ClassView] = runtime.informer(STORAGE_CLASSES, ClassView)
        self._nodes: Informer[NodeView] = runtime.informer(NODES, NodeView)
        self._pods: Informer[PodView] = runtime.informer(PODS, PodView, indexers={PODS_BY_CLAIM: claim_index})
        controller = runtime.controller("persistentvolumeclaim", self.reconcile)
        controller.watch(self._claims)
        controller.watch(self._volumes, self._keys_of_volume)
        controller.watch(self._classes, lambda _: self._waiting())
        controller.watch(self._pods, _keys_of_pod, when=_may_matter)

    def _keys_of_volume(self, volume: VolumeView) -> list[Key]:
        reference = volume.spec.claim_ref
        if reference is not None:
            return [Key(reference.namespace, reference.name)]
        return self._waiting() if volume.status.phase == "Available" else []

    def _waiting(self) -> list[Key]:
        return [
            Key(claim.metadata.namespace, claim.metadata.name)
            for claim in self._claims.list()
            if claim.status.phase != "Bound"
        ]

    async def reconcile(self, key: Key) -> Result:
        claim = self._claims.get(*key)
        if claim is None:
            return None
        try:
            if claim.metadata.deletion_timestamp is not None:
                await self._let_go(claim)
            elif claim.metadata.annotations.get(BIND_COMPLETED) == "yes":
                await self._keep_bound(claim)
            elif claim.spec.volume_name:
                await self._take_named(claim)
            else:
                await self._find(claim)
        except NotFound:
            return None
        return None

    def _pods_of(self, claim: ClaimView) -> list[PodView]:
        where = f"{claim.metadata.namespace}/{claim.metadata.name}"
        return self._pods.by_index(PODS_BY_CLAIM, where)

    async def _let_go(self, claim: ClaimView) -> None:
        """Take the finalizer away unless a pod still has the claim."""
        if (
            PROTECTION not in claim.metadata.finalizers
            or plan.first_consumer(self._pods_of(claim)) is not None
        ):
            return
        left = [one for one in claim.metadata.finalizers if one != PROTECTION]
        patch = {"metadata": {"resourceVersion": claim.metadata.resource_version, "finalizers": left or None}}
        await self._patch_claim(claim, patch)

    async def _keep_bound(self, claim: ClaimView) -> None:
        volume = self._volumes.get("", claim.spec.volume_name) if claim.spec.volume_name else None
        if volume is not None and (volume.spec.claim_ref is None or plan.is_meant_for(volume, claim)):
            await self._bind(claim, volume)
            return
        if claim.status.phase == "Lost":
            return
        if not claim.spec.volume_name:
            reason, what = "ClaimLost", "Bound claim has lost reference to PersistentVolume"
        elif volume is None:
            reason, what = "ClaimLost", "Bound claim has lost its PersistentVolume"
        else:
            text = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._write_status(claim, {"phase": "Lost", "accessModes": None, "capacity": None})
            await self._tell(claim, "ClaimMisbound", text, "Warning")
            return
        await self._write_status(claim, {"phase": "Lost", "accessModes": None, "capacity": None})
        await self._tell(claim, reason, f"{what}. Data on the volume is lost!", "Warning")

    async def _take_named(self, claim: ClaimView) -> None:
        """The user asks for a certain volume."""
        volume = self._volumes.get("", claim.spec.volume_name)
        if volume is None:
            return
        if volume.spec.claim_ref is None:
            problem = plan.misfit(volume, claim)
            if problem:
                text = f'Cannot bind to requested volume "{volume.metadata.name}": {problem}'
                await self._tell(claim, "VolumeMismatch", text, "Warning")
            else:
                await self._bind(claim, volume)
        elif plan.is_meant_for(volume, claim):
            await self._bind(claim, volume)
        else:
            name = volume.metadata.name
            text = f'volume "{name}" already bound to a different claim.'
            await self._tell(claim, "FailedBinding", text, "Warning")

    async def _find(self, claim: ClaimView) -> None:
        name = claim.spec.storage_class_name
        storage_class = self._classes.get("", name) if name else None
        waits = storage_class is not None and storage_class.waits_for_consumer
        pods = self._pods_of(claim)
        consumer = plan.first_consumer(pods) if waits else None
        labels = self._labels_of_node(consumer)
        volume = plan.find_volume(claim, self._volumes.list(), waits=waits, node_labels=labels)
        if volume is not None:
            await self._bind(claim, volume)
        elif name is None and (default := plan.default_class(self._classes.list())) is not None:
            await self._patch_claim(claim, {"spec": {"storageClassName": default.metadata.name}})
        elif waits and consumer is None:
            await self._tell(claim, *plan.waiting_event(pods))
        elif not name:
            text = "no persistent volumes available for this claim and no storage class is set"
            await self._tell(claim, "FailedBinding", text)
        elif storage_class is None:
            text = f'storageclass.storage.k8s.io "{name}" not found'
            await self._tell(claim, "ProvisioningFailed", text, "Warning")
        else:
            await self._provision(claim, storage_class, consumer)

    def _labels_of_node(self, pod: PodView | None) -> dict[str, str] | None:
        node = self._nodes.get("", pod.spec.node_name) if pod is not None else None
        return node.metadata.labels if node is not None else None

    async def _provision(self, claim: ClaimView, storage_class: ClassView, consumer: PodView | None) -> None:
        provisioner = storage_class.provisioner
        if provisioner == NO_PROVISIONER:
            return
        annotations = {STORAGE_PROVISIONER: provisioner}
        if consumer is not None:
            annotations[SELECTED_NODE] = consumer.spec.node_name
        if not annotations.items() <= claim.metadata.annotations.items():
            claim = await self._patch_claim(claim, {"metadata": {"annotations": annotations}})
        folder = storage_class.parameters.get("folder", "")
        if provisioner != FOLDER_PROVISIONER or not folder:
            text = (
                f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or"
                " manually by the system administrator. If volume creation is delayed, please verify that the"
                " provisioner is running and correctly registered."
            )
            await self._tell(claim, "ExternalProvisioning", text)
            return
        path = Path(folder) / plan.volume_name(claim)
        await asyncio.to_thread(_make_folder, path)
        body = plan.new_volume(claim, storage_class, str(path))
        try:
            volume = await self._client.create(PERSISTENT_VOLUMES, body, type=VolumeView)
        except AlreadyExists:
            # Made in an earlier look that did not get to bind it.
            volume = await self._client.get(PERSISTENT_VOLUMES, plan.volume_name(claim), type=VolumeView)
        else:
            text = f"Successfully provisioned volume {volume.metadata.name}"
            await self._tell(claim, "ProvisioningSucceeded", text)
        self._volumes.remember(volume)
        await self._bind(claim, volume)

    async def _bind(self, claim: ClaimView, volume: VolumeView) -> None:
        """Both sides, the volume first; what is written already stays."""
        name = volume.metadata.name
        if patch := plan.volume_binding(volume, claim):
            volume = await self._client.patch(PERSISTENT_VOLUMES, name, patch, type=VolumeView)
            self._volumes.remember(volume)
        if volume.status.phase != "Bound":
            status = {"status": {"phase": "Bound"}}
            volume = await self._client.patch(
                PERSISTENT_VOLUMES, name, status, subresource="status", type=VolumeView
            )
            self._volumes.remember(volume)
        if patch := plan.claim_binding(volume, claim):
            claim = await self._patch_claim(claim, patch)
        if status := plan.bound_status(volume, claim):
            await self._write_status(claim, status)

    async def _patch_claim(self, claim: ClaimView, patch: Object) -> ClaimView:
        stored = await self._client.patch(
            PERSISTENT_VOLUME_CLAIMS,
            claim.metadata.name,
            patch,
            namespace=claim.metadata.namespace,
            type=ClaimView,
        )
        if stored.metadata.deletion_timestamp is None or stored.metadata.finalizers:
            self._claims.remember(stored)
        return stored

    async def _write_status(self, claim: ClaimView, status: Object) -> None:
        stored = await self._client.patch(
            PERSISTENT_VOLUME_CLAIMS,
            claim.metadata.name,
            {"status": status},
            namespace=claim.metadata.namespace,
            subresource="status",
            type=ClaimView,
        )
        self._claims.remember(stored)

    async def _tell(
        self, claim: ClaimView, reason: str, message: str, type: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        await self._recorder.record(claim, reason, message, type=type)


def _keys_of_pod(pod: PodView) -> list[Key]:
    return [Key(*where.split("/", 1)) for where in claim_index(pod)]


def _may_matter(old: PodView | None, new: PodView | None) -> bool:
    """A pod comes, gets its node, ends or goes."""
    if old is None or new is None:
        return True
    return (old.spec.node_name, old.has_ended) != (new.spec.node_name, new.has_ended)


def _make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(_FOLDER_MODE)


def register(runtime: Runtime) -> None:
    Claims(runtime)
