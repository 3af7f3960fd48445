"""The clockwork of a simulated engine: steps follow each other as long as the performance model says they take.

Requests come in as `Request`; each token goes out through its queue at the moment when the step that made it is over.
While nothing runs, nothing wakes up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kajitori.engines.simulated.batching import Batcher, Limits, Sequence, Work
from kajitori.model.performance import Step

if TYPE_CHECKING:
    from kajitori.engines.simulated.metrics import Metrics
    from kajitori.model.performance import Engine


class Request:
    """One request in the engine.

    tokens: how many tokens came out with each step, one item a step (a step makes one); None when the engine failed.
    """

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.tokens: asyncio.Queue[int | None] = asyncio.Queue()


class SimulatedEngine:
    """Runs a `Batcher` in real time.

    speed: how many times faster than the performance model says; 1 is faithful.
    """

    def __init__(self, engine: Engine, limits: Limits, metrics: Metrics, speed: float = 1.0) -> None:
        self.engine = engine
        self.batcher = Batcher(limits)
        self.metrics = metrics
        self._speed = speed
        self._requests: dict[Sequence, Request] = {}
        self._work_came = asyncio.Event()

    @property
    def requests(self) -> int:
        return len(self._requests)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def submit(self, sequence: Sequence) -> Request:
        """Queue a sequence that `batcher.fits`."""
        request = Request(sequence)
        self._requests[sequence] = request
        self.batcher.add(sequence)
        self.metrics.count("prefix_cache_queries", sequence.prompt_tokens)
        self._work_came.set()
        return request

    def abort(self, request: Request) -> None:
        """Forget a request whose client left, or whose answer ended early."""
        self.batcher.remove(request.sequence)
        self._drop(request.sequence)

    def fail(self) -> None:
        """Tell everyone who waits that no more tokens come."""
        for request in list(self._requests.values()):
            request.tokens.put_nowait(None)
        self._requests.clear()

    async def run(self) -> None:
        """Step for ever; cancelled by its owner."""
        due = self.now()
        while True:
            work = self.batcher.next_work(self.now())
            if work is None:
                self._work_came.clear()
                await self._work_came.wait()
                due = self.now()
                continue
            # From the time when the step before was due, not from when we woke up: delays do not add up.
            due = max(due, self.now() - 0.5) + self.engine.step_seconds(self._share(work.step)) / self._speed
            await asyncio.sleep(max(0.0, due - self.now()))
            self._finish(work)

    def _share(self, step: Step) -> Step:
        """One replica's part of the work."""
        replicas = self.engine.replicas
        if replicas == 1:
            return step
        return Step(
            prefill_tokens=step.prefill_tokens / replicas,
            attention_pairs=step.attention_pairs / replicas,
            decodes=step.decodes / replicas,
            context_tokens=step.context_tokens / replicas,
        )

    def _finish(self, work: Work) -> None:
        now = self.now()
        metrics = self.metrics
        first = [part[0] for part in work.parts if part[0].first_token is None]
        answered = self.batcher.complete(work, now)
        metrics.observe("iteration_tokens_total", work.tokens)
        metrics.count("generation_tokens", len(answered))
        for sequence in first:
            if sequence.first_token is not None:
                self._count_prompt(sequence)
        for sequence in answered:
            if sequence.last_token is not None:
                metrics.observe("inter_token_latency_seconds", now - sequence.last_token)
            sequence.last_token = now
            request = self._requests.get(sequence)
            if request is not None:
                request.tokens.put_nowait(1)
                if sequence.finished:
                    self._drop(sequence)

    def _count_prompt(self, sequence: Sequence) -> None:
        metrics, cached = self.metrics, sequence.cached_tokens
        metrics.observe("time_to_first_token_seconds", (sequence.first_token or 0.0) - sequence.arrived)
        metrics.count("prompt_tokens", sequence.prompt_tokens)
        metrics.count("prompt_tokens_cached", cached)
        metrics.count("prefix_cache_hits", cached)
        metrics.count("prompt_tokens_by_source", cached, 'source="local_cache_hit"')
        metrics.count("prompt_tokens_by_source", sequence.prompt_tokens - cached, 'source="local_compute"')

    def _drop(self, sequence: Sequence) -> None:
        self._requests.pop(sequence, None)

    def record_end(self, sequence: Sequence, reason: str, max_tokens: int) -> None:
        """Count a request that is over. reason: `stop`, `length`, `abort` or `error`."""
        metrics, now = self.metrics, self.now()
        metrics.count("request_success", label=f'finished_reason="{reason}"')
        metrics.observe("request_params_max_tokens", max_tokens)
        metrics.observe("request_prompt_tokens", sequence.prompt_tokens)
        metrics.observe("request_generation_tokens", sequence.generated)
        metrics.observe("e2e_request_latency_seconds", now - sequence.arrived)
        if sequence.first_scheduled is None or sequence.first_token is None:
            return
        decoding = (sequence.last_token or sequence.first_token) - sequence.first_token
        metrics.observe("request_queue_time_seconds", sequence.first_scheduled - sequence.arrived)
        metrics.observe("request_prefill_time_seconds", sequence.first_token - sequence.first_scheduled)
        metrics.observe("request_decode_time_seconds", decoding)
        metrics.observe(
            "request_inference_time_seconds", decoding + sequence.first_token - sequence.first_scheduled
        )
        if sequence.generated > 1:
            metrics.observe("request_time_per_output_token_seconds", decoding / (sequence.generated - 1))

    def gauges(self) -> dict[tuple[str, str], float]:
        """What is the case now, for the exposition."""
        batcher, limits = self.batcher, self.batcher.limits
        self.metrics.counters["num_preemptions", ""] = batcher.preemptions
        info = (
            f'block_size="{limits.block_tokens}",enable_prefix_caching="{limits.prefix_caching}",'
            f'num_gpu_blocks="{limits.blocks}"'
        )
        return {
            ("num_requests_running", ""): len(batcher.running),
            ("num_requests_waiting", ""): len(batcher.waiting),
            ("num_requests_waiting_by_reason", 'reason="capacity"'): len(batcher.waiting),
            ("num_requests_waiting_by_reason", 'reason="deferred"'): 0,
            ("kv_cache_usage_perc", ""): batcher.pool.used_fraction,
            ("cache_config_info", info): 1,
        }
