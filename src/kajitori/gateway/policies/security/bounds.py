"""What Envoy would refuse of a SecurityPolicy though its definition lets it pass. Pure.

Sent, it would be kept back after Envoy has been asked what it refuses, and told in Envoy's words; here it is told in ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kajitori.base.cel.errors import EvaluationError
from kajitori.gateway.internal_headers import problem_of_changing
from kajitori.gateway.patterns import check_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kajitori.api.envoygateway.authentication import JWT, OIDC, APIKeyAuth
    from kajitori.api.envoygateway.authorization import Authorization, ExtAuth
    from kajitori.api.envoygateway.security_policy import SecurityPolicySpec

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_REDIRECT = re.compile(r"([^%\s]|%REQ\([^%)]+\)%)+")
_COOKIE = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")


def problems_of(spec: SecurityPolicySpec) -> list[str]:
    """Each with the path of the field."""
    found: list[str] = []
    if spec.api_key_auth is not None:
        found += _keys(spec.api_key_auth)
    if spec.basic_auth is not None:
        found += _header("basicAuth.forwardUsernameHeader", spec.basic_auth.forward_username_header)
    if spec.jwt is not None:
        found += _tokens(spec.jwt)
    if spec.oidc is not None:
        found += _login(spec.oidc)
    if spec.authorization is not None:
        found += _rules(spec.authorization)
    if spec.ext_auth is not None:
        found += _question(spec.ext_auth)
    return found


def _header(path: str, name: str | None) -> Iterator[str]:
    if name is not None and (not _HEADER.fullmatch(name) or name.lower() == "host"):
        yield f"spec.{path}: {name!r} is no name of a header that can be used"
    elif name is not None and (problem := problem_of_changing(name)):
        yield f"spec.{path}: {problem}"


def _pattern(path: str, text: str) -> Iterator[str]:
    try:
        check_pattern(text)
    except (EvaluationError, RecursionError, OverflowError) as error:
        yield f"spec.{path}: {text!r} is no regular expression: {error}"


def _uri(path: str, uri: str | None) -> Iterator[str]:
    try:
        usable = uri is None or (urlsplit(uri).scheme in ("http", "https") and bool(urlsplit(uri).hostname))
    except ValueError:
        usable = False
    if not usable:
        yield f"spec.{path}: {uri!r} is no http or https URI"


def _keys(keys: APIKeyAuth) -> Iterator[str]:
    yield from _header("apiKeyAuth.forwardClientIDHeader", keys.forward_client_id_header)
    for number, source in enumerate(keys.extract_from):
        for name in source.headers or ():
            yield from _header(f"apiKeyAuth.extractFrom[{number}].headers", name)


def _tokens(jwt: JWT) -> Iterator[str]:
    for number, provider in enumerate(jwt.providers):
        where = f"jwt.providers[{number}]"
        for item in provider.claim_to_headers:
            yield from _header(f"{where}.claimToHeaders", item.header)
            if not item.claim:
                yield f"spec.{where}.claimToHeaders: a claim has no name"
        extract = provider.extract_from
        for header in extract.headers if extract else ():
            yield from _header(f"{where}.extractFrom.headers", header.name)
        if extract and not all([*extract.params, *extract.cookies]):
            yield f"spec.{where}.extractFrom: a parameter or a cookie has no name"
        if provider.remote_jwks is not None:
            yield from _uri(f"{where}.remoteJWKS.uri", provider.remote_jwks.uri)


def _login(oidc: OIDC) -> Iterator[str]:
    provider = oidc.provider
    yield from _uri("oidc.provider.authorizationEndpoint", provider.authorization_endpoint)
    yield from _uri("oidc.provider.tokenEndpoint", provider.token_endpoint)
    yield from _uri("oidc.provider.endSessionEndpoint", provider.end_session_endpoint)
    if oidc.redirect_url is not None and not _REDIRECT.fullmatch(oidc.redirect_url):
        yield "spec.oidc.redirectURL: of Envoy's commands only %REQ(...)% can stand in it, and no blank"
    if oidc.logout_path is not None and not oidc.logout_path.startswith("/"):
        yield f"spec.oidc.logoutPath: {oidc.logout_path!r} does not begin with /"
    names = oidc.cookie_names
    for name in (names.access_token, names.id_token) if names else ():
        if name is not None and not _COOKIE.fullmatch(name):
            yield f"spec.oidc.cookieNames: {name!r} is no name of a cookie"
    for item in oidc.deny_redirect.headers if oidc.deny_redirect else ():
        yield from _header("oidc.denyRedirect.headers", item.name)
        if item.type == "RegularExpression":
            yield from _pattern("oidc.denyRedirect.headers", item.value)


def _rules(authorization: Authorization) -> Iterator[str]:
    for number, rule in enumerate(authorization.rules):
        where = f"authorization.rules[{number}]"
        path = rule.operation.path if rule.operation else None
        if path is not None and path.type == "RegularExpression":
            yield from _pattern(f"{where}.operation.path", path.value)
        for match in (rule.principal.headers if rule.principal else None) or ():
            yield from _header(f"{where}.principal.headers", match.name)


def _question(ask: ExtAuth) -> Iterator[str]:
    for name in ask.headers_to_ext_auth:
        yield from _header("extAuth.headersToExtAuth", name)
    if ask.http is None:
        return
    for field, value in (("path", ask.http.path), ("pathOverride", ask.http.path_override)):
        if value and not value.startswith("/"):
            yield f"spec.extAuth.http.{field}: {value!r} does not begin with /"
    for name in ask.http.headers_to_backend:
        yield from _header("extAuth.http.headersToBackend", name)
