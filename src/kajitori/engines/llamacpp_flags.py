"""The command line of llama-server: which flags and variables there are, and what each sets.

Flags are data: names, what kind of value they take, and the attribute of the library's parameters that they set.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kajitori.base.errors import UsageError
from kajitori.engines.spelling import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Flag(NamedTuple):
    """One flag of llama-server.

    kind: `text`, `whole`, `number`, `list` (comma-separated, repeatable), `on`, `off` (take no value), `cache-type`,
    `pooling`, `flash`, or `noted` (takes no value, has no effect here). target: attribute of the library's parameters,
    or a name that `read_arguments` treats itself (starting with `=`). variable: the environment variable, may be empty.
    """

    names: tuple[str, ...]
    kind: str
    target: str
    variable: str = ""


FLAGS = (
    Flag(("--model", "-m"), "text", "=model", "LLAMA_ARG_MODEL"),
    Flag(("--hf-repo", "-hf", "-hfr"), "text", "=model", "LLAMA_ARG_HF_REPO"),
    Flag(("--alias", "-a"), "list", "model_alias", "LLAMA_ARG_ALIAS"),
    Flag(("--host",), "text", "=host", "LLAMA_ARG_HOST"),
    Flag(("--port",), "whole", "port", "LLAMA_ARG_PORT"),
    Flag(("--api-key",), "list", "api_keys", "LLAMA_API_KEY"),
    Flag(("--api-key-file",), "text", "=api-key-file", "LLAMA_ARG_API_KEY_FILE"),
    Flag(("--api-prefix",), "text", "api_prefix", "LLAMA_ARG_API_PREFIX"),
    Flag(("--ssl-key-file",), "text", "ssl_file_key", "LLAMA_ARG_SSL_KEY_FILE"),
    Flag(("--ssl-cert-file",), "text", "ssl_file_cert", "LLAMA_ARG_SSL_CERT_FILE"),
    Flag(("--timeout", "-to"), "whole", "=timeout", "LLAMA_ARG_TIMEOUT"),
    Flag(("--ctx-size", "-c"), "whole", "n_ctx", "LLAMA_ARG_CTX_SIZE"),
    Flag(("--parallel", "-np"), "whole", "n_parallel", "LLAMA_ARG_N_PARALLEL"),
    Flag(("--predict", "--n-predict", "-n"), "whole", "n_predict", "LLAMA_ARG_N_PREDICT"),
    Flag(("--batch-size", "-b"), "whole", "n_batch", "LLAMA_ARG_BATCH"),
    Flag(("--ubatch-size", "-ub"), "whole", "n_ubatch", "LLAMA_ARG_UBATCH"),
    Flag(("--keep",), "whole", "n_keep"),
    Flag(("--threads", "-t"), "whole", "cpuparams.n_threads", "LLAMA_ARG_THREADS"),
    Flag(("--threads-batch", "-tb"), "whole", "cpuparams_batch.n_threads"),
    Flag(("--threads-http",), "whole", "n_threads_http", "LLAMA_ARG_THREADS_HTTP"),
    Flag(("--cont-batching", "-cb"), "on", "cont_batching"),
    Flag(("--no-cont-batching", "-nocb"), "off", "cont_batching"),
    Flag(("--metrics",), "on", "endpoint_metrics", "LLAMA_ARG_ENDPOINT_METRICS"),
    Flag(("--slots",), "on", "endpoint_slots"),
    Flag(("--no-slots",), "off", "endpoint_slots"),
    Flag(("--props",), "on", "endpoint_props", "LLAMA_ARG_ENDPOINT_PROPS"),
    Flag(("--embeddings", "--embedding"), "on", "embedding", "LLAMA_ARG_EMBEDDINGS"),
    Flag(("--pooling",), "pooling", "pooling_type", "LLAMA_ARG_POOLING"),
    Flag(("--slot-save-path",), "text", "slot_save_path"),
    Flag(("--cache-ram", "-cram"), "whole", "cache_ram_mib", "LLAMA_ARG_CACHE_RAM"),
    Flag(("--cache-reuse",), "whole", "n_cache_reuse", "LLAMA_ARG_CACHE_REUSE"),
    Flag(("--cache-type-k", "-ctk"), "cache-type", "cache_type_k", "LLAMA_ARG_CACHE_TYPE_K"),
    Flag(("--cache-type-v", "-ctv"), "cache-type", "cache_type_v", "LLAMA_ARG_CACHE_TYPE_V"),
    Flag(("--kv-unified", "-kvu"), "on", "kv_unified", "LLAMA_ARG_KV_UNIFIED"),
    Flag(("--context-shift",), "on", "ctx_shift", "LLAMA_ARG_CONTEXT_SHIFT"),
    Flag(("--no-context-shift",), "off", "ctx_shift", "LLAMA_ARG_NO_CONTEXT_SHIFT"),
    Flag(("--warmup",), "on", "warmup"),
    Flag(("--no-warmup",), "off", "warmup"),
    Flag(("--jinja",), "on", "use_jinja", "LLAMA_ARG_JINJA"),
    Flag(("--no-jinja",), "off", "use_jinja"),
    Flag(("--chat-template",), "text", "chat_template", "LLAMA_ARG_CHAT_TEMPLATE"),
    Flag(("--sleep-idle-seconds",), "whole", "sleep_idle_seconds"),
    Flag(("--seed", "-s"), "whole", "sampling.seed"),
    Flag(("--temp",), "number", "sampling.temp"),
    Flag(("--top-k",), "whole", "sampling.top_k", "LLAMA_ARG_TOP_K"),
    Flag(("--top-p",), "number", "sampling.top_p"),
    Flag(("--min-p",), "number", "sampling.min_p"),
    Flag(("--flash-attn", "-fa"), "flash", "flash_attn_type", "LLAMA_ARG_FLASH_ATTN"),
    Flag(("--n-gpu-layers", "--gpu-layers", "-ngl"), "text", "=noted", "LLAMA_ARG_N_GPU_LAYERS"),
    Flag(("--verbosity", "--log-verbosity", "-lv"), "whole", "verbosity", "LLAMA_LOG_VERBOSITY"),
    Flag(("--verbose", "--log-verbose", "-v"), "noted", "=verbose"),
    Flag(("--log-disable",), "noted", "=quiet"),
    Flag(("--no-webui", "--no-ui"), "off", "ui"),
    Flag(("--webui", "--ui"), "on", "ui"),
    Flag(("--mlock",), "noted", "=noted", "LLAMA_ARG_MLOCK"),
    Flag(("--no-mmap",), "noted", "=noted", "LLAMA_ARG_NO_MMAP"),
    Flag(("--mmap",), "noted", "=noted"),
)

_BY_NAME = {name: flag for flag in FLAGS for name in flag.names}
_WITHOUT_VALUE = ("on", "off", "noted")
_TRUE_WORDS = ("1", "true", "on", "enabled", "yes")


class Settings(NamedTuple):
    """What a command line asks for.

    model: file or name. host: empty where none was asked for. assignments: attribute paths of the library's parameters
    with the values to set. notes: sentences for the log.
    """

    model: str
    host: str
    assignments: dict[str, object]
    notes: list[str]


def read_arguments(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of a llama-server command line; flags win over variables. Raises UsageError."""
    special: dict[str, str] = {}
    assignments: dict[str, object] = {}
    notes: list[str] = []
    for flag in FLAGS:
        text = environment.get(flag.variable) if flag.variable else None
        if text is None or (flag.kind in _WITHOUT_VALUE and text.lower() not in _TRUE_WORDS):
            continue
        _take(flag, flag.variable, text, special, assignments, notes)
    from_environment = set(assignments)
    words = list(arguments)
    while words:
        name, has_value, text = words.pop(0).partition("=")
        flag = _BY_NAME.get(name)
        if flag is None:
            raise UsageError(f"unknown flag {name}", hint=_suggestion(name))
        if flag.kind not in _WITHOUT_VALUE and not has_value:
            if not words:
                raise UsageError(f"{name} wants a value")
            text = words.pop(0)
        if flag.target in from_environment:
            from_environment.discard(flag.target)
            del assignments[flag.target]
        _take(flag, name, text, special, assignments, notes)
    return _settle(special, assignments, notes)


def _suggestion(name: str) -> str:
    close = nearest(name, _BY_NAME)
    return f"did you mean {close}?" if close else f"known are {', '.join(flag.names[0] for flag in FLAGS)}"


def _take(
    flag: Flag,
    name: str,
    text: str,
    special: dict[str, str],
    assignments: dict[str, object],
    notes: list[str],
) -> None:
    if flag.target == "=noted":
        notes.append(f"{name} has no effect here: the model runs on the CPU and its file is mapped")
    elif flag.target.startswith("="):
        special[flag.target] = text
    elif flag.kind == "list":
        words = [word.strip() for word in text.split(",") if word.strip()]
        earlier = assignments.get(flag.target)
        assignments[flag.target] = [*earlier, *words] if isinstance(earlier, list) else words
    else:
        assignments[flag.target] = _value(flag, name, text)


def _value(flag: Flag, name: str, text: str) -> object:
    if flag.kind in ("on", "off"):
        return flag.kind == "on"
    try:
        if flag.kind == "whole":
            return int(text)
        if flag.kind == "number":
            return float(text)
    except ValueError:
        raise UsageError(f"{name} wants a number, got {text!r}") from None
    if flag.kind in ("cache-type", "pooling", "flash"):
        return (flag.kind, text)
    return text


def _settle(special: dict[str, str], assignments: dict[str, object], notes: list[str]) -> Settings:
    if "=model" not in special:
        raise UsageError("no model", hint="give --model with a GGUF file, or --model smollm2-135m")
    if "=timeout" in special:
        timeout = _value(Flag((), "whole", ""), "--timeout", special["=timeout"])
        assignments |= {"timeout_read": timeout, "timeout_write": timeout}
    if "=api-key-file" in special:
        path = Path(special["=api-key-file"])
        try:
            keys = path.read_text().split()
        except OSError as error:
            raise UsageError(f"--api-key-file: {error}") from None
        earlier = assignments.get("api_keys")
        assignments["api_keys"] = [*(earlier if isinstance(earlier, list) else []), *keys]
    if "=verbose" in special:
        assignments["verbosity"] = 5
    if "=quiet" in special:
        assignments["verbosity"] = 0
    threads = assignments.setdefault("cpuparams.n_threads", 1)
    assignments.setdefault("cpuparams_batch.n_threads", threads)
    for target, value in (
        ("n_parallel", 4),
        ("port", 8080),
        ("endpoint_metrics", True),
        ("endpoint_slots", True),
    ):
        assignments.setdefault(target, value)
    return Settings(special["=model"], special.get("=host", ""), assignments, notes)
