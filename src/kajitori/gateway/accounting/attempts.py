"""The attempts of requests: those that failed are told before their request's own line, and wait for it here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from kajitori.gateway.accounting.accountant_policy import BackendFacts
from kajitori.gateway.accounting.flags import NO_HOST, outcome_of
from kajitori.gateway.accounting.log_format import AttemptLine, RequestLine, parse_line
from kajitori.gateway.accounting.records import Attempt
from kajitori.gateway.resilience.spare import NOBODY

# Requests whose failed attempts are known and whose end is not; and the latest that were booked after more than one.
_MOST_UNFINISHED = 10_000
_MOST_FINISHED = 1_000
_NO_BACKEND = BackendFacts("")
_NOBODY = "{}:{}".format(*NOBODY)


class Attempts:
    """Lines of attempts by request. backends: by cluster."""

    def __init__(self) -> None:
        self.backends: Mapping[str, BackendFacts] = {}
        self._unfinished: OrderedDict[str, list[str]] = OrderedDict()
        self._finished: OrderedDict[str, None] = OrderedDict()

    def take(self, request_id: str, line: str) -> None:
        """Keeps the line of an attempt until its request ends."""
        if request_id in self._finished:
            return  # of a request that did not wait for it
        self._unfinished.setdefault(request_id, []).append(line)
        if len(self._unfinished) > _MOST_UNFINISHED:
            self._unfinished.popitem(last=False)

    def add(self, lines: Iterable[str]) -> None:
        """Keeps lines that waited elsewhere."""
        for line in lines:
            parsed = parse_line(line)
            if isinstance(parsed, AttemptLine):
                self.take(parsed.id, line)

    @property
    def waiting(self) -> bool:
        """Whether there are any."""
        return bool(self._unfinished)

    def unfinished(self) -> list[str]:
        """The lines that still wait."""
        return [line for lines in self._unfinished.values() for line in lines]

    def of(self, line: RequestLine, last: Attempt) -> list[Attempt]:
        """All attempts of a request that has ended. last: the one that its own line tells of."""
        tries = int(line.attempts or 0)
        failed = self._unfinished.pop(line.id, ()) if self._unfinished else ()
        found = [
            self._failed(number, parsed)
            for number, parsed in enumerate(map(parse_line, failed), 1)
            if isinstance(parsed, AttemptLine)
        ]
        if len(found) < max(tries, 1):
            number = max(tries, len(found) + 1)
            found.append(Attempt(number, last.backend, last.cluster, last.address, last.status, last.outcome))
        if tries > 1:
            self._finished[line.id] = None
            if len(self._finished) > _MOST_FINISHED:
                self._finished.popitem(last=False)
        return found

    def _failed(self, number: int, line: AttemptLine) -> Attempt:
        status = int(line.status or 0)
        outcome = outcome_of(line.flags, line.status) if line.flags else ""
        nobody = line.address == _NOBODY
        if nobody:
            outcome = NO_HOST
        return Attempt(
            number,
            self.backends.get(line.cluster, _NO_BACKEND).name,
            line.cluster,
            "" if nobody else line.address,
            0 if outcome and status in (0, 503) else status,
            outcome or (f"answered {status}" if status >= 400 else "answered"),
            line.detail,
            int(line.duration_milliseconds) * 1e-3 if line.duration_milliseconds else None,
            line.retry_after,
        )
