"""The bodies that the gateway answers by itself: errors in the upstream's shape, and the list of models."""

from __future__ import annotations

import datetime
import json
from typing import Any

import msgspec

_NAMES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    413: "PayloadTooLarge",
    415: "UnsupportedMediaType",
    421: "MisdirectedRequest",
    422: "UnprocessableEntity",
    426: "UpgradeRequired",
    429: "TooManyRequests",
    431: "RequestHeaderFieldsTooLarge",
    500: "InternalServerError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}
STATUSES = tuple(_NAMES)
_MODELS_NAMED_AT_MOST = 100
_METADATA = "kajitori.answers"
# Connections that failed or broke, attempts that took too long, and nobody there to ask.
_NO_ANSWER = (
    "response.code_details.startsWith('upstream_') || response.code_details == 'no_healthy_upstream'"
    " || response.code_details == 'response_timeout'"
)
_NO_ANSWER_MESSAGE = (
    f"no backend of %METADATA(ROUTE:{_METADATA}:route)% answered (attempts: %UPSTREAM_REQUEST_ATTEMPT_COUNT%, "
    "%RESPONSE_FLAGS_LONG%); `kaji explain request %REQ(x-request-id)%` tells of each attempt"
)
JSON_CONTENT = [{"header": {"key": "content-type", "value": "application/json"}}]


class Model(msgspec.Struct, frozen=True):
    """An entry of `/v1/models`. created: seconds since 1970.

    route: namespace/name of the route that serves it. protected: whether that one asks for a key.
    """

    id: str
    owned_by: str
    created: int
    route: str = ""
    protected: bool = False


def error_format(status: int, message: str) -> dict[str, Any]:
    """A body format of Envoy; `message` may have its substitution commands, which are escaped as JSON needs it."""
    return {
        "json_format": {
            "type": "error",
            "error": {"type": _NAMES.get(status, "Error"), "code": str(status), "message": message},
        }
    }


def direct_error(status: int, message: str) -> dict[str, Any]:
    """A route action that answers with an error. Percent signs in `message` are commands of Envoy."""
    return {"status": status, "body_format": error_format(status, message)}


def literal(text: str) -> str:
    """`text` so that Envoy's formatter leaves it alone."""
    return text.replace("%", "%%")


def unknown_model_message(models: list[str]) -> str:
    """Names the models that exist."""
    named = ", ".join(sorted(models)[:_MODELS_NAMED_AT_MOST]) or "none"
    more = len(models) - _MODELS_NAMED_AT_MOST
    rest = f" and {more} more (GET /v1/models lists all)" if more > 0 else ""
    return (
        "No route matches the model '%REQ(x-ai-eg-model)%'; it is likely not configured. "
        f"Models that exist: {literal(named)}{rest}"
    )


def hidden_model_message() -> str:
    """Where keys are asked for: names no model, since not everybody may see each."""
    return (
        "No route matches the model '%REQ(x-ai-eg-model)%'; it is likely not configured. "
        "GET /v1/models lists those that an API key may use"
    )


def models_body(models: list[Model]) -> str:
    """The answer to `GET /v1/models`, in OpenAI's shape, sorted by name."""
    entries = [_model_entry(model) for model in sorted(models, key=lambda model: model.id)]
    return json.dumps({"object": "list", "data": entries}, separators=(",", ":"))


def _model_entry(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}


def models_by_route(models: list[Model]) -> list[dict[str, Any]]:
    """What lua/keys.lua puts the list of one client together from: a model stands once for each of its routes."""
    return [
        {
            "id": model.id,
            "route": model.route,
            **({"keys": "Required"} if model.protected else {}),
            "json": json.dumps(_model_entry(model), separators=(",", ":")),
        }
        for model in sorted(set(models), key=lambda model: (model.id, model.route))
    ]


def unix_seconds(timestamp: str | None) -> int:
    """Whole seconds of an RFC 3339 time; 0 for none."""
    if not timestamp:
        return 0
    try:
        return int(datetime.datetime.fromisoformat(timestamp).timestamp())
    except ValueError:
        return 0


def named_for_answers(kind: str, key: str) -> dict[str, Any]:
    """What a route of Envoy carries so that an answer in its stead can name it. key: namespace/name."""
    return {"filter_metadata": {_METADATA: {"route": f"{kind} {key}"}}}


def _mapper(status: int, expression: str, message: str) -> dict[str, Any]:
    comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": "kajitori.local_reply"}}
    kind = "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    by_details = {
        "name": "envoy.access_loggers.extension_filters.cel",
        "typed_config": {"@type": kind, "expression": expression},
    }
    return {
        "filter": {
            "and_filter": {
                "filters": [
                    {"status_code_filter": {"comparison": comparison}},
                    {"extension_filter": by_details},
                ]
            }
        },
        "body_format_override": error_format(status, message),
    }


def local_reply_config() -> dict[str, Any]:
    """Puts what Envoy answers by itself (413, 503, 504, ...) into the same shape; our own answers stay."""

    def mapper(status: int) -> dict[str, Any]:
        return _mapper(
            status, "!(response.code_details in ['direct_response', 'lua_response'])", "%LOCAL_REPLY_BODY%"
        )

    def nobody_answered(status: int) -> dict[str, Any]:
        return _mapper(status, _NO_ANSWER, _NO_ANSWER_MESSAGE)

    return {"mappers": [nobody_answered(503), nobody_answered(504), *(mapper(status) for status in STATUSES)]}
