"""The line that Envoy writes of each request and of each failed attempt, and how it is read.

Both kinds go to one file. A line begins with a record separator and its version, fields are parted by unit separators; neither can
occur in a field, since Envoy takes no header with control characters and the request script no model with any. So a
line that was cut short, or that another one was glued to, is found out. What has no value is empty.

A new field is a line in a struct and one in the format beside it; a changed meaning is a new version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from kajitori.gateway.resources import TYPE

FIELD_SEPARATOR, LINE_START, HEADER_SEPARATOR = "\x1f", "\x1e", "\x1d"
REQUEST_VERSION, ATTEMPT_VERSION = "r2", "a1"
_LONGEST_TEXT = 1024


class Who(NamedTuple):
    """What lua/facts.lua packs into one text, since each look-up by Envoy costs.

    input_estimate, output_cap: tokens as the request script estimated and read them. operation: see `OPERATIONS`.
    stream: `true` or nothing.
    """

    key: str = ""
    tenant: str = ""
    input_estimate: str = ""
    output_cap: str = ""
    dialect: str = ""
    operation: str = ""
    stream: str = ""


WHO_SEPARATOR = "|"
_NOBODY = Who()


def read_who(text: str) -> Who:
    """Raises TypeError or ValueError for what is no such text; nobody where there is none."""
    return Who._make(text.split(WHO_SEPARATOR)) if text else _NOBODY


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """One request, as text. Times: seconds since 1970, milliseconds (duration), microseconds.

    usage: see `reported`. who: see `Who`. decision: why these backends, in this order. received: when all of the
    request was there; sent: when the last backend began to get it; both count from its beginning. traceparent:
    of the client. headers: those that are kept, see `header_attributes`.
    """

    version: str
    id: str
    time: str
    route: str
    method: str
    status: str
    flags: str
    cluster: str
    address: str
    attempts: str
    client: str
    duration_milliseconds: str
    duration_microseconds: str
    received_microseconds: str
    sent_microseconds: str
    first_byte_microseconds: str
    request_bytes: str
    response_bytes: str
    usage: str
    who: str
    traceparent: str
    headers: str
    decision: str
    path: str
    sent_path: str
    model: str


REQUEST_FORMAT: dict[str, str] = {
    "version": LINE_START + REQUEST_VERSION,
    "id": "%REQ(X-REQUEST-ID):128%",
    "time": "%START_TIME(%s.%6f)%",
    "route": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD):16%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "address": "%UPSTREAM_HOST%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "duration_milliseconds": "%DURATION%",
    "duration_microseconds": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "received_microseconds": "%COMMON_DURATION(DS_RX_BEG:DS_RX_END:us)%",
    "sent_microseconds": "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%",
    "first_byte_microseconds": "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:us)%",
    "request_bytes": "%BYTES_RECEIVED%",
    "response_bytes": "%BYTES_SENT%",
    "usage": "%DYNAMIC_METADATA(io.kajitori:usage)%",
    "who": "%DYNAMIC_METADATA(io.kajitori:who)%",
    "traceparent": "%REQ(TRACEPARENT):64%",
    "headers": "",
    "decision": f"%DYNAMIC_METADATA(io.kajitori:request:decision):{_LONGEST_TEXT}%",
    "path": f"%DYNAMIC_METADATA(io.kajitori:path):{_LONGEST_TEXT}%",
    # Without its query: clients of some providers put their keys there.
    "sent_path": f"%PATH(NQ:PATH):{_LONGEST_TEXT}%",
    "model": f"%DYNAMIC_METADATA(io.kajitori:model):{_LONGEST_TEXT}%",
}


class AttemptLine(msgspec.Struct, frozen=True, gc=False):
    """One attempt that failed, as text. retry_after: the header of the answer."""

    version: str
    id: str
    status: str
    flags: str
    cluster: str
    address: str
    duration_milliseconds: str
    retry_after: str
    detail: str


ATTEMPT_FORMAT: dict[str, str] = {
    "version": LINE_START + ATTEMPT_VERSION,
    "id": "%REQ(X-REQUEST-ID):128%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "address": "%UPSTREAM_HOST%",
    "duration_milliseconds": "%DURATION%",
    "retry_after": "%RESP(RETRY-AFTER):64%",
    # The other one is of our own script, see lua/cooling.lua.
    "detail": "%UPSTREAM_TRANSPORT_FAILURE_REASON%%RESP(X-KAJITORI-INSTEAD):64%",
}
_REQUEST_FIELDS, _ATTEMPT_FIELDS = len(REQUEST_FORMAT), len(ATTEMPT_FORMAT)


def parse_line(line: str) -> RequestLine | AttemptLine | None:
    """A line without its end; None for what is no whole line of ours."""
    parts = line.split(FIELD_SEPARATOR)
    if parts[0] == _REQUEST_START and len(parts) == _REQUEST_FIELDS:
        return RequestLine(*parts)
    if parts[0] == _ATTEMPT_START and len(parts) == _ATTEMPT_FIELDS:
        return AttemptLine(*parts)
    # What an Envoy began before it died is the beginning of the next one's first line.
    begins = line.rfind(LINE_START)
    return parse_line(line[begins:]) if begins > 0 else None


_REQUEST_START, _ATTEMPT_START = LINE_START + REQUEST_VERSION, LINE_START + ATTEMPT_VERSION


def request_log(path: str, headers: Sequence[str] = (), *, of_legs: bool = False) -> list[dict[str, Any]]:
    """The access logs of a listener: a line a request. path: of the file; none is written if it is empty. headers: of
    clients, to be kept. of_legs: who the client is was told by the listener before.
    """
    kept = HEADER_SEPARATOR.join(f"{name}=%REQ({name}):128%" for name in headers)
    told = {"headers": kept, **({"client": "%DYNAMIC_METADATA(io.kajitori:client):64%"} if of_legs else {})}
    return [_file_log(path, {**REQUEST_FORMAT, **told})] if path else []


def read_headers(text: str) -> dict[str, str]:
    """The headers of a line that have a value, by name."""
    pairs = (part.partition("=") for part in text.split(HEADER_SEPARATOR))
    return {name: value for name, _, value in pairs if value}


def failed_attempts_log(path: str) -> list[dict[str, Any]]:
    """Attempts that failed; a successful one is told by the request's own line, so most requests have one line."""
    failed = {
        "or_filter": {
            "filters": [
                {
                    "status_code_filter": {
                        "comparison": {
                            "op": "GE",
                            "value": {"default_value": 400, "runtime_key": "kajitori.failed_attempt"},
                        }
                    }
                },
                {"response_flag_filter": {}},
            ]
        }
    }
    return [{**_file_log(path, ATTEMPT_FORMAT), "filter": failed}] if path else []


def _file_log(path: str, fields: dict[str, str]) -> dict[str, Any]:
    text = FIELD_SEPARATOR.join(fields.values()) + "\n"
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": {"text_format_source": {"inline_string": text}, "omit_empty_values": True},
        },
    }
