"""HTTPRouteFilter v1alpha1 of Envoy Gateway: what a rule of an HTTPRoute can do beyond the Gateway API.

Fields and rules follow envoyproxy/gateway.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import AGE, Definition, Version, rule, rules
from kajitori.api.gateway.http_route import HTTPHeaderFilter
from kajitori.api.gateway.shared import LocalObjectReference, SecretObjectReference
from kajitori.api.kubernetes.meta_v1 import ObjectMeta

GROUP = "gateway.envoyproxy.io"


def _goes_with(member: str, kind: str) -> dict[str, Any]:
    return rule(
        f"(self.type == '{kind}') == has(self.{member})", f"{member} goes with type {kind}, and only with it"
    )


class RegexSubstitution(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A regular expression (RE2), and what takes the place of what it finds; `\\1` is its first group."""

    pattern: Annotated[str, Meta(min_length=1)]
    substitution: str


class RegexPathModifier(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Another path, made by a regular expression."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [_goes_with("replaceRegexMatch", "ReplaceRegexMatch")]
    }
    type: Literal["ReplaceRegexMatch"]
    replace_regex_match: RegexSubstitution | None = None


class HostnameModifier(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Another host: from a header, of the backend itself, or made of the path."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [_goes_with("header", "Header"), _goes_with("pathRegex", "PathRegex")]
    }
    type: Literal["Header", "Backend", "PathRegex"]
    header: str | None = None
    path_regex: RegexSubstitution | None = None


class RewriteFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Another host or path towards the backend; the client's host goes along in `x-forwarded-host`."""

    hostname: HostnameModifier | None = None
    path: RegexPathModifier | None = None
    append_x_forwarded_host: bool = True


class ResponseBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A body as text, or the first value (or `response.body`) of a ConfigMap."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [_goes_with("inline", "Inline"), _goes_with("valueRef", "ValueRef")]
    }
    type: Literal["Inline", "ValueRef"] = "Inline"
    inline: Annotated[str, Meta(min_length=1)] | None = None
    value_ref: LocalObjectReference | None = None


class DirectResponseFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An answer of the gateway's own."""

    content_type: str | None = None
    body: ResponseBody | None = None
    status_code: Annotated[int, Meta(ge=200, le=599)] | None = None
    header: (
        Annotated[
            HTTPHeaderFilter,
            rules(
                rule(
                    "!has(self.remove) || size(self.remove) == 0",
                    "a direct response has no headers to remove",
                )
            ),
        ]
        | None
    ) = None


class InjectedCredential(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A Secret with a key `credential`: the whole value of the header."""

    value_ref: SecretObjectReference


class CredentialInjectionFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A credential towards the backend. overwrite: also where the client sent one."""

    header: str | None = None
    overwrite: bool = False
    credential: InjectedCredential


class CookieMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A cookie's value."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class FilterMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Further conditions of the rule's matches."""

    cookies: Annotated[list[CookieMatch], Meta(min_length=1, max_length=16)] = field(default_factory=list)


class HTTPRouteFilterSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the filter does."""

    url_rewrite: RewriteFilter | None = None
    direct_response: DirectResponseFilter | None = None
    credential_injection: CredentialInjectionFilter | None = None
    matches: Annotated[list[FilterMatch], Meta(max_length=8)] = field(default_factory=list)


class EnvoyHTTPRouteFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A filter that rules of HTTPRoutes refer to by `extensionRef`."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: HTTPRouteFilterSpec = field(default_factory=HTTPRouteFilterSpec)


DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        group=GROUP,
        kind="HTTPRouteFilter",
        plural="httproutefilters",
        short_names=("hrf",),
        categories=("envoy-gateway",),
        versions=(Version(name="v1alpha1", root=EnvoyHTTPRouteFilter, columns=(AGE,)),),
    ),
)
