"""What the clients' dialects call errors, by status. Pure.

One table for all who answer in a provider's stead: Envoy, our scripts in it, and the admission server.
"""

from __future__ import annotations

OPENAI_NAMES = {
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
    501: "NotImplemented",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}
_ANTHROPIC_NAMES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    421: "invalid_request_error",
    422: "invalid_request_error",
    426: "invalid_request_error",
    429: "rate_limit_error",
    431: "request_too_large",
    501: "invalid_request_error",
    503: "service_unavailable_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OTHER_OPENAI, _OTHER_ANTHROPIC = "Error", "internal_server_error"


def openai_name(status: int) -> str:
    """The `type` of an error towards OpenAI's clients."""
    return OPENAI_NAMES.get(status, _OTHER_OPENAI)


def anthropic_name(status: int) -> str:
    """The `type` of an error towards Anthropic's clients."""
    return _ANTHROPIC_NAMES.get(status, _OTHER_ANTHROPIC)


def lua_error_names() -> str:
    """Both as functions of Lua, `openai_name` and `anthropic_name`, of a status as text."""
    return _lua("openai_name", OPENAI_NAMES, _OTHER_OPENAI) + _lua(
        "anthropic_name", _ANTHROPIC_NAMES, _OTHER_ANTHROPIC
    )


def _lua(function: str, names: dict[int, str], other: str) -> str:
    table = ", ".join(f"['{status}'] = '{name}'" for status, name in names.items())
    upper = f"{function}s".upper()
    return (
        f"local {upper} = {{ {table} }}\n"
        f"local function {function}(status) return {upper}[status] or '{other}' end\n"
    )
