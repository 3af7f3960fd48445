"""Writes the HTTPRoutes and HTTPRouteFilters that stand for AIGatewayRoutes, and takes them away again.

What is there already as it shall be is not written again. An object of the same name that is not ours is neither
overwritten nor deleted; `kajitori.gateway.routes.generated` tells which are.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.errors import Conflict, NotFound
from kajitori.control.controller import Key
from kajitori.gateway.routes.generated import Generated, Unwanted, is_generated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kajitori.api.resource import Resource
    from kajitori.control.cache import Informer
    from kajitori.control.runtime import Runtime

_log = logging.getLogger(__name__)

FIELD_MANAGER = "kajitori-gateway"


class GeneratedRoutes:
    """Keeps the generated objects as the latest plan has them. informers: of the kinds that are generated."""

    def __init__(self, runtime: Runtime, informers: Mapping[Resource, Informer[Any]]) -> None:
        self._runtime = runtime
        self._informers = informers
        self._wanted: dict[Key, Generated | Unwanted] = {}
        # What was compared last and was as it shall be: the object, and what it shall be.
        self._same: dict[Key, tuple[Any, dict[str, Any]]] = {}
        self._writes = runtime.controller("gateway-generated", self._write, workers=4)

    def want(self, generated: Iterable[Generated], unwanted: Iterable[Unwanted]) -> None:
        """Takes in what the latest plan says."""
        self._wanted = {
            Key(item.namespace, f"{item.resource.qualified_name}/{item.name}"): item
            for item in (*unwanted, *generated)
        }
        for key in self._same.keys() - self._wanted.keys():
            del self._same[key]
        for key, item in self._wanted.items():
            if self._differs(key, item):
                self._writes.enqueue(key)

    def _differs(self, key: Key, item: Generated | Unwanted) -> bool:
        there: Any = self._informers[item.resource].get(item.namespace, item.name)
        if there is None or isinstance(item, Unwanted):
            return isinstance(item, Generated) or there is not None
        before = self._same.get(key)
        if before is not None and before[0] is there and before[1] is item.manifest:
            return False
        if is_generated(there) and not _as_wanted(there, item.manifest):
            return True
        self._same[key] = (there, item.manifest)
        return False

    async def _write(self, key: Key) -> None:
        item = self._wanted.get(key)
        if item is None or not self._differs(key, item):
            return
        client = self._runtime.client
        try:
            if isinstance(item, Unwanted):
                await client.delete(
                    item.resource, item.name, item.namespace, preconditions_uid=item.uid or None
                )
                return
            # The cache may be behind: what somebody else made meanwhile must not be taken over.
            there = await self._current(item)
            if there is not None and not is_generated(there):
                return
            await client.apply(item.resource, item.manifest, field_manager=FIELD_MANAGER)
        except (NotFound, Conflict) as error:
            _log.debug("%s %s/%s: %s", item.resource.kind, item.namespace, item.name, error)

    async def _current(self, item: Generated) -> Any:
        """The object as the API server has it, or None."""
        kind = self._informers[item.resource].type
        try:
            return await self._runtime.client.get(item.resource, item.name, item.namespace, type=kind)
        except NotFound:
            return None


def _as_wanted(there: Any, manifest: dict[str, Any]) -> bool:
    """Whether an object has all that it shall have; others may have added labels."""
    metadata = manifest["metadata"]
    owner = metadata["ownerReferences"][0]
    return (
        msgspec.convert(manifest["spec"], type(there.spec)) == there.spec
        and metadata["labels"].items() <= there.metadata.labels.items()
        and metadata["annotations"].items() <= there.metadata.annotations.items()
        and any(item.uid == owner["uid"] for item in there.metadata.owner_references)
    )
