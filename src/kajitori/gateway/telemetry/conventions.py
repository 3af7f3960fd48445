"""How a request is named and described under each convention of telemetry: OpenInference, and OpenTelemetry's for GenAI. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kajitori.gateway.accounting.records import RequestRecord
from kajitori.gateway.operations import TELEMETRY_NAMES
from kajitori.gateway.telemetry.settings import Convention

Value = str | int | float | bool
# As Envoy AI Gateway names them under OpenInference.
_NAMES = {
    "chat": "ChatCompletion",
    "completion": "Completion",
    "embeddings": "CreateEmbeddings",
    "image_generation": "ImagesResponse",
    "responses": "Responses",
    "speech": "AudioSpeech",
    "transcription": "Transcription",
    "translation": "Translation",
    "messages": "Message",
    "rerank": "Rerank",
}
_KINDS = {"embeddings": "EMBEDDING", "rerank": "RERANKER"}


def _open_inference(record: RequestRecord, operation: str) -> tuple[str, str, dict[str, Value]]:
    found: dict[str, Value] = {
        "openinference.span.kind": _KINDS.get(operation, "LLM"),
        "llm.system": record.dialect,
        "llm.provider": record.provider,
        "llm.model_name": record.response_model or record.effective_model or record.model,
    }
    camel = "".join(word.capitalize() for word in operation.split("_"))
    return _NAMES.get(operation, camel), "INTERNAL", found


def _gen_ai(record: RequestRecord, operation: str) -> tuple[str, str, dict[str, Value]]:
    model = record.effective_model or record.model
    found: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": record.provider,
        "gen_ai.original.model": record.model,
        "gen_ai.request.model": model,
        "gen_ai.response.model": record.response_model,
    }
    if record.attempts:
        found |= server_attributes(record.attempts[-1].address)
    if record.status >= 400 or record.outcome != "answered":
        found["error.type"] = str(record.status) if record.status >= 400 else "_OTHER"
    return f"{operation} {model}".strip(), "CLIENT", found


class _Form(NamedTuple):
    """describe: name, kind and attributes of a request's span. usage: attribute -> member of a usage. cost: in dollars."""

    describe: Callable[[RequestRecord, str], tuple[str, str, dict[str, Value]]]
    usage: dict[str, str]
    cost: str


_CONVENTIONS: dict[Convention, _Form] = {
    "openinference": _Form(
        _open_inference,
        {
            "llm.token_count.prompt": "input_tokens",
            "llm.token_count.completion": "output_tokens",
            "llm.token_count.total": "total_tokens",
            "llm.token_count.prompt_details.cache_read": "cached_input_tokens",
            "llm.token_count.prompt_details.cache_write": "cache_creation_input_tokens",
            "llm.token_count.completion_details.reasoning": "reasoning_tokens",
        },
        "llm.cost.total",
    ),
    "gen_ai": _Form(
        _gen_ai,
        {
            "gen_ai.usage.input_tokens": "input_tokens",
            "gen_ai.usage.output_tokens": "output_tokens",
            "gen_ai.usage.cache_read.input_tokens": "cached_input_tokens",
            "gen_ai.usage.cache_creation.input_tokens": "cache_creation_input_tokens",
        },
        "kajitori.cost.usd",
    ),
}


def describe(record: RequestRecord, convention: Convention) -> tuple[str, str, dict[str, Value]]:
    """Name, kind and attributes of a request's span."""
    operation = TELEMETRY_NAMES.get(record.operation, record.operation)
    form = _CONVENTIONS[convention]
    name, kind, attributes = form.describe(record, operation)
    attributes = {key: value for key, value in attributes.items() if value}
    if record.usage is not None:
        attributes |= {key: getattr(record.usage, member) for key, member in form.usage.items()}
    if record.cost_usd is not None:
        attributes[form.cost] = record.cost_usd
    return name, kind, attributes


def server_attributes(address: str) -> dict[str, Value]:
    """Of the backend at an address with a port; empty for none."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        return {"server.address": host.strip("[]"), "server.port": int(port)}
    return {"server.address": address} if address else {}
