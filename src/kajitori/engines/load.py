"""How much an engine has to do, read from its metrics, whichever engine it is.

Names that our adapters know come from them; those of other engines are from their documents (SGLang: production
metrics; Text Generation Inference: metrics).
"""

from __future__ import annotations

from kajitori.engines import llamacpp, vllm

_BUSY = frozenset(
    {
        vllm.METRICS.requests_running,
        vllm.METRICS.requests_waiting,
        llamacpp.METRICS.requests_running,
        llamacpp.METRICS.requests_waiting,
        "num_requests_running",
        "num_requests_waiting",
        "sglang:num_running_reqs",
        "sglang:num_queue_reqs",
        "tgi_batch_current_size",
        "tgi_queue_size",
    }
)


def open_requests(metrics: str) -> float | None:
    """Requests that the engine works on or keeps waiting, over all its models; None if it does not say.

    metrics: the text of its Prometheus endpoint.
    """
    found: list[float] = []
    for line in metrics.splitlines():
        name, _, rest = line.partition("{")
        if name == line:
            name, _, value = line.partition(" ")
        else:
            value = rest.rpartition("} ")[2]
        if name in _BUSY:
            try:
                # A timestamp may follow.
                found.append(float(value.split()[0]))
            except (ValueError, IndexError):
                return None
    return sum(found) if found else None
