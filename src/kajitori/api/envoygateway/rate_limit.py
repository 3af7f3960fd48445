"""`rateLimit` of a BackendTrafficPolicy: rules that select clients, limits, and what a request counts.

Fields and rules follow envoyproxy/gateway.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import Int64, rule
from kajitori.api.crd import rules as cel_rules

Unit = Literal["Second", "Minute", "Hour", "Day", "Week", "Month", "Year"]
MatchType = Literal["Exact", "RegularExpression", "Distinct"]
UNIT_SECONDS: dict[str, int] = {
    "Second": 1,
    "Minute": 60,
    "Hour": 3600,
    "Day": 86_400,
    "Week": 7 * 86_400,
    "Month": 30 * 86_400,
    "Year": 365 * 86_400,
}
"""How long each unit is, as Envoy's rate limit service counts it."""


class HeaderMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A header. Distinct: each of its values is counted apart."""

    type: MatchType = "Exact"
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    value: Annotated[str, Meta(max_length=1024)] | None = None
    invert: bool = False


class QueryParamMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A parameter of the query. Distinct: each of its values is counted apart."""

    type: MatchType = "Exact"
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    value: Annotated[str, Meta(max_length=1024)] | None = None
    invert: bool = False


class MethodMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A method of HTTP."""

    value: Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
    invert: bool = False


class PathMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The path."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"
    invert: bool = False


class SourceMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Addresses of clients. Distinct: each address of the range is counted apart."""

    type: Literal["Exact", "Distinct"] = "Exact"
    value: Annotated[str, Meta(min_length=1, max_length=256)]
    invert: bool = False


class RateLimitSelectCondition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All parts hold; of several methods one is enough."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "has(self.headers) || has(self.methods) || has(self.path) || has(self.sourceCIDR)"
                " || has(self.queryParams)",
                "give one of headers, methods, path, sourceCIDR and queryParams at least",
            )
        ]
    }
    headers: Annotated[list[HeaderMatch], Meta(max_length=128)] = field(default_factory=list)
    methods: list[MethodMatch] = field(default_factory=list)
    path: PathMatch | None = None
    source_cidr: SourceMatch | None = field(default=None, name="sourceCIDR")
    query_params: Annotated[list[QueryParamMatch], Meta(max_length=16)] = field(default_factory=list)


class MetadataReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A number in a request's dynamic metadata, such as a cost of an AIGatewayRoute."""

    namespace: str
    key: str


class RateLimitValue(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """So many requests, or units of cost, in a unit of time. fromMetadata: where a request brings its own limit."""

    requests: Annotated[Int64, Meta(ge=0, le=4294967295)]
    unit: Unit
    from_metadata: MetadataReference | None = None


class RateLimitCostSpecifier(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is counted: a fixed number, or one from metadata."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("!(has(self.number) && has(self.metadata))", "give number or metadata, not both")
        ]
    }
    from_: Literal["Number", "Metadata"] = field(name="from")
    number: Annotated[Int64, Meta(ge=0)] | None = None
    metadata: MetadataReference | None = None


class RateLimitCost(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a request counts as it comes, and when its answer is done."""

    request: RateLimitCostSpecifier | None = None
    response: RateLimitCostSpecifier | None = None


class RateLimitRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Requests that all selectors choose share a limit."""

    client_selectors: Annotated[list[RateLimitSelectCondition], Meta(max_length=8)] = field(
        default_factory=list
    )
    limit: RateLimitValue
    cost: RateLimitCost | None = None
    shared: bool = False
    shadow_mode: bool = False
    x_rate_limit_headers: Literal["Off", "DraftVersion03"] | None = None


class GlobalRateLimit(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Limits that all gateways hold together."""

    rules: Annotated[list[RateLimitRule], Meta(max_length=256)]


class LocalRateLimit(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Limits that each Envoy holds for itself."""

    rules: Annotated[
        list[RateLimitRule],
        Meta(max_length=16),
        cel_rules(
            rule(
                "self.all(r, !has(r.cost) || !has(r.cost.response))",
                "a local limit cannot count what an answer cost; make it global",
            ),
            rule(
                "self.all(r, !has(r.limit.fromMetadata))",
                "a local limit cannot be read from metadata",
            ),
        ),
    ] = field(default_factory=list)


class RateLimitSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Limits. type: the older way to say which of the two counts."""

    type: Literal["Global", "Local"] | None = None
    global_: GlobalRateLimit | None = field(default=None, name="global")
    local: LocalRateLimit | None = None
