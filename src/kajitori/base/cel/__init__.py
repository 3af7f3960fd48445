"""The Common Expression Language: rules in CustomResourceDefinitions, and costs of requests.

    syntax     text to tree
    types      what is known of a value before evaluation
    compiler   tree to closures, types checked once; macros: the calls that loop
    functions  operators and overloads; conversions, text, lists, times, kubernetes: the libraries
    program    a compiled expression; cost: one that prices a request, counts: one that is a plain sum, as a function

Why not a library: `docs/decisions/0008-cel-of-our-own.md`. In short, rules must be refused when they are
declared (a field that the schema lacks, a wrong type), counts must be uint, and data must be read in place.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kajitori.base.cel.cost import CostProgram, compile_cost
    from kajitori.base.cel.errors import BudgetExceeded, CompileError, EvaluationError
    from kajitori.base.cel.program import Program, compile_expression

__all__ = [
    "BudgetExceeded",
    "CompileError",
    "CostProgram",
    "EvaluationError",
    "Program",
    "compile_cost",
    "compile_expression",
]

_MODULES = {
    **dict.fromkeys(("CostProgram", "compile_cost"), "cost"),
    **dict.fromkeys(("BudgetExceeded", "CompileError", "EvaluationError"), "errors"),
    **dict.fromkeys(("Program", "compile_expression"), "program"),
}


def __getattr__(name: str) -> Any:
    """Loads what is asked for: many processes need nothing of it but its patterns."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
