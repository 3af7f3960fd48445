"""What expressions cost at worst; that the numbers are a real server's is for `tests/contract` to say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.cel import CompileError
from kajitori.base.cel.estimate import Shape, estimate_cost
from kajitori.base.cel.estimate_sizes import MOST, Path, Size, scaled
from kajitori.base.cel.program import compile_expression
from kajitori.base.cel.types import INT, STRING, ObjectType, list_of

FIELDS = {"l": ("l", list_of(INT)), "s": ("s", STRING)}
SELF = ObjectType("object", find=FIELDS.get)
EXPRESSIONS = (
    "self.l.all(x, x > 1)",
    "self.l.exists(x, self.l.exists_one(y, x == y))",
    "self.l.map(x, x + 1).filter(x, x > 2).all(x, x > 3)",
    "self.s.matches('[a-z]+') && self.s.split(',').all(x, x.contains(self.s))",
    "self.l.sortBy(x, -x).distinct() == self.l",
    "self.s.replace('a', self.s).size() > 3 ? self.s == 'a' : self.l.isSorted()",
)


def cost(expression: str, items: int, letters: int) -> int:
    shape = Shape(fields={"l": Shape(items, 2, items=Shape(0, 1)), "s": Shape(letters, 2)})
    return estimate_cost(expression, {"self": SELF}, shape)


@given(st.sampled_from(EXPRESSIONS), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_looser_bound_never_makes_a_rule_cheaper(text: str, items: int, letters: int, more: int) -> None:
    least = cost(text, items, letters)
    assert least <= cost(text, items + more, letters) <= cost(text, items + more, letters + more) <= MOST


@given(st.sampled_from(EXPRESSIONS[:3]), st.lists(st.integers(0, 9), max_size=12))
def test_an_evaluation_takes_no_more_turns_than_the_estimate_allows(text: str, items: list[int]) -> None:
    values: dict[str, Any] = {"self": {"l": items, "s": ""}}
    most = cost(text, len(items), 0)
    compile_expression(text, {"self": SELF}).evaluate(values, steps=most)


def test_what_has_no_bound_costs_the_most_there_is() -> None:
    shape = Shape(fields={"l": Shape(MOST, 2, items=Shape(0, 1))})
    assert estimate_cost("self.l.all(x, self.l.all(y, x > y))", {"self": SELF}, shape) == MOST


def test_an_expression_that_does_not_compile_has_no_cost() -> None:
    with pytest.raises(CompileError):
        cost("self.nothing > 1", 1, 1)


@given(st.integers(0, MOST), st.floats(0, 100))
def test_a_scaled_size_is_rounded_up_and_stays_in_range(size: int, factor: float) -> None:
    found = scaled(size, factor)
    assert 0 <= found <= MOST
    assert found >= min(float(size) * factor, float(MOST)) * (1 - 1e-9) - 1 or found == MOST


def test_the_later_of_two_paths_from_one_can_change_the_earlier() -> None:
    start = Path().then("self").then("list").then("@items")
    first = start.then("a")
    assert first.steps[-1] == "a"
    start.then("b")
    assert first.steps[-1] == "b", "as on a real server"


def test_sizes_stay_within_64_bits() -> None:
    huge = Size(1, MOST)
    assert huge.add(huge) == Size(2, MOST)
    assert huge.multiply(huge) == Size(1, MOST)
