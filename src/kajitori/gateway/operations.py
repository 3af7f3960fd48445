"""What clients may ask for: every operation, where it is found, and which backends serve it by which path.

This is the one place that Python and Lua share: the request script, the attempt script and the route tables are all
made from `OPERATIONS` and `WAYS`. A backend that speaks the client's dialect gets the body as it is; `WAYS` is also
where a translation of a foreign dialect is to be named.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from kajitori.api.aigateway.v1beta1 import VersionedAPISchema

Dialect = Literal["openai", "anthropic", "cohere"]
ModelPlace = Literal["json", "form", "query", "none"]

# Texts that stand once in each event of a stream that carries output: how many tokens there were at least is told by
# them where a stream is cut before its usage comes.
_ANY_EVENT = "\n\n"
_RESPONSES_EVENT = '.delta"'
_MESSAGES_EVENT = '"content_block_delta"'


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a client may ask for.

    name: as `gen_ai.operation.name` has it, if that has one. paths: of clients, the first as the dialect documents it;
    `{id}` is one segment. native: path at a provider of this dialect. model: where its name stands. required: whether
    there must be one. usage: whether answers report tokens. forced: streams report them only if
    `stream_options.include_usage` asks. event: stands once in each event with output.
    """

    name: str
    paths: tuple[str, ...]
    native: str
    dialect: Dialect = "openai"
    methods: tuple[str, ...] = ("POST",)
    model: ModelPlace = "json"
    required: bool = True
    usage: bool = False
    forced: bool = False
    event: str = _ANY_EVENT


class Way(msgspec.Struct, frozen=True):
    """How a backend of one schema serves an operation.

    path: with `{prefix}` and `{version}` of the schema, and `{model}`, `{id}`, `{query}` (with its `?`) and `{more}`
    (with `&` instead) of the request.
    """

    path: str


def _openai(name: str, path: str, **options: object) -> Operation:
    return Operation(name=name, paths=(path,), native=path, **options)  # pyright: ignore[reportArgumentType]


def _unmodelled(name: str, path: str, *methods: str) -> Operation:
    return _openai(name, path, methods=methods, model="none", required=False)


OPERATIONS: tuple[Operation, ...] = (
    _openai("chat", "/v1/chat/completions", usage=True, forced=True),
    _openai("completion", "/v1/completions", usage=True, forced=True),
    _openai("embeddings", "/v1/embeddings", usage=True),
    _openai("responses", "/v1/responses", usage=True, event=_RESPONSES_EVENT),
    _openai("responses_input_tokens", "/v1/responses/input_tokens"),
    _openai("responses_compact", "/v1/responses/compact", usage=True),
    _unmodelled("responses_item", "/v1/responses/{id}", "GET", "DELETE"),
    _unmodelled("responses_input_items", "/v1/responses/{id}/input_items", "GET"),
    _unmodelled("responses_cancel", "/v1/responses/{id}/cancel", "POST"),
    _openai("image_generation", "/v1/images/generations", required=False, usage=True),
    _openai("image_edit", "/v1/images/edits", model="form", required=False, usage=True),
    _openai("image_variation", "/v1/images/variations", model="form", required=False, usage=True),
    _openai("speech", "/v1/audio/speech", usage=True),
    _openai("transcription", "/v1/audio/transcriptions", model="form", usage=True),
    _openai("translation", "/v1/audio/translations", model="form", usage=True),
    _openai("moderation", "/v1/moderations", required=False),
    _unmodelled("files", "/v1/files", "GET", "POST"),
    _unmodelled("files_item", "/v1/files/{id}", "GET", "DELETE"),
    _unmodelled("files_content", "/v1/files/{id}/content", "GET"),
    _unmodelled("batches", "/v1/batches", "GET", "POST"),
    _unmodelled("batches_item", "/v1/batches/{id}", "GET"),
    _unmodelled("batches_cancel", "/v1/batches/{id}/cancel", "POST"),
    _openai("realtime", "/v1/realtime", methods=("GET",), model="query", usage=True),
    _openai("tokenize", "/tokenize"),
    _openai("detokenize", "/detokenize"),
    _openai("score", "/score", usage=True),
    _openai("score_v1", "/v1/score", usage=True),
    _openai("rerank", "/v1/rerank", usage=True),
    _openai("rerank_plain", "/rerank", usage=True),
    _openai("classify", "/classify", usage=True),
    _openai("pooling", "/pooling", usage=True),
    Operation(
        name="messages",
        paths=("/anthropic/v1/messages", "/v1/messages"),
        native="/v1/messages",
        dialect="anthropic",
        usage=True,
        event=_MESSAGES_EVENT,
    ),
    Operation(
        name="count_tokens",
        paths=("/anthropic/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        native="/v1/messages/count_tokens",
        dialect="anthropic",
    ),
    Operation(
        name="cohere_rerank",
        paths=("/cohere/v2/rerank", "/v2/rerank"),
        native="/v2/rerank",
        dialect="cohere",
        usage=True,
    ),
)
# Of telemetry, where several of our names are one there.
TELEMETRY_NAMES = {"rerank_plain": "rerank", "cohere_rerank": "rerank", "score_v1": "score"}
# Schema -> provider, as telemetry names it.
PROVIDERS = {
    "OpenAI": "openai",
    "AzureOpenAI": "azure.openai",
    "AWSBedrock": "aws.bedrock",
    "AWSAnthropic": "aws.anthropic",
    "GCPVertexAI": "gcp.vertex_ai",
    "GCPAnthropic": "gcp.anthropic",
    "Anthropic": "anthropic",
    "Cohere": "cohere",
}
# Their answers are no text that a model wrote, so no output is reserved of limits.
_WITHOUT_OUTPUT = frozenset(
    {
        "embeddings", "responses_input_tokens", "moderation", "tokenize", "detokenize", "score", "score_v1", "rerank",
        "rerank_plain", "classify", "pooling", "count_tokens", "cohere_rerank",
    }
)  # fmt: skip
_ASKS_WITH_QUERY = ("GET", "DELETE")
_AZURE_DEPLOYMENTS = (
    "chat", "completion", "embeddings", "image_generation", "image_edit", "speech", "transcription", "translation",
)  # fmt: skip
_AZURE_RESOURCES = (
    "responses", "responses_input_tokens", "responses_compact", "responses_item", "responses_input_items",
    "responses_cancel", "files", "files_item", "files_content", "batches", "batches_item", "batches_cancel",
)  # fmt: skip


def _ways() -> dict[tuple[str, str], Way]:
    found: dict[tuple[str, str], Way] = {}
    for operation in OPERATIONS:
        tail = operation.native.removeprefix("/v1")
        takes_query = operation.model == "none" and set(operation.methods) & set(_ASKS_WITH_QUERY)
        query = "{query}" if takes_query or operation.model == "query" else ""
        prefixed = ("{prefix}" if operation.native.startswith("/v1/") else "") + tail
        if operation.dialect == "openai":
            found[operation.name, "OpenAI"] = Way(prefixed + query)
        elif operation.dialect == "anthropic":
            found[operation.name, "Anthropic"] = Way(prefixed)
        version = "?api-version={version}" + ("{more}" if query else "")
        if operation.name in _AZURE_DEPLOYMENTS:
            found[operation.name, "AzureOpenAI"] = Way("/openai/deployments/{model}" + tail + version)
        elif operation.name in _AZURE_RESOURCES:
            found[operation.name, "AzureOpenAI"] = Way("/openai" + tail + version)
    found["realtime", "AzureOpenAI"] = Way("/openai/realtime?api-version={version}&deployment={model}")
    found["cohere_rerank", "Cohere"] = Way("{version}/rerank")
    return found


# (operation, schema of the backend) -> how. What is not here cannot be done.
WAYS = _ways()
SERVED_SCHEMAS = frozenset(schema for _, schema in WAYS)


@cache
@lru_cache(maxsize=1_000)
def native_path(operation: str, path: str) -> str:
    """The path that the dialect documents, as the request script puts it in the place of a client's; that of no operation stays."""
    known = next((each for each in OPERATIONS if each.name == operation), None)
    if known is None or "{id}" not in known.native:
        return known.native if known is not None else path
    for before, _, behind in (each.partition("{id}") for each in known.paths):
        if path.startswith(before) and path.endswith(behind):
            return known.native.replace("{id}", path[len(before) : len(path) - len(behind)])
    return path


def schemas_of(operation: str) -> tuple[str, ...]:
    """The schemas that serve an operation, in order of their names."""
    return tuple(sorted(schema for name, schema in WAYS if name == operation))


def upstream_paths(schema: VersionedAPISchema) -> dict[str, str]:
    """The path of every operation at a backend; what depends on the request is still in braces."""
    prefix = (schema.prefix if schema.prefix is not None else "v1").strip("/")
    version = quote(schema.version or "", safe="-._~")
    if schema.name == "Cohere":
        version = f"/{version}" if version else ""
    filled = {"{prefix}": f"/{prefix}" if prefix else "", "{version}": version}
    paths: dict[str, str] = {}
    for (operation, name), way in WAYS.items():
        if name == schema.name:
            paths[operation] = re.sub(r"\{(prefix|version)\}", lambda found: filled[found[0]], way.path)
    return paths


@lru_cache(maxsize=4096)
def has_native_paths(schema: VersionedAPISchema) -> bool:
    """Whether a backend has each operation where its dialect documents it, which is the path that requests come with
    to an attempt.
    """
    native = msgspec.structs.replace(schema, prefix="v1", version="v2")
    return schema.name != "AzureOpenAI" and upstream_paths(schema) == upstream_paths(native)


def path_pattern(paths: list[str]) -> str:
    """A regular expression (RE2) for paths of clients."""
    return "|".join(
        "[^/]+".join(re.escape(part) for part in path.split("{id}")).replace("\\-", "-") for path in paths
    )


def schemas_text(operation: Operation, *, unnamed: bool = False) -> str:
    """The schemas that serve it as one text, in which each stands in quotes. unnamed: a request that names no model, which
    nobody serves who has it in the path.
    """
    fit = [
        schema
        for schema in schemas_of(operation.name)
        if not (unnamed and "{model}" in WAYS[operation.name, schema].path)
    ]
    return ", ".join(quoted(schema) for schema in fit) or "none"


def quoted(schema: str) -> str:
    """A schema as it is found in the text of several."""
    return f"'{schema}'"


def _lua(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value).replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{text}'"


def lua_operations() -> str:
    """`OPERATIONS` as a table of Lua: by path of the client, `{id}` in place of an identifier."""
    lines = ["local OPERATIONS = {"]
    for operation in OPERATIONS:
        fields: dict[str, object] = {
            "name": operation.name,
            "dialect": operation.dialect,
            "model": operation.model,
            "native": operation.native,
            "schemas": schemas_text(operation),
            "event": operation.event,
        }
        flags = {"required", "usage", "forced"}
        fields |= {name: True for name in sorted(flags) if getattr(operation, name)}
        if operation.name in _WITHOUT_OUTPUT:
            fields["silent"] = True
        if not operation.required:
            fields["unnamed"] = schemas_text(operation, unnamed=True)
        takes_query = operation.model == "query" or set(operation.methods) & set(_ASKS_WITH_QUERY)
        if takes_query:
            fields["query"] = True
        methods = ", ".join(f"{method} = true" for method in operation.methods)
        told = ", ".join(f"{name} = {_lua(value)}" for name, value in fields.items())
        lines += [f"  [{_lua(path)}] = {{ {told}, methods = {{ {methods} }} }}," for path in operation.paths]
    return "\n".join([*lines, "}", ""])
