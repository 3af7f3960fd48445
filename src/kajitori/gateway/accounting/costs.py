"""`llmRequestCosts`: what a request is charged by the expressions of its route, from the usage that was reported. Pure."""

from __future__ import annotations

import re
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


_LITERAL = re.compile(r"""'[^']*'|"[^"]*\"""")
# Type of a cost -> field of Usage.
COST_FIELDS = {
    "InputToken": "input_tokens",
    "OutputToken": "output_tokens",
    "TotalToken": "total_tokens",
    "CachedInputToken": "cached_input_tokens",
    "CacheCreationInputToken": "cache_creation_input_tokens",
    "ReasoningToken": "reasoning_tokens",
}


def check_costs(costs: Sequence[LLMRequestCost], problems: list[str]) -> tuple[LLMRequestCost, ...]:
    """The costs that can be computed; of the others it is told where they stand and why not."""
    found: list[LLMRequestCost] = []
    for cost in costs:
        try:
            if cost.type not in COST_FIELDS:
                check_expression(cost.cel or "")
        except KajitoriError as error:
            problems.append(f"llmRequestCosts[{cost.metadata_key}].cel: {error}")
        else:
            found.append(cost)
    return tuple(found)


def check_expression(text: str) -> None:
    """Compiles an expression and tries it with zeros. Raises CompileError or EvaluationError: of the wrong type, too
    dear, an unknown variable, a cost below zero."""
    from kajitori.base.cel import compile_cost  # loaded only where an expression is used

    compile_cost(text).evaluate({})


class CostExpression:
    """A compiled `cel`. uses: the names of the variables that it reads. Raises CompileError.

    of_counts: the same from a usage alone, at once; None where the expression is no plain sum of counts.

    `backend` is `name.namespace`, as upstream's documentation has it; in an expression that writes a name with slashes
    it is what upstream's program has: `namespace/name/route/ROUTE/rule/N/ref/N`.
    """

    __slots__ = ("_long", "_program", "of_counts", "uses")

    def __init__(self, text: str) -> None:
        from kajitori.base.cel import compile_cost  # loaded only where an expression is used

        self._program = compile_cost(text)
        self._long = "backend" in self._program.uses and any("/" in part for part in _LITERAL.findall(text))
        self.uses = self._program.uses
        self.of_counts = self._program.of_counts

    def compute(
        self,
        usage: Usage,
        model: str = "",
        backend: str = "",
        long_backend: str = "",
        route_name: str = "",
        cost_usd: float = 0.0,
    ) -> int:
        """The cost of a request. Raises EvaluationError."""
        return self._program.evaluate(
            {
                "model": model,
                "backend": long_backend if self._long else backend,
                "route_name": route_name,
                "input_tokens": usage.input_tokens,
                "cached_input_tokens": usage.cached_input_tokens,
                "cache_creation_input_tokens": usage.cache_creation_input_tokens,
                "output_tokens": usage.output_tokens,
                "total_tokens": usage.total_tokens,
                "reasoning_tokens": usage.reasoning_tokens,
                "cost_usd": cost_usd,
            }
        )
