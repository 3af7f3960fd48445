"""Metrics under vLLM's names, in Prometheus' text form.

Names, labels and buckets are vLLM's, so that dashboards and autoscalers made for it read these; one more gauge,
`kajitori_simulated`, says what they come from.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def _bounds(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split())


_LATENCY = _bounds("0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680")
_FIRST_TOKEN = _bounds(
    "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560"
)
_BETWEEN_TOKENS = _bounds("0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80")
_STEP_TOKENS = tuple(2**power for power in (0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14))


class Histogram:
    """Counts of values up to each bucket's bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def _token_bounds(most: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... up to the longest context."""
    bounds: list[int] = []
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if factor * scale > most:
                return bounds
            bounds.append(factor * scale)
        scale *= 10


class Metrics:
    """Everything that a simulated engine counts. Gauges are given when the text is made."""

    def __init__(self, model_name: str, max_model_tokens: int) -> None:
        self._labels = f'engine="0",model_name="{_escape(model_name)}"'
        tokens = _token_bounds(max_model_tokens)
        self.counters: dict[tuple[str, str], float] = {}
        for name, label in (
            ("prompt_tokens", ""),
            ("generation_tokens", ""),
            ("prefix_cache_queries", ""),
            ("prefix_cache_hits", ""),
            ("external_prefix_cache_queries", ""),
            ("external_prefix_cache_hits", ""),
            ("num_preemptions", ""),
            ("prompt_tokens_cached", ""),
            *(("prompt_tokens_by_source", f'source="{source}"') for source in _SOURCES),
            *(
                ("request_success", f'finished_reason="{reason}"')
                for reason in ("stop", "length", "abort", "error")
            ),
        ):
            self.counters[name, label] = 0
        self.histograms = {
            "time_to_first_token_seconds": Histogram(_FIRST_TOKEN),
            "inter_token_latency_seconds": Histogram(_BETWEEN_TOKENS),
            "request_time_per_output_token_seconds": Histogram(_BETWEEN_TOKENS),
            "e2e_request_latency_seconds": Histogram(_LATENCY),
            "request_queue_time_seconds": Histogram(_LATENCY),
            "request_inference_time_seconds": Histogram(_LATENCY),
            "request_prefill_time_seconds": Histogram(_LATENCY),
            "request_decode_time_seconds": Histogram(_LATENCY),
            "request_prompt_tokens": Histogram(tokens),
            "request_generation_tokens": Histogram(tokens),
            "request_params_max_tokens": Histogram(tokens),
            "iteration_tokens_total": Histogram(_STEP_TOKENS),
        }

    def count(self, name: str, amount: float = 1, label: str = "") -> None:
        self.counters[name, label] += amount

    def observe(self, name: str, value: float) -> None:
        self.histograms[name].observe(value)

    def text(self, gauges: dict[tuple[str, str], float]) -> str:
        """The exposition. gauges: by name and further labels, without the prefix `vllm:`."""
        lines = [
            "# HELP kajitori_simulated 1: no model is behind these figures, a performance model is.",
            "# TYPE kajitori_simulated gauge",
            f"kajitori_simulated{{{self._labels}}} 1",
        ]
        seen = ""
        for (name, label), value in gauges.items():
            if name != seen:
                lines.append(f"# TYPE vllm:{name} gauge")
            seen = name
            lines.append(f"vllm:{name}{{{self._with(label)}}} {value}")
        for (name, label), value in self.counters.items():
            if name != seen:
                lines.append(f"# TYPE vllm:{name}_total counter")
            seen = name
            lines.append(f"vllm:{name}_total{{{self._with(label)}}} {value}")
        for name, histogram in self.histograms.items():
            lines.append(f"# TYPE vllm:{name} histogram")
            so_far = 0
            for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
                so_far += count
                bound_text = bound if isinstance(bound, str) else float(bound)
                lines.append(f'vllm:{name}_bucket{{{self._labels},le="{bound_text}"}} {so_far}')
            lines.append(f"vllm:{name}_sum{{{self._labels}}} {histogram.total}")
            lines.append(f"vllm:{name}_count{{{self._labels}}} {so_far}")
        return "\n".join(lines) + "\n"

    def _with(self, label: str) -> str:
        return f"{self._labels},{label}" if label else self._labels


_SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
