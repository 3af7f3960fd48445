"""Aggregated discovery: has every Envoy sent the resources of a `Snapshot`, incrementally, over one gRPC stream each.

Flows in: resources of several sources. Flows out: messages (`kajitori.gateway.envoy.stream`), and what Envoys refuse.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from kajitori.gateway.envoy.refused_part import RefusedPart
from kajitori.gateway.envoy.schema import Schema
from kajitori.gateway.envoy.stream import Stream
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.gateway.resources import Resources

_log = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
# Of one policy a thousand routes may suffer.
_MOST_LINES = 20
# A port that another process had may be free after so long.
RETRY_SECONDS = 5.0


class AdsServer:
    """Serves any number of Envoys. sources: all of these must have set their resources before a stream is answered,
    lest an Envoy that kept running lose what a slower source has not told yet.
    """

    def __init__(self, schema: Schema, snapshot: Snapshot, sources: tuple[str, ...]) -> None:
        self._snapshot = snapshot
        self._expected = set(sources)
        self._streams: set[Stream] = set()
        self._retries: set[tuple[str, str]] = set()
        self._listeners: list[Callable[[], None]] = []
        # What other replicas told that this one does not understand.
        self._strange: set[RefusedPart] = set()
        self.request_class = schema.message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
        self.response_class = schema.message("envoy.service.discovery.v3.DeltaDiscoveryResponse")

    @property
    def ready(self) -> bool:
        return self._expected <= self._snapshot.sources()

    @property
    def connected(self) -> int:
        """How many Envoys hold a stream."""
        return len(self._streams)

    @property
    def rejected(self) -> dict[str, str]:
        return self._snapshot.rejected

    @property
    def settled(self) -> bool:
        """Whether at least one Envoy is connected and every one has confirmed all that it shall have."""
        return bool(self._streams) and all(stream.settled for stream in self._streams)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Called when an Envoy comes or goes, and when the set of refused resources changes."""
        self._listeners.append(callback)

    def set_resources(self, source: str, resources: Resources) -> None:
        """Replaces what one source wants Envoy to have, and tells every connected Envoy what changed."""
        before = self._snapshot.rejected
        differs = self._snapshot.set_resources(source, resources)
        self.tell_refusals(before)
        if differs and self.ready:
            for stream in self._streams:
                stream.wake.set()

    @property
    def refused_parts(self) -> list[RefusedPart]:
        """What Envoys of this process refuse of what many objects share, for other processes."""
        return self._snapshot.refused_parts

    def heed(self, refused: list[RefusedPart]) -> None:
        """Takes in what other processes' Envoys refuse: none is sent it."""
        before = self._snapshot.rejected
        strange = {part for part in refused if not part.understood}
        for part in sorted(strange - self._strange, key=lambda part: part.unit)[:_MOST_LINES]:
            _log.warning(
                "another replica leaves out %s of %s/%s in a way that is unknown here (%d); it is served by this one",
                part.unit or part.place,
                part.kind,
                part.name,
                part.form,
            )
        self._strange = strange
        self._snapshot.heed([part for part in refused if part not in strange])
        self.found_out(before)

    def retry_later(self, kind: str, name: str) -> None:
        """Send a refused resource once more in a while: what was in its way may be gone then."""
        if (kind, name) not in self._retries:
            self._retries.add((kind, name))
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._retry, kind, name)

    def _retry(self, kind: str, name: str) -> None:
        self._retries.discard((kind, name))
        if self._snapshot.retry(kind, name):
            for stream in self._streams:
                stream.send_again(kind, name)

    def found_out(self, before: dict[str, str]) -> None:
        """Something may be sent otherwise from now on. before: what was refused until then."""
        for stream in self._streams:
            stream.wake.set()
        self.tell_refusals(before)

    def tell_refusals(self, before: dict[str, str]) -> None:
        """To the log, and to those who asked. before: what was refused until then."""
        now = self._snapshot.rejected
        news = [name for name, message in now.items() if before.get(name) != message]
        for name in news[:_MOST_LINES]:
            _log.warning("Envoy refuses %s: %s", name, now[name])
        if len(news) > _MOST_LINES:
            _log.warning("Envoy refuses %d more; the objects' conditions name them", len(news) - _MOST_LINES)
        if now != before:
            self.changed()

    def changed(self) -> None:
        """Tells those who asked."""
        for callback in self._listeners:
            callback()

    async def stream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Handler of `DeltaAggregatedResources`."""
        stream = Stream(self, self._snapshot)
        self._streams.add(stream)
        self.changed()
        reader = asyncio.create_task(stream.read(requests))
        try:
            async for response in stream.responses():
                yield response
        finally:
            reader.cancel()
            self._streams.discard(stream)
            stream.leave()
            self.changed()
