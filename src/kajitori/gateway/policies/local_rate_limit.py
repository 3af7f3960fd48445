"""Local rate limits of a policy as Envoy's filter has them. Each Envoy counts for itself, requests only. Pure.

A rule without selectors is the limit of what no other rule chooses. Of the others each makes a descriptor: a request
that carries it takes from its bucket.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from kajitori.api.envoygateway.rate_limit import UNIT_SECONDS
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from kajitori.api.envoygateway.rate_limit import (
        HeaderMatch,
        LocalRateLimit,
        MethodMatch,
        PathMatch,
        QueryParamMatch,
        RateLimitRule,
        RateLimitSelectCondition,
        SourceMatch,
    )

FILTER_TYPE = TYPE + "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
_STAT_PREFIX = "local_rate_limit"
_UNLIMITED = 2**32 - 1
# Of clients that are told apart, as Envoy Gateway has it.
_MOST_COUNTED_APART = 10_000


def neutral() -> dict[str, Any]:
    """A config that limits nothing."""
    return {"@type": FILTER_TYPE, "stat_prefix": _STAT_PREFIX}


def local_rate_limit(limit: LocalRateLimit, where: str, problems: list[str]) -> dict[str, Any]:
    """The filter's config for a route. where: path of `local`, for what is told."""
    default: RateLimitRule | None = None
    rate_limits: list[dict[str, Any]] = []
    descriptors: list[dict[str, Any]] = []
    for number, rule in enumerate(limit.rules):
        path = f"{where}.rules[{number}]"
        problems += _impossible(rule, path)
        if rule.cost and rule.cost.response:
            problems.append(f"{path}.cost.response: a local limit counts requests; make it global")
        if not rule.client_selectors:
            if default is not None:
                problems.append(f"{path}: only one rule may do without clientSelectors")
            default = default or rule
            continue
        found = _Descriptors(number, rule)
        rate_limits += found.rate_limits
        descriptors += found.descriptors
    base_seconds = UNIT_SECONDS[default.limit.unit] if default else 1
    for number, rule in enumerate(limit.rules):
        if UNIT_SECONDS[rule.limit.unit] % base_seconds:
            problems.append(
                f"{where}.rules[{number}].limit.unit: must be a whole multiple of the unit of the rule"
                " without clientSelectors"
            )
    shown = default.x_rate_limit_headers if default else None
    made = {
        **neutral(),
        "token_bucket": _bucket(default.limit.requests if default else _UNLIMITED, base_seconds),
        "filter_enabled": {"default_value": {"numerator": 100}},
        "filter_enforced": {"default_value": {"numerator": 100}},
        "enable_x_ratelimit_headers": "OFF" if shown == "Off" else "DRAFT_VERSION_03",
        # A refused client is told when to come back.
        "enable_retry_after_header": True,
        # Who is chosen by a rule takes nothing from the limit of the others.
        "always_consume_default_token_bucket": False,
        "max_dynamic_descriptors": _MOST_COUNTED_APART,
    }
    if descriptors:
        made |= {"descriptors": descriptors, "rate_limits": rate_limits}
    return made


def _impossible(rule: RateLimitRule, path: str) -> list[str]:
    """What Envoy would not take."""
    found: list[str] = []
    if not rule.limit.requests:
        found.append(
            f"{path}.limit.requests: 0 lets nobody in; a SecurityPolicy with authorization does that"
        )
    for condition in rule.client_selectors:
        if condition.source_cidr:
            try:
                ip_network(condition.source_cidr.value, strict=False)
            except ValueError as error:
                found.append(f"{path}.clientSelectors: sourceCIDR: {error}")
    return found


def _bucket(requests: int, seconds: int) -> dict[str, Any]:
    # A bucket of Envoy holds one token at least.
    return {
        "max_tokens": max(requests, 1),
        "tokens_per_fill": max(requests, 1),
        "fill_interval": f"{seconds}s",
    }


class _Descriptors:
    """Of one rule: several conditions hold together; of several methods one is enough."""

    def __init__(self, number: int, rule: RateLimitRule) -> None:
        self._key = f"rule-{number}"
        self.rate_limits: list[dict[str, Any]] = []
        self.descriptors: list[dict[str, Any]] = []
        methods = [method for condition in rule.client_selectors for method in condition.methods]
        for method in methods or [None]:
            actions: list[dict[str, Any]] = []
            entries: list[dict[str, Any]] = []
            for index, condition in enumerate(rule.client_selectors):
                self._condition(f"{self._key}-{index}", condition, actions, entries)
            if method is not None:
                _match(actions, entries, f"{self._key}-method-{method.value}", _method(method))
            limit: dict[str, Any] = {"actions": actions}
            if rule.x_rate_limit_headers:
                limit["x_ratelimit_option"] = (
                    "OFF" if rule.x_rate_limit_headers == "Off" else "DRAFT_VERSION_03"
                )
            self.rate_limits.append(limit)
            descriptor: dict[str, Any] = {
                "entries": entries,
                "token_bucket": _bucket(rule.limit.requests, UNIT_SECONDS[rule.limit.unit]),
            }
            if rule.shadow_mode:
                descriptor["shadow_mode"] = True
            self.descriptors.append(descriptor)

    def _condition(
        self,
        key: str,
        condition: RateLimitSelectCondition,
        actions: list[dict[str, Any]],
        entries: list[dict[str, Any]],
    ) -> None:
        for index, header in enumerate(condition.headers):
            name = f"{key}-header-{index}"
            if header.type == "Distinct":
                actions.append(
                    {"request_headers": {"header_name": header.name.lower(), "descriptor_key": name}}
                )
                entries.append({"key": name})
            else:
                _match(actions, entries, name, _header(header))
        if condition.path:
            _match(actions, entries, f"{key}-path", _path(condition.path))
        for index, parameter in enumerate(condition.query_params):
            _parameter(actions, entries, f"{key}-parameter-{index}", parameter)
        if condition.source_cidr:
            _source(actions, entries, f"{key}-source", condition.source_cidr)


def _match(
    actions: list[dict[str, Any]], entries: list[dict[str, Any]], key: str, match: tuple[dict[str, Any], bool]
) -> None:
    """Adds a header's comparison. match: Envoy's matcher, and whether it shall hold."""
    matcher, expected = match
    actions.append(
        {
            "header_value_match": {
                "descriptor_key": key,
                "descriptor_value": key,
                "expect_match": expected,
                "headers": [matcher],
            }
        }
    )
    entries.append({"key": key, "value": key})


def _header(header: HeaderMatch) -> tuple[dict[str, Any], bool]:
    return {
        "name": header.name.lower(),
        "string_match": _text(header.type, header.value or ""),
    }, not header.invert


def _text(kind: str, value: str) -> dict[str, Any]:
    return {"exact": value} if kind == "Exact" else {"safe_regex": {"regex": value}}


def _method(method: MethodMatch) -> tuple[dict[str, Any], bool]:
    return {"name": ":method", "string_match": {"exact": method.value}}, not method.invert


def _path(path: PathMatch) -> tuple[dict[str, Any], bool]:
    """The header with the path has the query too."""
    if path.type == "RegularExpression":
        pattern = path.value
    elif path.type == "Exact":
        pattern = re.escape(path.value)
    else:
        pattern = re.escape(path.value.rstrip("/")) + "(/[^?]*)?"
    regex = rf"({pattern})(\?.*)?"
    return {"name": ":path", "string_match": {"safe_regex": {"regex": regex}}}, not path.invert


def _parameter(
    actions: list[dict[str, Any]], entries: list[dict[str, Any]], key: str, parameter: QueryParamMatch
) -> None:
    if parameter.type == "Distinct":
        actions.append({"query_parameters": {"query_parameter_name": parameter.name, "descriptor_key": key}})
        entries.append({"key": key})
        return
    matcher = {"name": parameter.name, "string_match": _text(parameter.type, parameter.value or "")}
    actions.append(
        {
            "query_parameter_value_match": {
                "descriptor_key": key,
                "descriptor_value": key,
                "expect_match": not parameter.invert,
                "query_parameters": [matcher],
            }
        }
    )
    entries.append({"key": key, "value": key})


def _source(
    actions: list[dict[str, Any]], entries: list[dict[str, Any]], key: str, source: SourceMatch
) -> None:
    address, _, length = source.value.partition("/")
    bits = int(length) if length.isdecimal() else (128 if ":" in address else 32)
    if source.type == "Distinct":
        actions.append({"remote_address": {}})
        entries.append({"key": "remote_address"})
    actions.append(
        {
            "remote_address_match": {
                "address_matcher": {
                    "ranges": [{"address_prefix": address, "prefix_len": bits}],
                    "invert_match": source.invert,
                },
                "descriptor_key": key,
                "descriptor_value": key,
            }
        }
    )
    entries.append({"key": key, "value": key})
