"""The side of the volumes: what is free, what is released, what is reclaimed; none that is bound is deleted."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from kajitori.api.resource import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from kajitori.base.errors import NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import Key, Result
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.storage.claims import COMPONENT
from kajitori.laptop.controllers.storage.views import (
    FOLDER_PROVISIONER,
    PROVISIONED_BY,
    ClaimView,
    ClassView,
    VolumeView,
)

PROTECTION = "kubernetes.io/pv-protection"


class Volumes:
    """Reconciles one PersistentVolume at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = runtime.client
        self._recorder = runtime.recorder(COMPONENT)
        self._claims: Informer[ClaimView] = runtime.informer(PERSISTENT_VOLUME_CLAIMS, ClaimView)
        self._volumes: Informer[VolumeView] = runtime.informer(PERSISTENT_VOLUMES, VolumeView)
        self._classes: Informer[ClassView] = runtime.informer(STORAGE_CLASSES, ClassView)
        controller = runtime.controller("persistentvolume", self.reconcile)
        controller.watch(self._volumes)
        controller.watch(self._claims, _key_of_volume, when=lambda old, new: new is None)

    async def reconcile(self, key: Key) -> Result:
        volume = self._volumes.get("", key.name)
        if volume is None:
            return None
        try:
            if volume.metadata.deletion_timestamp is not None and volume.status.phase != "Bound":
                await self._let_go(volume)
            elif volume.spec.claim_ref is None or not volume.spec.claim_ref.uid:
                await self._set_phase(volume, "Available")
            elif await self._has_lost_its_claim(volume):
                await self._reclaim(volume)
        except NotFound:
            return None
        return None

    async def _has_lost_its_claim(self, volume: VolumeView) -> bool:
        reference = volume.spec.claim_ref
        if reference is None:
            return False
        known = self._claims.get(reference.namespace, reference.name)
        if known is not None and known.metadata.uid == reference.uid:
            return False
        try:
            # The cache may only be late, and what is deleted is gone.
            live = await self._client.get(
                PERSISTENT_VOLUME_CLAIMS, reference.name, reference.namespace, type=ClaimView
            )
        except NotFound:
            return True
        return live.metadata.uid != reference.uid

    async def _reclaim(self, volume: VolumeView) -> None:
        if volume.status.phase != "Failed":
            volume = await self._set_phase(volume, "Released")
        if volume.spec.persistent_volume_reclaim_policy != "Delete":
            return
        name, path = volume.metadata.name, volume.spec.host_path.path if volume.spec.host_path else ""
        if volume.metadata.annotations.get(PROVISIONED_BY) != FOLDER_PROVISIONER:
            if path and volume.status.phase != "Failed":
                text = f"host_path deleter only supports /tmp/.+ but received provided {path}"
                await self._recorder.record(volume, "VolumeFailedDelete", text, type="Warning")
                await self._set_phase(volume, "Failed", text)
            return
        if self._is_ours(volume, path):
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        await self._client.delete(PERSISTENT_VOLUMES, name, preconditions_uid=volume.metadata.uid)

    def _is_ours(self, volume: VolumeView, path: str) -> bool:
        """Whether the folder is one that the provisioner made for this volume: nothing else is ever removed."""
        storage_class = self._classes.get("", volume.spec.storage_class_name)
        folder = storage_class.parameters.get("folder", "") if storage_class is not None else ""
        return bool(folder) and Path(path) == Path(folder) / volume.metadata.name

    async def _let_go(self, volume: VolumeView) -> None:
        if PROTECTION not in volume.metadata.finalizers:
            return
        left = [one for one in volume.metadata.finalizers if one != PROTECTION]
        patch: Object = {
            "metadata": {"resourceVersion": volume.metadata.resource_version, "finalizers": left or None}
        }
        await self._client.patch(PERSISTENT_VOLUMES, volume.metadata.name, patch)

    async def _set_phase(self, volume: VolumeView, phase: str, message: str = "") -> VolumeView:
        if volume.status.phase == phase:
            return volume
        status = {"status": {"phase": phase, "message": message or None}}
        stored = await self._client.patch(
            PERSISTENT_VOLUMES, volume.metadata.name, status, subresource="status", type=VolumeView
        )
        self._volumes.remember(stored)
        return stored


def _key_of_volume(claim: ClaimView) -> list[Key]:
    return [Key("", claim.spec.volume_name)] if claim.spec.volume_name else []


def register(runtime: Runtime) -> None:
    Volumes(runtime)
