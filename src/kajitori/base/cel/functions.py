"""Operators and functions: which argument types each takes, what it gives, and how.

An overload is a signature with a Python function. The standard ones are here; strings, lists, times and the
Kubernetes extensions are registered by their own modules. Results that CEL has no value for raise
`EvaluationError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from kajitori.base.cel.errors import BudgetExceeded, EvaluationError
from kajitori.base.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    UINT,
    A,
    B,
    Type,
    list_of,
    map_of,
)
from kajitori.base.cel.values import contains

LEAST_INT: Final = -(2**63)
MOST_INT: Final = 2**63 - 1
MOST_UINT: Final = 2**64 - 1
MOST_LENGTH: Final = 10_000_000
"""Of a text or list that an expression puts together."""


@dataclass(frozen=True, slots=True)
class Overload:
    """params: types of the arguments, the target first if it is called as `x.f()`."""

    params: tuple[Type, ...]
    result: Type
    run: Callable[..., Any]
    member: bool = False


FUNCTIONS: Final[dict[str, list[Overload]]] = {}


def register(
    name: str, params: tuple[Type, ...], result: Type, run: Callable[..., Any], *, member: bool = False
) -> None:
    FUNCTIONS.setdefault(name, []).append(Overload(params, result, run, member))


def method(name: str, params: tuple[Type, ...], result: Type, run: Callable[..., Any]) -> None:
    """A function that is called as `x.name(...)`; params start with the type of x."""
    register(name, params, result, run, member=True)


def as_int(value: int) -> int:
    if LEAST_INT <= value <= MOST_INT:
        return value
    raise EvaluationError("integer overflow")


def as_uint(value: int) -> int:
    if 0 <= value <= MOST_UINT:
        return value
    raise EvaluationError("unsigned integer overflow")


def within_size(value: Any) -> Any:
    """`value`, a text or list that was put together: doubling it again and again must end somewhere."""
    if len(value) > MOST_LENGTH:
        raise BudgetExceeded("operation cancelled: actual cost limit exceeded")
    return value


def quotient(left: int, right: int) -> int:
    """Division that rounds towards zero, as CEL's does."""
    if right == 0:
        raise EvaluationError("division by zero")
    whole = abs(left) // abs(right)
    return whole if (left < 0) == (right < 0) else -whole


def remainder(left: int, right: int) -> int:
    if right == 0:
        raise EvaluationError("modulus by zero")
    return left - right * quotient(left, right)


def divide(left: Any, right: Any) -> Any:
    """Division of doubles: by zero it gives an infinity or NaN; exact decimals cannot do that and fail."""
    if right == 0:
        if isinstance(left, Decimal) or isinstance(right, Decimal):
            raise EvaluationError("division by zero")
        if left == 0 or math.isnan(left):
            return math.nan
        return math.copysign(math.inf, left) * math.copysign(1.0, right)
    return left / right


def _arithmetic() -> None:
    for name, run in (
        ("_+_", lambda a, b: a + b),
        ("_-_", lambda a, b: a - b),
        ("_*_", lambda a, b: a * b),
        ("_/_", quotient),
        ("_%_", remainder),
    ):
        register(name, (INT, INT), INT, lambda a, b, run=run: as_int(run(a, b)))
        register(name, (UINT, UINT), UINT, lambda a, b, run=run: as_uint(run(a, b)))
    for name, run in (
        ("_+_", lambda a, b: a + b),
        ("_-_", lambda a, b: a - b),
        ("_*_", lambda a, b: a * b),
        ("_/_", divide),
    ):
        register(name, (DOUBLE, DOUBLE), DOUBLE, run)
    register("-_", (INT,), INT, lambda a: as_int(-a))
    register("-_", (DOUBLE,), DOUBLE, lambda a: -a)
    register("!_", (BOOL,), BOOL, lambda a: not a)
    for kind in (STRING, BYTES, list_of(A)):
        register("_+_", (kind, kind), kind, lambda a, b: within_size(a + b))
    register("_+_", (TIMESTAMP, DURATION), TIMESTAMP, _shift)
    register("_+_", (DURATION, TIMESTAMP), TIMESTAMP, lambda a, b: _shift(b, a))
    register("_+_", (DURATION, DURATION), DURATION, lambda a, b: a + b)
    register("_-_", (TIMESTAMP, DURATION), TIMESTAMP, lambda a, b: _shift(a, -b))
    register("_-_", (TIMESTAMP, TIMESTAMP), DURATION, lambda a, b: a - b)
    register("_-_", (DURATION, DURATION), DURATION, lambda a, b: a - b)


def _shift(time: Any, by: Any) -> Any:
    try:
        return time + by
    except OverflowError:
        raise EvaluationError("timestamp overflow") from None


def _comparisons() -> None:
    comparable = [(kind, kind) for kind in (STRING, BYTES, BOOL, TIMESTAMP, DURATION)]
    numbers = (INT, UINT, DOUBLE)
    comparable += [(left, right) for left in numbers for right in numbers]
    for name, run in (
        ("_<_", lambda a, b: a < b),
        ("_<=_", lambda a, b: a <= b),
        ("_>_", lambda a, b: a > b),
        ("_>=_", lambda a, b: a >= b),
    ):
        for left, right in comparable:
            register(name, (left, right), BOOL, run)


def _item(items: list[Any], index: int) -> Any:
    if not 0 <= index < len(items):
        raise EvaluationError(f"index out of bounds: {index}")
    return items[index]


def _value(entries: dict[Any, Any], key: Any) -> Any:
    try:
        return entries[key]
    except KeyError:
        raise EvaluationError(f"no such key: {key}") from None


def _containers() -> None:
    register("_[_]", (list_of(A), INT), A, _item)
    register("_[_]", (list_of(A), UINT), A, _item)
    register("_[_]", (map_of(A, B), A), B, _value)
    register("@in", (A, list_of(A)), BOOL, lambda item, items: contains(items, item))
    register("@in", (A, map_of(A, B)), BOOL, lambda key, entries: key in entries)
    for kind in (STRING, BYTES, list_of(A), map_of(A, B)):
        register("size", (kind,), INT, len)
        method("size", (kind,), INT, len)
    register("dyn", (A,), DYN, lambda a: a)


_arithmetic()
_comparisons()
_containers()
