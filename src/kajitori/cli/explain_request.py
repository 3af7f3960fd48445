"""`kaji explain request ID`: the ledger's record of one request, with every attempt and every leg of a rescued stream."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec

from kajitori.base.errors import NotFound
from kajitori.cli.output import paint
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.accounting.flags import HEDGED, WAS_OVERTAKEN
from kajitori.gateway.accounting.policy_delivery import FILE_NAME as POLICY_FILE
from kajitori.gateway.accounting.record_reading import read_request
from kajitori.gateway.accounting.records import Attempt, RequestRecord
from kajitori.gateway.accounting.time_spent import time_spent
from kajitori.gateway.limits.matching import Matcher
from kajitori.gateway.limits.request import Request
from kajitori.gateway.limits.wants import Asked
from kajitori.gateway.rescue.legs import MOST_HEDGED_LEGS, MOST_LEGS, leg_id, leg_number
from kajitori.gateway.routes.built_in_routes import meaning_of_own

# The ledger has what Envoy reported; Envoy reports within this time.
_PATIENCE_SECONDS = 2.0
_PHASES = {
    "receiving": "receiving the request",
    "admission": "waiting for admission",
    "failed_attempts": "failed attempts",
    "gateway": "in the gateway",
    "first_byte": "waiting for the first byte",
    "answer": "the answer's body",
}
# What the answer itself has told the client in more words; records have no bodies.
_OWN_REASONS = {
    401: ": the key, token or password that the route, its Gateway or a SecurityPolicy asks for is missing or wrong, or cannot be checked",
    403: ": its key may not use this model or route, or a SecurityPolicy does not let it in",
    500: ": the route or a policy of it cannot be honoured; `kaji doctor` names it",
    503: ": no backend of the route is usable for this model; `kaji doctor` names what is missing",
}


def explain_request(home: Path, request_id: str, *, as_json: bool = False) -> int:
    """Print one request's record. Raises NotFound if the ledger of this home has none."""
    record = _read(home, request_id)
    legs = _other_legs(home, record)
    limits = _limits(home, record)
    if as_json:
        print(json.dumps(_document(record, legs, limits), indent=2, ensure_ascii=False))
        return 0
    _tell(record, limits)
    for leg in legs:
        print(f"\n{_leg_in_words(leg)}")
        _tell(leg, [])
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


def _leg_in_words(leg: RequestRecord) -> str:
    number = leg_number(leg.id)
    if HEDGED in leg.decision:
        return f"request {number}, beside it: {leg.outcome}"
    return (
        "the stream's beginning" if number == 1 else f"leg {number}: goes on where the one before broke off"
    )


def _other_legs(home: Path, record: RequestRecord) -> list[RequestRecord]:
    base, own = record.id.partition("~")[0], leg_number(record.id)
    ids = [leg_id(base, number) for number in range(1, max(MOST_LEGS, MOST_HEDGED_LEGS) + 1) if number != own]
    return [leg for each in ids if (leg := read_request(home, each)) is not None]


def _limits(home: Path, record: RequestRecord) -> list[str]:
    """The names of limits that hold for such requests, by the policy that is kept here. Headers are in no record."""
    try:
        policy = msgspec.msgpack.decode((home / POLICY_FILE).read_bytes(), type=AccountantPolicy)
    except (OSError, msgspec.MsgspecError):
        return [record.limit] if record.limit else []
    request = Request(
        id=record.id,
        route=record.route,
        rule=str(record.rule) if record.rule >= 0 else "",
        model=record.model,
        key=record.key,
        tenant=record.tenant,
        client=record.client,
        method=record.method,
        path=record.path,
    )
    asked = Matcher(policy).ask(request, record.time)
    found = [record.limit] if record.limit else []
    if isinstance(asked, Asked):
        found += [tag.limit for tag in asked.tags]
    elif asked is not None:
        found.append(asked.limit)
    return list(dict.fromkeys(found))


def _document(record: RequestRecord, legs: list[RequestRecord], limits: list[str]) -> dict[str, Any]:
    def shown(one: RequestRecord) -> dict[str, Any]:
        attempts = [
            {**msgspec.to_builtins(attempt), "why": _why(one, index)}
            for index, attempt in enumerate(one.attempts)
        ]
        return {**msgspec.to_builtins(one), "attempts": attempts, "time_spent_seconds": time_spent(one)}

    return {**shown(record), "limits": limits, "legs": [shown(leg) for leg in legs]}


def _tell(record: RequestRecord, limits: list[str]) -> None:
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.time))
    title = f"Request {record.id}, {clock}: {record.method} {record.path} {_ending(record)}"
    print(paint(title, "1"))
    effective = (
        f", sent as {record.effective_model}" if record.effective_model not in ("", record.model) else ""
    )
    _line("model", f"{record.model or 'none named'}{effective}")
    own = meaning_of_own(record.route)
    _line(
        "route",
        f"none: {own}" if own else record.route + (f", rule {record.rule}" if record.rule >= 0 else ""),
    )
    _line("client", record.client)
    _line("key", record.key_name or record.key)
    _line("tenant", record.tenant)
    for name, value in record.headers.items():
        _line("header", f"{name}: {value}")
    _line("trace", record.traceparent)
    _line("limits", ", ".join(limits))
    named = record.refusal if record.limit in record.refusal else f"{record.limit}: {record.refusal}"
    _line("refused", named)
    for index, attempt in enumerate(record.attempts):
        _line(f"attempt {attempt.number}", _attempt(attempt))
        _line("", f"why: {_why(record, index)}")
    if not record.attempts:
        _line("attempts", f"none: the gateway answered by itself{_own_reason(record)}")
        _line("", f"why: {record.decision}" if record.decision else "")
    _line("time", _times(record))
    _line("", _phases(record))
    _line("tokens", _tokens(record))
    _line("cost", _money(record))
    for name, value in record.costs.items():
        _line("cost", f"{name} = {value}")


def _line(name: str, text: str) -> None:
    if text:
        print(f"  {name:<11} {text}")


def _ending(record: RequestRecord) -> str:
    if record.outcome == WAS_OVERTAKEN:
        return "overtaken: another request for it was answered first"
    how = "" if record.outcome == "answered" else f" ({record.outcome})"
    return f"answered {record.status}{how}" if record.status else f"got no answer{how}"


def _own_reason(record: RequestRecord) -> str:
    """What an answer of the gateway's own with such a status means, where no other line says it."""
    if record.limit or record.refusal or record.decision or meaning_of_own(record.route):
        return ""
    return _OWN_REASONS.get(record.status, "") if record.outcome == "answered" else ""


def _why(record: RequestRecord, index: int) -> str:
    """Why this backend was asked."""
    names, colon, reason = record.decision.partition(": ")
    order = f"the order {names} ({reason})" if colon else record.decision
    if index == 0:
        return order or "the configured order"
    before = record.attempts[index - 1]
    return f"{before.backend or 'the one before'}: {before.outcome}; next in {order or 'order'}"


def _attempt(attempt: Attempt) -> str:
    mark = paint("✓", "32") if attempt.outcome == "answered" and attempt.status < 400 else paint("✗", "31")
    took = f" after {attempt.duration_seconds * 1000:.0f} ms" if attempt.duration_seconds is not None else ""
    status = f" {attempt.status}" if attempt.status and str(attempt.status) not in attempt.outcome else ""
    detail = f" ({attempt.detail})" if attempt.detail else ""
    wait = f", retry-after {attempt.retry_after}" if attempt.retry_after else ""
    place = attempt.address or "no address"
    return f"{mark} {attempt.backend} at {place}: {attempt.outcome}{status}{took}{wait}{detail}"


def _times(record: RequestRecord) -> str:
    parts = [f"{record.duration_seconds * 1000:.0f} ms in all"]
    if record.time_to_first_token_seconds is not None:
        parts.append(f"first byte after {record.time_to_first_token_seconds * 1000:.0f} ms")
    if record.tokens_per_second:
        parts.append(f"{record.tokens_per_second:.1f} tokens/s")
    return ", ".join(parts)


def _phases(record: RequestRecord) -> str:
    spent = {name: seconds for name, seconds in time_spent(record).items() if seconds >= 0.000_05}
    return ", ".join(f"{_PHASES[name]} {seconds * 1000:.1f} ms" for name, seconds in spent.items())


def _tokens(record: RequestRecord) -> str:
    if record.usage is None:
        return "no usage was reported" if record.attempts else ""
    counts = msgspec.structs.asdict(record.usage)
    told = ", ".join(
        f"{name.replace('_tokens', '').replace('_', ' ')} {value}" for name, value in counts.items() if value
    )
    how = "as the backend reported"
    if record.usage_estimated:
        how = (
            "a lower bound: the answer ended before it told"
            if record.outcome != "answered"
            else "an estimate: the backend did not tell"
        )
    return f"{told or '0'} ({how})"


def _money(record: RequestRecord) -> str:
    if record.usage is None:
        return ""
    if record.cost_usd is None:
        return f"no price is known of {record.effective_model or record.model}; a PriceList can say it"
    return f"{record.cost_usd:.9f}".rstrip("0").rstrip(".") + " USD"
