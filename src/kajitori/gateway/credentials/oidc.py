"""A token of an OpenID provider: what the exchanges of all three clouds can begin with."""

from __future__ import annotations

import base64
from collections.abc import Generator
from urllib.parse import quote

import msgspec

from kajitori.gateway.credentials.exchange import (
    Answer,
    Concealed,
    ExchangeFailed,
    Request,
    Step,
    refused,
    sound,
)

_DISCOVERY = "/.well-known/openid-configuration"


class OIDCLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A client that asks an issuer for a token in its own name.

    scopes: those that are asked for; none: all that the issuer lists, as Envoy AI Gateway does.
    """

    issuer: str
    token_endpoint: str = ""
    client_id: str
    client_secret: Concealed
    scopes: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    audience: str = ""
    grant_type: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        return (self.issuer, self.client_id, self.audience, *self.scopes)

    def steps(self) -> Generator[Step, Answer, str]:
        """The token as text. Raises ExchangeFailed."""
        endpoint, scopes, by_header = self.token_endpoint, self.scopes, True
        if not endpoint or not scopes:
            request = Request(
                endpoint=f"the OpenID issuer {self.issuer}",
                method="GET",
                url=self.issuer.rstrip("/") + _DISCOVERY,
                optional=bool(endpoint),
            )
            answer = yield request
            found = answer.json()
            if not endpoint:
                endpoint = self._discovered(request, answer)
            listed = found.get("scopes_supported")
            if not scopes and isinstance(listed, list):
                scopes = tuple(item for item in listed if isinstance(item, str))
            methods = found.get("token_endpoint_auth_methods_supported")
            by_header = not isinstance(methods, list) or "client_secret_basic" in methods
        request = self._token_request(endpoint, scopes, by_header)
        answer = yield request
        return _chosen(request, answer)

    def _discovered(self, request: Request, answer: Answer) -> str:
        found = answer.json()
        endpoint = found.get("token_endpoint")
        if answer.status != 200 or not isinstance(endpoint, str) or not endpoint:
            raise refused(request, answer, "token_endpoint")
        if found.get("issuer") != self.issuer:
            raise ExchangeFailed(
                f"the OpenID issuer {self.issuer} calls itself {found.get('issuer')!r}",
                hint="write the issuer exactly as it calls itself",
            )
        return endpoint

    def _token_request(self, endpoint: str, scopes: tuple[str, ...], by_header: bool) -> Request:
        form = [("grant_type", self.grant_type or "client_credentials")]
        if scopes:
            form.append(("scope", " ".join(scopes)))
        if self.audience:
            form.append(("audience", self.audience))
        form += [("resource", resource) for resource in self.resources]
        headers: dict[str, str] = {}
        if by_header:
            # RFC 6749, 2.3.1: both are encoded as in a form before they are joined.
            pair = f"{quote(self.client_id, safe='')}:{quote(self.client_secret.text, safe='')}"
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form += [("client_id", self.client_id), ("client_secret", self.client_secret.text)]
        return Request(
            endpoint=f"the token endpoint of {self.issuer}", url=endpoint, headers=headers, form=form
        )


def _chosen(request: Request, answer: Answer) -> str:
    """The token that says who we are: the access token if it is a JWT, else the id token if there is one."""
    found = answer.json()
    access, identity = found.get("access_token"), found.get("id_token")
    if answer.status != 200 or not isinstance(access, str):
        if answer.status != 200 or not isinstance(identity, str):
            raise refused(request, answer, "access_token")
        return sound(request, identity)
    if access.count(".") != 2 and isinstance(identity, str):
        return sound(request, identity)
    return sound(request, access)
