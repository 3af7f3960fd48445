"""One answer on its way through the engine: admitted, paced, written, ended for a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.engines.simulated import text
from kajitori.engines.simulated.batching import Sequence
from kajitori.engines.simulated.refusal import Refused, engine_failed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from kajitori.engines.simulated.arguments import Settings
    from kajitori.engines.simulated.engine import SimulatedEngine
    from kajitori.engines.simulated.wire import GenerateRequest


class Generation:
    """One answer.

    finish_reason: `stop` or `length`, empty until the end. stop_text: the stop text that ended it, None for others.
    """

    def __init__(
        self,
        engine: SimulatedEngine,
        settings: Settings,
        max_model_tokens: int,
        asked: GenerateRequest,
        prompt: str,
    ) -> None:
        """Check the lengths; raises Refused."""
        tokens = text.encode(prompt)
        self.prompt_tokens = max(1, len(tokens))
        room = max_model_tokens - self.prompt_tokens
        limit = asked.length_limit
        if limit is not None and limit < 1:
            raise Refused(400, f"max_tokens must be at least 1, got {limit}", param="max_tokens")
        if room < 1 or (limit is not None and limit > room):
            raise Refused(
                400,
                f"This model's maximum context length is {max_model_tokens} tokens. The prompt has "
                f"{self.prompt_tokens} and {limit or 1} are asked for in the answer",
                param="max_tokens" if room >= 1 else "messages",
            )
        self.max_tokens = room if limit is None else limit
        self._writer = text.Writer(prompt, settings.seed if asked.seed is None else asked.seed)
        natural = max(self._writer.natural_length, asked.min_tokens)
        self._ends_itself = not asked.ignore_eos and natural <= self.max_tokens
        self._sequence = Sequence(
            self.prompt_tokens,
            natural if self._ends_itself else self.max_tokens,
            engine.now(),
            text.prefix_hashes(tokens, settings.block_tokens, settings.model),
        )
        if not engine.batcher.fits(self._sequence):
            raise Refused(400, "prompt and answer do not fit into the KV cache", param="max_tokens")
        self._engine = engine
        self._stops = asked.stop_texts
        self._min_tokens = asked.min_tokens
        self.completion_tokens = 0
        self.finish_reason = ""
        self.stop_text: str | None = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that the prefix cache had."""
        return self._sequence.cached_tokens

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The answer, a piece for each token as it comes; pieces may be empty while a stop text could begin.

        Raises Refused when the engine fails. Closing the iterator early gives up the answer.
        """
        request = self._engine.submit(self._sequence)
        pending = ""
        try:
            while self.completion_tokens < self._sequence.output_tokens:
                if await request.tokens.get() is None:
                    self.finish_reason = "error"
                    raise engine_failed()
                self.completion_tokens += 1
                pending += (
                    self._writer.next_token()
                    if self.completion_tokens > 1
                    else self._writer.next_token().lstrip()
                )
                if self.completion_tokens == self._sequence.output_tokens:
                    self.finish_reason = "stop" if self._ends_itself else "length"
                pending, piece = self._cut(pending)
                if self.stop_text is not None:
                    self.finish_reason = "stop"
                    yield piece
                    return
                yield piece
        finally:
            self._engine.abort(request)
            self._engine.record_end(self._sequence, self.finish_reason or "abort", self.max_tokens)

    def _cut(self, pending: str) -> tuple[str, str]:
        """What has to be held back, and what may go out."""
        if not self._stops:
            return "", pending
        if self.completion_tokens > self._min_tokens:
            found = [(pending.find(stop), stop) for stop in self._stops if stop in pending]
            if found:
                position, self.stop_text = min(found)
                return "", pending[:position]
        if self.finish_reason:
            return "", pending
        # The longest end of the text with which a stop text begins may become one.
        longest = max(len(stop) for stop in self._stops) - 1
        for length in range(min(longest, len(pending)), 0, -1):
            if any(stop.startswith(pending[-length:]) for stop in self._stops):
                return pending[-length:], pending[:-length]
        return "", pending
