"""The parts of SecurityPolicy that find out who a client is: API keys, passwords, tokens, a login at a provider.

Fields and rules follow envoyproxy/gateway.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import rule
from kajitori.api.envoygateway.backend_cluster import HTTP_SERVICE_RULES, BackendCluster
from kajitori.api.envoygateway.response_override import StringMatch
from kajitori.api.gateway.shared import Duration, HeaderName, LocalObjectReference, SecretObjectReference

Names = Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]


class ExtractFrom(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Places where a key may stand, of one sort, tried in order."""

    headers: Names | None = None
    params: Names | None = None
    cookies: Names | None = None


class APIKeyAuth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Clients by keys. credentialRefs: Secrets whose keys are clients and whose values are the clients' API keys.

    The first place of extractFrom that has a key decides. sanitize: backends do not get the key.
    """

    credential_refs: list[SecretObjectReference]
    extract_from: Annotated[list[ExtractFrom], Meta(min_length=1)]
    forward_client_id_header: str | None = field(default=None, name="forwardClientIDHeader")
    sanitize: bool | None = None


class BasicAuth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Clients by name and password. users: a Secret with lines `name:{SHA}digest` under `.htpasswd`."""

    users: SecretObjectReference
    forward_username_header: str | None = None


class RemoteJWKS(BackendCluster, frozen=True, kw_only=True, rename="camel"):
    """Keys that are fetched from a URI, and for how long they are kept."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": list(HTTP_SERVICE_RULES)}
    uri: Annotated[str, Meta(min_length=1, max_length=253)]
    cache_duration: Duration = "300s"
    failed_refetch_duration: Duration | None = None


class LocalJWKS(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Keys as they stand: here, or in a ConfigMap under `jwks` (else its first value)."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(self.type == 'Inline' && has(self.inline) && !has(self.valueRef))"
                " || (self.type == 'ValueRef' && !has(self.inline) && has(self.valueRef))",
                "what type names is given, and nothing else: inline or valueRef",
            )
        ]
    }
    type: Literal["Inline", "ValueRef"] = "Inline"
    inline: str | None = None
    value_ref: LocalObjectReference | None = None


class ClaimToHeader(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A claim, nested ones with dots between, that backends get as a header."""

    header: str
    claim: str


class JWTHeaderExtractor(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A header with a token behind a prefix."""

    name: str
    value_prefix: str | None = None


class JWTExtractor(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Places where a token may stand."""

    headers: list[JWTHeaderExtractor] = field(default_factory=list)
    cookies: list[str] = field(default_factory=list)
    params: list[str] = field(default_factory=list)


class JWTProvider(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who signs tokens, and for whom."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(has(self.recomputeRoute) && self.recomputeRoute) ? size(self.claimToHeaders) > 0 : true",
                "recomputeRoute needs claimToHeaders",
            ),
            rule("has(self.remoteJWKS) || has(self.localJWKS)", "remoteJWKS or localJWKS must be given"),
            rule(
                "!(has(self.remoteJWKS) && has(self.localJWKS))",
                "remoteJWKS and localJWKS exclude each other",
            ),
        ]
    }
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    issuer: Annotated[str, Meta(max_length=253)] | None = None
    audiences: Annotated[list[str], Meta(max_length=8)] = field(default_factory=list)
    remote_jwks: RemoteJWKS | None = field(default=None, name="remoteJWKS")
    local_jwks: LocalJWKS | None = field(default=None, name="localJWKS")
    claim_to_headers: list[ClaimToHeader] = field(default_factory=list)
    recompute_route: bool | None = None
    extract_from: JWTExtractor | None = None


class JWT(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Clients by JSON Web Tokens, of which one provider's must be valid.

    optional: none at all will do. failOpen: an invalid one will do, too.
    """

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!(has(self.optional) && has(self.failOpen))",
                "optional and failOpen exclude each other; the latter allows a missing token anyway",
            )
        ]
    }
    optional: bool | None = None
    fail_open: bool | None = None
    providers: Annotated[list[JWTProvider], Meta(min_length=1, max_length=16)]


class OIDCProvider(BackendCluster, frozen=True, kw_only=True, rename="camel"):
    """Where people log in. Endpoints that are not given are asked of the issuer."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": list(HTTP_SERVICE_RULES)}
    issuer: Annotated[str, Meta(min_length=1)]
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    end_session_endpoint: str | None = None


class OIDCDenyRedirectHeader(StringMatch, frozen=True, kw_only=True, rename="camel"):
    """A header of requests that are refused rather than sent to the provider."""

    name: Annotated[str, Meta(min_length=1)]


class OIDCDenyRedirect(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Requests of machines, which cannot follow a redirect."""

    headers: Annotated[list[OIDCDenyRedirectHeader], Meta(min_length=1, max_length=16)]


class OIDCCookieNames(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Names of cookies instead of our own."""

    access_token: str | None = None
    id_token: str | None = None


class OIDCCookieConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Attributes of cookies."""

    same_site: Literal["Lax", "Strict", "None"] | None = None


class OIDCTokenForwarding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The header in which backends get the ID token."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("self.header.lowerAscii() != 'host'", "header cannot be the Host header")
        ]
    }
    header: HeaderName


class OIDC(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Clients by a login at an OpenID provider, kept in encrypted cookies."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(has(self.clientID) && !has(self.clientIDRef)) || (!has(self.clientID) && has(self.clientIDRef))",
                "one of clientID and clientIDRef is given",
            ),
            rule(
                "!(has(self.forwardAccessToken) && self.forwardAccessToken && has(self.forwardIDToken)"
                " && self.forwardIDToken.header.lowerAscii() == 'authorization')",
                "one header cannot carry both tokens: forwardAccessToken takes Authorization",
            ),
        ]
    }
    provider: OIDCProvider
    client_id: Annotated[str, Meta(min_length=1)] | None = field(default=None, name="clientID")
    client_id_ref: SecretObjectReference | None = field(default=None, name="clientIDRef")
    client_secret: SecretObjectReference
    cookie_names: OIDCCookieNames | None = None
    cookie_config: OIDCCookieConfig | None = None
    cookie_domain: (
        Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")]
        | None
    ) = None
    scopes: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    redirect_url: str | None = field(default=None, name="redirectURL")
    deny_redirect: OIDCDenyRedirect | None = None
    logout_path: str | None = None
    forward_access_token: bool | None = None
    forward_id_token: OIDCTokenForwarding | None = field(default=None, name="forwardIDToken")
    default_token_ttl: Duration | None = field(default=None, name="defaultTokenTTL")
    refresh_token: bool = True
    default_refresh_token_ttl: Duration | None = field(default=None, name="defaultRefreshTokenTTL")
    csrf_token_ttl: Duration | None = field(default=None, name="csrfTokenTTL")
    disable_token_encryption: bool | None = None
    pass_through_auth_header: bool | None = None
