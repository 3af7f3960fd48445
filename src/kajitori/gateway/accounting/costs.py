"""`llmRequestCosts`: what a request is charged, computed by the ledger from the usage that was reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from kajitori.base.errors import KajitoriError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.aigateway.v1beta1 import LLMRequestCost


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one request as its backend counted them."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    reasoning_tokens: int = 0


class Cost(msgspec.Struct, frozen=True):
    """One cost of a route. compute: (model, backend, route name, usage) -> a whole number."""

    key: str
    compute: Callable[[str, str, str, Usage], int]


_FIELDS = {
    "InputToken": "input_tokens",
    "OutputToken": "output_tokens",
    "TotalToken": "total_tokens",
    "CachedInputToken": "cached_input_tokens",
    "CacheCreationInputToken": "cache_creation_input_tokens",
    "ReasoningToken": "reasoning_tokens",
}


def check_costs(costs: Sequence[LLMRequestCost], problems: list[str]) -> tuple[Cost, ...]:
    """The costs that can be computed; the others go to `problems` with their place."""
    found: list[Cost] = []
    for cost in costs:
        field = _FIELDS.get(cost.type)
        if field:
            found.append(Cost(cost.metadata_key, _count(field)))
            continue
        try:
            compute = _expression(cost.cel or "")
            compute("", "", "", Usage())
        except KajitoriError as error:
            problems.append(f"llmRequestCosts[{cost.metadata_key}].cel: {error}")
            continue
        found.append(Cost(cost.metadata_key, compute))
    return tuple(found)


def _count(field: str) -> Callable[[str, str, str, Usage], int]:
    return lambda model, backend, route, usage: getattr(usage, field)


def _expression(text: str) -> Callable[[str, str, str, Usage], int]:
    from kajitori.base.cel import compile_cost  # loaded only where an expression is used

    program = compile_cost(text)

    def compute(model: str, backend: str, route: str, usage: Usage) -> int:
        return program.evaluate(
            {
                "model": model,
                "backend": backend,
                "route_name": route,
                "input_tokens": usage.input_tokens,
                "cached_input_tokens": usage.cached_input_tokens,
                "cache_creation_input_tokens": usage.cache_creation_input_tokens,
                "output_tokens": usage.output_tokens,
                "total_tokens": usage.total_tokens,
                "reasoning_tokens": usage.reasoning_tokens,
            }
        )

    return compute
