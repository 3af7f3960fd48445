"""Costs of requests: expressions over the tokens that a request took, such as `input_tokens / 3u + output_tokens`.

Strict CEL comes first: token counts are uint, and the value is a whole number that is not negative. Where an
expression has no meaning there because it mixes number types, as Envoy AI Gateway's own documentation does
(`cached_input_tokens * 0.1`), it is computed in decimals and rounded half up.
"""

from __future__ import annotations

import difflib
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Final

from kajitori.base.cel.errors import CompileError, EvaluationError
from kajitori.base.cel.program import Program, compile_expression
from kajitori.base.cel.types import STRING, UINT, Type

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN_VARIABLES: Final = (
    "input_tokens",
    "cached_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
    "total_tokens",
    "reasoning_tokens",
)
TEXT_VARIABLES: Final = ("model", "backend", "route_name")
VARIABLES: Final[dict[str, Type]] = {
    **dict.fromkeys(TOKEN_VARIABLES, UINT),
    **dict.fromkeys(TEXT_VARIABLES, STRING),
}
_WHOLE: Final = ("int", "uint")
_LARGEST: Final = 2**64 - 1


class CostProgram:
    """A compiled cost. exact: whether it is strict CEL, so that other CEL implementations give the same."""

    __slots__ = ("_program", "exact", "source")

    def __init__(self, program: Program, *, exact: bool) -> None:
        self.source = program.source
        self.exact = exact
        self._program = program

    def evaluate(self, values: Mapping[str, int | str]) -> int:
        """The cost; missing counts are 0, missing texts empty.

        Raises EvaluationError: division by zero, overflow (a cost has 64 bits), a negative cost.
        """
        inputs = [values.get(name, 0) for name in TOKEN_VARIABLES]
        cost = self._program.run([*inputs, *(values.get(name, "") for name in TEXT_VARIABLES)])
        if isinstance(cost, Decimal):
            if not cost.is_finite():
                raise EvaluationError(f"cost is {cost}, not a number")
            # Numbers that are too large for a cost may be too large to be rounded, or written out.
            cost = int(cost.quantize(Decimal(1), ROUND_HALF_UP)) if abs(cost) <= _LARGEST else _LARGEST + 1
        if isinstance(cost, bool) or not isinstance(cost, int):
            raise EvaluationError("cost is not a whole number")
        if cost < 0:
            raise EvaluationError(f"cost is negative: {cost}")
        if cost > _LARGEST:
            raise EvaluationError("cost is too large: it has more than 64 bits")
        return cost


def compile_cost(expression: str) -> CostProgram:
    """Compile a request cost. Raises CompileError, whose hint names the nearest variable for an unknown one."""
    try:
        program = compile_expression(expression, VARIABLES, alike=False)
        strict_problem = None
    except CompileError as error:
        program, strict_problem = None, error
    if program is not None and program.result.kind in (*_WHOLE, "dyn"):
        return CostProgram(program, exact=True)
    try:
        program = compile_expression(expression, VARIABLES, mixed=True, alike=False)
    except CompileError as error:
        raise _with_hint(strict_problem or error) from None
    if program.result.kind not in (*_WHOLE, "double", "dyn"):
        raise CompileError(f"a cost must be a number, not {program.result}", expression, 0)
    return CostProgram(program, exact=False)


def _with_hint(error: CompileError) -> CompileError:
    if error.problem.startswith("undeclared reference to"):
        name = error.problem.split("'")[1]
        near = difflib.get_close_matches(name, VARIABLES, n=1)
        error.hint = f"did you mean {near[0]}?" if near else f"variables are {', '.join(VARIABLES)}"
    return error
