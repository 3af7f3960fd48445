"""What Envoy answers by itself (408, 413, 431, 502, 503, 504, ...) and what our routes answer, in the client's dialect.

Answers whose body one of our scripts or the admission server made have their shape already and stay as they are.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from kajitori.gateway.error_names import OPENAI_NAMES, anthropic_name, openai_name
from kajitori.gateway.routes.answers import METADATA, error_format

if TYPE_CHECKING:
    from collections.abc import Callable

_CEL = "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
# Connections that failed or broke, attempts that took too long, and nobody there to ask.
_NO_ANSWER = (
    "response.code_details.startsWith('upstream_') || response.code_details == 'no_healthy_upstream'"
    " || response.code_details in ['response_timeout', 'stream_idle_timeout']"
)
_NO_ANSWER_MESSAGE = (
    f"no backend of %METADATA(ROUTE:{METADATA}:route)% answered (attempts: %UPSTREAM_REQUEST_ATTEMPT_COUNT%, "
    "%RESPONSE_FLAGS_LONG%); `kaji explain request %REQ(x-request-id)%` tells of each attempt"
)
# The accountant did not answer, and a limit of the route says that nobody passes then.
_NOT_ADMITTED = "response.code_details == 'ext_authz_error'"
_NOT_ADMITTED_MESSAGE = (
    "whether this request is within its limits cannot be told at the moment, and a limit of "
    f"%METADATA(ROUTE:{METADATA}:route)% lets no request pass then; try again soon"
)
# The script takes the status off what is no answer (lua/usage.lua).
_UNUSABLE = "response.code_details.startsWith('filter_removed_required_response_headers')"
_UNUSABLE_MESSAGE = (
    f"a backend of %METADATA(ROUTE:{METADATA}:route)% answered %DYNAMIC_METADATA(io.kajitori:instead)%, which is no answer to "
    "such a request: the gateway follows no redirections and changes to no other protocol; "
    "`kaji explain request %REQ(x-request-id)%` tells which one"
)
# Direct responses of AI routes are plain sentences; those of other routes are bodies of their owners' choice.
_PLAIN = (
    "response.code_details == 'direct_response' ? xds.route_name.startsWith('ai') || xds.route_name == 'unknown-path'"
    " : !(response.code_details in ['lua_response', 'ext_authz_denied'])"
)
# What Envoy refuses without a word, or in no more than the name of the status.
_WORDLESS = (
    (
        400,
        "response.code_details.startsWith('http') || response.code_details in"
        " ['missing_host_header', 'missing_path', 'path_normalization_failed', 'absolute_path_rejected']",
        "this is no HTTP request that the gateway takes (%RESPONSE_CODE_DETAILS%); see that its head is well-formed and its "
        "body as long as it says",
    ),
    (
        404,
        "response.code_details == 'route_not_found'",
        "nothing is served here: no route takes %REQ(:METHOD)% of this path and host",
    ),
    (
        408,
        "response.code_details.endsWith('_timeout')",
        "the request did not arrive in time: nothing more came of it, or it takes longer than the gateway waits in all",
    ),
    (
        413,
        "response.code_details == 'request_payload_too_large'",
        "the body is longer than the gateway reads of such a request; send less at once",
    ),
    (426, "response.code_details == 'low_version'", "HTTP/1.0 is not served; ask by HTTP/1.1 or HTTP/2"),
    (
        431,
        "response.code_details.startsWith('http') || response.code_details == 'request_headers_too_large'",
        "the headers are too many, or too long: 100 of them are taken, and 60 KiB",
    ),
    (501, "true", "this transfer-encoding is not known; send the body as it is, by its length or in chunks"),
)
_SOON = {"header": {"key": "retry-after", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _by_status(name_of: Callable[[int], str]) -> str:
    """A command for the name of the status, whichever it is: a mapper for each costs every listener memory."""
    by_name: dict[str, list[int]] = {}
    for status in OPENAI_NAMES:
        by_name.setdefault(name_of(status), []).append(status)
    chosen = [f"response.code in {statuses} ? '{name}'" for name, statuses in by_name.items()]
    return f"%CEL({' : '.join(chosen)} : '{name_of(0)}')%"


# The shapes of errors: of one status, or, for 0, of whichever it is.


def _openai(status: int, message: str) -> dict[str, Any]:
    if status:
        return error_format(status, message)
    # Of two commands a text comes, of one alone a number.
    code = "%RESPONSE_CODE%%CEL('')%"
    error = {"type": _by_status(openai_name), "code": code, "message": message}
    return {"json_format": {"type": "error", "error": error}}


def _anthropic(status: int, message: str) -> dict[str, Any]:
    name = anthropic_name(status) if status else _by_status(anthropic_name)
    error = {"type": name, "message": message}
    return {"json_format": {"type": "error", "error": error, "request_id": "%REQ(x-request-id)%"}}


def _cohere(status: int, message: str) -> dict[str, Any]:
    return {"json_format": {"id": "%REQ(x-request-id)%", "message": message}}


# Paths tell the dialect until the request script has read the request; then it is among what that keeps.
_DIALECTS = (
    ("anthropic", ("/anthropic/", "/v1/messages"), _anthropic),
    ("cohere", ("/cohere/", "/v2/rerank"), _cohere),
    ("", (), _openai),
)


@functools.cache
def local_reply_config() -> dict[str, Any]:
    """The mappers of a listener, of which the first that fits is taken. The same for all: whoever wants another one copies it."""
    mappers: list[dict[str, Any]] = []
    for dialect, prefixes, shape in _DIALECTS:
        filters = [_speaks(dialect, prefixes)] if dialect else []
        refused = _mapper((503,), _NOT_ADMITTED, filters, shape(503, _NOT_ADMITTED_MESSAGE))
        mappers += [
            _mapper((502, 503, 504), _NO_ANSWER, filters, shape(0, _NO_ANSWER_MESSAGE)),
            {**refused, "headers_to_add": [_SOON]},
            _mapper((502,), _UNUSABLE, filters, shape(502, _UNUSABLE_MESSAGE)),
            *(_mapper((each,), details, filters, shape(each, told)) for each, details, told in _WORDLESS),
            _mapper(tuple(OPENAI_NAMES), _PLAIN, filters, shape(0, "%LOCAL_REPLY_BODY%")),
        ]
    return {"mappers": mappers}


def _speaks(dialect: str, prefixes: tuple[str, ...]) -> dict[str, Any]:
    kept = {
        "matcher": {
            "filter": "io.kajitori",
            "path": [{"key": "request"}, {"key": "dialect"}],
            "value": {"string_match": {"exact": dialect}},
        },
        "match_if_key_not_found": False,
    }
    by_path = [
        {"header_filter": {"header": {"name": ":path", "string_match": {"prefix": prefix}}}}
        for prefix in prefixes
    ]
    return {"or_filter": {"filters": [{"metadata_filter": kept}, *by_path]}}


def _mapper(
    statuses: tuple[int, ...], details: str, more: list[dict[str, Any]], body: dict[str, Any]
) -> dict[str, Any]:
    filters = list(more)
    if len(statuses) == 1:
        comparison = {
            "op": "EQ",
            "value": {"default_value": statuses[0], "runtime_key": "kajitori.local_reply"},
        }
        filters.insert(0, {"status_code_filter": {"comparison": comparison}})
    else:
        details = f"response.code in {list(statuses)} && ({details})"
    by_details = {
        "name": "envoy.access_loggers.extension_filters.cel",
        "typed_config": {"@type": _CEL, "expression": details},
    }
    filters.append({"extension_filter": by_details})
    found = {"and_filter": {"filters": filters}} if len(filters) > 1 else filters[0]
    return {"filter": found, "body_format_override": body}
