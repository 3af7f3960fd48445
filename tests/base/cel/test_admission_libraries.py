"""The libraries that admission expressions use besides: rights of a user, formatted texts."""

from __future__ import annotations

import pytest

from kajitori.base.cel import CompileError, EvaluationError, compile_expression
from kajitori.base.cel.authorization import AUTHORIZER, Authorizer, Decision, Question
from kajitori.base.cel.types import DYN


def evaluate(expression: str, authorizer: Authorizer) -> object:
    return compile_expression(expression, {"authorizer": AUTHORIZER, "object": DYN}).evaluate(
        {"authorizer": authorizer, "object": {"name": "web", "sizes": [1, 2]}}
    )


def test_checks_carry_all_that_was_said_of_them() -> None:
    asked: list[Question] = []

    def ask(question: Question) -> Decision:
        asked.append(question)
        return Decision(question.verb == "create")

    authorizer = Authorizer(ask, Question(resource="pods", namespace="a"))
    chain = "authorizer.group('apps').resource('deployments').subresource('scale').namespace('n').name(object.name)"
    assert evaluate(f"{chain}.check('create').allowed()", authorizer) is True
    assert evaluate("authorizer.path('/healthz').check('get').allowed()", authorizer) is False
    assert evaluate("authorizer.requestResource.check('create').allowed()", authorizer) is True
    account = "authorizer.serviceAccount('n', 'robot').group('').resource('pods').check('get').allowed()"
    assert evaluate(account, authorizer) is False
    assert asked == [
        Question("create", "", "apps", "*", "deployments", "scale", "n", "web"),
        Question("get", "/healthz"),
        Question("create", resource="pods", namespace="a"),
        Question("get", resource="pods", user="system:serviceaccount:n:robot"),
    ]
    with pytest.raises(CompileError):
        evaluate("authorizer.path('/x').allowed()", authorizer)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("'%s has %d'.format([object.name, 3])", "web has 3"),
        ("'%.2f|%x|%b|%o|%X'.format([1.5, 255, 5, 8, 'a'])", "1.50|ff|101|10|61"),
        ("'100%% %s'.format([object.sizes])", "100% [1, 2]"),
        ("'%s %s %s'.format([true, null, {'a': 1.0}])", "true null {a: 1}"),
    ],
)
def test_texts_are_filled_in(expression: str, text: str) -> None:
    assert evaluate(expression, Authorizer(lambda _: Decision(True))) == text


def test_a_clause_that_does_not_fit_its_value_is_an_error() -> None:
    for expression in ("'%d'.format(['a'])", "'%s %s'.format(['a'])", "'%q'.format(['a'])"):
        with pytest.raises(EvaluationError):
            evaluate(expression, Authorizer(lambda _: Decision(True)))
