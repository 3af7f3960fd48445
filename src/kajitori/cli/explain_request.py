"""`kaji explain request ID`: the ledger's record of one request, with every attempt."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from kajitori.base.errors import NotFound
from kajitori.cli.output import paint
from kajitori.gateway.accounting.records import Attempt, RequestRecord, read_request

# The ledger has what Envoy reported; Envoy reports within this time.
_PATIENCE_SECONDS = 2.0


def explain_request(home: Path, request_id: str) -> int:
    """Print one request's record. Raises NotFound if the ledger of this home has none."""
    record = _read(home, request_id)
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.time))
    how = "" if record.outcome == "answered" else f" ({record.outcome})"
    print(
        paint(
            f"Request {record.id}, {clock}: {record.method} {record.path} answered {record.status}{how}", "1"
        )
    )
    effective = (
        f", sent as {record.effective_model}" if record.effective_model not in ("", record.model) else ""
    )
    _line("model", f"{record.model or 'none named'}{effective}")
    _line("route", record.route + (f", rule {record.rule}" if record.attempts else ""))
    _line("client", record.client)
    _line("order", record.decision)
    for attempt in record.attempts:
        _line(f"attempt {attempt.number}", _attempt(attempt))
    if not record.attempts:
        _line("attempts", "none: the gateway answered by itself")
    _line("time", _times(record))
    _line("tokens", _tokens(record))
    for name, value in record.costs.items():
        _line("cost", f"{name} = {value}")
    if record.cost_usd is not None:
        _line("price", f"${record.cost_usd:.6f}")
    return 0


def _read(home: Path, request_id: str) -> RequestRecord:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        record = read_request(home, request_id)
        if record is not None:
            return record
        if time.monotonic() > deadline:
            raise NotFound(
                f"the ledger has no request {request_id!r}",
                hint="the id is the x-request-id header of the answer; records are kept for two weeks",
            )
        time.sleep(0.1)


def _line(name: str, text: str) -> None:
    if text:
        print(f"  {name:<11} {text}")


def _attempt(attempt: Attempt) -> str:
    mark = paint("✓", "32") if attempt.outcome == "answered" and attempt.status < 400 else paint("✗", "31")
    took = f" after {attempt.duration_seconds * 1000:.0f} ms" if attempt.duration_seconds is not None else ""
    status = f" {attempt.status}" if attempt.status else ""
    detail = f" ({attempt.detail})" if attempt.detail else ""
    wait = f", retry-after {attempt.retry_after}" if attempt.retry_after else ""
    place = attempt.address or "no address"
    return f"{mark} {attempt.backend} at {place}: {attempt.outcome}{status}{wait}{took}{detail}"


def _times(record: RequestRecord) -> str:
    parts = [f"{record.duration_seconds * 1000:.0f} ms in all"]
    if record.time_to_first_token_seconds is not None:
        parts.append(f"first byte after {record.time_to_first_token_seconds * 1000:.0f} ms")
    if record.tokens_per_second:
        parts.append(f"{record.tokens_per_second:.1f} tokens/s")
    return ", ".join(parts)


def _tokens(record: RequestRecord) -> str:
    if record.usage is None:
        return "no usage was reported" if record.attempts else ""
    counts = msgspec.structs.asdict(record.usage)
    told = ", ".join(
        f"{name.replace('_tokens', '').replace('_', ' ')} {value}" for name, value in counts.items() if value
    )
    if record.usage_estimated:
        told += " (what was seen of a stream that was cut: the output is a lower bound)"
    return told
