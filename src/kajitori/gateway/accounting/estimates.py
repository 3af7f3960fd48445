"""What an answer took whose backend reports no usage: the input as the request script estimated it, the output by its bytes. Pure.

Streams are counted by their events instead, see `reported`. Of images and sounds nothing is known.
"""

from __future__ import annotations

from kajitori.gateway.accounting.costs import Usage

_BYTES_A_TOKEN = 4
_WRITE_TEXT = frozenset({"chat", "completion", "responses", "responses_compact", "messages"})
_READ_TEXT = frozenset(
    {"embeddings", "score", "score_v1", "rerank", "rerank_plain", "cohere_rerank", "classify", "pooling"}
)


def estimated_usage(operation: str, input_estimate: str, response_bytes: str) -> Usage | None:
    """operation: see `OPERATIONS`. None for one of which nothing can be told. Raises ValueError for what is no number."""
    given = int(input_estimate or 0)
    if operation in _WRITE_TEXT:
        output = int(response_bytes or 0) // _BYTES_A_TOKEN
        return Usage(given, output, given + output)
    return Usage(given, 0, given) if operation in _READ_TEXT else None
