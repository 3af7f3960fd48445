"""Ordered rules come to one expression without an order, which must mean the same."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.api.envoygateway.authorization import (
    Authorization,
    AuthorizationHeaderMatch,
    AuthorizationRule,
    Operation,
    Principal,
)
from kajitori.api.envoygateway.rate_limit import PathMatch
from kajitori.base.cel.errors import CompileError
from kajitori.base.errors import InvalidManifest
from kajitori.gateway.envoy.encode import Encoder
from kajitori.gateway.envoy.schema import schema
from kajitori.gateway.observed import Index
from kajitori.gateway.policies.security.authorization import make_authorization
from kajitori.gateway.policies.security.expressions import compile_request_expression
from kajitori.gateway.policies.security.making import Making
from kajitori.gateway.routes.security_filters import RULES
from kajitori.gateway.world import World
from tests.gateway.workbench import observe

Request = dict[str, str]


def holds(expression: dict[str, Any], request: Request) -> bool:
    """As Envoy's RBAC filter reads a principal."""
    ((kind, value),) = expression.items()
    match kind:
        case "any":
            return bool(value)
        case "and_ids":
            return all(holds(each, request) for each in value["ids"])
        case "or_ids":
            return any(holds(each, request) for each in value["ids"])
        case "not_id":
            return not holds(value, request)
        case "header":
            return request.get(value["name"]) == value["string_match"]["exact"]
        case "url_path":
            path = value["path"]
            if "exact" in path:
                return request[":path"] == path["exact"]
            return request[":path"].startswith(path["prefix"])
        case other:
            raise AssertionError(other)


def matches(predicate: dict[str, Any], request: Request) -> bool:
    """As Envoy's matchers read a predicate."""
    ((kind, value),) = predicate.items()
    match kind:
        case "and_matcher":
            return all(matches(each, request) for each in value["predicate"])
        case "or_matcher":
            return any(matches(each, request) for each in value["predicate"])
        case "not_matcher":
            return not matches(value, request)
        case _ if "value_match" in value:
            return request.get(value["input"]["typed_config"]["header_name"]) == value["value_match"]["exact"]
        case _:
            tree = value["custom_match"]["typed_config"]["expr_match"]["cel_expr_parsed"]["expr"]
            return of_path(tree, request[":path"])


def of_path(tree: dict[str, Any], path: str) -> bool:
    """The three kinds of expressions that paths come to."""
    if "const_expr" in tree:
        return tree["const_expr"]["bool_value"]
    call = tree["call_expr"]
    if call["function"] == "_==_":
        return path == call["args"][1]["const_expr"]["string_value"]
    text = call["args"][0]["const_expr"]["string_value"]
    if call["function"] == "startsWith":
        return path.startswith(text)
    assert call["function"] == "matches"
    return re.search(text, path) is not None


def allowed(authorization: Authorization, request: Request) -> bool:
    """As the API documents it: the first rule that holds decides."""
    for rule in authorization.rules:
        operation, principal = rule.operation, rule.principal
        fits = True
        if operation and operation.methods:
            fits = request[":method"] in operation.methods
        if operation and operation.path:
            prefix = operation.path.value.rstrip("/")
            under = request[":path"] == prefix or request[":path"].startswith(prefix + "/")
            fits = fits and under != operation.path.invert
        for match in (principal.headers if principal else None) or ():
            fits = fits and request.get(match.name) in match.values
        if fits:
            return rule.action == "Allow"
    return authorization.default_action == "Allow"


_letters = st.sampled_from("ab")
_matches = st.lists(
    st.builds(
        AuthorizationHeaderMatch,
        name=st.sampled_from(["x", "y"]),
        values=st.lists(_letters, min_size=1, max_size=2),
    ),
    min_size=1,
    max_size=2,
)
_paths = st.builds(PathMatch, value=st.sampled_from(["/", "/a", "/a/", "/a/b"]), invert=st.booleans())
_operations = st.builds(
    Operation,
    methods=st.none() | st.lists(st.sampled_from(["GET", "POST"]), min_size=1, max_size=2),
    path=st.none() | _paths,
)
_rules = st.builds(
    AuthorizationRule,
    action=st.sampled_from(["Allow", "Deny"]),
    operation=st.none() | _operations,
    principal=st.builds(Principal, headers=_matches),
)
_requests = st.fixed_dictionaries(
    {
        ":method": st.sampled_from(["GET", "POST"]),
        ":path": st.sampled_from(["/", "/a", "/ab", "/a/b", "/a/b/c"]),
    },
    optional={"x": _letters, "y": _letters},
)


@given(
    st.builds(
        Authorization,
        rules=st.lists(_rules, max_size=5),
        default_action=st.sampled_from(["Allow", "Deny"]),
    ),
    st.lists(_requests, min_size=1, max_size=5),
)
def test_the_first_rule_that_holds_decides(authorization: Authorization, requests: list[Request]) -> None:
    index = Index(observe())
    making = Making(index, World(index), "default", "default/p")
    make_authorization(making, authorization, frozenset())
    policies = making.steps[RULES]["rbac"]["rules"]["policies"]
    principals = policies["allowed"]["principals"] if policies else []
    for request in requests:
        assert any(holds(each, request) for each in principals) == allowed(authorization, request)
    beside_cel = msgspec.structs.replace(
        authorization, rules=[*authorization.rules, AuthorizationRule(action="Deny", cel="false")]
    )
    make_authorization(making, beside_cel, frozenset())
    matcher = making.steps[RULES]["rbac"]["matcher"]
    for request in requests:
        deciding = (
            each["on_match"]
            for each in matcher["matcher_list"]["matchers"]
            if matches(each["predicate"], request)
        )
        action = next(deciding, matcher["on_no_match"])["action"]["typed_config"]["action"]
        assert (action == "ALLOW") == allowed(authorization, request)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("1", 1, "a rule must evaluate to a bool, not to int"),
        ("request.path.split('/').size() > 1", 19, "Envoy has no split() in rules"),
        ("request.headers.exists(name, name == 'x')", 23, "Envoy has no exists() in rules"),
        ("request.nope == 'a'", 8, "undefined field 'nope'"),
        ("response.code == 200", 1, "undeclared reference to 'response'"),
        ("request.path + 'a' == '/a'", 14, "Envoy joins no texts or lists in rules"),
        ("{'a': 1}['a'] == 1", 1, "Envoy makes no maps"),
        ("request.?path == request.?path", 8, "Envoy has no optional values"),
        ("request.path.matches(request.host)", 21, "a regular expression must be written out"),
        ("request.path.matches('(')", 21, "missing closing )"),
        (" && ".join(["request.path.contains('a')"] * 33), 1, "a rule may look through 32 texts"),
        ("(" * 300, 0, ""),
        ("!" * 60 + "connection.mtls", 41, "Envoy reads no more than 40 levels"),
    ],
)
def test_an_expression_that_envoy_cannot_evaluate_is_told_with_its_place(
    text: str, place: int, said: str
) -> None:
    with pytest.raises(CompileError) as told:
        compile_request_expression(text)
    assert said in str(told.value)
    assert not place or f"<input>:1:{place}: " in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        " || ".join([f"request.path == '/{number}'" for number in range(150)]),
        " && ".join(["(connection.mtls || !connection.mtls)"] * 60),
        "!" * 36 + "connection.mtls",
        " + ".join(["1"] * 38) + " > 1",
    ],
)
def test_what_an_expression_may_be_envoys_messages_hold(text: str) -> None:
    type_name = "cel.expr.ParsedExpr"
    encoded = Encoder(schema()).encode(type_name, compile_request_expression(text).tree)
    assert schema().message(type_name).FromString(encoded).expr.id == 1


@pytest.mark.parametrize(
    ("text", "waits"),
    [
        ("request.headers['x-tenant'] == 'a'", False),
        ("has(request.headers.x) && 'y' in request.headers", False),
        ("request.headers['X-AI-EG-Model'] == 'a'", True),
        ("'x-ai-eg-model' in request.headers", True),
        ("request.headers[request.path] == 'a'", True),
        ("request.headers.size() > 9", True),
        ("metadata.headers['x'] == 'a'", True),
        ("request.path == '/a' && has(request.headers.x)", False),
        ("dyn(request).headers['x-ai-eg-model'] == 'a'", True),
        ("[request][0].headers['x-ai-eg-model'] == 'a'", True),
    ],
)
def test_an_expression_over_the_model_waits_for_it(text: str, waits: bool) -> None:
    assert compile_request_expression(text).by_model == waits


def test_a_message_that_is_too_deep_is_refused_as_any_other_that_cannot_be_made() -> None:
    expression: dict[str, Any] = {"ident_expr": {"name": "a"}}
    for _ in range(60):
        expression = {"call_expr": {"function": "!_", "args": [expression]}}
    with pytest.raises(InvalidManifest, match=r"cel\.expr\.ParsedExpr"):
        Encoder(schema()).encode("cel.expr.ParsedExpr", {"expr": expression})
