"""The ledger: lines of Envoy's access log to one record a request, costs and metrics.

Envoy writes a line for every attempt that failed when the attempt ends, and one for every request when it ends, so a
request finds its attempts already read. The happy path is one line, and what it costs here is measured by
`bench/gateway.py`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from kajitori.gateway.accounting.charges import Charge, Charger
from kajitori.gateway.accounting.log_format import (
    AttemptLine,
    RequestLine,
    parse_line,
    read_headers,
    read_who,
)
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.policy import BackendFacts, Policy
from kajitori.gateway.accounting.records import Attempt, LogPosition, RecordStore, RequestRecord
from kajitori.gateway.accounting.reported import answered_model, read_usage
from kajitori.gateway.accounting.verdict_notes import NOTHING, VerdictNotes
from kajitori.gateway.operations import PROVIDERS
from kajitori.gateway.rescue.legs import RESCUE_CLUSTER
from kajitori.gateway.resilience.spare import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_log = logging.getLogger(__name__)

# Requests whose failed attempts are known and whose end is not; and the latest that were booked after more than one.
_MOST_UNFINISHED = 10_000
_MOST_FINISHED = 1_000
_SHOWN_CHARACTERS = 200
_NO_BACKEND = BackendFacts("")
_NO_ATTEMPT = ("", "0")
_NOBODY = "{}:{}".format(*NOBODY)
_OUTCOMES = {
    "-": "",
    "LH": "no healthy host",
    "UH": "no healthy host",
    "UT": "timeout",
    "LR": "connection reset locally",
    "UR": "connection reset by the backend",
    "UF": "connection failure",
    "UC": "connection closed by the backend",
    "UO": "too many requests open",
    "NR": "no route",
    "DI": "",
    "FI": "fault injected",
    "RL": "rate limited",
    "UAEX": "refused by admission",
    "RLSE": "rate limits not to be asked",
    "DC": "client left",
    "URX": "retries exhausted",
    "SI": "silent for too long",
    "IH": "malformed request",
    "DPE": "malformed request",
    "UPE": "malformed answer",
    "UMSDR": "took too long",
    "DT": "took too long",
    "RFCF": "",
    "NC": "no such cluster",
    "OM": "gateway overloaded",
    "DF": "name not resolved",
    "DR": "client left",
}


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
        self._backends: dict[str, BackendFacts] = {}
        self._key_names: dict[str, str] = {}
        self._charger = Charger(Policy())
        self._routes: dict[str, tuple[str, int]] = {}
        self._attempts: OrderedDict[str, list[str]] = OrderedDict()
        self._finished: OrderedDict[str, None] = OrderedDict()
        self.unreadable_lines = 0

    def configure(self, policy: Policy) -> None:
        """Takes a new policy; requests that end later are booked by it."""
        self._backends, self._charger = policy.backends, Charger(policy)
        self._key_names = {key: facts.name for key, facts in policy.keys.items()}

    def take(self, lines: Iterable[str], position: LogPosition | None = None) -> None:
        """Books lines and hands their records on."""
        self.hand_on(self.book(lines), position)

    def book(self, lines: Iterable[str]) -> list[RequestRecord]:
        """The records of what lines tell."""
        records: list[RequestRecord] = []
        unreadable: list[str] = []
        for line in lines:
            parsed = parse_line(line)
            if isinstance(parsed, RequestLine):
                if parsed.cluster == RESCUE_CLUSTER:
                    continue  # the relay asked in its stead, and each leg has a line of its own
                try:
                    records.append(self._record(parsed))
                except Exception:
                    # The others of its batch, and the log that they come from, are not to suffer.
                    _log.exception("request %s cannot be booked", parsed.id)
                    self.unreadable_lines += 1
            elif parsed is not None:
                self._take_attempt(parsed.id, line)
            elif line:
                unreadable.append(line)
        if unreadable:
            self.unreadable_lines += len(unreadable)
            shown = unreadable[0][:_SHOWN_CHARACTERS]
            _log.warning("%d lines of the access log cannot be read, such as %r", len(unreadable), shown)
        return records

    def hand_on(self, records: list[RequestRecord], position: LogPosition | None = None) -> None:
        """Stores and counts records. position: where the log is read on, saved in one transaction with them."""
        if position is not None and self._attempts:
            unfinished = [line for attempts in self._attempts.values() for line in attempts]
            position = msgspec.structs.replace(position, unfinished=unfinished)
        if records or position is not None:
            self._store.write(records, position)
        self._metrics.observe(records)
        if self._on_record is not None:
            for record in records:
                self._on_record(record)

    def _take_attempt(self, request_id: str, line: str) -> None:
        if request_id in self._finished:
            return  # of a request that did not wait for it
        self._attempts.setdefault(request_id, []).append(line)
        if len(self._attempts) > _MOST_UNFINISHED:
            self._attempts.popitem(last=False)

    def _record(self, line: RequestLine) -> RequestRecord:
        who = read_who(line.who)
        usage, estimated = read_usage(line.usage, who.input_estimate)
        route = self._routes.get(line.route) or self._parse_route(line.route)
        cluster, model = line.cluster, line.model
        # A filter that refuses a request does so when its route is known, and nobody was asked yet.
        asked = bool(cluster) and line.attempts not in _NO_ATTEMPT
        facts = self._backends.get(cluster, _NO_BACKEND) if asked else _NO_BACKEND
        backend, override = facts.name, facts.model
        status = int(line.status or 0)
        if line.duration_microseconds:
            duration = int(line.duration_microseconds) * 1e-6
        else:
            duration = int(line.duration_milliseconds or 0) * 1e-3
        first_byte = _seconds(line.first_byte_microseconds)
        outcome = _outcome(line.flags) if line.flags else ""
        stream = who.stream == "true"
        speed = None
        # An answer that is not streamed comes all at once: its first byte says nothing of its first token.
        if stream and usage is not None and first_byte is not None and duration > first_byte:
            speed = (usage.output_tokens - 1) / (duration - first_byte) if usage.output_tokens > 1 else None
        note = self._notes.take(line.id) if self._notes is not None else NOTHING
        charge = Charge()
        if usage is not None:
            charge = self._charger.charge(route[0], route[1], backend, override or model, usage)
        return RequestRecord(
            id=line.id,
            time=float(line.time),
            route=route[0],
            rule=route[1],
            method=line.method,
            path=line.path or line.sent_path,
            status=status,
            outcome=outcome or "answered",
            model=model,
            effective_model=(override or model) if backend else "",
            backend=backend,
            client=line.client,
            key=who.key,
            key_name=self._key_names.get(who.key, "") if who.key else "",
            tenant=who.tenant,
            response_model=answered_model(line.usage),
            provider=PROVIDERS.get(facts.schema, facts.schema) if backend else "",
            traceparent=line.traceparent,
            headers=read_headers(line.headers) if line.headers else {},
            admission_seconds=note.seconds,
            limit=note.limit,
            refusal=note.refusal,
            operation=who.operation,
            dialect=who.dialect,
            decision=line.decision,
            stream=stream,
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
            attempts=self._attempt_list(line, backend, status, outcome) if asked else [],
        )

    def _parse_route(self, name: str) -> tuple[str, int]:
        """`ai/namespace/name/rule/0/match/0` to namespace/name and 0; names of our own answers stay."""
        parts = name.split("/")
        found = (name, -1)
        if len(parts) == 7 and parts[0] in ("ai", "http") and parts[3] == "rule":
            found = (f"{parts[1]}/{parts[2]}", int(parts[4]))
        if len(self._routes) > 10_000:
            self._routes.clear()
        self._routes[name] = found
        return found

    def _attempt_list(self, line: RequestLine, backend: str, status: int, outcome: str) -> list[Attempt]:
        tries = int(line.attempts or 0)
        failed = self._attempts.pop(line.id, ()) if self._attempts else ()
        attempts = [
            self._failed_attempt(number, parsed)
            for number, parsed in enumerate(map(parse_line, failed), 1)
            if isinstance(parsed, AttemptLine)
        ]
        if len(attempts) < max(tries, 1):
            number = max(tries, len(attempts) + 1)
            attempts.append(
                Attempt(number, backend, line.cluster, line.address, status, outcome or "answered")
            )
        if tries > 1:
            self._finished[line.id] = None
            if len(self._finished) > _MOST_FINISHED:
                self._finished.popitem(last=False)
        return attempts

    def _failed_attempt(self, number: int, line: AttemptLine) -> Attempt:
        status = int(line.status or 0)
        outcome = _outcome(line.flags) if line.flags else ""
        nobody = line.address == _NOBODY
        if nobody:
            outcome = _OUTCOMES["UH"]
        return Attempt(
            number,
            self._backends.get(line.cluster, _NO_BACKEND).name,
            line.cluster,
            "" if nobody else line.address,
            0 if outcome and status in (0, 503) else status,
            outcome or f"answered {status}",
            line.detail,
            int(line.duration_milliseconds) * 1e-3 if line.duration_milliseconds else None,
            line.retry_after,
        )


def _seconds(microseconds: str) -> float | None:
    return int(microseconds) * 1e-6 if microseconds else None


def _outcome(flags: str) -> str:
    """What the flags of a line say, in words."""
    words = [_OUTCOMES.get(flag, flag) for flag in flags.split(",")]
    return ", ".join(dict.fromkeys(word for word in words if word))
