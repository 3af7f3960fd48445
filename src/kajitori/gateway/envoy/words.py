"""What Envoy says of a refusal, so that it may be shown: it can quote what it was sent. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from kajitori.base.masking import MASK, mask_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 500
# Shorter ones would take letters out of ordinary words.
_SHORTEST_SECRET = 6
# Members of secrets that are none: names, and what certificates of others are held against.
_KNOWN_TO_ALL = ("name", "validation_context")
_ABOUT_PROBES = re.compile(
    r"Error adding/updating listener\(s\) kajitori\.probe[\w.]*: (?:error adding listener '[^']*': )?"
)

# What it was sent, which stands in front of what is wrong with it; a long one takes the place of that.
_SENT = re.compile(r"goo\.gle/debug\w*\s(?:.*\n: |.*\.\.\.\(truncated\))", re.DOTALL)
_ONLY_SENT = "its own checks fail, which it does not tell apart for something of this size"


def shown(message: str, secrets: Iterable[dict[str, Any]] = ()) -> str:
    """The message in one line, without what looks like a secret or is one. secrets: resources that must not be quoted."""
    told = _SENT.sub("", _ABOUT_PROBES.sub("", message)) or _ONLY_SENT
    for value in sorted({text for secret in secrets for text in _texts(secret)}, key=len, reverse=True):
        told = told.replace(value, MASK)
    told = " ".join(mask_secrets(told).split())
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]}..."


def _texts(value: Any) -> set[str]:
    if isinstance(value, str):
        lines = [value, *value.splitlines()]
        return {line for line in lines if len(line) >= _SHORTEST_SECRET}
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return set[str]().union(*(_texts(item) for key, item in members.items() if key not in _KNOWN_TO_ALL))
    if isinstance(value, list):
        return set[str]().union(*map(_texts, cast("list[Any]", value)))
    return set()
