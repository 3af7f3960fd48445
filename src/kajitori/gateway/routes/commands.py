"""Substitution commands of Envoy, such as `%REQ(:PATH)%`, in texts that users write. Pure.

Only those that tell of the request and its answer: others would show what is Envoy's own (`%ENVIRONMENT(...)%`), and for one that
Envoy does not know it refuses the whole route table, everybody else's routes included.
"""

from __future__ import annotations

import re

_HEADER = r":?[A-Za-z0-9_.-]{1,256}"
_OF_HEADERS = rf"(?:REQ|RESP)\({_HEADER}(?:\?{_HEADER})?\)(?::[0-9]{{1,6}})?"
_BARE = (
    "BYTES_RECEIVED", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS", "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_TLS_VERSION", "DURATION",
    "PROTOCOL", "REQUESTED_SERVER_NAME", "RESPONSE_CODE", "RESPONSE_CODE_DETAILS", "RESPONSE_FLAGS",
    "ROUTE_NAME", "START_TIME", "STREAM_ID",
)  # fmt: skip
_COMMAND = re.compile(rf"%(?:%|(?:{_OF_HEADERS}|QUERY_PARAM\([A-Za-z0-9_.-]{{1,256}}\)|{'|'.join(_BARE)})%)")


def problem_of_commands(text: str) -> str:
    """What is wrong with the commands in a text, or nothing."""
    left = _COMMAND.sub("", text)
    if "%" not in left:
        return ""
    at = left.index("%")
    return (
        f"{left[at : at + 40]!r} is no command that is substituted here; write %% for a per cent sign. "
        f"There are %REQ(header)%, %RESP(header)%, %QUERY_PARAM(name)%, %{'%, %'.join(_BARE)}%"
    )
