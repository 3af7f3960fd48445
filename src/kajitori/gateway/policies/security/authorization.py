"""`authorization`: ordered rules of ours as one policy of Envoy's RBAC filter.

Envoy's policies have no order. A request may pass where an allowing rule holds and no denying one before it does, or,
with Allow as the default, where no denying rule holds at all; that is one expression. It cannot hold CEL: where a rule
has some, the same parts become a list of Envoy's matchers (`matchers`), which has an order.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from kajitori.base.cel.errors import CompileError
from kajitori.gateway.policies.security.expressions import MODEL_HEADERS, compile_request_expression
from kajitori.gateway.policies.security.matchers import first_match
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes.security_filters import RULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.envoygateway.authorization import (
        Authorization,
        AuthorizationRule,
        JWTClaim,
        JWTPrincipal,
        Operation,
        Principal,
    )
    from kajitori.api.envoygateway.rate_limit import PathMatch
    from kajitori.gateway.policies.security.making import Making

_TOKENS = "envoy.filters.http.jwt_authn"
_SCOPES = ("scope", "scp")


def make_authorization(making: Making, authorization: Authorization, providers: frozenset[str]) -> None:
    """The configuration of the RBAC filter. providers: names of the policy's own `jwt.providers`."""
    held: list[tuple[str, dict[str, Any]]] = []
    for number, rule in enumerate(authorization.rules):
        holds = _rule(making, rule, f"spec.authorization.rules[{number}]", providers)
        if holds is None:
            return
        held.append((rule.action, holds))
    if any(rule.cel is not None for rule in authorization.rules):
        rules = {"matcher": first_match(held, authorization.default_action)}
    else:
        rules = {"rules": {"action": "ALLOW", "policies": _policies(held, authorization.default_action)}}
    making.steps[RULES] = {
        "@type": TYPE + "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
        "rbac": rules,
    }


def _policies(held: Sequence[tuple[str, dict[str, Any]]], default_action: str) -> dict[str, Any]:
    denied: list[dict[str, Any]] = []
    allowed: list[dict[str, Any]] = []
    for action, holds in held:
        if action == "Deny":
            denied.append(holds)
        else:
            allowed.append(_all([holds, *(_not(each) for each in denied)]))
    if default_action == "Allow":
        allowed.append(_all([_not(each) for each in denied]))
    return {"allowed": {"permissions": [{"any": True}], "principals": allowed}} if allowed else {}


def _all(parts: list[dict[str, Any]]) -> dict[str, Any]:
    if not parts:
        return {"any": True}
    return parts[0] if len(parts) == 1 else {"and_ids": {"ids": parts}}


def _any(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return parts[0] if len(parts) == 1 else {"or_ids": {"ids": parts}}


def _not(part: dict[str, Any]) -> dict[str, Any]:
    return {"not_id": part}


def _rule(
    making: Making, rule: AuthorizationRule, where: str, providers: frozenset[str]
) -> dict[str, Any] | None:
    """When it holds; None: it cannot be said, and the problem is told."""
    parts: list[dict[str, Any]] = []
    if rule.cel is not None:
        try:
            expression = compile_request_expression(rule.cel)
        except CompileError as error:
            making.problems.append(f"{where}.cel: {error}")
            return None
        if expression.by_model:
            making.behind.add(RULES)
        parts.append({"cel": expression.tree})
    if rule.operation is not None:
        parts += _operation(rule.operation)
    if rule.principal is not None:
        problem = _principal(making, rule.principal, providers, parts)
        if problem:
            making.problems.append(f"{where}.principal{problem}")
            return None
    if not parts:
        making.problems.append(f"{where}: nothing that is honoured says when the rule holds")
        return None
    return _all(parts)


def _operation(operation: Operation) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if operation.methods:
        parts.append(_any([_header(":method", method) for method in operation.methods]))
    if operation.path is not None:
        parts.append(_path(operation.path))
    return parts


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"name": name.lower(), "string_match": {"exact": value}}}


def _path(path: PathMatch) -> dict[str, Any]:
    def matching(**how: Any) -> dict[str, Any]:
        return {"url_path": {"path": how}}

    if path.type == "Exact":
        found = matching(exact=path.value)
    elif path.type == "RegularExpression":
        found = matching(safe_regex={"regex": path.value})
    elif path.value.rstrip("/") == "":
        found = {"any": True}
    else:
        # /a is a prefix of /a and of /a/b, and not of /ab.
        prefix = path.value.rstrip("/")
        found = _any([matching(exact=prefix), matching(prefix=prefix + "/")])
    return _not(found) if path.invert else found


def _principal(
    making: Making, principal: Principal, providers: frozenset[str], parts: list[dict[str, Any]]
) -> str:
    """Adds to `parts`; returns the path of a member with what is wrong with it, or nothing."""
    if principal.client_ip_geo_locations:
        return ".clientIPGeoLocations is not honoured"
    if principal.client_cidrs:
        ranges: list[dict[str, Any]] = []
        for number, text in enumerate(principal.client_cidrs):
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError:
                return f".clientCIDRs[{number}]: {text!r} is no range of addresses"
            ranges.append(
                {
                    "remote_ip": {
                        "address_prefix": str(network.network_address),
                        "prefix_len": network.prefixlen,
                    }
                }
            )
        parts.append(_any(ranges))
    for match in principal.headers or ():
        if match.name.lower().startswith(MODEL_HEADERS):
            making.behind.add(RULES)
        parts.append(_any([_header(match.name, value) for value in match.values]))
    if principal.jwt is not None:
        if principal.jwt.provider not in providers:
            return f".jwt.provider: the policy has no jwt.providers entry {principal.jwt.provider!r}"
        parts += _token(principal.jwt)
    return ""


def _token(principal: JWTPrincipal) -> list[dict[str, Any]]:
    parts = [_claim(principal.provider, claim) for claim in principal.claims or ()]
    parts += [
        _any([_metadata(principal.provider, [name], [{"list_match": {"one_of": {"string_match": {"exact": scope}}}}])
              for name in _SCOPES])
        for scope in principal.scopes or ()
    ]  # fmt: skip
    return parts


def _claim(provider: str, claim: JWTClaim) -> dict[str, Any]:
    values: list[dict[str, Any]] = [{"string_match": {"exact": value}} for value in claim.values]
    if claim.value_type == "StringArray":
        values = [{"list_match": {"one_of": value}} for value in values]
    return _metadata(provider, claim.name.split("."), values)


def _metadata(provider: str, path: list[str], values: list[dict[str, Any]]) -> dict[str, Any]:
    value = values[0] if len(values) == 1 else {"or_match": {"value_matchers": values}}
    return {
        "metadata": {
            "filter": _TOKENS,
            "path": [{"key": key} for key in (provider, *path)],
            "value": value,
        }
    }
