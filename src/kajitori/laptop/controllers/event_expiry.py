"""Removes events an hour after they were last seen. Sleeps until the oldest is due; a minute at the least.

Where etcd keeps events for a time, the embedded store keeps objects until somebody deletes them: this is who does.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from kajitori.api.resource import CORE_EVENTS
from kajitori.base.clock import parse_rfc3339
from kajitori.base.errors import ApiError, NotFound
from kajitori.control.cache import Metadata
from kajitori.control.runtime import Runtime

_log = logging.getLogger(__name__)

LIFETIME_SECONDS = 3600.0
_SHORTEST_SLEEP_SECONDS = 60.0


class _Series(msgspec.Struct, rename="camel"):
    last_observed_time: str | None = None


class EventTimes(msgspec.Struct, rename="camel"):
    """When an event happened, in all the forms in which events say it."""

    metadata: Metadata
    event_time: str | None = None
    last_timestamp: str | None = None
    series: _Series | None = None

    def last_seen(self) -> float:
        """Seconds since 1970."""
        series = self.series.last_observed_time if self.series is not None else None
        stamps = (self.metadata.creation_timestamp, self.event_time, self.last_timestamp, series)
        return max((parse_rfc3339(stamp) for stamp in stamps if stamp), default=0.0)


class EventExpiry:
    """A service of the controllers' process."""

    def __init__(self, runtime: Runtime, lifetime_seconds: float = LIFETIME_SECONDS) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._lifetime_seconds = lifetime_seconds

    async def run(self) -> None:
        """Never returns."""
        while True:
            wait = await self.expire()
            await asyncio.sleep(max(_SHORTEST_SLEEP_SECONDS, wait))

    async def expire(self) -> float:
        """Delete what is due; returns the seconds until the next one is."""
        now = self._clock.now()
        soonest = self._lifetime_seconds
        listed = await self._client.list(CORE_EVENTS, type=EventTimes, on_invalid=lambda body, problem: None)
        for event in listed.items:
            left = event.last_seen() + self._lifetime_seconds - now
            if left > 0:
                soonest = min(soonest, left)
                continue
            try:
                await self._client.delete(
                    CORE_EVENTS,
                    event.metadata.name,
                    event.metadata.namespace,
                    # It may have been seen again since.
                    preconditions_resource_version=event.metadata.resource_version,
                )
            except NotFound:
                continue
            except ApiError as error:
                _log.debug("event %s stays: %s", event.metadata.name, error)
        return soonest


def register(runtime: Runtime) -> None:
    runtime.service("event expiry", EventExpiry(runtime).run)
