"""Events: what happened to an object, for people to read with `kubectl describe`.

Recording never waits for the network and never fails the caller: an event is put into a bounded memory, and one
task of the recorder writes. The same thing said again within six minutes becomes a series with a count, written
at most every few seconds; an object that says too many different things is cut off until it has calmed down.

Source: events.k8s.io/v1 (series), KEP-383 for the six minutes, the spam filter of client-go for its idea.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import uuid
from collections.abc import Callable
from typing import Literal

from kajitori.api.resource import EVENTS, Resource
from kajitori.base.clock import Clock, SystemClock, rfc3339_micro
from kajitori.base.errors import AlreadyExists, ApiError, Conflict, Forbidden, Invalid, NotFound, Unreachable
from kajitori.kube.client import Client
from kajitori.kube.objects import AnyObject, Object, describe, reference

_log = logging.getLogger(__name__)

_SERIES_SECONDS = 360.0
_SERIES_WRITE_SECONDS = 5.0
_REMEMBERED = 1000
_BURST = 25
_REFILL_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_LONGEST_NOTE = 1024


@dataclasses.dataclass
class _Entry:
    """One event as it stands: what was written of it and what is new."""

    body: Object
    count: int
    first_seen: float
    last_seen: float
    written_count: int = 0
    written_at: float = float("-inf")
    name: str = ""


@dataclasses.dataclass
class _Allowance:
    tokens: float
    at: float


class EventRecorder:
    """Records events of one component, such as `kajitori.dev/groups`. Close it to flush what is pending.

    instance: which process of several; event names are made by `new_id`, which a test may replace.
    """

    def __init__(
        self,
        client: Client,
        component: str,
        *,
        instance: str = "",
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self._client = client
        self._component = component
        self._instance = instance or component
        self._clock: Clock = clock or SystemClock()
        self._new_id: Callable[[], str] = new_id or (lambda: uuid.uuid4().hex[:16])
        self._entries: dict[object, _Entry] = {}
        self._pending: dict[object, None] = {}
        self._allowances: dict[object, _Allowance] = {}
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._closing = False
        self.dropped = 0

    async def record(
        self,
        regarding: AnyObject,
        reason: str,
        message: str,
        *,
        type: Literal["Normal", "Warning"] = "Normal",
        action: str = "",
        related: AnyObject | None = None,
        resource: Resource | None = None,
    ) -> None:
        """Note that something happened to `regarding`; returns at once.

        reason: CamelCase. action: what was being done, `reason` if empty. resource: where the object does not say
        its kind.
        """
        about = reference(regarding, resource)
        key = (tuple(about.items()), reason, message, type, action)
        now = self._clock.now()
        entry = self._entries.get(key)
        if entry is not None and now - entry.last_seen < _SERIES_SECONDS:
            entry.count += 1
            entry.last_seen = now
        elif self._allowed(about.get("uid") or about.get("name"), now):
            body = self._body(about, reason, message, type, action, now)
            if related is not None:
                body["related"] = reference(related)
            self._entries.pop(key, None)
            self._entries[key] = _Entry(body, 1, now, now)
            self._forget_old()
        else:
            self.dropped += 1
            return
        self._pending[key] = None
        if self._writer is None and not self._closing:
            self._writer = asyncio.get_running_loop().create_task(self._write_all(), name="event recorder")
        self._wake.set()

    def _body(
        self, about: dict[str, str], reason: str, message: str, type: str, action: str, now: float
    ) -> Object:
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": about.get("namespace") or "default"},
            "regarding": about,
            "reason": reason,
            "note": message if len(message) <= _LONGEST_NOTE else message[: _LONGEST_NOTE - 3] + "...",
            "type": type,
            "action": action or reason,
            "eventTime": rfc3339_micro(now),
            "reportingController": self._component,
            "reportingInstance": self._instance[:128],
        }

    def _allowed(self, who: object, now: float) -> bool:
        allowance = self._allowances.pop(who, None) or _Allowance(_BURST, now)
        allowance.tokens = min(_BURST, allowance.tokens + (now - allowance.at) / _REFILL_SECONDS)
        allowance.at = now
        self._allowances[who] = allowance
        if len(self._allowances) > _REMEMBERED:
            self._allowances.pop(next(iter(self._allowances)))
        if allowance.tokens < 1:
            return False
        allowance.tokens -= 1
        return True

    def _forget_old(self) -> None:
        while len(self._entries) > _REMEMBERED:
            oldest = next(iter(self._entries))
            if self._pending.pop(oldest, self) is None:
                self.dropped += 1
            del self._entries[oldest]

    async def _write_all(self) -> None:
        """Runs for the recorder's life; sleeps while there is nothing to write."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                delay = await self._write_due()
                if delay > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(delay):
                            await self._wake.wait()
                    self._wake.clear()

    async def _write_due(self) -> float:
        """Write what is due; returns after how many seconds the next is, 0 if there may be some now."""
        now, next_due = self._clock.now(), float("inf")
        for key in list(self._pending):
            entry = self._entries.get(key)
            due = entry.written_at + _SERIES_WRITE_SECONDS if entry is not None else 0.0
            if due > now and not self._closing:
                next_due = min(next_due, due - now)
                continue
            if entry is None:
                self._pending.pop(key, None)
            elif not await self._write(entry):
                next_due = min(next_due, _RETRY_SECONDS)
            elif entry.written_count >= entry.count:
                self._pending.pop(key, None)
        return 0.0 if next_due == float("inf") else next_due

    async def _write(self, entry: _Entry) -> bool:
        """Whether the entry is dealt with: written, or refused for good."""
        count = entry.count
        try:
            if not entry.name:
                entry.name = self._name_for(entry)
                entry.body["metadata"]["name"] = entry.name
            if entry.written_count == 0:
                body = {**entry.body, "series": self._series(entry)} if count > 1 else entry.body
                await self._client.create(EVENTS, body)
            else:
                await self._client.patch(
                    EVENTS,
                    entry.name,
                    {"series": self._series(entry)},
                    namespace=entry.body["metadata"]["namespace"],
                )
        except (Conflict, NotFound, Forbidden, Invalid) as error:
            # A namespace on its way out, or an event that aged away: nothing that a second attempt would mend.
            _log.debug("event about %s dropped: %s", describe(entry.body["regarding"]), error)
            entry.last_seen, entry.written_count = float("-inf"), entry.count
            return True
        except AlreadyExists:
            # The answer to an earlier attempt was lost on its way; what it wrote stands.
            pass
        except (ApiError, Unreachable) as error:
            _log.info("event not written yet: %s", error)
            return False
        except Exception:
            # It cannot be written, as with a file name that is no text. The writer lives on for the others.
            _log.exception("event about %s dropped", describe(entry.body["regarding"]))
            entry.last_seen, entry.written_count = float("-inf"), entry.count
            return True
        entry.written_count, entry.written_at = count, self._clock.now()
        return True

    def _series(self, entry: _Entry) -> Object:
        return {"count": entry.count, "lastObservedTime": rfc3339_micro(entry.last_seen)}

    def _name_for(self, entry: _Entry) -> str:
        # Short enough for any object's name, unlike any other event's, and in the order of time: clients that find
        # no lastTimestamp to sort by show events in the order of their names.
        name = str(entry.body["regarding"].get("name") or "cluster")
        if len(name) > 200:
            name = f"{name[:180]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return f"{name}.{int(entry.first_seen * 1e6):013x}{self._new_id()[-8:]}"

    async def close(self, timeout_seconds: float = 2.0) -> None:
        """Write what is pending, at most for so long, and stop."""
        self._closing = True
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            self._writer = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self._pending and await self._write_due() == 0.0:
                    pass
        self.dropped += len(self._pending)
        self._pending.clear()
