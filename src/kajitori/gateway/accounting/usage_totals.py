"""What requests add up to: by day and by month in UTC, for each route, model, backend, key and tenant. Pure.

A day, and a month, has a bounded number of rows: clients may choose the names of models, so what comes beyond the bound is
booked under `other`, first its model, then its key too. Sums stay exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from kajitori.gateway.accounting.flags import WAS_OVERTAKEN
from kajitori.gateway.accounting.prices import NANO_USD
from kajitori.gateway.rescue.legs import LEG_MARK, leg_number

if TYPE_CHECKING:
    from kajitori.gateway.accounting.records import RequestRecord

OTHER = "other"
_FIRST_DAY = date(1970, 1, 1)
DAY_SECONDS = 86_400
DAY_LENGTH, MONTH_LENGTH = len("2026-11-26"), len("2026-11")
MOST_OF_A_DAY, MOST_OF_A_MONTH = 2_000, 10_000
COUNTS = (
    "requests", "errors", "estimated", "unpriced", "input_tokens", "output_tokens", "cached_input_tokens",
    "cache_creation_input_tokens", "reasoning_tokens", "nano_usd",
)  # fmt: skip
"""The fields of `Totals` that are plain numbers."""

_NO_ERRORS = frozenset({"answered", WAS_OVERTAKEN})


class Subject(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Whose requests are counted. Names are namespace/name; empty where a request has none."""

    route: str
    model: str
    backend: str
    key: str
    tenant: str


SUBJECT_FIELDS = Subject.__struct_fields__


class Totals(msgspec.Struct, gc=False):
    """Sums. errors: not answered in full with a status below 400. estimated: whose tokens are an estimate. unpriced: with
    tokens and without a known price. costs: by metadata key.
    """

    requests: int = 0
    errors: int = 0
    estimated: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    reasoning_tokens: int = 0
    nano_usd: int = 0
    costs: dict[str, int] = msgspec.field(default_factory=dict[str, int])

    @property
    def cost_usd(self) -> float:
        """US dollars."""
        return self.nano_usd / NANO_USD

    def add(self, record: RequestRecord) -> None:
        """Counts one record in."""
        # Of a stream that was rescued, and of a request that was hedged, each leg has a record: it is one request, and what
        # each took is paid.
        if LEG_MARK not in record.id or leg_number(record.id) == 1:
            self.requests += 1
        if record.status >= 400 or record.outcome not in _NO_ERRORS:
            self.errors += 1
        usage = record.usage
        if usage is None:
            return
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.cached_input_tokens += usage.cached_input_tokens
        self.cache_creation_input_tokens += usage.cache_creation_input_tokens
        self.reasoning_tokens += usage.reasoning_tokens
        self.estimated += record.usage_estimated
        if record.cost_usd is None:
            self.unpriced += 1
        else:
            self.nano_usd += round(record.cost_usd * NANO_USD)
        for key, amount in record.costs.items():
            self.costs[key] = self.costs.get(key, 0) + amount

    def merge(self, other: Totals) -> None:
        """Counts another one's sums in."""
        self.requests += other.requests
        self.errors += other.errors
        self.estimated += other.estimated
        self.unpriced += other.unpriced
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_input_tokens += other.cached_input_tokens
        self.cache_creation_input_tokens += other.cache_creation_input_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.nano_usd += other.nano_usd
        for key, amount in other.costs.items():
            self.costs[key] = self.costs.get(key, 0) + amount


def day_of(seconds: float) -> str:
    """The day, in UTC, of a time in seconds since 1970."""
    return _day(int(seconds // DAY_SECONDS))


@lru_cache(maxsize=64)
def _day(day: int) -> str:
    try:
        return (_FIRST_DAY + timedelta(day)).isoformat()
    except OverflowError:  # a clock that is out of its mind
        return _FIRST_DAY.isoformat()


def subject_of(record: RequestRecord) -> Subject:
    """Whose request it was. A model that nobody serves is a word of the client's, and is not kept; one that was asked was
    served, though its route may be gone by now.
    """
    model = record.model if record.backend or record.limit or record.attempts else ""
    return Subject(record.route, model, record.backend, record.key_name or record.key, record.tenant)


class Period:
    """The rows of one day or month."""

    def __init__(self, name: str, rows: dict[Subject, Totals]) -> None:
        self.rows = rows
        self._most = MOST_OF_A_DAY if len(name) == DAY_LENGTH else MOST_OF_A_MONTH

    def add(self, subject: Subject, more: Totals) -> tuple[Subject, Totals]:
        """Counts sums in; returns the row that they went to."""
        for candidate in _coarser(subject):
            known = self.rows.get(candidate)
            if known is None and len(self.rows) < self._most:
                known = self.rows[candidate] = Totals()
            if known is not None:
                known.merge(more)
                return candidate, known
        last = msgspec.structs.replace(subject, model=OTHER, key=OTHER)
        known = self.rows.setdefault(last, Totals())
        known.merge(more)
        return last, known


def _coarser(subject: Subject) -> Iterable[Subject]:
    yield subject
    yield msgspec.structs.replace(subject, model=OTHER)
