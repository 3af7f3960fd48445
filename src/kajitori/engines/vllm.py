"""vLLM: how it is launched, what its metrics are called, and whether it can serve a model on this machine.

Real vLLM is used where it is installed and the weights are local: a folder, or a snapshot in the Hugging Face cache.
In any other case the simulated engine, which speaks the same API, stands in for it and says so.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kajitori.engines.adapter import Adapter, Launch, MetricNames, flags

if TYPE_CHECKING:
    from collections.abc import Sequence

METRICS = MetricNames(
    requests_running="vllm:num_requests_running",
    requests_waiting="vllm:num_requests_waiting",
    kv_cache_usage="vllm:kv_cache_usage_perc",
    prompt_tokens="vllm:prompt_tokens_total",
    generation_tokens="vllm:generation_tokens_total",
    prefix_cache_queries="vllm:prefix_cache_queries_total",
    prefix_cache_hits="vllm:prefix_cache_hits_total",
    preemptions="vllm:num_preemptions_total",
    time_to_first_token="vllm:time_to_first_token_seconds",
    inter_token_latency="vllm:inter_token_latency_seconds",
    request_latency="vllm:e2e_request_latency_seconds",
    queue_time="vllm:request_queue_time_seconds",
)


class VllmAdapter(Adapter, frozen=True):
    """vLLM's OpenAI server, real or simulated."""

    def arguments(self, launch: Launch) -> list[str]:
        return [
            self.executable,
            "serve",
            launch.model,
            *flags(
                [
                    ("--host", launch.host),
                    ("--port", launch.port),
                    ("--served-model-name", launch.served_name),
                    ("--max-model-len", launch.context_tokens),
                    ("--max-num-seqs", launch.parallel_requests),
                    ("--tensor-parallel-size", launch.tensor_parallel if launch.tensor_parallel > 1 else 0),
                    (
                        "--pipeline-parallel-size",
                        launch.pipeline_parallel if launch.pipeline_parallel > 1 else 0,
                    ),
                    ("--api-key", launch.api_key),
                ]
            ),
        ]


ADAPTER = VllmAdapter(
    name="vllm",
    executable="vllm",
    default_port=8000,
    health_path="/health",
    metrics_path="/metrics",
    models_path="/v1/models",
    metrics=METRICS,
    open_paths=("/health", "/metrics", "/ping", "/version"),
)


def is_installed() -> bool:
    """Whether this interpreter can import vLLM. Does not import it."""
    return importlib.util.find_spec("vllm") is not None


def local_weights(model: str) -> Path | None:
    """The folder that holds `model`'s weights on this machine; None where they would have to be fetched."""
    folder = Path(model).expanduser()
    if (folder / "config.json").is_file():
        return folder
    home = os.environ.get("HF_HUB_CACHE") or os.path.join(
        os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface"), "hub"
    )
    snapshots = Path(home) / f"models--{model.replace('/', '--')}" / "snapshots"
    if "/" not in model or not snapshots.is_dir():
        return None
    return next((path.parent for path in sorted(snapshots.glob("*/config.json"))), None)


def requested_model(command: Sequence[str]) -> str:
    """The model that a vLLM command line asks for; empty where it names none."""
    words = list(command)
    for position, word in enumerate(words):
        following = words[position + 1] if position + 1 < len(words) else ""
        if word == "--model":
            return following
        if word.startswith("--model="):
            return word.removeprefix("--model=")
        if word == "serve" and not following.startswith("-"):
            return following
    return ""


def can_serve(command: Sequence[str]) -> bool:
    """Whether real vLLM on this machine can run this command line."""
    if not is_installed():
        return False
    model = requested_model(command)
    return bool(model) and local_weights(model) is not None
