"""The ledger: lines of Envoy's access log to one record a request, costs and metrics.

Envoy writes a line for every attempt that failed when the attempt ends, and one for every request when it ends, so a
request finds its attempts already read. The happy path is one line, and what it costs here is measured by
`bench/gateway.py`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.accounting.attempts import Attempts
from kajitori.gateway.accounting.booking import Booking, Bookings
from kajitori.gateway.accounting.charges import Charge
from kajitori.gateway.accounting.estimates import estimated_usage
from kajitori.gateway.accounting.flags import of_leg
from kajitori.gateway.accounting.log_format import RequestLine, parse_line, read_headers, read_who
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.record_store import RecordStore
from kajitori.gateway.accounting.records import Attempt, LogPosition, RequestRecord
from kajitori.gateway.accounting.reported import MARKS, read_flaw, read_usage
from kajitori.gateway.accounting.verdict_notes import NOTHING, VerdictNotes
from kajitori.gateway.rescue.legs import CLUSTERS as CLUSTERS_OF_LEGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kajitori.gateway.accounting.costs import Usage

_log = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 200
_NO_CHARGE = Charge()
# Seconds since 1970, in the year 2286.
_LATEST = 1e10
_replace = msgspec.structs.replace


class Ledger:
    """Takes in lines. on_record: called for each record, after it was handed to the store. notes: of admission."""

    def __init__(
        self,
        store: RecordStore,
        metrics: GatewayMetrics,
        on_record: Callable[[RequestRecord], None] | None = None,
        notes: VerdictNotes | None = None,
    ) -> None:
        self._store = store
        self._notes = notes
        self._metrics = metrics
        self._on_record = on_record
        # Is told of the line of a hedged request as a whole, by its id.
        self.on_whole: Callable[[str], None] | None = None
        self._bookings = Bookings(AccountantPolicy())
        self._attempts = Attempts()
        # Of lines whose records are made later than their requests are settled; None if none are.
        self._later: Attempts | None = None
        self.unreadable_lines = 0

    def configure(self, policy: AccountantPolicy) -> None:
        """Takes a new policy; requests that end later are booked by it."""
        self._bookings = Bookings(policy)
        self._attempts.backends = policy.backends
        if self._later is not None:
            self._later.backends = policy.backends

    def take(self, lines: Iterable[str], position: LogPosition | None = None) -> None:
        """Books lines and hands their records on."""
        self.hand_on(self.book(lines), position)

    def part(self) -> None:
        """From now on `book` is for who settles, and the same lines come again for their records, later."""
        self._later = Attempts()
        self._later.backends = self._attempts.backends
        self._later.add(self._attempts.unfinished())

    def join(self) -> None:
        """What was to come again has come."""
        self._attempts, self._later = self._later or self._attempts, None

    def book(self, lines: Iterable[str], *, later: bool = False) -> list[RequestRecord]:
        """The records of what lines tell. later: for the records alone, see `part`."""
        attempts = (self._later if later else None) or self._attempts
        records: list[RequestRecord] = []
        unreadable: list[str] = []
        for line in lines:
            parsed = parse_line(line)
            if isinstance(parsed, RequestLine):
                if parsed.cluster in CLUSTERS_OF_LEGS:
                    if self.on_whole is not None and not later:
                        self.on_whole(parsed.id)
                    continue  # others were asked in its stead, and each leg has a line of its own
                try:
                    records.append(self._record(parsed, attempts, later=later))
                except Exception:
                    # The others of its batch, and the log that they come from, are not to suffer.
                    _log.exception("request %s cannot be booked", parsed.id)
                    self.unreadable_lines += 1
            elif parsed is not None:
                if parsed.cluster not in CLUSTERS_OF_LEGS:
                    attempts.take(parsed.id, line)
            elif line:
                unreadable.append(line)
        if unreadable:
            self.unreadable_lines += len(unreadable)
            shown = unreadable[0][:_SHOWN_CHARACTERS]
            _log.warning("%d lines of the access log cannot be read, such as %r", len(unreadable), shown)
        return records

    def hand_on(self, records: list[RequestRecord], position: LogPosition | None = None) -> None:
        """Stores and tells of records. position: where the log is read on, saved in one transaction with them."""
        self.keep(records, position)
        self.tell(records)

    def keep(self, records: list[RequestRecord], position: LogPosition | None) -> None:
        """Stores records."""
        if position is not None and (unfinished := (self._later or self._attempts).unfinished()):
            position = _replace(position, unfinished=unfinished)
        if records or position is not None:
            self._store.write(records, position)

    def tell(self, records: list[RequestRecord]) -> None:
        """Counts records, and tells whoever listens."""
        self._metrics.observe(records)
        if self._on_record is not None:
            for record in records:
                self._on_record(record)

    def _record(self, line: RequestLine, attempts: Attempts, *, later: bool) -> RequestRecord:
        flaw = ""
        if line.usage and line.usage[0] in MARKS:
            flaw, usage_text = read_flaw(line.usage)
            line = _replace(line, usage=usage_text, flags=flaw)
        elif line.decision:
            line = _replace(line, flags=of_leg(line.flags, line.decision, line.status))
        who = read_who(line.who)
        booking = self._bookings.of(line, who)
        usage, estimated = read_usage(line.usage, who.input_estimate)
        if usage is None and not flaw and booking.record.operation and booking.answered:
            usage = estimated_usage(booking.record.operation, who.input_estimate, line.response_bytes)
            estimated = usage is not None
        duration = _seconds(line.duration_microseconds)
        if duration is None:
            duration = int(line.duration_milliseconds or 0) * 1e-3
        first_byte = _seconds(line.first_byte_microseconds)
        speed = None
        if booking.record.stream and usage is not None and first_byte is not None:
            speed = _speed(usage, duration - first_byte)
        note = NOTHING
        if self._notes is not None:
            comes_again = self._later is not None and not later
            note = self._notes.look(line.id) if comes_again else self._notes.take(line.id)
        charge = booking.tariff.charge(usage) if usage is not None else _NO_CHARGE
        return _replace(
            booking.record,
            id=line.id,
            time=_moment(line.time),
            client=line.client,
            traceparent=line.traceparent,
            headers=read_headers(line.headers) if line.headers else {},
            admission_seconds=note.seconds,
            limit=note.limit,
            refusal=note.refusal,
            decision=line.decision,
            duration_seconds=duration,
            received_seconds=_seconds(line.received_microseconds),
            sent_seconds=_seconds(line.sent_microseconds),
            time_to_first_token_seconds=first_byte,
            tokens_per_second=speed,
            request_bytes=int(line.request_bytes or 0),
            response_bytes=int(line.response_bytes or 0),
            usage=usage,
            usage_estimated=estimated,
            costs=charge.costs,
            cost_usd=charge.cost_usd,
            attempts=_attempts_of(line, booking, attempts) if booking.asked else [],
        )


def _attempts_of(line: RequestLine, booking: Booking, attempts: Attempts) -> list[Attempt]:
    only = booking.only_attempt(line.address)
    if line.attempts == "1" and not attempts.waiting:
        return only
    return attempts.of(line, only[0])


def _speed(usage: Usage, seconds: float) -> float | None:
    """Output tokens a second after the first. An answer that is not streamed comes all at once: its first byte says
    nothing of its first token.
    """
    return (usage.output_tokens - 1) / seconds if usage.output_tokens > 1 and seconds > 0 else None


def _moment(text: str) -> float:
    """Seconds since 1970. Raises ValueError for what is no time of a request."""
    found = float(text)
    if not 0.0 <= found < _LATEST:
        raise ValueError(f"{text!r} is no time")
    return found


def _seconds(microseconds: str) -> float | None:
    return int(microseconds) * 1e-6 if microseconds else None
