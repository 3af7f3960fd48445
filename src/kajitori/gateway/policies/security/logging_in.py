"""`oidc`: people log in at a provider, and cookies keep what came of it.

Secrets reach Envoy by SDS. The one that signs and encrypts cookies is made of the client's secret, so that every
replica has the same, and none is kept anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kajitori.base.duration import protobuf_duration
from kajitori.gateway.policies.security.services import service_cluster
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes.security_filters import OAUTH2

if TYPE_CHECKING:
    from kajitori.api.envoygateway.authentication import JWT, OIDC, OIDCDenyRedirectHeader
    from kajitori.gateway.policies.security.making import Making

Endpoints = tuple[str, str, str | None]
"""Of authorization, of tokens, and of the end of a session."""
SECRET_KEY, ID_KEY = "client-secret", "client-id"
_TIMEOUT = "10s"
_REDIRECT = "%REQ(x-forwarded-proto)%://%REQ(:authority)%/oauth2/callback"
_LOGOUT = "/logout"
_COOKIES = {
    "bearer_token": "AccessToken",
    "oauth_hmac": "OauthHMAC",
    "oauth_expires": "OauthExpires",
    "id_token": "IdToken",
    "refresh_token": "RefreshToken",
    "oauth_nonce": "OauthNonce",
    "code_verifier": "CodeVerifier",
}
_MATCH = {"Exact": "exact", "Prefix": "prefix", "Suffix": "suffix"}
_TTLS = (
    ("default_token_ttl", "default_expires_in"),
    ("default_refresh_token_ttl", "default_refresh_token_expires_in"),
    ("csrf_token_ttl", "csrf_token_expires_in"),
)


def make_login_at_provider(making: Making, oidc: OIDC, jwt: JWT | None) -> None:
    """The configuration of the OAuth2 filter, its secrets and the cluster of the token endpoint."""
    client = oidc.client_id
    if oidc.client_id_ref is not None:
        client = making.take(making.secrets.value(oidc.client_id_ref, ID_KEY))
    secret = making.take(making.secrets.value(oidc.client_secret, SECRET_KEY))
    endpoints = _endpoints(making, oidc)
    if endpoints is None or client is None or secret is None:
        return
    config = {
        **_at_the_provider(making, oidc, endpoints),
        "credentials": _credentials(making, oidc, client, secret),
        **_cookie_settings(oidc),
        **_tokens(oidc),
        **_who_is_not_sent(oidc, jwt),
    }
    if oidc.pass_through_auth_header and (jwt is None or jwt.fail_open):
        making.problems.append(
            "spec.oidc.passThroughAuthHeader needs spec.jwt without failOpen, or whoever sends some token passes"
        )
    making.steps[OAUTH2] = {
        "@type": TYPE + "envoy.extensions.filters.http.oauth2.v3.OAuth2PerRoute",
        "config": config,
    }


def _at_the_provider(making: Making, oidc: OIDC, endpoints: Endpoints) -> dict[str, Any]:
    """Where people are sent, what is asked there, and where they come back."""
    authorization, token, end_session = endpoints
    cluster = service_cluster(making, oidc.provider, "oidc.provider", uri=token)
    redirect = oidc.redirect_url or _REDIRECT
    config: dict[str, Any] = {
        "stat_prefix": f"oidc-{_suffix(making)}",
        "token_endpoint": {"uri": token, "cluster": cluster or "no-service", "timeout": _TIMEOUT},
        "authorization_endpoint": authorization,
        "redirect_uri": redirect,
        "redirect_path_matcher": {"path": {"exact": _path_of(redirect)}},
        "signout_path": {"path": {"exact": oidc.logout_path or _LOGOUT}},
        "auth_type": "BASIC_AUTH",
        "auth_scopes": list(dict.fromkeys(["openid", *oidc.scopes])),
    }
    if oidc.resources:
        config["resources"] = list(oidc.resources)
    if end_session:
        config["end_session_endpoint"] = end_session
    return config


def _credentials(making: Making, oidc: OIDC, client: str, secret: str) -> dict[str, Any]:
    found = {
        "client_id": client,
        "token_secret": _delivered(making, "client-secret", secret),
        "hmac_secret": _delivered(making, "cookies", _cookie_secret(secret, making.name)),
        "cookie_names": _cookie_names(oidc, _suffix(making)),
    }
    return {**found, "cookie_domain": oidc.cookie_domain} if oidc.cookie_domain else found


def _cookie_settings(oidc: OIDC) -> dict[str, Any]:
    if not (oidc.cookie_config and oidc.cookie_config.same_site):
        return {}
    same_site = {"same_site": oidc.cookie_config.same_site.upper()}
    return {"cookie_configs": {f"{name}_cookie_config": same_site for name in _COOKIES}}


def _tokens(oidc: OIDC) -> dict[str, Any]:
    """What becomes of the tokens, and how long they hold."""
    config: dict[str, Any] = {
        "use_refresh_token": oidc.refresh_token,
        "forward_bearer_token": bool(oidc.forward_access_token),
        # Envoy takes the header away unless it is told not to.
        "preserve_authorization_header": not oidc.forward_access_token,
        "disable_token_encryption": bool(oidc.disable_token_encryption),
    }
    for field, name in _TTLS:
        if value := getattr(oidc, field):
            config[name] = protobuf_duration(value)
    if oidc.forward_id_token:
        config["forward_id_token"] = {"header": oidc.forward_id_token.header}
        if oidc.forward_id_token.header.lower() == "authorization":
            config["preserve_authorization_header"] = False
    return config


def _who_is_not_sent(oidc: OIDC, jwt: JWT | None) -> dict[str, Any]:
    """Whose requests are refused, or pass, instead of being sent to the provider."""
    config: dict[str, Any] = {}
    if oidc.deny_redirect:
        config["deny_redirect_matcher"] = [_matcher(item) for item in oidc.deny_redirect.headers]
    if oidc.pass_through_auth_header:
        config["pass_through_matcher"] = _token_headers(jwt)
    return config


def _suffix(making: Making) -> str:
    """What keeps the cookies of two policies apart."""
    return hashlib.sha256(making.name.encode()).hexdigest()[:8]


def issuers_to_ask(oidc: OIDC) -> str | None:
    """The issuer, if it must be asked for its endpoints."""
    provider = oidc.provider
    return None if provider.authorization_endpoint and provider.token_endpoint else provider.issuer


def _endpoints(making: Making, oidc: OIDC) -> Endpoints | None:
    provider = oidc.provider
    if provider.authorization_endpoint and provider.token_endpoint:
        return provider.authorization_endpoint, provider.token_endpoint, provider.end_session_endpoint
    found = making.index.observed.issuers.get(provider.issuer)
    if found is None:
        making.problems.append(f"spec.oidc.provider: the endpoints of {provider.issuer} are being asked for")
        return None
    if found.problem:
        making.problems.append(f"spec.oidc.provider: {found.problem}")
        return None
    return (
        provider.authorization_endpoint or found.authorization_endpoint,
        provider.token_endpoint or found.token_endpoint,
        provider.end_session_endpoint or found.end_session_endpoint or None,
    )


def _path_of(redirect: str) -> str:
    """The path of a redirect URL, which may have commands of Envoy in front of it."""
    _, separator, rest = redirect.partition("://")
    if not separator:
        return urlsplit(redirect).path or "/"
    return "/" + rest.partition("/")[2].partition("?")[0]


def _cookie_secret(secret: str, name: str) -> str:
    made = hmac.new(secret.encode(), f"kajitori cookies of {name}".encode(), hashlib.sha256).digest()
    return base64.b64encode(made).decode()


def _delivered(making: Making, what: str, value: str) -> dict[str, Any]:
    name = f"security/{making.name}/oidc/{what}"
    making.world.secrets[name] = {"name": name, "generic_secret": {"secret": {"inline_string": value}}}
    return {"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}}


def _cookie_names(oidc: OIDC, suffix: str) -> dict[str, str]:
    names = {field: f"{name}-{suffix}" for field, name in _COOKIES.items()}
    if oidc.cookie_names and oidc.cookie_names.access_token:
        names["bearer_token"] = oidc.cookie_names.access_token
    if oidc.cookie_names and oidc.cookie_names.id_token:
        names["id_token"] = oidc.cookie_names.id_token
    return names


def _matcher(item: OIDCDenyRedirectHeader) -> dict[str, Any]:
    how: dict[str, Any] = (
        {"safe_regex": {"regex": item.value}}
        if item.type == "RegularExpression"
        else {_MATCH[item.type]: item.value}
    )
    return {"name": item.name, "string_match": how}


def _token_headers(jwt: JWT | None) -> list[dict[str, Any]]:
    """Where the policy's tokens stand."""
    bearer = {"name": "authorization", "string_match": {"prefix": "Bearer "}}
    found: list[dict[str, Any]] = []
    for provider in jwt.providers if jwt else ():
        if provider.extract_from is None:
            found.append(bearer)
            continue
        for item in provider.extract_from.headers:
            prefix = item.value_prefix
            found.append(
                {"name": item.name, "string_match": {"prefix": prefix}}
                if prefix
                else {"name": item.name, "present_match": True}
            )
    return found
