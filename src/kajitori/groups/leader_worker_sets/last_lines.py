"""What of a container's log is told with a restart: its last lines, short, and without what looks like a secret."""

from __future__ import annotations

import re

from kajitori.base.masking import mask_secrets

MOST_LINES = 5
MOST_CHARACTERS = 600
# Colours and cursor movements, and whatever else does not print.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffd]")


def last_lines(text: str) -> str:
    """At most 5 lines and 600 characters, the end of the text."""
    shown = _UNPRINTABLE.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    # Masked as a whole: a secret that was cut in two is none to the eye of a pattern.
    lines = [line.rstrip() for line in mask_secrets(shown).splitlines() if line.strip()]
    told = "\n".join(lines[-MOST_LINES:])
    return told if len(told) <= MOST_CHARACTERS else "..." + told[3 - MOST_CHARACTERS :]
