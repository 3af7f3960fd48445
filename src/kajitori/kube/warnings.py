"""What the server warns of (deprecated versions, unknown fields), each new text logged once.

Source: RFC 9111 section 5.5 of its predecessor RFC 7234: `Warning: 299 - "text"`, several in one header allowed.
"""

from __future__ import annotations

import logging
import re

_log = logging.getLogger(__name__)

_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_REMEMBERED = 500


def warning_texts(header: str) -> list[str]:
    """The texts in one header value, quotes and escapes removed."""
    return [_ESCAPED.sub(r"\1", text) for text in _WARNING.findall(header)]


class WarningLog:
    """Logs each text once; remembers the last 500, so that a flood of new ones does not grow without end."""

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}

    def __call__(self, text: str) -> None:
        if text in self._seen:
            return
        if len(self._seen) >= _REMEMBERED:
            self._seen.pop(next(iter(self._seen)))
        self._seen[text] = None
        _log.warning("the API server warns: %s", text)
