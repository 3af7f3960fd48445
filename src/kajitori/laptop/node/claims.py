"""Claims as folders: `volumes/<namespace>/<claim's uid>` in the cluster's home, shared by all nodes.

A claim that is bound to a volume with a path of this machine (`hostPath` or `local`) is that path. One of a class that
the cluster's controllers serve waits for its volume. Any other is a folder of its own, and is marked Bound; such a
folder goes when its claim has gone.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import msgspec

from kajitori.api.kubernetes.core_v1 import PersistentVolumeClaimSpec, PersistentVolumeSpec
from kajitori.api.resource import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from kajitori.base.errors import ApiError, NotFound, Unreachable
from kajitori.control.cache import Metadata, PartialObject
from kajitori.kube.client import Client
from kajitori.laptop.node.references import MissingSource
from kajitori.laptop.node.volumes import Place

_log = logging.getLogger(__name__)

# Whose volumes come from the cluster's own controllers, or from nobody.
_AWAITED = ("kajitori.dev/folder", "kubernetes.io/no-provisioner")


class _ClaimStatus(msgspec.Struct, frozen=True):
    phase: str = ""


class _Claim(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: PersistentVolumeClaimSpec = msgspec.field(default_factory=PersistentVolumeClaimSpec)
    status: _ClaimStatus = _ClaimStatus()


class _Volume(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: PersistentVolumeSpec = msgspec.field(default_factory=PersistentVolumeSpec)


class _Class(msgspec.Struct, frozen=True):
    provisioner: str = ""


def _make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


class Claims:
    """Finds the place of a claim. folder: `volumes` in the home."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._folder = folder

    async def place(self, namespace: str, name: str, *, read_only: bool) -> Place:
        """Raises MissingSource, ApiError, Unreachable."""
        try:
            claim = await self._client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace, type=_Claim)
        except NotFound:
            raise MissingSource(f'persistentvolumeclaim "{name}" not found') from None
        if claim.metadata.deletion_timestamp:
            raise MissingSource(f'persistentvolumeclaim "{name}" is being deleted')
        if claim.spec.volume_mode == "Block":
            raise MissingSource(
                f'persistentvolumeclaim "{name}": volumeMode Block is not honoured on these nodes'
            )
        if claim.spec.volume_name and (path := await self._bound_path(claim.spec.volume_name)):
            return Place(path, read_only)
        if await self._is_awaited(claim):
            raise MissingSource(f'persistentvolumeclaim "{name}" is not bound to a volume yet')
        folder = self._folder / namespace / claim.metadata.uid
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        if claim.status.phase != "Bound":
            await self._mark_bound(claim)
        return Place(folder, read_only)

    async def _bound_path(self, volume_name: str) -> Path | None:
        try:
            volume = await self._client.get(PERSISTENT_VOLUMES, volume_name, type=_Volume)
        except NotFound:
            return None
        host = volume.spec.host_path
        if host is not None and host.type == "DirectoryOrCreate":
            _make_folder(Path(host.path))
        source = host or volume.spec.local
        return Path(source.path) if source else None

    async def _is_awaited(self, claim: _Claim) -> bool:
        """Whether somebody will bind the claim: a class that nobody serves here is a folder of the node's making."""
        name = claim.spec.storage_class_name
        if not name:
            return name is not None
        try:
            found = await self._client.get(STORAGE_CLASSES, name, type=_Class)
        except NotFound:
            return False
        return found.provisioner in _AWAITED

    async def _mark_bound(self, claim: _Claim) -> None:
        resources = claim.spec.resources
        status: dict[str, Any] = {
            "phase": "Bound",
            "accessModes": claim.spec.access_modes,
            "capacity": dict(resources.requests) if resources else {},
        }
        try:
            await self._client.patch(
                PERSISTENT_VOLUME_CLAIMS,
                claim.metadata.name,
                {"status": status},
                namespace=claim.metadata.namespace,
                subresource="status",
            )
        except (ApiError, Unreachable) as error:
            _log.info("claim %s/%s stays unmarked: %s", claim.metadata.namespace, claim.metadata.name, error)

    async def sweep(self) -> None:
        """Remove the folders of claims that are gone. Raises ApiError, Unreachable."""
        if not self._folder.exists():
            return
        folders = [folder for namespace in self._folder.iterdir() for folder in namespace.iterdir()]
        if not folders:
            return
        listed = await self._client.list(PERSISTENT_VOLUME_CLAIMS, type=PartialObject, metadata_only=True)
        present = {claim.metadata.uid for claim in listed.items}
        for folder in folders:
            if folder.name not in present:
                shutil.rmtree(folder, ignore_errors=True)
