"""CEL expressions: values, types that are refused before evaluation, errors, and what one may cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.base.cel import BudgetExceeded, CompileError, EvaluationError, compile_expression
from kajitori.base.cel.types import BOOL, DOUBLE, DYN, INT, STRING, TIMESTAMP, ObjectType, list_of, map_of

DATA: dict[str, Any] = {
    "name": "web",
    "count": 3,
    "ratio": 2,
    "tags": ["a", "b"],
    "labels": {"x": "1"},
    "since": "2024-02-29T12:30:00Z",
    "my-key": 5,
}
FIELDS = {
    "name": ("name", STRING),
    "count": ("count", INT),
    "ratio": ("ratio", DOUBLE),
    "tags": ("tags", list_of(STRING)),
    "labels": ("labels", map_of(STRING, STRING)),
    "since": ("since", TIMESTAMP),
    "my__dash__key": ("my-key", INT),
    "absent": ("absent", STRING),
}
SELF = ObjectType("object", find=FIELDS.get)


def value_of(expression: str, **values: Any) -> Any:
    return compile_expression(expression, dict.fromkeys(values, DYN)).evaluate(values)


def value_of_self(expression: str) -> Any:
    return compile_expression(expression, {"self": SELF}).evaluate({"self": DATA})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3 - 4 / 2", 5),
        ("(1 + 2) * 3", 9),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7u / 2u", 3),
        ("0x10 + 1", 17),
        ("1.5e1 * 2.0", 30.0),
        ("1.0 / 0.0 > 1e308", True),
        ("'a' + \"b\" + '''c'''", "abc"),
        (r"'\u00e9\x41\101\n'", "éAA\n"),
        (r"r'\d'", "\\d"),
        (r"b'\xff' == b'\377'", True),
        ("size('é')", 1),
        ("'é'.size()", 1),
        ("[1, 2] + [3]", [1, 2, 3]),
        ("{'a': 1, 'b': 2}['b']", 2),
        ("{'a': 1}.a", 1),
        ("2 in [1, 2] && 'a' in {'a': 1}", True),
        ("1 < 2u && 1 < 1.5 && 2u > 1.5", True),
        ("dyn(1) == 1.0 && dyn(1) == 1u && dyn(true) != 1", True),
        ("true ? 1 : 2", 1),
        ("true || 1 / 0 > 0", True),
        ("1 / 0 > 0 || true", True),
        ("false && 1 / 0 > 0", False),
        ("[1, 2, 3].all(x, x > 0)", True),
        ("[1, 0].exists(x, 1 / x > 0)", True),
        ("[0, 1].exists(x, 1 / x > 0)", True),
        ("[1, 2, 3].exists_one(x, x > 2)", True),
        ("[1, 2, 3].map(x, x * 2)", [2, 4, 6]),
        ("[1, 2, 3].map(x, x > 1, x * 2)", [4, 6]),
        ("[1, 2, 3].filter(x, x % 2 == 1)", [1, 3]),
        ("{'a': 1, 'b': 2}.filter(k, k > 'a')", ["b"]),
        ("{'a': 1}.all(k, v, k == 'a' && v == 1)", True),
        ("[5, 6].transformList(i, v, i + v)", [5, 7]),
        ("{'a': 1}.transformMap(k, v, v + 1)", {"a": 2}),
        ("[[1], [2, 3]].map(x, x.map(y, y * x.size()))", [[1], [4, 6]]),
        ("cel.bind(x, 2, x * x)", 4),
        ("optional.of(1).hasValue() && !optional.none().hasValue()", True),
        ("{'a': {'b': 1}}.?a.?b.orValue(0) + {'a': {}}.?a.?b.orValue(5)", 6),
        ("{'a': 1}[?'b'].orValue(7)", 7),
        ("[?{'a': 1}.?a, ?{'a': 1}.?b]", [1]),
        ("{?'x': {'a': 1}.?b, 'y': 2}", {"y": 2}),
        ("optional.of(2).optMap(x, x + 1).value()", 3),
        ("'Hello'.lowerAscii() + 'é'.upperAscii()", "helloé"),
        ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
        ("['a', 'b'].join('-')", "a-b"),
        ("'hello'.substring(1, 3) + 'hello'.charAt(4)", "elo"),
        ("'hello'.indexOf('l') + 'hello'.lastIndexOf('l')", 5),
        ("'  x '.trim()", "x"),
        ("'a-b-c'.replace('-', '', 1)", "ab-c"),
        ("'abc'.matches('^a.c$') && !'abc\\n'.matches('^abc$')", True),
        ("'a1b22'.findAll('[0-9]+')", ["1", "22"]),
        ("'%s has %d (%.2f) %s'.format(['x', 3, 1.5, [true, null]])", "x has 3 (1.50) [true, null]"),
        ("[3, 1, 2].sort()", [1, 2, 3]),
        ("[3, 1].min() + [3, 1].max() + [3, 1].sum()", 8),
        ("[1, 2].isSorted() && ![2, 1].isSorted()", True),
        ("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1)", 2),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1])", True),
        ("int('42') + int(3.9) + int(7u)", 52),
        ("uint(3) + 1u", 4),
        ("string(1.0) + string(true) + string(2)", "1true2"),
        ("type(1) == int && type('a') == string && type(dyn(1.5)) == double", True),
        ("duration('1h30m').getMinutes()", 90),
        ("string(duration('1.5s'))", "1.5s"),
        ("timestamp('2024-02-29T12:30:00Z') + duration('24h')", datetime(2024, 3, 1, 12, 30, tzinfo=UTC)),
        ("timestamp('2024-01-01T00:00:00+02:00').getHours()", 22),
        ("timestamp('2024-01-07T00:00:00Z').getDayOfWeek()", 0),
        ("timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z')", timedelta(days=1)),
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && !isQuantity('1Q')", True),
        ("quantity('50k').add(20).compareTo(quantity('50020'))", 0),
        ("url('https://u@h.example:80/a%20b?q=1').getHostname()", "h.example"),
        ("url('/path').getScheme() == '' && !isURL('no url')", True),
        ("ip('192.168.0.1').family() + ip('::1').family()", 10),
        ("cidr('192.168.0.0/24').containsIP('192.168.0.9')", True),
        ("cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))", True),
        ("isIP('1.2.3') || isCIDR('1.2.3.4')", False),
        ("ip.isCanonical('2001:db8::1')", True),
        ("// a comment\n1", 1),
    ],
)
def test_an_expression_has_its_documented_value(expression: str, expected: Any) -> None:
    found = value_of(expression)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("self.name == 'web' && self.count < 5", True),
        ("self.ratio / 4.0", 0.5),
        ("self.my__dash__key", 5),
        ("has(self.name) && !has(self.absent)", True),
        ("self.?absent.orValue('none')", "none"),
        ("self.labels.x + self.labels['x']", "11"),
        ("self.labels.all(k, k.size() == 1)", True),
        ("self.since.getMonth()", 1),
        ("self.since < timestamp('2025-01-01T00:00:00Z')", True),
        ("self.tags.exists(t, t == self.name) || self.tags[0] == 'a'", True),
    ],
)
def test_data_is_read_by_its_declared_types(expression: str, expected: Any) -> None:
    assert value_of_self(expression) == expected


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("self.nope", "undefined field 'nope'"),
        ("self.name.first", "type 'string' does not support field selection"),
        ("nope + 1", "undeclared reference to 'nope' (in container '')"),
        ("self.frobnicate()", "undeclared reference to 'frobnicate' (in container '')"),
        ("self.name + 1", "found no matching overload for '_+_' applied to '(string, int)'"),
        ("self.name == 1", "found no matching overload for '_==_' applied to '(string, int)'"),
        ("self.name.startsWith(1)", "found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("self.count.all(x, true)", "cannot be range of a comprehension"),
        ("self.tags.map(1, true)", "argument must be a simple name"),
        ("!self.count", "found no matching overload for '!_' applied to '(int)'"),
        ("self.count && true", "expected type 'bool' but found 'int'"),
        ("has(self)", "invalid argument to has() macro"),
        ("semver('1.0.0') == semver('1.0.0')", "'semver' is not supported"),
        ("authorizer.path('/x').check('get').allowed()", "undeclared reference to 'authorizer'"),
        ("1 +", "Syntax error"),
        ("'open", "Syntax error"),
        ("a.b{c: 1}", "messages cannot be constructed here"),
        ("99999999999999999999", "invalid int literal"),
        ("for + 1", "reserved identifier: for"),
        ("(" * 500 + "1" + ")" * 500, "nested too deeply"),
        ("!" * 5000 + "true", "nested too deeply"),
    ],
)
def test_what_cannot_work_is_refused_before_evaluation(expression: str, problem: str) -> None:
    with pytest.raises(CompileError) as refusal:
        compile_expression(expression, {"self": SELF})
    assert problem in refusal.value.problem or problem in str(refusal.value)


def test_a_refusal_shows_the_place() -> None:
    with pytest.raises(CompileError) as refusal:
        compile_expression("true &&\n  self.nope == 1", {"self": SELF})
    assert str(refusal.value) == (
        "ERROR: <input>:2:7: undefined field 'nope'\n |   self.nope == 1\n | ......^"
    )


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("0u - 1u", "unsigned integer overflow"),
        ("[1][3]", "index out of bounds: 3"),
        ("{'a': 1}['b']", "no such key: b"),
        ("dyn({'a': 1}).b", "no such key: b"),
        ("dyn('x') + 1", "no such overload"),
        ("int('x')", "type conversion error"),
        ("duration('x')", "invalid duration"),
        ("'a'.matches('(')", "error parsing regexp"),
        ("'a'.matches('(?=a)')", "unsupported Perl syntax"),
        ("optional.none().value()", "optional.none() dereference"),
        ("[1, 0].all(x, 1 / x > 0)", "division by zero"),
        ("{'a': 1, 'a': 2}", "repeated key"),
    ],
)
def test_an_expression_without_a_value_fails_with_its_reason(expression: str, problem: str) -> None:
    with pytest.raises(EvaluationError, match=problem.replace("(", r"\(").replace(")", r"\)")):
        value_of(expression)


def test_data_that_breaks_its_declared_type_is_an_error_and_no_crash() -> None:
    program = compile_expression("self.count + 1 > 2 && self.name.startsWith('a')", {"self": SELF})
    for count, name in (("text", "a"), (None, "a"), (2, 7), ([], {})):
        with pytest.raises(EvaluationError):
            program.evaluate({"self": {"count": count, "name": name}})


def test_an_evaluation_ends_at_its_budget() -> None:
    program = compile_expression("x.all(a, x.all(b, x.all(c, a + b + c >= 0)))", {"x": list_of(INT)})
    with pytest.raises(BudgetExceeded, match="cost limit exceeded"):
        program.evaluate({"x": list(range(1000))}, steps=10_000)
    assert program.evaluate({"x": [1, 2]}, steps=100) is True


def test_a_text_cannot_be_doubled_without_end() -> None:
    text = "'0123456789'"
    for _ in range(40):
        text = f"cel.bind(x, {text}, x + x)"
    with pytest.raises(BudgetExceeded):
        value_of(f"{text}.size()")
    with pytest.raises(BudgetExceeded):
        value_of("cel.bind(x, lists.range(9999).map(i, 'ab').join(), x.replace('a', x)).size()")


words = st.sampled_from(
    [
        "self",
        "x",
        ".?a",
        ".b",
        "[0]",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "+",
        "-",
        "*",
        "/",
        "%",
        "!",
        "&&",
        "||",
        "?",
        ":",
        ",",
        "==",
        "<",
        "in",
        "has(",
        ".all(x,",
        ".map(y,",
        "1",
        "2u",
        "1.5",
        "'a'",
        "b'b'",
        "null",
        "true",
        "size(",
        "int(",
        "duration(",
        "timestamp(",
        "'1h'",
        ".matches(",
        ".split(",
        "'('",
        "optional.of(",
        ".orValue(",
        "quantity(",
        "'1Gi'",
        ".format([",
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(words, max_size=12), json_values)
def test_any_text_over_any_value_compiles_or_not_and_evaluates_or_not(parts: list[str], value: Any) -> None:
    try:
        program = compile_expression(" ".join(parts), {"self": DYN, "x": SELF})
        program.evaluate({"self": value, "x": value})
    except (CompileError, EvaluationError):
        pass


@given(st.text())
def test_any_text_at_all_compiles_or_is_refused(text: str) -> None:
    try:
        compile_expression(text, {})
    except CompileError as refusal:
        assert "<input>" in str(refusal)


def test_a_result_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(CompileError, match="must evaluate to a bool"):
        compile_expression("1 + 1", {}, result=BOOL)
    assert compile_expression("x", {"x": DYN}, result=BOOL).evaluate({"x": True}) is True


def test_a_program_knows_the_variables_that_it_reads() -> None:
    variables = {"self": DYN, "oldSelf": DYN}
    assert compile_expression("self.a == oldSelf.a", variables).uses == {"self", "oldSelf"}
    assert compile_expression("[1].all(oldSelf, oldSelf == 1) && self", variables).uses >= {"self"}
