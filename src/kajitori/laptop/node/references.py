"""Which ConfigMaps and Secrets a pod needs, and what they hold.

A pod's environment and volumes refer to them by name. `SourceReader` reads them from the API server and keeps them for
a while, since the pods of a node mostly refer to the same few. What is missing is an error that waits for its cure.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from kajitori.api.kubernetes.core_v1 import Container, Volume
from kajitori.api.resource import CONFIG_MAPS, SECRETS
from kajitori.base.errors import Forbidden, KajitoriError, NotFound
from kajitori.control.cache import Metadata
from kajitori.kube.client import Client

_log = logging.getLogger(__name__)


class MissingSource(KajitoriError):
    """Something that a pod refers to is not there, or not whole; it may come."""


class Reference(NamedTuple):
    """kind: `configmap` or `secret`."""

    kind: str
    name: str


class _ConfigMap(msgspec.Struct, frozen=True, rename="camel"):
    metadata: Metadata
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}


class _Secret(msgspec.Struct, frozen=True, rename="camel"):
    metadata: Metadata
    data: dict[str, str] = {}


Values = dict[str, bytes]
# None: the object does not exist.
Sources = dict[Reference, Values | None]


def environment_references(containers: list[Container]) -> set[Reference]:
    found: set[Reference] = set()
    for container in containers:
        for source in container.env_from:
            if source.config_map_ref:
                found.add(Reference("configmap", source.config_map_ref.name))
            if source.secret_ref:
                found.add(Reference("secret", source.secret_ref.name))
        for variable in container.env:
            if variable.value_from and variable.value_from.config_map_key_ref:
                found.add(Reference("configmap", variable.value_from.config_map_key_ref.name))
            if variable.value_from and variable.value_from.secret_key_ref:
                found.add(Reference("secret", variable.value_from.secret_key_ref.name))
    return found


def volume_references(volumes: list[Volume]) -> set[Reference]:
    return {reference for volume in volumes for reference in _of_volume(volume)}


def _of_volume(volume: Volume) -> Iterator[Reference]:
    if volume.config_map:
        yield Reference("configmap", volume.config_map.name)
    if volume.secret:
        yield Reference("secret", volume.secret.secret_name or "")
    for source in volume.projected.sources if volume.projected else ():
        if source.config_map:
            yield Reference("configmap", source.config_map.name)
        if source.secret:
            yield Reference("secret", source.secret.name)


class SourceReader:
    """Reads ConfigMaps and Secrets, each at most once in `fresh_seconds`, and looks that often whether they changed.

    on_change: called with namespace and reference when what was read has other contents now.
    """

    def __init__(
        self, client: Client, on_change: Callable[[str, Reference], None], *, fresh_seconds: float = 60.0
    ) -> None:
        self.fresh_seconds = fresh_seconds
        self._on_change = on_change
        self._client = client
        self._kept: dict[tuple[str, Reference], tuple[float, Values | None]] = {}
        self._reading: dict[tuple[str, Reference], asyncio.Task[Values | None]] = {}

    async def run(self) -> None:
        """Forever: read again what has been read, and tell what changed."""
        while True:
            await asyncio.sleep(self.fresh_seconds)
            for key, (_, before) in list(self._kept.items()):
                namespace, reference = key
                try:
                    await self._read(namespace, reference, fresh=True)
                except KajitoriError as error:
                    _log.debug("%s %s/%s: %s", reference.kind, namespace, reference.name, error)
                    if isinstance(error, Forbidden):  # no pod here refers to it any more
                        self._kept.pop(key, None)
                    continue
                if key in self._kept and self._kept[key][1] != before:
                    self._on_change(namespace, reference)

    async def read(self, namespace: str, references: set[Reference], *, fresh: bool = False) -> Sources:
        """What the references hold. fresh: nothing that was read before. Raises ApiError, Unreachable, MissingSource."""
        ordered = sorted(references)
        values = await asyncio.gather(*(self._read(namespace, each, fresh) for each in ordered))
        return dict(zip(ordered, values, strict=True))

    async def _read(self, namespace: str, reference: Reference, fresh: bool) -> Values | None:
        key = (namespace, reference)
        kept = self._kept.get(key)
        # What was missing a moment ago is always asked for again.
        if kept and kept[1] is not None and not fresh and time.monotonic() - kept[0] < self.fresh_seconds:
            return kept[1]
        task = self._reading.get(key)
        if task is None:
            task = asyncio.ensure_future(self._fetch(namespace, reference))
            self._reading[key] = task
            task.add_done_callback(lambda _: self._reading.pop(key, None))
        values = await asyncio.shield(task)
        self._kept[key] = (time.monotonic(), values)
        return values

    async def _fetch(self, namespace: str, reference: Reference) -> Values | None:
        try:
            if reference.kind == "configmap":
                found = await self._client.get(CONFIG_MAPS, reference.name, namespace, type=_ConfigMap)
                texts = {key: value.encode() for key, value in found.data.items()}
                return texts | _decoded(found.binary_data)
            secret = await self._client.get(SECRETS, reference.name, namespace, type=_Secret)
            return _decoded(secret.data)
        except NotFound:
            return None
        except (ValueError, msgspec.ValidationError) as error:
            raise MissingSource(f'{reference.kind} "{reference.name}" cannot be read: {error}') from error

    def forget_namespace(self, namespace: str) -> None:
        """Drop what is kept of a namespace that has no pods here any more."""
        for key in [key for key in self._kept if key[0] == namespace]:
            del self._kept[key]


def _decoded(data: dict[str, str]) -> Values:
    try:
        return {key: base64.b64decode(value, validate=True) for key, value in data.items()}
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
