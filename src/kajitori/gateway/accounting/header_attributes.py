"""Which of a client's headers are kept, and as which attributes of spans and labels of metrics they are told. Pure.

The variables, their form (`header:attribute,header:attribute`) and the default are those of Envoy AI Gateway's `aigw`. The
control plane has Envoy write the headers into its log, the accountant tells them on; both read the same variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from kajitori.base.errors import UsageError

BASE = "OTEL_AIGW_REQUEST_HEADER_ATTRIBUTES"
SPANS = "OTEL_AIGW_SPAN_REQUEST_HEADER_ATTRIBUTES"
METRICS = "OTEL_AIGW_METRICS_REQUEST_HEADER_ATTRIBUTES"
SESSION = "agent-session-id:session.id"
_HEADER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
# What they hold belongs in no log.
_SECRET = re.compile(r"authorization|cookie|key|token|secret|password|signature|x-kajitori-")
_MOST = 16


class HeaderAttributes(msgspec.Struct, frozen=True):
    """By header, in lower case: the attribute of spans, the label of metrics."""

    spans: dict[str, str] = {}
    metrics: dict[str, str] = {}

    @property
    def headers(self) -> tuple[str, ...]:
        """All that are to be kept."""
        return tuple(sorted({*self.spans, *self.metrics}))


def read_header_attributes(environment: Mapping[str, str]) -> HeaderAttributes:
    """Raises UsageError that names the variable."""
    base = _pairs(environment.get(BASE, ""), BASE)
    spans = _pairs(environment.get(SPANS, SESSION), SPANS)
    metrics = _pairs(environment.get(METRICS, ""), METRICS)
    found = HeaderAttributes({**base, **spans}, {**base, **metrics})
    if len(found.headers) > _MOST:
        raise UsageError(f"{BASE} and its like name more than {_MOST} headers")
    return found


def _pairs(text: str, variable: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(",") if text.strip() else ():
        header, _, attribute = (word.strip() for word in part.partition(":"))
        if not _HEADER.fullmatch(header.lower()) or not _ATTRIBUTE.fullmatch(attribute):
            raise UsageError(
                f"{variable} has the item {part!r}", hint="write header:attribute,header:attribute"
            )
        if _SECRET.search(header.lower()):
            raise UsageError(
                f"{variable} names {header}, which may hold a secret", hint="take another header"
            )
        found[header.lower()] = attribute
    return found
