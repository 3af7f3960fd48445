"""HTTPRoute v1: matches, filters, backends.

Fields, defaults, bounds and rules follow kubernetes-sigs/gateway-api (experimental channel).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import (
    AGE,
    SET_LIST,
    Column,
    Definition,
    Int32,
    Version,
    extra,
    map_list,
    rule,
    rules,
)
from kajitori.api.gateway.shared import (
    GROUP,
    SERVICE_HAS_PORT,
    BackendObjectReference,
    Duration,
    Fraction,
    HeaderName,
    HostRouteSpec,
    LocalObjectReference,
    PortNumber,
    PreciseHostname,
    RouteStatus,
    SectionName,
    SessionPersistence,
    WeightedBackendReference,
)
from kajitori.api.kubernetes.meta_v1 import ObjectMeta


class HTTPPathMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The path, whole or by its first segments."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "self.type in ['Exact', 'PathPrefix'] ? self.value.startsWith('/') : true",
                "the value of an Exact or PathPrefix match starts with a slash",
            ),
            rule(
                "self.type in ['Exact', 'PathPrefix'] ? !self.value.contains('//') : true",
                "the value of an Exact or PathPrefix match has no empty segment",
            ),
            rule(
                "self.type in ['Exact', 'PathPrefix'] ? !self.value.contains('/./') && !self.value.contains('/../')"
                " && !self.value.endsWith('/.') && !self.value.endsWith('/..') : true",
                "the value of an Exact or PathPrefix match has no segment `.` or `..`",
            ),
            rule(
                "self.type in ['Exact', 'PathPrefix'] ? !self.value.contains('%2f')"
                " && !self.value.contains('%2F') && !self.value.contains('#') : true",
                "the value of an Exact or PathPrefix match has no `%2F` and no `#`",
            ),
            rule(
                "self.type in ['Exact', 'PathPrefix'] ? self.value.matches(r\"\"\"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]"
                '|[%][0-9a-fA-F]{2})+$""") : true',
                "the value of an Exact or PathPrefix match has only characters that a path may have; write others as %XX",
            ),
        ]
    }
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"


class HTTPHeaderMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A header's value."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class HTTPQueryParamMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A query parameter's value."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]


HTTPMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


class HTTPRouteMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All of these together."""

    path: HTTPPathMatch = field(default_factory=HTTPPathMatch)
    headers: Annotated[list[HTTPHeaderMatch], Meta(max_length=16), map_list("name")] = field(
        default_factory=list
    )
    query_params: Annotated[list[HTTPQueryParamMatch], Meta(max_length=16), map_list("name")] = field(
        default_factory=list
    )
    method: HTTPMethod | None = None


class HTTPHeader(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A header to write."""

    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class HTTPHeaderFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Headers to set, add and remove, in this order."""

    set: Annotated[list[HTTPHeader], Meta(max_length=16), map_list("name")] = field(default_factory=list)
    add: Annotated[list[HTTPHeader], Meta(max_length=16), map_list("name")] = field(default_factory=list)
    remove: Annotated[list[str], Meta(max_length=16), extra(x_kubernetes_list_type="set")] = field(
        default_factory=list
    )


class HTTPPathModifier(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A path to put in place of the whole one, or of the matched prefix."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(self.type == 'ReplaceFullPath') == has(self.replaceFullPath)",
                "replaceFullPath goes with type ReplaceFullPath, and only with it",
            ),
            rule(
                "(self.type == 'ReplacePrefixMatch') == has(self.replacePrefixMatch)",
                "replacePrefixMatch goes with type ReplacePrefixMatch, and only with it",
            ),
        ]
    }
    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Meta(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Meta(max_length=1024)] | None = None


class HTTPRequestRedirectFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An answer that sends the client elsewhere."""

    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None
    port: PortNumber | None = None
    status_code: Annotated[int, extra(enum=[301, 302, 303, 307, 308])] = 302


class HTTPUrlRewriteFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Another host or path towards the backend."""

    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None


class HTTPRequestMirrorFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A copy of requests, or of a share of them, to another backend, whose answers nobody waits for."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("!(has(self.percent) && has(self.fraction))", "percent and fraction cannot both be given")
        ]
    }
    backend_ref: BackendObjectReference
    percent: Annotated[Int32, Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None


Origin = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"(^\*$)|(^([a-zA-Z][a-zA-Z0-9+\-.]+):\/\/([^:/?#]+)(:([0-9]{1,5}))?$)",
    ),
]
_ALONE = rules(rule("!('*' in self && self.size() > 1)", "`*` stands alone"))


class HTTPCORSFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What browsers may do on behalf of pages of other origins. max_age: seconds."""

    allow_origins: Annotated[list[Origin], Meta(max_length=64), SET_LIST, _ALONE] = field(
        default_factory=list
    )
    allow_credentials: bool | None = None
    allow_methods: Annotated[list[Literal[HTTPMethod, "*"]], Meta(max_length=9), SET_LIST, _ALONE] = field(
        default_factory=list
    )
    allow_headers: Annotated[list[HeaderName], Meta(max_length=64), SET_LIST, _ALONE] = field(
        default_factory=list
    )
    expose_headers: Annotated[list[HeaderName], Meta(max_length=64), SET_LIST] = field(default_factory=list)
    max_age: Annotated[Int32, Meta(ge=1)] = 5


def _member(kind: str, member: str) -> dict[str, Any]:
    return rule(
        f"(self.type == '{kind}') == has(self.{member})", f"{member} goes with type {kind}, and only with it"
    )


FILTER_RULES = [
    _member("RequestHeaderModifier", "requestHeaderModifier"),
    _member("ResponseHeaderModifier", "responseHeaderModifier"),
    _member("RequestMirror", "requestMirror"),
    _member("ExtensionRef", "extensionRef"),
]


class HTTPRouteFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One step on the way; exactly the member that `type` names is set."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            *FILTER_RULES,
            _member("RequestRedirect", "requestRedirect"),
            _member("URLRewrite", "urlRewrite"),
            _member("CORS", "cors"),
        ]
    }
    type: Literal[
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestMirror",
        "RequestRedirect",
        "URLRewrite",
        "ExtensionRef",
        "CORS",
        "ExternalAuth",
    ]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPUrlRewriteFilter | None = None
    extension_ref: LocalObjectReference | None = None
    cors: HTTPCORSFilter | None = None
    external_auth: dict[str, Any] | None = None


def once(kind: str) -> dict[str, Any]:
    """The rule that a list of filters has one of this type at most."""
    return rule(f"self.filter(f, f.type == '{kind}').size() <= 1", f"{kind} stands once at most")


_FILTERS = rules(
    once("RequestHeaderModifier"),
    once("ResponseHeaderModifier"),
    once("RequestRedirect"),
    once("URLRewrite"),
    rule(
        "!(self.exists(f, f.type == 'RequestRedirect') && self.exists(f, f.type == 'URLRewrite'))",
        "RequestRedirect and URLRewrite exclude each other",
    ),
)


class HTTPBackendRef(WeightedBackendReference, frozen=True, kw_only=True, rename="camel"):
    """A backend with its share of the traffic."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": [SERVICE_HAS_PORT]}
    filters: Annotated[list[HTTPRouteFilter], Meta(max_length=16), _FILTERS] = field(default_factory=list)


class HTTPRouteTimeouts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """request: the whole of it, retries included. backend_request: one attempt."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!(has(self.request) && has(self.backendRequest) && duration(self.request) != duration('0s')"
                " && duration(self.backendRequest) > duration(self.request))",
                "backendRequest must not be longer than request",
            )
        ]
    }
    request: Duration | None = None
    backend_request: Duration | None = None


class HTTPRouteRetry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """When and how often to try again."""

    codes: list[Annotated[int, Meta(ge=400, le=599)]] = field(default_factory=list)
    attempts: int | None = None
    backoff: Duration | None = None


def _one_prefix(present: str, filters: str, member: str) -> dict[str, Any]:
    replaces = f"has(f.{member}) && has(f.{member}.path) && f.{member}.path.type == 'ReplacePrefixMatch'"
    return rule(
        f"{present} && {filters}.exists_one(f, {replaces}) ? (!has(self.matches) || size(self.matches) == 1"
        " && (!has(self.matches[0].path) || self.matches[0].path.type == 'PathPrefix')) : true",
        f"{member} with ReplacePrefixMatch needs exactly one match, by PathPrefix",
    )


class HTTPRouteRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Requests that match go through the filters to the backends."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(has(self.backendRefs) && size(self.backendRefs) > 0)"
                " ? (!has(self.filters) || self.filters.all(f, !has(f.requestRedirect))) : true",
                "a rule that redirects has no backendRefs",
            ),
            _one_prefix("has(self.filters)", "self.filters", "requestRedirect"),
            _one_prefix("has(self.filters)", "self.filters", "urlRewrite"),
        ]
    }
    name: SectionName | None = None
    matches: Annotated[list[HTTPRouteMatch], Meta(max_length=64)] = field(default_factory=list)
    filters: Annotated[list[HTTPRouteFilter], Meta(max_length=16), _FILTERS] = field(default_factory=list)
    backend_refs: Annotated[list[HTTPBackendRef], Meta(max_length=16)] = field(default_factory=list)
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None


class HTTPRouteSpec(HostRouteSpec, frozen=True, kw_only=True, rename="camel"):
    """Parents, hostnames and rules."""

    rules: Annotated[list[HTTPRouteRule], Meta(max_length=16)] = field(
        default_factory=lambda: [HTTPRouteRule(matches=[HTTPRouteMatch()])]
    )


class HTTPRoute(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where HTTP requests go."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: HTTPRouteSpec = field(default_factory=HTTPRouteSpec)
    status: RouteStatus | None = None


_COLUMNS = (Column("Hostnames", ".spec.hostnames"), AGE)

DEFINITION = Definition(
    group=GROUP,
    kind="HTTPRoute",
    plural="httproutes",
    categories=("gateway-api",),
    versions=(
        Version(name="v1", root=HTTPRoute, columns=_COLUMNS),
        Version(name="v1beta1", root=HTTPRoute, columns=_COLUMNS, storage=False),
    ),
)
