"""The spans of a request: what it was, and one for each attempt where there was more than one. Pure.

A span goes on with the client's trace (W3C `traceparent`), else its trace is named after the request's id. Identifiers follow
from the request's, so a request that is told twice is the same span. What clients and models wrote is in no record, and
in no span.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b

import msgspec

from kajitori.gateway.accounting.records import Attempt, RequestRecord
from kajitori.gateway.rescue.legs import leg_number
from kajitori.gateway.telemetry.conventions import Value, describe, server_attributes
from kajitori.gateway.telemetry.settings import Convention, TelemetrySettings

NO_HEADERS: Mapping[str, str] = {}
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    429: "RateLimitError",
    500: "InternalServerError",
    502: "InternalServerError",
    503: "InternalServerError",
}


class Moment(msgspec.Struct, frozen=True):
    """Something that happened within a span. time: seconds since 1970."""

    name: str
    time: float
    attributes: dict[str, Value] = {}


class Span(msgspec.Struct, frozen=True):
    """kind: `INTERNAL` or `CLIENT`. start, end: seconds since 1970. error: what went wrong, empty if nothing did. remote: whether
    the parent is somebody else's. parent: empty for none. Attributes without a value are left out.
    """

    name: str
    kind: str
    trace_id: bytes
    span_id: bytes
    parent: bytes
    remote: bool
    start: float
    end: float
    attributes: dict[str, Value]
    error: str = ""
    moments: tuple[Moment, ...] = ()


class Context(msgspec.Struct, frozen=True):
    """Where a span belongs. sampled: what the client says, None if there is none."""

    trace_id: bytes
    parent: bytes
    sampled: bool | None


def context_of(record: RequestRecord) -> Context:
    """From the client's `traceparent`, or from the request's id."""
    found = _TRACEPARENT.fullmatch(record.traceparent) if record.traceparent else None
    if found and int(found[1], 16) and int(found[2], 16):
        return Context(bytes.fromhex(found[1]), bytes.fromhex(found[2]), bool(int(found[3], 16) & 1))
    base = record.id.partition("~")[0]
    digits = base.replace("-", "")
    if re.fullmatch("[0-9a-f]{32}", digits) and int(digits, 16):
        return Context(bytes.fromhex(digits), b"", None)
    return Context(blake2b(base.encode(), digest_size=16).digest(), b"", None)


def is_sampled(settings: TelemetrySettings, context: Context) -> bool:
    """Whether a trace is kept."""
    sampler = settings.sampler
    if sampler.startswith("parentbased_"):
        if context.sampled is not None:
            return context.sampled
        sampler = sampler.removeprefix("parentbased_")
    if sampler == "traceidratio":
        return int.from_bytes(context.trace_id[8:]) >> 1 < settings.ratio * 2**63
    return sampler == "always_on"


def spans_of(
    record: RequestRecord, context: Context, convention: Convention, headers: Mapping[str, str] = NO_HEADERS
) -> list[Span]:
    """The request's span, then those of its attempts if there were several. Empty for what is no request to a model.

    headers: of clients, by name, with the attribute that tells them.
    """
    if not record.operation:
        return []
    parent = context.parent
    if leg_number(record.id) > 1:
        # What went on after a break belongs under the beginning.
        parent = _span_id(record.id.partition("~")[0])
    name, kind, attributes = describe(record, convention)
    attributes |= {headers[header]: value for header, value in record.headers.items() if header in headers}
    whole = Span(
        name,
        kind,
        context.trace_id,
        _span_id(record.id),
        parent,
        bool(parent) and parent == context.parent,
        record.time,
        record.time + record.duration_seconds,
        attributes | _own(record),
        _error(record),
        tuple(_moments(record)),
    )
    return [whole, *_attempts(record, whole)]


def _moments(record: RequestRecord) -> Iterator[Moment]:
    if record.stream and record.time_to_first_token_seconds is not None:
        yield Moment("First Token Stream Event", record.time + record.time_to_first_token_seconds)
    if error := _error(record):
        what: dict[str, Value] = {
            "exception.type": _ERRORS.get(record.status, "Error"),
            "exception.message": error,
        }
        yield Moment("exception", record.time + record.duration_seconds, what)


def _span_id(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8).digest()


def _error(record: RequestRecord) -> str:
    if record.status >= 400:
        return f"Error code: {record.status}" + (f" - {record.refusal}" if record.refusal else "")
    return "" if record.outcome == "answered" else record.outcome


def _own(record: RequestRecord) -> dict[str, Value]:
    """What no convention has a name for, and the plain facts of HTTP."""
    found: dict[str, Value] = {
        "kajitori.request.id": record.id,
        "kajitori.route": record.route,
        "kajitori.backend": record.backend,
        "kajitori.key": record.key_name or record.key,
        "kajitori.tenant": record.tenant,
        "kajitori.decision": record.decision,
        "kajitori.limit": record.limit,
        "http.request.method": record.method,
        "url.path": record.path,
    }
    found = {name: value for name, value in found.items() if value}
    if record.status:
        found["http.response.status_code"] = record.status
    found["kajitori.attempts"] = len(record.attempts)
    found |= {f"kajitori.cost.{key}": value for key, value in record.costs.items()}
    if record.usage_estimated:
        found["kajitori.usage.estimated"] = True
    if record.admission_seconds:
        found["kajitori.admission.seconds"] = record.admission_seconds
    return found


def _attempts(record: RequestRecord, whole: Span) -> list[Span]:
    """One after the other up to when the last one began; Envoy tells how long each took, not when it began."""
    attempts = record.attempts
    if len(attempts) < 2:
        return []
    last = min(whole.start + (record.sent_seconds or 0.0), whole.end)
    start = max(whole.start, last - sum(attempt.duration_seconds or 0.0 for attempt in attempts[:-1]))
    found: list[Span] = []
    for attempt in attempts:
        is_last = attempt is attempts[-1]
        begin = max(start, last) if is_last else start
        end = whole.end if is_last else min(begin + (attempt.duration_seconds or 0.0), whole.end)
        found.append(_attempt(whole, record, attempt, begin, end))
        start = end
    return found


def _attempt(whole: Span, record: RequestRecord, attempt: Attempt, start: float, end: float) -> Span:
    failed = attempt.outcome != "answered" or attempt.status >= 400
    attributes: dict[str, Value] = {
        "kajitori.backend": attempt.backend,
        "kajitori.outcome": attempt.outcome,
        "kajitori.detail": attempt.detail,
        "http.response.header.retry-after": attempt.retry_after,
        **server_attributes(attempt.address),
    }
    attributes = {name: value for name, value in attributes.items() if value}
    if attempt.status:
        attributes["http.response.status_code"] = attempt.status
    return Span(
        f"attempt {attempt.number} {attempt.backend}".strip(),
        "CLIENT",
        whole.trace_id,
        _span_id(f"{record.id}/{attempt.number}"),
        whole.span_id,
        False,
        start,
        end,
        attributes,
        attempt.outcome if failed else "",
    )
