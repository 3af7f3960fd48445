"""Headers by which parts of the gateway speak to each other, and headers that limits may not read. Pure.

Nobody who writes objects may have them set, changed or taken away: by them a request is booked, charged to a key, and
led back from the relay of streams.
"""

from __future__ import annotations

import re

REQUEST_ID = "x-request-id"
OURS = "x-kajitori-"
# For Envoy, of names in lower case.
OURS_PATTERN = rf"({OURS}.*|{REQUEST_ID})"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")
# They belong to the question that the accountant is asked itself.
_OF_THE_QUESTION = frozenset(
    [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)


def is_ours(name: str) -> bool:
    """Whether a header belongs to the gateway itself."""
    lower = name.strip().lower()
    return lower.startswith(OURS) or lower == REQUEST_ID


def problem_of_name(name: str) -> str:
    """Why a header of this name can be added to no message, or nothing. Envoy refuses a whole route table for it."""
    good = _TOKEN.fullmatch(name) is not None and name.lower() != "host"
    return "" if good else f"{name!r} is no name of a header that can be changed"


def problem_of_changing(name: str) -> str:
    """Why an object may not have a header changed, or nothing."""
    return f"{name}: the gateway books requests by this header; it cannot be changed" if is_ours(name) else ""


def problem_of_reading(name: str) -> str:
    """Why limits cannot select by a header, or nothing. Envoy ends, with all of its requests, over some of these names."""
    if not _NAME.fullmatch(name):
        return f"{name!r} is no name of a header that limits can select by"
    if name.lower() in _OF_THE_QUESTION or name.lower().startswith(OURS):
        return f"limits cannot select by the header {name.lower()}"
    return ""
