"""The command line of `vllm serve`, read as vLLM reads it; imports nothing beyond the standard library.

What shapes the simulation goes into `Settings`. Every other flag that vLLM knows is accepted and named in the log as
not simulated; a flag that vLLM does not know is refused with the nearest spelling.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kajitori.engines.simulated.flags import LISTS, SHORT, SWITCHES, VALUES, words
from kajitori.engines.spelling import nearest

VERSION = "0.32.0+kajitori.simulated"


class ArgumentError(Exception):
    """A command line that vLLM would refuse; the text is for people."""


class Settings(NamedTuple):
    """What a simulated engine was asked to be.

    nodes, rank: processes of the group and this one's place in it; the group meets at rendezvous_host:rendezvous_port.
    data_parallel: replicas of the model in the group. max_model_tokens, max_sequences, max_batch_tokens, kv_blocks: 0
    where the default for model and GPU applies. shutdown_seconds: how long answers that have begun may take on SIGTERM.
    not_simulated: flags that were given and change nothing.
    """

    model: str
    served_names: list[str]
    host: str
    port: int
    api_keys: list[str]
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    expert_parallel: bool
    nodes: int
    rank: int
    headless: bool
    rendezvous_host: str
    rendezvous_port: int
    rendezvous_seconds: float
    max_model_tokens: int
    max_sequences: int
    max_batch_tokens: int
    memory_fraction: float
    kv_blocks: int
    block_tokens: int
    kv_dtype: str
    weights_dtype: str
    prefix_caching: bool
    force_usage: bool
    prompt_details: bool
    seed: int
    shutdown_seconds: float
    not_simulated: list[str]


# Flags that the simulation honours, by the names that the readers below use.
_HONOURED = words(
    """
    model served-model-name host port api-key tensor-parallel-size pipeline-parallel-size data-parallel-size
    data-parallel-size-local data-parallel-start-rank data-parallel-address data-parallel-rpc-port
    enable-expert-parallel nnodes node-rank headless master-addr master-port distributed-timeout-seconds max-model-len
    max-num-seqs max-num-batched-tokens gpu-memory-utilization num-gpu-blocks-override block-size kv-cache-dtype dtype
    quantization enable-prefix-caching enable-force-include-usage enable-prompt-tokens-details seed shutdown-timeout
    """
)

Values = dict[str, "str | bool | list[str]"]


def read_arguments(arguments: list[str]) -> Settings:
    """The settings of what follows `vllm` on a command line. Raises ArgumentError."""
    if not arguments or arguments[0] != "serve":
        command = arguments[0] if arguments else ""
        raise ArgumentError(
            f"`vllm {command}` is not simulated; `vllm serve MODEL` is"
            if command
            else "say `vllm serve MODEL`"
        )
    values, model = _scan(arguments[1:])
    return _settings(values, model)


def _scan(words: list[str]) -> tuple[Values, str]:
    """The flags by their long names, and the model that stands alone."""
    values: Values = {}
    model = ""
    words = list(words)
    while words:
        word = words.pop(0)
        if not _is_flag(word):
            if model:
                raise ArgumentError(f"unrecognized arguments: {word}")
            model = word
            continue
        name, has_value, text, switched_on = _long_name(word)
        if name in SWITCHES:
            values[name] = switched_on
        elif name in LISTS:
            several = [text] if has_value else []
            while not has_value and words and not _is_flag(words[0]):
                several.append(words.pop(0))
            earlier = values.get(name)
            values[name] = (earlier if isinstance(earlier, list) else []) + several
        else:
            if not has_value:
                if not words or _is_flag(words[0]):
                    raise ArgumentError(f"argument --{name}: expected one argument")
                text = words.pop(0)
            values[name] = text
    return values, model


def _is_flag(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and not re.fullmatch(r"-\d+(\.\d+)?", word)


def _long_name(word: str) -> tuple[str, bool, str, bool]:
    """Long name, whether a value is attached, the value, and False for a switch in its `--no-` form."""
    name, equals, text = word.partition("=")
    if not name.startswith("--"):
        short = re.fullmatch(r"-O(\d+)", name)
        if short:
            return "optimization-level", True, short[1], True
        if name[1:] not in SHORT:
            raise ArgumentError(f"unrecognized arguments: {word}")
        return SHORT[name[1:]], bool(equals), text, True
    # `--compilation-config.level=3` sets a part of a flag that takes JSON.
    name, dot, _ = name[2:].replace("_", "-").partition(".")
    if name in SWITCHES or name in VALUES or name in LISTS:
        return name, bool(equals), (f"{{...}}{text}" if dot else text), True
    if name.startswith("no-") and name[3:] in SWITCHES:
        return name[3:], bool(equals), text, False
    close = nearest(name, (*VALUES, *SWITCHES, *LISTS))
    raise ArgumentError(f"unrecognized arguments: {word}" + (f" (did you mean --{close}?)" if close else ""))


def _settings(values: Values, model: str) -> Settings:
    model = model or _text(values, "model", "")
    if not model:
        raise ArgumentError("the model is missing: say `vllm serve MODEL`")
    tensor = _count(values, "tensor-parallel-size", 1)
    pipeline = _count(values, "pipeline-parallel-size", 1)
    data = _count(values, "data-parallel-size", 1)
    nodes, rank, host, port = _rendezvous(values, data)
    if tensor * pipeline * data % nodes:
        raise ArgumentError(
            f"{tensor * pipeline * data} GPUs (tensor x pipeline x data parallel) cannot be divided by {nodes} nodes"
        )
    quantization = _text(values, "quantization", "")
    return Settings(
        model=model,
        served_names=_several(values, "served-model-name") or [model],
        host=_text(values, "host", ""),
        port=_count(values, "port", 8000),
        api_keys=_several(values, "api-key"),
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        data_parallel=data,
        expert_parallel=bool(values.get("enable-expert-parallel")),
        nodes=nodes,
        rank=rank,
        headless=bool(values.get("headless")),
        rendezvous_host=host,
        rendezvous_port=port,
        rendezvous_seconds=_number(values, "distributed-timeout-seconds", 600.0),
        max_model_tokens=_tokens(values, "max-model-len"),
        max_sequences=_count(values, "max-num-seqs", 0),
        max_batch_tokens=_tokens(values, "max-num-batched-tokens"),
        memory_fraction=_fraction(values, "gpu-memory-utilization", 0.9),
        kv_blocks=_count(values, "num-gpu-blocks-override", 0),
        block_tokens=_count(values, "block-size", 16),
        kv_dtype=_text(values, "kv-cache-dtype", "auto"),
        weights_dtype=quantization or _text(values, "dtype", "auto"),
        prefix_caching=bool(values.get("enable-prefix-caching", True)),
        force_usage=bool(values.get("enable-force-include-usage")),
        prompt_details=bool(values.get("enable-prompt-tokens-details")),
        seed=_whole(values, "seed", 0),
        shutdown_seconds=_number(values, "shutdown-timeout", 20.0),
        not_simulated=sorted(f"--{name}" for name in values if name not in _HONOURED),
    )


def _rendezvous(values: Values, data: int) -> tuple[int, int, str, int]:
    """How many processes the group has, which this one is, and where they meet.

    vLLM forms groups in two ways: ranks of one model over nodes (--nnodes), or replicas of it (--data-parallel-size
    with fewer of them local).
    """
    nodes = _count(values, "nnodes", 1)
    if nodes > 1:
        rank = _whole(values, "node-rank", 0)
        host, port = _text(values, "master-addr", "127.0.0.1"), _count(values, "master-port", 29501)
    else:
        local = _count(values, "data-parallel-size-local", data)
        if local < 1 or data % local:
            raise ArgumentError(
                f"--data-parallel-size {data} cannot be divided by --data-parallel-size-local {local}"
            )
        nodes, rank = data // local, _whole(values, "data-parallel-start-rank", 0) // local
        host = _text(values, "data-parallel-address", "127.0.0.1")
        port = _count(values, "data-parallel-rpc-port", 29550)
    if not 0 <= rank < nodes:
        raise ArgumentError(f"node rank {rank} is not within 0 to {nodes - 1}")
    return nodes, rank, host, port


def _text(values: Values, name: str, default: str) -> str:
    value = values.get(name, default)
    return value if isinstance(value, str) else default


def _several(values: Values, name: str) -> list[str]:
    value = values.get(name)
    return value if isinstance(value, list) else []


def _whole(values: Values, name: str, default: int) -> int:
    text = _text(values, name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ArgumentError(f"argument --{name}: invalid int value: {text!r}") from None


def _count(values: Values, name: str, default: int) -> int:
    """A whole number that is at least 1 where it is given."""
    number = _whole(values, name, default)
    if name in values and number < 1:
        raise ArgumentError(f"argument --{name}: {number} is below 1")
    return number


def _number(values: Values, name: str, default: float) -> float:
    text = _text(values, name, str(default))
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"argument --{name}: invalid float value: {text!r}") from None


def _fraction(values: Values, name: str, default: float) -> float:
    number = _number(values, name, default)
    if not 0 < number <= 1:
        raise ArgumentError(f"argument --{name}: {number} is not within 0 and 1")
    return number


_FACTORS = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


def _tokens(values: Values, name: str) -> int:
    """A number of tokens: `32768`, `32k` (thousands), `32K` (1,024s); 0 for `auto`, `-1` and not given."""
    text = _text(values, name, "auto")
    if text in ("auto", "-1"):
        return 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgKMG]?)", text)
    if match is None:
        raise ArgumentError(f"argument --{name}: invalid human_readable_int value: {text!r}")
    number = int(float(match[1]) * _FACTORS.get(match[2], 1))
    if number < 1:
        raise ArgumentError(f"argument --{name}: {number} is below 1")
    return number
