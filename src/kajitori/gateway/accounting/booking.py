"""What requests have in common, looked up once: the record of each is a copy of one that is made of it.

A booking is for one route, key, model, backend, code and what else a line says in few words; only identities, times, sizes
and what was taken differ from line to line. It holds as long as the policy that it was made by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kajitori.gateway.accounting.accountant_policy import AccountantPolicy, BackendFacts
from kajitori.gateway.accounting.charges import Charger, Tariff
from kajitori.gateway.accounting.flags import outcome_of
from kajitori.gateway.accounting.log_format import RequestLine, Who
from kajitori.gateway.accounting.records import Attempt, RequestRecord
from kajitori.gateway.accounting.reported import answered_model
from kajitori.gateway.accounting.route_names import read_route
from kajitori.gateway.operations import PROVIDERS

_NO_BACKEND = BackendFacts("")
_NO_ATTEMPT = ("", "0")
# Clients choose models, keys and paths.
_MOST_BOOKINGS = 10_000
_MOST_ADDRESSES = 1_000


class Booking(NamedTuple):
    """record: with all that is common; the rest is nothing. asked: whether a backend was.

    attempts: by address, that of a request that the first backend answered.
    """

    record: RequestRecord
    tariff: Tariff
    asked: bool
    cluster: str
    attempts: dict[str, list[Attempt]]

    @property
    def answered(self) -> bool:
        """Whether a backend did, with success."""
        return bool(self.record.backend) and 200 <= self.record.status < 300

    def only_attempt(self, address: str) -> list[Attempt]:
        """The attempts of a request that had one. It is shared: nobody changes it."""
        found = self.attempts.get(address)
        if found is None:
            if len(self.attempts) >= _MOST_ADDRESSES:
                self.attempts.clear()
            record = self.record
            attempt = Attempt(1, record.backend, self.cluster, address, record.status, record.outcome)
            found = self.attempts[address] = [attempt]
        return found


class Bookings:
    """Those of a policy."""

    def __init__(self, policy: AccountantPolicy) -> None:
        self._backends: Mapping[str, BackendFacts] = policy.backends
        self._keys = policy.keys
        self._charger = Charger(policy)
        self._found: dict[tuple[str | bool, ...], Booking] = {}

    def of(self, line: RequestLine, who: Who) -> Booking:
        """The booking of a line. Raises ValueError for one that makes no sense."""
        # A filter that refuses a request does so when its route is known, and nobody was asked yet.
        asked = bool(line.cluster) and line.attempts not in _NO_ATTEMPT
        key = (
            line.route, line.method, line.status, line.flags, line.cluster, asked, line.path or line.sent_path,
            line.model, answered_model(line.usage), who.key, who.tenant, who.dialect, who.operation, who.stream,
        )  # fmt: skip
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MOST_BOOKINGS:
                self._found.clear()
            found = self._found[key] = self._make(line, who, asked)
        return found

    def _make(self, line: RequestLine, who: Who, asked: bool) -> Booking:
        route, rule = parse_route(line.route)
        facts = self._backends.get(line.cluster, _NO_BACKEND) if asked else _NO_BACKEND
        backend, called = facts.name, facts.model or line.model
        key = self._keys.get(who.key) if who.key else None
        record = RequestRecord(
            id="",
            time=0.0,
            route=route,
            rule=rule,
            method=line.method,
            path=line.path or line.sent_path,
            status=int(line.status or 0),
            outcome=(outcome_of(line.flags, line.status) if line.flags else "") or "answered",
            model=line.model,
            effective_model=called if backend else "",
            backend=backend,
            key=who.key,
            key_name=key.name if key is not None else "",
            tenant=who.tenant,
            response_model=answered_model(line.usage),
            provider=PROVIDERS.get(facts.schema, facts.schema) if backend else "",
            operation=who.operation,
            dialect=who.dialect,
            stream=who.stream == "true",
        )
        tariff = self._charger.tariff(route, rule, backend, called)
        return Booking(record, tariff, asked, line.cluster, {})


def parse_route(name: str) -> tuple[str, int]:
    """See `read_route`; names of our own answers stay."""
    found = read_route(name)
    return (found[0], int(found[1])) if found is not None else (name, -1)
