"""A rule of an HTTPRoute or a GRPCRoute to routes of Envoy: one for each match, and where backends have filters that
no weighted cluster can carry, one for each backend with its share of the requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.reason import Reason
from kajitori.gateway.backends.targets import Target
from kajitori.gateway.observed import age_key
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes.answers import direct_error, literal, named_for_answers
from kajitori.gateway.routes.route_filters import Steps, read_filters, redirection, rewriting
from kajitori.gateway.routes.rule_settings import SESSION_FILTER, session_persistence, timeouts
from kajitori.gateway.routes.tables import PLAIN_FILTERS, Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.gateway.http_route import HTTPBackendRef, HTTPRouteRule
    from kajitori.gateway.routes.matches import Match
    from kajitori.gateway.routes.rule_context import RuleContext

# A cluster that does not exist takes the share of a reference that does not resolve.
NO_BACKEND_CLUSTER = "no-backend"
_MISSING_IS_500 = {"cluster_not_found_response_code": "INTERNAL_SERVER_ERROR"}
_HOST_REWRITES = (
    "host_rewrite_literal",
    "host_rewrite_header",
    "host_rewrite_path_regex",
    "auto_host_rewrite",
)
_MILLION = 1_000_000


class _Share(msgspec.Struct, frozen=True):
    """A backend with a weight above 0. cluster: None for one that does not resolve."""

    cluster: str | None
    weight: int
    steps: Steps
    fallback: bool = False


def rule_entries(
    context: RuleContext, rule: HTTPRouteRule, number: int, matches: Sequence[Match]
) -> list[Entry]:
    """The routes of Envoy for one rule; clusters go to the world, what is amiss to the context."""
    where = f"rules[{number}]"
    steps = read_filters(context, rule.filters, f"{where}.filters")
    context.note(steps.broken)
    context.rules += 1
    if rule.session_persistence is not None:
        state, told = session_persistence(rule.session_persistence, context.key, number)
        steps.per_filter[SESSION_FILTER] = state
        context.note(f"{where}.sessionPersistence.{text}" for text in told)
    shares, why = _shares(context, rule, number, steps)
    context.broken_rules += bool(steps.broken) or all(match.broken for match in matches)
    entries: list[Entry] = []
    for match_number, match in enumerate(matches):
        if match.broken:
            context.note([f"{where}.matches[{match_number}] is left out: {match.broken}"])
            continue
        variants = _variants(context, rule, match, steps, shares, why)
        for part, (envoy_match, action) in enumerate(variants):
            name = f"{context.kind.removesuffix('Route').lower()}/{context.key}/rule/{number}/match/{match_number}"
            if part:
                name += f"/part/{part}"
            route = {
                "name": name,
                "match": envoy_match,
                **action,
                "metadata": named_for_answers(context.kind, context.key),
                "typed_per_filter_config": {**PLAIN_FILTERS, **action.get("typed_per_filter_config", {})},
            }
            rank = (*match.rank, *age_key(context), number, match_number, part)
            entries.append(Entry(rank, route, at_root=match.at_root, rule=rule.name or ""))
    return entries


def _shares(context: RuleContext, rule: HTTPRouteRule, number: int, steps: Steps) -> tuple[list[_Share], str]:
    """The backends of a rule with a weight, and why there are fewer than it names."""
    shares: list[_Share] = []
    missing: list[str] = []
    for ref_number, ref in enumerate(rule.backend_refs):
        own = read_filters(context, ref.filters, f"rules[{number}].backendRefs[{ref_number}].filters")
        context.note(own.broken)
        cluster = context.cluster(ref, [*steps.upstream, *own.upstream])
        if isinstance(cluster, Reason):
            context.missing(cluster)
            missing.append(cluster.message)
        if ref.weight:
            shares.append(_share(context, ref, cluster, own))
    return shares, "; ".join(missing) or "no backend with a weight above 0"


def _share(context: RuleContext, ref: HTTPBackendRef, cluster: str | Reason, own: Steps) -> _Share:
    if isinstance(cluster, Reason):
        return _Share(None, ref.weight, own)
    target = context.target(ref)
    return _Share(cluster, ref.weight, own, isinstance(target, Target) and target.fallback)


def _variants(
    context: RuleContext,
    rule: HTTPRouteRule,
    match: Match,
    steps: Steps,
    shares: Sequence[_Share],
    why: str,
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Matches of Envoy and what is done where they hold, of which the first that holds counts."""
    envoy_match = {**match.envoy, "cookies": steps.cookies} if steps.cookies else match.envoy
    if steps.broken or steps.answer or steps.redirect:
        return [(envoy_match, _without_backend(context, steps, match))]
    if not any(share.cluster for share in shares):
        told = literal(f"{context.kind} {context.key} has no backend: {why}")
        return [(envoy_match, {"direct_response": direct_error(500, told), **_members(steps)})]
    if any(share.fallback for share in shares):
        return [(envoy_match, _prioritized(context, rule, match, steps, shares))]
    if all(share.steps.headers_only for share in shares):
        return [(envoy_match, _forwarding(rule, match, steps, _weighted(shares)))]
    total, reached = sum(share.weight for share in shares), 0
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for share in shares:
        reached += share.weight
        own_match = envoy_match
        if reached < total:
            # Envoy draws once a request, so each share is asked for with those before it.
            part = {"numerator": round(reached * _MILLION / total), "denominator": "MILLION"}
            own_match = {**envoy_match, "runtime_fraction": {"default_value": part}}
        found.append((own_match, _single(context, rule, match, _together(steps, share.steps), share)))
    return found


def _without_backend(context: RuleContext, steps: Steps, match: Match) -> dict[str, Any]:
    if steps.broken:
        told = literal(f"{context.kind} {context.key}: {'; '.join(steps.broken)}")
        return {"direct_response": direct_error(500, told)}
    if steps.answer is not None:
        return {"direct_response": steps.answer, **_members(steps)}
    assert steps.redirect is not None
    return {"redirect": redirection(steps.redirect, match), **_members(steps)}


def _single(
    context: RuleContext, rule: HTTPRouteRule, match: Match, steps: Steps, share: _Share
) -> dict[str, Any]:
    if steps.broken or steps.answer or steps.redirect:
        return _without_backend(context, steps, match)
    if share.cluster is None:
        told = literal(f"{context.kind} {context.key} has no backend for this share of its requests")
        return {"direct_response": direct_error(500, told), **_members(steps)}
    return _forwarding(rule, match, steps, {"cluster": share.cluster})


def _weighted(shares: Sequence[_Share]) -> dict[str, Any]:
    if len(shares) == 1 and shares[0].cluster and not shares[0].steps.headers:
        return {"cluster": shares[0].cluster}
    clusters = [
        {"name": share.cluster or NO_BACKEND_CLUSTER, "weight": share.weight, **share.steps.headers}
        for share in shares
    ]
    found: dict[str, Any] = {"weighted_clusters": {"clusters": clusters}}
    return found if all(share.cluster for share in shares) else {**found, **_MISSING_IS_500}


def _prioritized(
    context: RuleContext, rule: HTTPRouteRule, match: Match, steps: Steps, shares: Sequence[_Share]
) -> dict[str, Any]:
    """Backends marked as fallback are asked where those that are not have failed."""
    if any(share.steps != Steps() for share in shares):
        context.note(["backendRefs.filters are not honoured beside a Backend with fallback"])
    groups: list[dict[str, Any]] = []
    for name, fallback in (("primary", False), ("fallback", True)):
        clusters = [
            {"cluster_name": share.cluster, "weight": share.weight}
            for share in shares
            if share.cluster and share.fallback is fallback
        ]
        if clusters:
            groups.append({"name": name, "clusters": clusters})
    kind = "envoy.extensions.router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier"
    specifier = {"@type": TYPE + kind, "priority_groups": groups}
    extension = {
        "name": "envoy.router.cluster_specifier_plugin.priority_group",
        "typed_config": specifier,
    }
    found = _forwarding(rule, match, steps, {"inline_cluster_specifier_plugin": {"extension": extension}})
    policy = {
        "retry_on": "5xx,reset,connect-failure,refused-stream",
        "num_retries": max(len(groups) - 1, 1),
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
        **found["route"].get("retry_policy", {}),
        "refresh_cluster_on_retry": True,
    }
    found["route"]["retry_policy"] = policy
    return found


def _forwarding(
    rule: HTTPRouteRule, match: Match, steps: Steps, destination: dict[str, Any]
) -> dict[str, Any]:
    action = {**destination, **timeouts(rule)}
    if steps.url_rewrite is not None:
        action |= rewriting(steps.url_rewrite, match)
    if steps.rewrite:
        if any(name in steps.rewrite for name in _HOST_REWRITES):
            action = {name: value for name, value in action.items() if name not in _HOST_REWRITES}
        action |= steps.rewrite
    if steps.mirrors:
        action["request_mirror_policies"] = steps.mirrors
    return {"route": action, **_members(steps)}


def _members(steps: Steps) -> dict[str, Any]:
    """Members of a route beside its action."""
    if not steps.per_filter:
        return steps.headers
    return {**steps.headers, "typed_per_filter_config": steps.per_filter}


def _together(rule: Steps, own: Steps) -> Steps:
    """The filters of the rule and then those of the backend."""
    headers = dict(rule.headers)
    for name, items in own.headers.items():
        headers[name] = [*headers.get(name, []), *items]
    return Steps(
        headers=headers,
        redirect=own.redirect or rule.redirect,
        url_rewrite=own.url_rewrite or rule.url_rewrite,
        rewrite={**rule.rewrite, **own.rewrite},
        mirrors=[*rule.mirrors, *own.mirrors],
        per_filter={**rule.per_filter, **own.per_filter},
        answer=own.answer or rule.answer,
        broken=[*rule.broken, *own.broken],
    )
