"""What can go wrong with a CEL expression: it does not compile, or evaluating it fails."""

from __future__ import annotations

from kajitori.base.errors import UserError


class CompileError(UserError):
    """An expression that does not parse or whose types do not fit.

    problem: the bare sentence. The message shows the place as CEL implementations do:
    `ERROR: <input>:1:5: undefined field 'nope'`, the line, and a mark under the place.
    """

    def __init__(self, problem: str, text: str, at: int) -> None:
        self.problem = problem
        line = text.count("\n", 0, at) + 1
        start = text.rfind("\n", 0, at) + 1
        column = at - start + 1
        end = text.find("\n", start)
        source = text[start : end if end >= 0 else len(text)]
        mark = "." * (column - 1) + "^"
        super().__init__(f"ERROR: <input>:{line}:{column}: {problem}\n | {source}\n | {mark}")


class EvaluationError(UserError):
    """An expression that has no value for these inputs: a missing key, an overflow, a division by zero."""


class BudgetExceeded(EvaluationError):
    """An evaluation that takes more steps than it may."""
