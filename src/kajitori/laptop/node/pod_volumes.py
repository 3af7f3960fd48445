"""The volumes of one pod while it is here: set up, kept up to date, taken away."""

from __future__ import annotations

import asyncio
import contextlib

from kajitori.api.kubernetes.core_v1 import Volume
from kajitori.base.errors import KajitoriError
from kajitori.base.quantity import parse_quantity
from kajitori.laptop.node.claims import Claims
from kajitori.laptop.node.environment import Pod, PodFacts
from kajitori.laptop.node.node import Node
from kajitori.laptop.node.payload import token_projections, volume_payload, write_payload
from kajitori.laptop.node.references import Reference, volume_references
from kajitori.laptop.node.tokens import PodTokens
from kajitori.laptop.node.volumes import Place, set_up_folder, unsupported, volume_folder


class PodVolumes:
    """places: where each volume lies, once set up."""

    def __init__(self, node: Node, pod: Pod) -> None:
        self.places: dict[str, Place] = {}
        self.references = volume_references(pod.spec.volumes)
        self._node = node
        self._tokens = PodTokens(node.client, pod)
        self._folder = node.pod_folder(pod.metadata.uid)
        self._memory = [
            volume
            for volume in pod.spec.volumes
            if volume.empty_dir is not None and volume.empty_dir.medium == "Memory"
        ]
        self._claims = Claims(node.client, node.home / "volumes")
        self._uses_claims = any(volume.persistent_volume_claim for volume in pod.spec.volumes)

    async def set_up(self, facts: PodFacts) -> None:
        """Make all volumes ready, or raise the KajitoriError of the first that is not; call it again then."""
        for volume in facts.pod.spec.volumes:
            try:
                self.places[volume.name] = await self._set_up(volume, facts)
            except (KajitoriError, OSError) as error:
                raise KajitoriError(
                    f'MountVolume.SetUp failed for volume "{volume.name}" : {error}'
                ) from error

    async def _set_up(self, volume: Volume, facts: PodFacts) -> Place:
        place = set_up_folder(self._folder, volume)
        if place is not None:
            return place
        if volume.persistent_volume_claim:
            claim = volume.persistent_volume_claim
            namespace = facts.pod.metadata.namespace
            return await self._claims.place(namespace, claim.claim_name, read_only=bool(claim.read_only))
        return await self._write(volume, facts)

    async def _write(self, volume: Volume, facts: PodFacts) -> Place:
        namespace = facts.pod.metadata.namespace
        sources = await self._node.sources.read(namespace, volume_references([volume]))
        tokens = await self._tokens.for_projections(token_projections(volume))
        payload = volume_payload(volume, facts, sources, tokens)
        if payload is None:
            raise unsupported(volume)
        folder = volume_folder(self._folder, volume)
        write_payload(folder, payload)
        return Place(folder, read_only=True)

    async def make_memory(self) -> None:
        """Have the runner put a tmpfs where a volume shall be in memory. Raises RunnerError, RunnerLost."""
        if not self._node.runner_info.namespaces:
            return  # a folder like any other; the pod's condition says that mounts are not honoured
        for volume in self._memory:
            limit = volume.empty_dir.size_limit if volume.empty_dir else None
            size = int(parse_quantity(limit)) if limit else 0
            path = volume_folder(self._folder, volume)
            await self._node.runner.call("make_memory", path=str(path), bytes=size)

    async def refresh(self, facts: PodFacts) -> None:
        """Write again what may have changed. Raises KajitoriError."""
        for volume in facts.pod.spec.volumes:
            if volume.config_map or volume.secret or volume.projected or volume.downward_api:
                await self._write(volume, facts)

    def refers_to(self, reference: Reference) -> bool:
        return reference in self.references

    @property
    def next_renewal_seconds(self) -> float | None:
        return self._tokens.next_renewal_seconds

    async def take_down(self) -> None:
        """What does not go with the pod's folder."""
        for volume in self._memory:
            with contextlib.suppress(KajitoriError):
                path = volume_folder(self._folder, volume)
                await self._node.runner.call("remove_memory", path=str(path))
        if self._uses_claims:
            with contextlib.suppress(KajitoriError, asyncio.TimeoutError):
                await self._claims.sweep()
