"""What every engine tells the rest of the platform: how it is launched, where it answers, what its metrics are called.

One `Adapter` a family of engines, found by name. Engines differ in the names of the same quantities; whoever
scrapes them asks the adapter and never a name of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class MetricNames(msgspec.Struct, frozen=True):
    """Names of an engine's Prometheus metrics; empty where the engine has none.

    Gauges count requests, `kv_cache_usage` is a fraction of 0 to 1, counters count tokens since the start,
    histograms are in seconds and named without `_bucket`.
    """

    requests_running: str = ""
    requests_waiting: str = ""
    kv_cache_usage: str = ""
    prompt_tokens: str = ""
    generation_tokens: str = ""
    prefix_cache_queries: str = ""
    prefix_cache_hits: str = ""
    preemptions: str = ""
    time_to_first_token: str = ""
    inter_token_latency: str = ""
    request_latency: str = ""
    queue_time: str = ""


class Launch(msgspec.Struct, frozen=True):
    """What an engine is asked to serve, in terms that all engines share.

    model: name or folder. served_name: what clients call it, empty for `model`. context_tokens: longest prompt with
    its answer, 0 for the model's own. parallel_requests: most requests at once, 0 for the engine's default.
    """

    model: str
    served_name: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    context_tokens: int = 0
    parallel_requests: int = 0
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    api_key: str = ""


class Adapter(msgspec.Struct, frozen=True):
    """One family of engines.

    executable: the command, as it is found on PATH. Paths are of its HTTP server. open_paths: the paths that answer
    without an API key when one is set.
    """

    name: str
    executable: str
    default_port: int
    health_path: str
    metrics_path: str
    models_path: str
    metrics: MetricNames
    open_paths: tuple[str, ...] = ()

    def arguments(self, launch: Launch) -> list[str]:
        """The command line that serves `launch`, the executable first."""
        raise NotImplementedError


def flags(pairs: Sequence[tuple[str, str | int]]) -> list[str]:
    """`--name=value` for each pair whose value is not empty and not 0."""
    return [f"{name}={value}" for name, value in pairs if value]
