"""Ordered rules come to one expression without an order, which must mean the same."""

from __future__ import annotations

from typing import Any

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
from kajitori.gateway.observed import Index
from kajitori.gateway.policies.security.authorization import make_authorization
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
