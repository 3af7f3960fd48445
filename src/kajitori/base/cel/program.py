"""A compiled expression, ready to be evaluated often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from kajitori.base.cel import authorization, conversions, formatting, kubernetes, lists, text, times
from kajitori.base.cel.compiler import Compiler
from kajitori.base.cel.errors import CompileError, EvaluationError
from kajitori.base.cel.syntax import parse
from kajitori.base.cel.types import Type, accepts

MOST_STEPS: Final = 1_000_000
"""Turns of macros that one evaluation may take, unless said otherwise."""

LIBRARIES: Final = (authorization, conversions, formatting, kubernetes, lists, text, times)
"""The modules that register functions; naming them here imports them."""


class Program:
    """An expression with its types checked.

    result: the type of its value. uses: the variables that it reads.
    """

    __slots__ = ("_names", "_padding", "_run", "result", "source", "uses")

    def __init__(self, source: str, compiler: Compiler, names: tuple[str, ...]) -> None:
        code = compiler.compile(parse(source))
        self.source = source
        self.result = code.type
        self.uses = frozenset(compiler.used)
        self._run: Callable[[list[Any]], Any] = code.run
        self._names = names
        self._padding: list[Any] = [None] * (compiler.slots - len(names) - 1)

    def evaluate(self, values: Mapping[str, Any], *, steps: int = MOST_STEPS) -> Any:
        """The value for these variables; those that are missing read as null. Raises EvaluationError."""
        return self.run([values.get(name) for name in self._names], steps=steps)

    def run(self, values: list[Any], *, steps: int = MOST_STEPS) -> Any:
        """The same with the values in the order in which the variables were declared."""
        try:
            return self._run([steps, *values, *self._padding])
        except RecursionError:
            raise EvaluationError("expression is nested too deeply") from None
        except (TypeError, AttributeError, ValueError, ArithmeticError, LookupError) as error:
            # Data that is not of the type that its schema promises.
            raise EvaluationError(f"no such overload: {error}") from None


def compile_expression(
    source: str,
    variables: Mapping[str, Type],
    *,
    result: Type | None = None,
    mixed: bool = False,
    alike: bool = True,
) -> Program:
    """Compile `source` over typed variables. Raises CompileError, also if its value is not of type `result`.

    mixed, alike: as of `Compiler`.
    """
    try:
        program = Program(source, Compiler(source, variables, mixed=mixed, alike=alike), tuple(variables))
    except RecursionError:
        raise CompileError("expression is nested too deeply", source, 0) from None
    if result is not None and not accepts(result, program.result, {}):
        raise CompileError(f"must evaluate to a {result}, not to {program.result}", source, 0)
    return program
