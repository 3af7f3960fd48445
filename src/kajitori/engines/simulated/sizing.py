"""From a command line to an engine's size: which model on which GPUs, what fits, and how much it may do at once.

Refuses what real GPUs would refuse: a model that does not fit, a context that does not fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kajitori.base.errors import UsageError
from kajitori.engines.simulated.batching import Limits
from kajitori.model.catalogue import LanguageModel, find_model
from kajitori.model.hardware import find_gpu
from kajitori.model.performance import Engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kajitori.engines.simulated.arguments import Settings

DEFAULT_GPU = "h200"

_GIBIBYTE = 2**30
_WEIGHT_BYTES = {
    "fp8": 1.0,
    "fp4": 0.56,
    "nvfp4": 0.56,
    "awq": 0.53,
    "gptq": 0.53,
    "bfloat16": 2.0,
    "float16": 2.0,
    "half": 2.0,
}


class Sizing(NamedTuple):
    """What a simulated engine is made of.

    engine: one data-parallel replica. limits: of all replicas together. summary: one line for the log.
    """

    engine: Engine
    limits: Limits
    max_model_tokens: int
    replicas: int
    summary: str

    def engine_over(self, node_count: int) -> Engine:
        """The engine, when its group runs on so many machines: tensor parallelism may have to cross the network."""
        gpus = self.engine.gpus * self.replicas
        crosses = node_count > 1 and gpus / node_count < self.engine.tensor_parallel
        return msgspec.structs.replace(self.engine, crosses_nodes=crosses)


def size(settings: Settings, environment: Mapping[str, str]) -> Sizing:
    """The engine that a command line asks for.

    The GPU is `KAJITORI_SIMULATED_GPU` (h200 where it is not set). For a model that is not known, `KAJITORI_MODEL_PARAMETERS`
    gives its number of parameters, and after a comma those that are active. Raises UsageError.
    """
    model = _model(settings, environment)
    gpu = find_gpu(environment.get("KAJITORI_SIMULATED_GPU") or DEFAULT_GPU)
    engine = Engine(
        model,
        gpu,
        settings.tensor_parallel,
        settings.pipeline_parallel,
        expert_parallel=settings.expert_parallel,
        replicas=settings.data_parallel,
        bytes_per_parameter=_WEIGHT_BYTES.get(settings.weights_dtype, 0.0),
        kv_bytes_per_value=1.0 if settings.kv_dtype.startswith("fp8") else 2.0,
    )
    capacity = _capacity_tokens(settings, engine)
    longest = settings.max_model_tokens or model.context_tokens
    if longest > capacity:
        raise UsageError(
            f"one request of {longest} tokens does not fit into the KV cache, which holds {capacity} tokens",
            hint=f"--max-model-len={capacity} or less, or raise --gpu-memory-utilization",
        )
    limits = _limits(settings, engine, capacity)
    return Sizing(engine, limits, longest, settings.data_parallel, _summary(settings, engine, capacity))


def _where(settings: Settings, engine: Engine) -> str:
    return f"{engine.gpus * settings.data_parallel} x {engine.gpu.product}"


def _capacity_tokens(settings: Settings, engine: Engine) -> int:
    """Of the KV cache of one replica. Raises UsageError where the weights leave no room for one."""
    capacity = engine.kv_capacity_tokens(settings.memory_fraction)
    if settings.kv_blocks:
        return settings.kv_blocks * settings.block_tokens
    if capacity < settings.block_tokens:
        weights = engine.weight_bytes_per_gpu / _GIBIBYTE
        raise UsageError(
            f"{engine.model.name} does not fit: {weights:.1f} GiB of weights on each of {_where(settings, engine)}, of whose "
            f"{engine.gpu.memory_mib / 1024:.0f} GiB the engine may use {settings.memory_fraction:.0%}",
            hint="raise --tensor-parallel-size, or use a smaller precision or a GPU with more memory",
        )
    return capacity


def _limits(settings: Settings, engine: Engine, capacity_tokens: int) -> Limits:
    """Of a step of all replicas together. Defaults are vLLM's, which go by the GPU's memory."""
    gpu = engine.gpu
    large = gpu.memory_bytes >= 70 * _GIBIBYTE and gpu.name != "a100"
    default_step_tokens = 16384 if gpu.memory_bytes >= 160 * _GIBIBYTE else 8192 if large else 2048
    return Limits(
        sequences=(settings.max_sequences or (1024 if large else 256)) * settings.data_parallel,
        step_tokens=(settings.max_batch_tokens or default_step_tokens) * settings.data_parallel,
        blocks=capacity_tokens // settings.block_tokens * settings.data_parallel,
        block_tokens=settings.block_tokens,
        prefix_caching=settings.prefix_caching,
    )


def _summary(settings: Settings, engine: Engine, capacity_tokens: int) -> str:
    """What is simulated, in a sentence."""
    estimated = " (shape estimated from its number of parameters)" if engine.model.estimated else ""
    return (
        f"no model is loaded: {engine.model.name}{estimated} is simulated on {_where(settings, engine)} (tensor parallel "
        f"{engine.tensor_parallel}, pipeline parallel {engine.pipeline_parallel}, data parallel "
        f"{settings.data_parallel}): {engine.weight_bytes_per_gpu / _GIBIBYTE:.1f} GiB of weights a GPU, "
        f"KV cache of {capacity_tokens} tokens, {engine.decode_seconds(1, 1000) * 1000:.1f} ms a token for one request"
    )


def _model(settings: Settings, environment: Mapping[str, str]) -> LanguageModel:
    text = environment.get("KAJITORI_MODEL_PARAMETERS", "")
    counts: list[float] = []
    if text:
        try:
            counts = [float(part) for part in text.split(",")]
        except ValueError:
            raise UsageError(
                f"KAJITORI_MODEL_PARAMETERS={text!r} is not a number",
                hint="write 7e9, or 30e9,3e9 with the active ones",
            ) from None
    try:
        return find_model(
            settings.model,
            parameters=counts[0] if counts else 0.0,
            active_parameters=counts[1] if len(counts) > 1 else 0.0,
        )
    except UsageError as error:
        raise UsageError(
            error.message,
            hint=f"{error.hint}; the environment variable KAJITORI_MODEL_PARAMETERS gives the number",
        ) from None
