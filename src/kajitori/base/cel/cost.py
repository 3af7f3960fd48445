"""Costs of requests: expressions over the tokens that a request took, such as `input_tokens / 3u + output_tokens`.

Strict CEL comes first: token counts are uint, and the value is a whole number that is not negative. Where an
expression has no meaning there because it mixes number types, as Envoy AI Gateway's own documentation does
(`cached_input_tokens * 0.1`), it is computed in decimals and rounded half up.
"""

from __future__ import annotations

import difflib
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Final

from kajitori.base.cel.counts import counts_function
from kajitori.base.cel.errors import CompileError, EvaluationError
from kajitori.base.cel.estimate import Shape, estimate_cost
from kajitori.base.cel.program import Program, compile_expression
from kajitori.base.cel.types import DOUBLE, STRING, UINT, Type

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
MONEY_VARIABLE: Final = "cost_usd"
"""Ours: what the request costs by the prices that are known, 0 without one."""
VARIABLES: Final[dict[str, Type]] = {
    **dict.fromkeys(TOKEN_VARIABLES, UINT),
    **dict.fromkeys(TEXT_VARIABLES, STRING),
    MONEY_VARIABLE: DOUBLE,
}
MOST_STEPS: Final = 10_000
"""Turns of macros in one evaluation. A cost is computed twice for each request."""
MOST_UNITS: Final = 100_000
"""What one evaluation may cost at worst, in the units in which a kube-apiserver counts rules."""
_SHAPE: Final = Shape(
    fields={**dict.fromkeys(TOKEN_VARIABLES, Shape()), **dict.fromkeys(TEXT_VARIABLES, Shape(most=1024))}
)
_WHOLE: Final = ("int", "uint")
_LARGEST: Final = 2**64 - 1


class CostProgram:
    """A compiled cost. exact: whether it is strict CEL, so that other CEL implementations give the same.

    of_counts: the same from an object with the counts as attributes, at once; None where the expression is no plain sum.
    """

    __slots__ = ("_program", "exact", "of_counts", "source")

    def __init__(self, program: Program, *, exact: bool) -> None:
        self.source = program.source
        self.exact = exact
        self.of_counts = counts_function(program.source, TOKEN_VARIABLES, exact=exact)
        self._program = program

    @property
    def uses(self) -> frozenset[str]:
        """The variables that it reads."""
        return self._program.uses

    def evaluate(self, values: Mapping[str, int | float | str]) -> int:
        """The cost; missing counts are 0, missing texts empty.

        Raises EvaluationError: division by zero, overflow (a cost has 64 bits), a negative cost, too many steps.
        """
        inputs: list[object] = [values.get(name, 0) for name in TOKEN_VARIABLES]
        inputs += [values.get(name, "") for name in TEXT_VARIABLES]
        money = values.get(MONEY_VARIABLE, 0.0)
        inputs.append(float(money) if self.exact else Decimal(str(money)))
        cost = self._program.run(inputs, steps=MOST_STEPS)
        if isinstance(cost, Decimal):
            if not cost.is_finite():
                raise EvaluationError(f"cost is {cost}, not a number")
            # Numbers that are too large for a cost may be too large to be rounded, written out, or even made positive.
            if cost < -_LARGEST:
                raise EvaluationError(f"cost is negative: {cost}")
            cost = int(cost.quantize(Decimal(1), ROUND_HALF_UP)) if cost <= _LARGEST else _LARGEST + 1
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
        units = estimate_cost(expression, VARIABLES, _SHAPE)
        if units > MOST_UNITS:
            raise CompileError(
                f"a cost may take {MOST_UNITS} units; this one may take {units}", expression, 0
            )
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
