"""Our CEL against two others, cel-python and the Rust `cel`, on expressions made at random."""

from __future__ import annotations

import warnings
from typing import Any

import cel as rust_cel
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.base.cel import CompileError, EvaluationError, compile_expression
from kajitori.base.cel.types import DYN

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import celpy
    import celpy.evaluation

VALUES: dict[str, Any] = {"n": 3, "m": -4, "s": "abc", "l": [1, 2, 3], "d": {"a": 1, "b": [2]}}
FAILED = "failed"


def binary(*operators: str) -> Any:
    def combine(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.builds("({} {} {})".format, inner, st.sampled_from(operators), inner)

    return combine


integers = st.recursive(
    st.sampled_from(["n", "m", "0", "1", "2", "7", "-5", "d.a", "l[0]", "l[9]", "size(l)", "d.missing"]),
    lambda inner: binary("+", "-", "*", "/", "%")(inner) | st.builds("-({})".format, inner),
    max_leaves=4,
)
strings = st.recursive(
    st.sampled_from(["s", "'abc'", "''", "'b'"]), lambda inner: binary("+")(inner), max_leaves=3
)
atoms = st.one_of(
    st.builds("{} {} {}".format, integers, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), integers),
    st.builds("{} {} {}".format, strings, st.sampled_from(["<", "==", "!="]), strings),
    st.builds("{}.{}({})".format, strings, st.sampled_from(["startsWith", "endsWith", "contains"]), strings),
    st.builds("({}) in l".format, integers),
    st.builds("({}) in d".format, strings),
    st.builds("l.{}(x, x > ({}))".format, st.sampled_from(["all", "exists", "exists_one"]), integers),
    st.builds("l.map(x, x * ({})) == [{}, {}, {}]".format, integers, integers, integers, integers),
    st.builds("l.filter(x, x != ({})).size() > 1".format, integers),
    st.sampled_from(["has(d.a)", "has(d.z)", "true", "false"]),
)
conditions = st.recursive(
    st.builds("({})".format, atoms),
    lambda inner: (
        binary("&&", "||")(inner)
        | st.builds("!{}".format, inner)
        | st.builds("({} ? {} : {})".format, inner, inner, inner)
    ),
    max_leaves=4,
)


def ours(expression: str) -> Any:
    try:
        return compile_expression(expression, dict.fromkeys(VALUES, DYN), alike=False).evaluate(VALUES)
    except (CompileError, EvaluationError):
        return FAILED


def of_rust(expression: str) -> Any:
    try:
        return rust_cel.compile(expression).execute(VALUES)
    except Exception:
        return FAILED


ENVIRONMENT = celpy.Environment()
ACTIVATION = celpy.json_to_cel(VALUES)


def of_celpy(expression: str) -> Any:
    try:
        found = ENVIRONMENT.program(ENVIRONMENT.compile(expression)).evaluate(ACTIVATION)
    except Exception:
        return FAILED
    return bool(found)


@settings(max_examples=400, deadline=None)
@given(conditions)
def test_conditions_agree_with_the_rust_implementation(expression: str) -> None:
    assert ours(expression) == of_rust(expression)


@settings(max_examples=60, deadline=None)
@given(st.builds("({})".format, atoms))
def test_where_cel_python_has_a_value_ours_is_the_same(expression: str) -> None:
    theirs = of_celpy(expression)
    assert theirs == FAILED or ours(expression) == theirs
