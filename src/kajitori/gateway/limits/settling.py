"""How requests end, told to the store: what they really took, or what is to be given back.

While the store is lost the endings wait, up to a bound. A request that passed before this process began is found
in the store; a stream that another backend went on with books its further legs under the limits of its first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable

import msgspec

from kajitori.base.clock import Clock
from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.limits.amounts import failed_amount, real_amount
from kajitori.gateway.limits.decision import Hold, Taken
from kajitori.gateway.limits.limit import REQUESTS
from kajitori.gateway.limits.matching import Matcher
from kajitori.gateway.limits.request import Settlement
from kajitori.gateway.limits.store import Store, StoreLost
from kajitori.gateway.limits.wants import Tag
from kajitori.gateway.rescue.legs import base_id

_log = logging.getLogger(__name__)

# By how much Envoy's times and ours may differ, on one machine.
_CLOCK_SECONDS = 5.0
_MOST_PENDING = 100_000
_MOST_REMEMBERED = 2_000


class Counts(msgspec.Struct):
    """What happened since the process began. refused, shadowed, estimated: by the limit's name; of the last, requests that
    it counted by an estimate.
    """

    admitted: int = 0
    refused: dict[str, int] = {}
    shadowed: dict[str, int] = {}
    estimated: dict[str, int] = {}
    store_failures: int = 0
    passed_without_store: int = 0
    refused_without_store: int = 0
    unsettled_dropped: int = 0

    def note_estimate(self, limit: str) -> None:
        """One more request that a limit counts by an estimate."""
        self.estimated[limit] = self.estimated.get(limit, 0) + 1


class Note(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is remembered of a request beside its holds, in the store too."""

    input_tokens: int
    tags: list[Tag]


class OpenRequest(msgspec.Struct, gc=False):
    """A request that has passed. reserved: None while nobody knows, since the store did not answer.

    before: an older one of the same id.
    """

    name: str
    note: Note
    holds: list[Hold]
    since: float
    reserved: bool | None
    before: OpenRequest | None


class Ending(msgspec.Struct, frozen=True, gc=False):
    """What is to be told to the store. taken: what to book if it knows of no reservation."""

    name: str
    amounts: list[int]
    taken: list[Taken]


class Settling:
    """name: of the process, see `Engine`."""

    def __init__(self, store: Store, clock: Clock, matcher: Matcher, counts: Counts, name: str) -> None:
        self.matcher = matcher
        self._store = store
        self._clock = clock
        self._counts = counts
        self._name = name
        self._started = clock.now()
        self._ended: OrderedDict[str, OpenRequest] = OrderedDict()
        self._pending: deque[Ending | Settlement] = deque()
        # Is given those that turn out to have passed without a question.
        self.charge: Callable[[Settlement], None] = _ignore
        # Is given what no reservation was made for.
        self.book: Callable[[list[Taken]], None] = _ignore
        # Set when something begins to wait for the store, or goes on waiting.
        self.behind = asyncio.Event()
        self._flushing = False

    @property
    def pending(self) -> int:
        """Endings that wait for the store."""
        return len(self._pending)

    async def settle(
        self, entry: OpenRequest | None, settlement: Settlement, first_leg: OpenRequest | None = None
    ) -> None:
        """Books how a request ended. entry: what is known of it here. first_leg: if it is a further leg of one under way."""
        if entry is not None:
            ending = self._ending(entry, settlement)
            self._remember(settlement.id, entry)
        elif first_leg := first_leg or self._ended.get(base_id(settlement.id)):
            ending = self._further_leg(first_leg, settlement)
        else:
            ending = settlement
        try:
            await self._end(ending)
        except StoreLost:
            self._counts.store_failures += 1
            self._postpone(ending)

    def give_back(self, entry: OpenRequest) -> None:
        """Tells the store, when it is there again, that a request did not pass."""
        self._postpone(Ending(entry.name, [0] * len(entry.holds), []))

    async def flush(self) -> None:
        """Tells the store what it missed, as far as it listens."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while self._pending:
                ending = self._pending.popleft()
                try:
                    await self._end(ending)
                except StoreLost:
                    self._pending.appendleft(ending)
                    self.behind.set()
                    return
                except Exception:
                    # A defect that one meets must not keep the others back.
                    _log.exception("the end of a request cannot be told to the store")
        finally:
            self._flushing = False

    def _remember(self, request_id: str, entry: OpenRequest) -> None:
        """A stream that is rescued goes on under a name made of its own."""
        self._ended[request_id] = entry
        if len(self._ended) > _MOST_REMEMBERED:
            self._ended.popitem(last=False)

    def _further_leg(self, entry: OpenRequest, settlement: Settlement) -> Ending:
        """What another backend took that went on with a stream, or was hedged with: it comes on top, under the limits of
        the first.
        """
        name = f"{self._name}/{settlement.id}"
        amounts = self._amounts(entry.note, settlement, [0] * len(entry.holds))
        taken: list[Taken] = []
        for hold, tag, amount in zip(entry.holds, entry.note.tags, amounts, strict=True):
            compiled = self.matcher.by_name.get(tag.limit)
            more = amount - failed_amount(compiled.limit) if compiled else 0
            if more > 0:
                taken.append(Taken(hold.counter, hold.slot, more, hold.forget))
        return Ending(name, [], taken)

    def _ending(self, entry: OpenRequest, settlement: Settlement) -> Ending:
        wanted = [hold.amount for hold in entry.holds]
        amounts = self._amounts(entry.note, settlement, wanted)
        taken: list[Taken] = []
        if not entry.reserved:
            taken = [
                Taken(hold.counter, hold.slot, amount, hold.forget)
                for hold, amount in zip(entry.holds, amounts, strict=True)
                if amount
            ]
        return Ending(entry.name, amounts, taken)

    def may_be_reserved(self, settlement: Settlement) -> bool:
        """Whether somebody may have been asked about a request that is not known here: before this process began, or for
        the first leg of its stream.
        """
        if base_id(settlement.id) in self._ended:
            return True
        return settlement.began <= self._started + _CLOCK_SECONDS

    async def _recovered(self, settlement: Settlement) -> Ending | None:
        """The end of a request that passed before this process began."""
        name = f"{self._name}/{settlement.id}"
        reservation = await self._store.find(name)
        if reservation is None and not settlement.overtaken and (base := base_id(settlement.id)):
            # Of a hedged request whose first leg was told of before; of one that was overtaken it answers still.
            name = f"{self._name}/{base}"
            reservation = await self._store.find(name)
        if reservation is None:
            return None
        note = msgspec.json.decode(reservation.note, type=Note)
        amounts = self._amounts(note, settlement, [each.amount for each in reservation.holds])
        return Ending(name, amounts, [])

    async def _end(self, ending: Ending | Settlement) -> None:
        """Tells the store. Raises StoreLost."""
        if isinstance(ending, Settlement):
            found = await self._recovered(ending)
            if found is None:  # whoever should have been asked was away
                self.charge(ending)
                return
            ending = found
        now = self._clock.now()
        if not await self._store.settle(ending.name, ending.amounts, now=now):
            self.book(ending.taken)

    def _postpone(self, ending: Ending | Settlement) -> None:
        if len(self._pending) >= _MOST_PENDING:
            self._pending.popleft()
            self._counts.unsettled_dropped += 1
        self._pending.append(ending)
        self.behind.set()

    def _amounts(self, note: Note, settlement: Settlement, reserved: list[int]) -> list[int]:
        """What a request took, for each of its holds."""
        usage = settlement.usage
        if usage is None and settlement.answered:
            seen = settlement.output_tokens_seen
            usage = Usage(note.input_tokens, seen, note.input_tokens + seen)
        return [
            self._real(tag, settlement, usage, amount)
            for tag, amount in zip(note.tags, reserved, strict=False)
        ]

    def _real(self, tag: Tag, settlement: Settlement, usage: Usage | None, reserved: int) -> int:
        compiled = self.matcher.by_name.get(tag.limit)
        if compiled is None:
            return reserved  # the limit is gone, and with it how to tell
        limit = compiled.limit
        model = settlement.backend_model or settlement.model
        if tag.backend and (tag.backend, tag.model) != (settlement.backend, model):
            return 0
        if limit.counts == REQUESTS or usage is None:
            return failed_amount(limit)
        if settlement.estimated:
            self._counts.note_estimate(limit.name)
        amount = real_amount(
            self.matcher.charger, limit, settlement.route, settlement.rule, settlement.backend, model, usage
        )
        return reserved if amount is None else amount


def _ignore(told: object) -> None:
    """Of whom nobody wants to know."""
