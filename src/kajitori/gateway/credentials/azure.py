"""Entra ID: an access token for Azure OpenAI, for a client secret or for a token of another issuer."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from kajitori.gateway.credentials.exchange import Concealed, Request, Steps, Surroundings, bearer_token
from kajitori.gateway.credentials.oidc import OIDCLogin

SCOPE = "https://cognitiveservices.azure.com/.default"
_AUTHORITY = "https://login.microsoftonline.com"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class AzureExchange(msgspec.Struct, frozen=True, kw_only=True):
    """An application. It proves itself by its secret, or by what `login` gets."""

    tenant_id: str
    client_id: str
    client_secret: Concealed | None = None
    login: OIDCLogin | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        return ("Azure", self.tenant_id, self.client_id, *(self.login.identity if self.login else ()))

    @property
    def secrets(self) -> tuple[str, ...]:
        found = (self.client_secret, self.login.client_secret if self.login else None)
        return tuple(item.text for item in found if item)

    def steps(self, surroundings: Surroundings, now: float) -> Steps:
        """Raises ExchangeFailed."""
        form = {"grant_type": "client_credentials", "client_id": self.client_id, "scope": SCOPE}
        if self.login:
            form["client_assertion_type"] = _ASSERTION_TYPE
            form["client_assertion"] = yield from self.login.steps()
        elif self.client_secret:
            form["client_secret"] = self.client_secret.text
        authority = surroundings.variable("AZURE_AUTHORITY_HOST") or _AUTHORITY
        request = Request(
            endpoint=f"Entra ID (tenant {self.tenant_id})",
            url=f"{authority.rstrip('/')}/{quote(self.tenant_id, safe='')}/oauth2/v2.0/token",
            form=form,
        )
        answer = yield request
        return bearer_token(request, answer, now)
