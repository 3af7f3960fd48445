"""What a simulated model reads and writes: a tokenizer that estimates, and text that repeats itself for the same prompt.

Four bytes of text are one token, close to what tokenizers give for English. Token numbers carry the bytes, so text and
tokens turn into each other without a vocabulary, and prompts that begin alike begin with the same tokens.
"""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TOKEN_BYTES = 4


def encode(text: str) -> list[int]:
    """Token numbers of a text."""
    data = text.encode()
    return [
        int.from_bytes(b"\x01" + data[start : start + TOKEN_BYTES])
        for start in range(0, len(data), TOKEN_BYTES)
    ]


def count_tokens(text: str) -> int:
    return -(-len(text.encode()) // TOKEN_BYTES)


def decode(tokens: Iterable[int]) -> str:
    """The text of token numbers; what is none of ours becomes a replacement character."""
    parts: list[bytes] = []
    for token in tokens:
        data = token.to_bytes(max(1, (token.bit_length() + 7) // 8))
        parts.append(data[1:] if data[0] == 1 and 1 < len(data) <= TOKEN_BYTES + 1 else "\ufffd".encode())
    return b"".join(parts).decode(errors="replace")


def prefix_hashes(tokens: Sequence[int], block_tokens: int, salt: str) -> list[int]:
    """One number for each full block: of the block and all before it."""
    hashes: list[int] = []
    value = hash(salt)
    for start in range(0, len(tokens) - block_tokens + 1, block_tokens):
        value = hash((value, *tokens[start : start + block_tokens]))
        hashes.append(value)
    return hashes


_OPENING = ("This", " answer", " is", " simulated", ".")
_SUBJECTS = "the model|a replica|the scheduler|each request|the cache|a worker|the gateway|every token|the batch|a prompt"
_VERBS = "waits for|follows|shares|keeps|measures|returns|balances|reads|feeds|outlives"
_OBJECTS = (
    "its group|the next step|the same prefix|a free block|the queue|one more answer|the budget|the other half"
)
_ENDINGS = "in order|without haste|as planned|for a while|on time|again|at the same pace|by design"


def _tokens_of(phrase: str) -> list[str]:
    return [f" {word}" for word in phrase.split()]


class Writer:
    """The words of one answer, one for each token, decided by the prompt and a seed alone.

    natural_length: tokens after which the answer would end by itself.
    """

    def __init__(self, prompt: str, seed: int) -> None:
        self._random = random.Random(zlib.crc32(prompt.encode()) ^ (seed & 0xFFFFFFFF))
        self.natural_length = self._random.randint(40, 160)
        self._ready = list(_OPENING)

    def next_token(self) -> str:
        """The text of the next token."""
        if not self._ready:
            self._ready = self._sentence()
        return self._ready.pop(0)

    def _sentence(self) -> list[str]:
        words: list[str] = []
        for phrases in (_SUBJECTS, _VERBS, _OBJECTS, _ENDINGS):
            words += _tokens_of(self._random.choice(phrases.split("|")))
        words[0] = " " + words[0].strip().capitalize()
        return [*words, "."]
