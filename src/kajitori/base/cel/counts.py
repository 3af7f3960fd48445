"""Costs that are sums and products of token counts, as functions: most costs are, and a general evaluation takes ten times
as long as all else that is done for a request.

What such a function says is what the expression says: it is made only where nothing can overflow, be divided by zero or
come out as a fraction, and it declines counts beyond what that holds for.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, NamedTuple

from kajitori.base.cel.syntax import Call, Literal, Name, Node, parse

MOST_TOKENS: Final = 2**32 - 1
"""Of one count; no request comes near it."""
_LARGEST: Final = 2**64 - 1
CountsFunction = Callable[[Any], int | None]
"""From an object with the counts as attributes to the cost; None: ask the expression."""


class _Part(NamedTuple):
    """most: that it can come to, as long as no count is beyond `MOST_TOKENS`. constant: the value, of what reads none."""

    run: Callable[[Any], int]
    most: int
    constant: int | None = None


def counts_function(expression: str, names: tuple[str, ...], *, exact: bool) -> CountsFunction | None:
    """The function of a cost that compiles; None for all but sums, products and quotients of counts and whole numbers.

    names: of the variables that are counts. exact: whether the expression is strict CEL, see `CostProgram`.
    """
    used: set[str] = set()
    part = _part(parse(expression), names, exact, used)
    if part is None or not used:
        return None
    run, reads = part.run, tuple(attrgetter(name) for name in sorted(used))

    def compute(counts: Any) -> int | None:
        for read in reads:
            if not 0 <= read(counts) <= MOST_TOKENS:
                return None
        return run(counts)

    return compute


def _part(node: Node, names: tuple[str, ...], exact: bool, used: set[str]) -> _Part | None:
    match node:
        case Name(name=name) if name in names:
            used.add(name)
            return _Part(attrgetter(name), MOST_TOKENS)
        case Literal(kind="uint", value=value):
            return _constant(value)
        # In strict CEL a count and an int have no sum.
        case Literal(kind="int", value=value) if not exact:
            return _constant(value)
        case Call(target=None, function="uint", args=(Literal(kind="int", value=value),)):
            return _constant(value)
        case Call(target=None, function=operator, args=(left, right)):
            one, other = _part(left, names, exact, used), _part(right, names, exact, used)
            return _joined(operator, one, other, exact) if one and other else None
        case _:
            return None


def _constant(value: int) -> _Part | None:
    return _Part(lambda counts: value, value, value) if 0 <= value <= _LARGEST else None


def _joined(operator: str, left: _Part, right: _Part, exact: bool) -> _Part | None:
    one, other = left.run, right.run
    match operator:
        case "_+_":
            most = left.most + right.most
            return _Part(lambda counts: one(counts) + other(counts), most) if most <= _LARGEST else None
        case "_*_":
            most = left.most * right.most
            return _Part(lambda counts: one(counts) * other(counts), most) if most <= _LARGEST else None
        case "_/_" if exact and right.constant:
            divisor = right.constant
            return _Part(lambda counts: one(counts) // divisor, left.most)
        case _:
            return None
