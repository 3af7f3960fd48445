"""Request costs: strict CEL first, then the mixed arithmetic of the documentation."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.cel import CompileError, EvaluationError, compile_cost

counts = st.integers(0, 10**9)


def test_the_missions_expression_gives_the_documented_integer() -> None:
    cost = compile_cost("input_tokens / uint(3) + output_tokens")
    assert cost.exact
    assert cost.evaluate({"input_tokens": 12, "output_tokens": 7}) == 11


@given(counts, counts)
def test_whole_numbers_divide_towards_zero(inputs: int, outputs: int) -> None:
    cost = compile_cost("input_tokens / 3u + output_tokens * 2u")
    assert cost.evaluate({"input_tokens": inputs, "output_tokens": outputs}) == inputs // 3 + 2 * outputs


@given(counts, st.sampled_from(["0.1", "0.29", "0.5", "1.25", "0.001"]))
def test_mixed_arithmetic_is_exact_and_rounds_half_up(cached: int, factor: str) -> None:
    cost = compile_cost(f"cached_input_tokens * {factor}")
    assert not cost.exact
    exact = Fraction(factor) * cached
    assert cost.evaluate({"cached_input_tokens": cached}) == int(exact + Fraction(1, 2))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("model == 'big' ? input_tokens * 10u : input_tokens", 30),
        ("input_tokens * 2 + output_tokens", 11),
        ("uint(double(input_tokens) * 0.5)", 1),
        ("backend.startsWith('foo.') ? 1u : 2u", 2),
        ("(input_tokens + output_tokens) * 0.5 + 1", 5),
        ("1.5", 2),
        ("total_tokens", 0),
    ],
)
def test_costs_read_counts_and_names(expression: str, expected: int) -> None:
    values = {"input_tokens": 3, "output_tokens": 5, "model": "big"}
    assert compile_cost(expression).evaluate(values) == expected


@pytest.mark.parametrize(
    "expression", ["input_tokens - output_tokens", "-1", "input_tokens / 0u", "0.0 - 2.5"]
)
def test_a_cost_without_a_value_or_below_zero_is_an_error(expression: str) -> None:
    with pytest.raises(EvaluationError):
        compile_cost(expression).evaluate({"input_tokens": 3, "output_tokens": 5})


def test_an_unknown_variable_is_answered_with_the_nearest() -> None:
    with pytest.raises(CompileError) as refusal:
        compile_cost("output_token * 0.5")
    assert refusal.value.hint == "did you mean output_tokens?"


@pytest.mark.parametrize("expression", ["model + 'x'", "true", "[1]", ""])
def test_a_cost_that_is_no_number_is_refused(expression: str) -> None:
    with pytest.raises(CompileError):
        compile_cost(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "1e30",
        "1e400",
        "input_tokens * 1e25",
        "1e400 * 1e999999",
        "1e400 % 0.3",
        "0 - input_tokens * 1e30",
        "-2e222222272222223",
    ],
)
def test_a_cost_without_bounds_is_an_error_of_its_evaluation(expression: str) -> None:
    with pytest.raises((CompileError, EvaluationError)):
        compile_cost(expression).evaluate({"input_tokens": 10**6})


def test_the_largest_cost_has_64_bits() -> None:
    assert compile_cost("input_tokens * 1.0").evaluate({"input_tokens": 2**64 - 1}) == 2**64 - 1


class Counts(NamedTuple):
    input_tokens: int
    cached_input_tokens: int
    cache_creation_input_tokens: int
    output_tokens: int
    total_tokens: int
    reasoning_tokens: int


PLAIN = st.recursive(
    st.sampled_from([*Counts._fields, "0u", "3u", "uint(7)", "2", "4294967295u", "1.5"]),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["+", "*", "/", "-", "%"]), inner),
    max_leaves=6,
)
ANY_COUNTS = st.builds(Counts, *[st.integers(-1, 2**10) | st.integers(2**31, 2**33)] * 6)


@given(PLAIN, ANY_COUNTS)
def test_the_function_of_a_plain_sum_says_what_the_expression_says(expression: str, found: Counts) -> None:
    try:
        cost = compile_cost(expression)
    except CompileError:
        return
    if cost.of_counts is None:
        return
    told = cost.of_counts(found)
    assert told is None or told == cost.evaluate(found._asdict())


@pytest.mark.parametrize(
    "expression",
    [
        "input_tokens / uint(3) + output_tokens",
        "input_tokens * 2 + output_tokens",
        "total_tokens",
        "3u * output_tokens",
    ],
)
def test_sums_and_products_of_counts_have_a_function(expression: str) -> None:
    cost = compile_cost(expression)
    counts = Counts(30, 0, 0, 7, 37, 0)
    assert cost.of_counts is not None
    assert cost.of_counts(counts) == cost.evaluate(counts._asdict())
    assert (
        cost.of_counts(counts._replace(input_tokens=2**40, output_tokens=2**40, total_tokens=2**40)) is None
    )


@pytest.mark.parametrize(
    "expression",
    [
        "input_tokens - output_tokens",
        "input_tokens / output_tokens",
        "input_tokens / 0u",
        "cached_input_tokens * 0.1",
        "model == 'm' ? 1u : 2u",
        "input_tokens * output_tokens * total_tokens",
        "input_tokens / 2",
        "7u",
    ],
)
def test_what_may_fail_or_overflow_is_left_to_the_expression(expression: str) -> None:
    assert compile_cost(expression).of_counts is None
