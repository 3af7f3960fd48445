"""Continuous batching: what each step of a simulated engine works on.

Pure: the caller gives the time of day and asks for the next step, lets its duration pass, and says that it is done.
The order is that of vLLM's scheduler. Running sequences come first, each with one token or the next part of its prompt,
within a budget of tokens; then waiting ones are admitted while budget, places and KV blocks last. A running sequence
that finds no block puts the youngest one back to the head of the queue, to be computed again.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from kajitori.engines.simulated.blocks import BlockPool
from kajitori.model.performance import Step, chunk_pairs


class Limits(NamedTuple):
    """What one engine may do at once.

    sequences: running side by side. step_tokens: computed in one step. blocks: of the KV cache. block_tokens: in each.
    """

    sequences: int
    step_tokens: int
    blocks: int
    block_tokens: int = 16
    prefix_caching: bool = True


class Sequence:
    """One answer in the making.

    prompt_tokens: length of the prompt. prefix_hashes: one for each full block of it, see `blocks`. output_tokens: when
    it ends. Times are seconds of the caller's clock, None until reached.
    """

    __slots__ = (
        "arrived",
        "cached_tokens",
        "computed",
        "first_scheduled",
        "first_token",
        "generated",
        "last_token",
        "output_tokens",
        "preemptions",
        "prefix_hashes",
        "private_blocks",
        "prompt_tokens",
        "shared_hashes",
    )

    def __init__(
        self, prompt_tokens: int, output_tokens: int, arrived: float, prefix_hashes: list[int] | None = None
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.prefix_hashes = prefix_hashes or []
        self.arrived = arrived
        self.computed = 0
        self.generated = 0
        self.cached_tokens = 0
        self.private_blocks = 0
        self.shared_hashes: list[int] = []
        self.preemptions = 0
        self.first_scheduled: float | None = None
        self.first_token: float | None = None
        self.last_token: float | None = None

    @property
    def finished(self) -> bool:
        return self.generated >= self.output_tokens


class Work(NamedTuple):
    """One step: the sequences with the tokens that each computes, and what the performance model needs to know."""

    parts: list[tuple[Sequence, int]]
    step: Step

    @property
    def tokens(self) -> int:
        return sum(count for _, count in self.parts)


class Batcher:
    """The queue, the running sequences, and their blocks."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pool = BlockPool(limits.blocks)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def fits(self, sequence: Sequence) -> bool:
        """Whether the engine could ever hold this sequence to its end."""
        return self._blocks_for(sequence.prompt_tokens + sequence.output_tokens) <= self.limits.blocks

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence for which `fits` is true."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, finished or not; it may be gone already."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._release(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def next_work(self, now: float) -> Work | None:
        """What the next step computes, or None where there is nothing to do."""
        parts: list[tuple[Sequence, int]] = []
        budget = self.limits.step_tokens
        preempted = False
        for sequence in list(self.running):
            if budget <= 0:
                break
            if sequence not in self.running:
                continue
            count = min(budget, self._missing(sequence))
            while not self._reserve(sequence, count):
                victim = self.running[-1]
                self._preempt(victim)
                preempted = True
                parts = [part for part in parts if part[0] is not victim]
                if victim is sequence:
                    break
            else:
                parts.append((sequence, count))
                budget -= count
        while not preempted and self.waiting and budget > 0 and len(self.running) < self.limits.sequences:
            sequence = self.waiting[0]
            if not self._admit(sequence, budget):
                break
            self.waiting.popleft()
            self.running.append(sequence)
            if sequence.first_scheduled is None:
                sequence.first_scheduled = now
            count = min(budget, self._missing(sequence))
            parts.append((sequence, count))
            budget -= count
        return Work(parts, _step(parts)) if parts else None

    def complete(self, work: Work, now: float) -> list[Sequence]:
        """The step is over: the sequences that got a token, in order. Finished ones have left the engine."""
        answered: list[Sequence] = []
        for sequence, count in work.parts:
            if sequence not in self.running:
                continue
            sequence.computed += count
            self._publish(sequence)
            if sequence.computed < sequence.prompt_tokens + sequence.generated:
                continue
            sequence.generated += 1
            if sequence.first_token is None:
                sequence.first_token = now
            answered.append(sequence)
            if sequence.finished:
                self.remove(sequence)
        return answered

    def _missing(self, sequence: Sequence) -> int:
        """Tokens to compute until the next one comes out; one for a sequence in decode."""
        return sequence.prompt_tokens + sequence.generated - sequence.computed

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.limits.block_tokens)

    def _reserve(self, sequence: Sequence, count: int) -> bool:
        held = sequence.private_blocks + len(sequence.shared_hashes)
        more = self._blocks_for(sequence.computed + count) - held
        if more <= 0:
            return True
        if not self.pool.can_take(more):
            return False
        self.pool.take(more)
        sequence.private_blocks += more
        return True

    def _admit(self, sequence: Sequence, budget: int) -> bool:
        """Take the blocks of the cached prefix and of the first part to compute, or nothing."""
        known = self._known_prefix(sequence)
        shared = sequence.prefix_hashes[:known]
        cached = known * self.limits.block_tokens
        count = min(budget, sequence.prompt_tokens + sequence.generated - cached)
        private = self._blocks_for(cached + count) - known
        if not self.pool.can_take(private + self.pool.idle_among(shared)):
            return False
        self.pool.share(shared)
        self.pool.take(private)
        sequence.shared_hashes = list(shared)
        sequence.private_blocks = private
        sequence.computed = cached
        if sequence.generated == 0:
            sequence.cached_tokens = cached
        return True

    def _known_prefix(self, sequence: Sequence) -> int:
        """Full blocks of the prompt in the cache; at least one token of it is always computed."""
        if not self.limits.prefix_caching:
            return 0
        known = self.pool.known_prefix(sequence.prefix_hashes)
        return min(known, (sequence.prompt_tokens - 1) // self.limits.block_tokens)

    def _publish(self, sequence: Sequence) -> None:
        """Make the full prompt blocks that are computed by now findable, in order."""
        if not self.limits.prefix_caching:
            return
        full = min(sequence.computed, sequence.prompt_tokens) // self.limits.block_tokens
        while len(sequence.shared_hashes) < min(full, len(sequence.prefix_hashes)):
            value = sequence.prefix_hashes[len(sequence.shared_hashes)]
            if not self.pool.publish(value):
                # Someone else computed the same at the same time: use theirs and give ours back.
                self.pool.share([value])
                self.pool.release(1, [])
            sequence.private_blocks -= 1
            sequence.shared_hashes.append(value)

    def _release(self, sequence: Sequence) -> None:
        self.pool.release(sequence.private_blocks, sequence.shared_hashes)
        sequence.private_blocks = 0
        sequence.shared_hashes = []

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        sequence.computed = 0
        sequence.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(sequence)


def _step(parts: list[tuple[Sequence, int]]) -> Step:
    prefill = decodes = context = 0
    pairs = 0.0
    for sequence, count in parts:
        if count == 1 and sequence.generated:
            decodes += 1
            context += sequence.computed + 1
        else:
            prefill += count
            pairs += chunk_pairs(count, sequence.computed)
    return Step(prefill_tokens=prefill, attention_pairs=pairs, decodes=decodes, context_tokens=context)
