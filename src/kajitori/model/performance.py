"""The performance model: how long one step of an inference engine takes, and how much context fits.

A step processes some new tokens: chunks of prompts (prefill) and one token for each running answer (decode). Its time
is a fixed overhead, plus the larger of arithmetic and reading the weights, plus attention over prompts, plus reading
the kept keys and values, plus communication between GPUs. The form is a roofline with one set of efficiencies; against
measured rows of vLLM on H100, H200 and B200 its error for dense models is near ten percent (see tests/model).

Everything here is arithmetic on values: no clock, no randomness, no I/O.
"""

from __future__ import annotations

import msgspec

from kajitori.base.errors import UsageError
from kajitori.model.catalogue import LanguageModel
from kajitori.model.hardware import Gpu

# What an engine keeps for itself on each GPU besides weights and KV cache: activations, CUDA graphs, the context.
RESERVED_BYTES = 3e9


class Efficiency(msgspec.Struct, frozen=True):
    """How much of the published rates an engine reaches, and its fixed costs in seconds.

    Fractions: compute (dense products), grouped (further factor for products of experts), attention (prompt
    attention), memory and expert_memory (reading weights and KV, dense and mixture of experts), link.
    """

    compute: float = 0.55
    grouped: float = 0.75
    attention: float = 0.3
    memory: float = 0.75
    expert_memory: float = 0.5
    link: float = 0.6
    step_seconds: float = 0.002
    request_seconds: float = 0.00001
    all_reduce_seconds: float = 0.000012
    network_seconds: float = 0.00003
    pipeline_hop_seconds: float = 0.00001


class Step(msgspec.Struct, frozen=True):
    """What one step works on.

    prefill_tokens: new prompt tokens. attention_pairs: for each chunk of n new tokens after p earlier ones, n*p + n*n/2,
    summed. decodes: answers that get one token. context_tokens: their context, summed.
    """

    prefill_tokens: float = 0
    attention_pairs: float = 0.0
    decodes: float = 0
    context_tokens: float = 0


def chunk_pairs(new_tokens: float, earlier_tokens: float) -> float:
    """Query-key pairs that causal attention of a chunk looks at."""
    return new_tokens * earlier_tokens + new_tokens * new_tokens / 2


class Engine(msgspec.Struct, frozen=True):
    """An engine's shape: a model laid over GPUs.

    tensor_parallel, pipeline_parallel: as vLLM means them. expert_parallel: experts are spread whole over the
    tensor-parallel GPUs instead of each being cut. replicas: data-parallel copies, which with expert_parallel share one
    set of experts; times and capacities are those of one of them, a `Step` is its share of the work. crosses_nodes: the
    tensor-parallel GPUs talk over the network.
    bytes_per_parameter: 0 for the model's own.
    """

    model: LanguageModel
    gpu: Gpu
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: bool = False
    replicas: int = 1
    crosses_nodes: bool = False
    bytes_per_parameter: float = 0.0
    kv_bytes_per_value: float = 2.0
    efficiency: Efficiency = Efficiency()

    def __post_init__(self) -> None:
        if min(self.tensor_parallel, self.pipeline_parallel, self.replicas) < 1:
            raise UsageError("tensor, pipeline and data parallel sizes are at least 1")

    @property
    def weight_bytes(self) -> float:
        return self.bytes_per_parameter or self.model.bytes_per_parameter

    @property
    def gpus(self) -> int:
        """Of one replica."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def expert_sharers(self) -> int:
        """How many replicas hold one set of experts together."""
        return self.replicas if self.expert_parallel and self.model.experts else 1

    @property
    def kv_split(self) -> int:
        """Over how many of the tensor-parallel GPUs one token's keys and values are divided.

        Latent attention keeps one vector that every GPU needs; more GPUs than KV heads keep copies.
        """
        return 1 if self.model.latent_dim else min(self.tensor_parallel, self.model.kv_heads)

    @property
    def weight_bytes_per_gpu(self) -> float:
        experts = self.model.expert_parameters
        held = self.model.parameters - experts + experts / self.expert_sharers
        return held * self.weight_bytes / self.gpus

    def kv_capacity_tokens(self, memory_fraction: float = 0.9) -> int:
        """Tokens of context that fit into all GPUs together; negative where not even the weights fit."""
        free = self.gpu.memory_bytes * memory_fraction - self.weight_bytes_per_gpu - RESERVED_BYTES
        a_token = (
            self.model.kv_bytes_per_token(self.kv_bytes_per_value) / self.kv_split / self.pipeline_parallel
        )
        return int(free / a_token)

    def step_seconds(self, step: Step) -> float:
        """Time of one step in which every running answer gets one token.

        With pipeline stages the batch is cut into as many parts, which pass the stages one after the other: the time
        is that of one part through the whole model.
        """
        parts = self.pipeline_parallel
        tokens = (step.prefill_tokens + step.decodes) / parts
        if tokens <= 0:
            return 0.0
        efficiency = self.efficiency
        return (
            efficiency.step_seconds
            + efficiency.pipeline_hop_seconds * (parts - 1)
            + efficiency.request_seconds * step.decodes
            + max(self._product_seconds(tokens), self._weight_seconds(tokens))
            + self._attention_seconds(step, parts)
            + self._communication_seconds(tokens)
        )

    def prefill_seconds(self, prompt_tokens: int, cached_tokens: int = 0) -> float:
        """Time of a whole prompt in one step on an idle engine; at least one token is always computed."""
        new = max(1, prompt_tokens - cached_tokens)
        return self.step_seconds(
            Step(prefill_tokens=new, attention_pairs=chunk_pairs(new, prompt_tokens - new))
        )

    def decode_seconds(self, batch: int, context_tokens_each: float) -> float:
        """Time between two tokens with so many answers side by side."""
        return self.step_seconds(Step(decodes=batch, context_tokens=batch * context_tokens_each))

    def transfer_seconds(self, tokens: int, senders: int = 1) -> float:
        """Time to hand the KV of so many tokens to another engine over the network."""
        a_second = self.gpu.network_gb_per_second * 1e9 * 0.8 * senders
        return self.model.kv_bytes_per_token(self.kv_bytes_per_value) * tokens / a_second + 0.002

    def _product_seconds(self, tokens: float) -> float:
        rate = self.tensor_parallel * self.gpu.flops(self.weight_bytes) * self.efficiency.compute
        if self.model.experts:
            rate *= self.efficiency.grouped
        return 2 * self.model.active * tokens / rate

    def _weight_seconds(self, tokens: float) -> float:
        model, sharers = self.model, self.expert_sharers
        dense = model.parameters - model.expert_parameters
        experts = (model.weights_read(tokens * sharers) - dense) / sharers
        return (dense + experts) * self.weight_bytes / (self.tensor_parallel * self._memory_rate())

    def _memory_rate(self) -> float:
        share = self.efficiency.expert_memory if self.model.experts else self.efficiency.memory
        return self.gpu.memory_tb_per_second * 1e12 * share

    def _attention_seconds(self, step: Step, parts: int) -> float:
        model = self.model
        rate = self.tensor_parallel * self.gpu.flops(2.0) * self.efficiency.attention
        if model.latent_dim:
            a_pair = 2.0 * model.layers * model.attention_heads * (192 + 128)
            a_context_token = 2.0 * model.layers * model.attention_heads * (model.latent_dim + 512)
        else:
            a_pair = 4.0 * model.layers * model.attention_heads * model.head_dim
            a_context_token = a_pair
        prompts = a_pair * step.attention_pairs / parts / rate
        context = step.context_tokens / parts
        kv_bytes = context * model.kv_bytes_per_token(self.kv_bytes_per_value)
        reading = kv_bytes / (self.kv_split * self.gpu.memory_tb_per_second * 1e12 * self.efficiency.memory)
        return prompts + max(reading, a_context_token * context / rate)

    def _communication_seconds(self, tokens: float) -> float:
        count = self.tensor_parallel
        if count == 1:
            return 0.0
        model, efficiency = self.model, self.efficiency
        link = (self.gpu.network_gb_per_second if self.crosses_nodes else self.gpu.link_gb_per_second) * 1e9
        latency = efficiency.network_seconds if self.crosses_nodes else efficiency.all_reduce_seconds
        exchanged = 2 * (count - 1) / count * tokens * model.hidden_size * 2
        reductions = 2 * model.layers * (latency + exchanged / (2 * link * efficiency.link))
        if not (self.expert_parallel and model.experts):
            return reductions
        sent = tokens * model.expert_layers * model.experts_per_token * model.hidden_size * 3
        return reductions / 2 + sent / (count * link * 0.7) / 2
