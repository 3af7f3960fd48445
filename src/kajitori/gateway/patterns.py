"""Regular expressions that Envoy takes. One that it does not take would have it refuse a whole route table. Pure."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.regular import compile_pattern

# Of RE2, for repetitions in repetitions together.
_MOST_REPETITIONS = 1000
_LARGEST_CODE = 0xFF
_CODE = re.compile(r"\\x\{([0-9A-Fa-f]*)\}")
_parser: Any = import_module("re._parser")
_REPEATS = frozenset(("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"))


def check_pattern(pattern: str) -> re.Pattern[str]:
    """The expression, compiled. Raises EvaluationError with what is wrong with it."""
    try:
        compiled = compile_pattern(pattern)
        repetitions = _repetitions(_parser.parse(compiled.pattern, compiled.flags & ~re.UNICODE))
    except (RecursionError, OverflowError) as error:
        raise EvaluationError(f"error parsing regexp: it is too deep: {error}") from None
    if repetitions > _MOST_REPETITIONS:
        raise EvaluationError(f"error parsing regexp: more than {_MOST_REPETITIONS} repetitions in all")
    if any(not code or int(code, 16) > _LARGEST_CODE for code in _CODE.findall(pattern.replace(r"\\", ""))):
        raise EvaluationError("error parsing regexp: Envoy compares bytes, so \\x{...} is FF at most")
    return compiled


def problem_of_substitution(pattern: str, substitution: str) -> str:
    """What is wrong with the text that takes the place of what an expression matches, or nothing."""
    try:
        groups = check_pattern(pattern).groups
    except EvaluationError:
        return ""  # told where the expression is
    left = re.sub(r"\\(?:\\|[0-9])", "", substitution)
    named = [int(number) for number in re.findall(r"\\([0-9])", substitution.replace(r"\\", ""))]
    if "\\" in left or any(number > groups for number in named):
        return (
            f"{substitution!r}: a backslash names a group, of which {pattern!r} has {groups}, or is doubled"
        )
    return ""


def _repetitions(part: Any) -> int:
    """How often the innermost part is written out. part: of what Python's parser makes of an expression."""
    if isinstance(part, tuple) and len(part) == 2 and str(part[0]) in _REPEATS:  # pyright: ignore[reportUnknownArgumentType]
        least, largest, inner = part[1]
        times = int(least) if largest == _parser.MAXREPEAT else int(largest)
        return max(times, 1) * _repetitions(inner)
    if isinstance(part, tuple | list | _parser.SubPattern):
        parts: Any = part
        return max((_repetitions(item) for item in parts), default=1)
    return 1
