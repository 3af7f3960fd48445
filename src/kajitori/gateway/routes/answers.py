"""The bodies that the gateway answers by itself: errors in the upstream's shape, and the list of models."""

from __future__ import annotations

import datetime
import re
from typing import Any

import msgspec

from kajitori.gateway.error_names import openai_name

_MODELS_NAMED_AT_MOST = 100
METADATA = "kajitori.answers"
_SEPARATORS = re.compile("[%\t\n]")


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
            "error": {"type": openai_name(status), "code": str(status), "message": message},
        }
    }


def direct_error(status: int, message: str) -> dict[str, Any]:
    """A route action that answers with an error. Percent signs in `message` are commands of Envoy."""
    return {"status": status, "body_format": error_format(status, message)}


def ai_error(status: int, message: str) -> dict[str, Any]:
    """As `direct_error`, of routes whose name begins with `ai`: the client's dialect gives it its shape afterwards."""
    return {"status": status, "body_format": {"text_format_source": {"inline_string": message}}}


def error_of(route: dict[str, Any], status: int, message: str) -> dict[str, Any]:
    """The error of an entry of whichever kind: who gives an AI route a shaped one has it shaped twice."""
    shaped = ai_error if str(route.get("name", "")).startswith("ai") else direct_error
    return shaped(status, message)


def literal(text: str) -> str:
    """`text` so that Envoy's formatter leaves it alone."""
    return text.replace("%", "%%")


def unknown_model_message(models: list[str]) -> str:
    """Names the models that exist."""
    told = "No route matches the model '%REQ(x-ai-eg-model)%'; it is likely not configured. "
    if len(models) > _MODELS_NAMED_AT_MOST:
        # Envoy has this text many times, and each of them would change with every model.
        return told + f"There are more than {_MODELS_NAMED_AT_MOST} models; GET /v1/models lists them"
    return told + f"Models that exist: {literal(', '.join(sorted(models)) or 'none')}"


def hidden_model_message() -> str:
    """Where keys are asked for: names no model, since not everybody may see each."""
    return (
        "No route matches the model '%REQ(x-ai-eg-model)%'; it is likely not configured. "
        "GET /v1/models lists those that an API key may use"
    )


def models_listing(models: list[Model]) -> str:
    """What lua/models.lua makes lists of, a line each, sorted by name: a model stands once for each of its routes.

    One text, since Envoy makes an object of each member of metadata, whenever the table changes.
    """
    return "".join(
        "\t".join(
            (
                _SEPARATORS.sub(_escaped, model.id),
                str(model.created),
                _SEPARATORS.sub(_escaped, model.owned_by),
                model.route,
                "Required" if model.protected else "",
            )
        )
        + "\n"
        for model in sorted(dict.fromkeys(models), key=lambda model: (model.id, model.route))
    )


def _escaped(found: re.Match[str]) -> str:
    return f"%{ord(found.group()):02X}"


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
    return {"filter_metadata": {METADATA: {"route": f"{kind} {key}"}}}
