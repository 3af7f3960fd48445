"""Where the time of a request went, from what Envoy and the accountant measured. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kajitori.gateway.accounting.records import RequestRecord


def time_spent(record: RequestRecord) -> dict[str, float]:
    """Seconds by phase, in order; together they are the duration. Phases that took nothing are left out.

    receiving: until all of the request was there. admission: waiting for the accountant. failed_attempts: of backends
    before the last. gateway: all else before that one got the request, such as its connection. first_byte: until its answer's
    body began. answer: until its end.
    """
    whole = record.duration_seconds
    failed = sum(attempt.duration_seconds or 0.0 for attempt in record.attempts[:-1])
    at = 0.0
    found: dict[str, float] = {}

    def until(name: str, moment: float) -> None:
        nonlocal at
        moment = min(max(moment, at), whole)
        if moment > at:
            found[name] = moment - at
            at = moment

    sent = record.sent_seconds if record.sent_seconds is not None else whole
    until("receiving", min(record.received_seconds or 0.0, sent))
    until("admission", min(at + record.admission_seconds, sent))
    until("failed_attempts", min(at + failed, sent))
    until("gateway", sent)
    if record.time_to_first_token_seconds is not None:
        until("first_byte", record.time_to_first_token_seconds)
        until("answer", whole)
    else:
        until("first_byte", whole)
    return found
