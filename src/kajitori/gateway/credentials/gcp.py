"""Google Cloud: an access token for a service account's key, for a federated identity, or for what the gateway runs as."""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from kajitori.base.foreign_json import read_foreign_json
from kajitori.gateway.credentials.exchange import (
    Concealed,
    ExchangeFailed,
    ReadFile,
    Request,
    Steps,
    Surroundings,
    Token,
    bearer_token,
    moment,
    refused,
    sound,
)
from kajitori.gateway.credentials.oidc import OIDCLogin

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_ASSERTION_SECONDS = 3600
_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"


class ServiceAccountKey(msgspec.Struct, frozen=True, kw_only=True):
    """The file `service_account.json`; token_uri: where its assertions are exchanged."""

    client_email: str
    private_key: Concealed
    private_key_id: str = ""
    token_uri: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        return ("GCP", self.client_email)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.private_key.text,)

    def steps(self, surroundings: Surroundings, now: float) -> Steps:
        """Raises ExchangeFailed."""
        address = self.token_uri or surroundings.google_token
        claims = {
            "iss": self.client_email,
            "scope": SCOPE,
            "aud": address,
            "iat": int(now),
            "exp": int(now) + _ASSERTION_SECONDS,
        }
        request = Request(
            endpoint=f"the token endpoint of {self.client_email}",
            url=address,
            form={"grant_type": _JWT_GRANT, "assertion": self._signed(claims)},
        )
        answer = yield request
        return bearer_token(request, answer, now)

    def _signed(self, claims: dict[str, Any]) -> str:
        header = {"alg": "RS256", "typ": "JWT"} | (
            {"kid": self.private_key_id} if self.private_key_id else {}
        )
        text = f"{_part(json.dumps(header).encode())}.{_part(json.dumps(claims).encode())}"
        from cryptography.hazmat.primitives.asymmetric import padding
        from cryptography.hazmat.primitives.hashes import SHA256

        signature = load_key(self.private_key.text).sign(text.encode(), padding.PKCS1v15(), SHA256())
        return f"{text}.{_part(signature)}"


class AuthorizedUser(msgspec.Struct, frozen=True, kw_only=True):
    """A person's own credentials, as `gcloud auth application-default login` leaves them."""

    client_id: str
    client_secret: Concealed
    refresh_token: Concealed

    @property
    def identity(self) -> tuple[str, ...]:
        return ("GCP", self.client_id)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.client_secret.text, self.refresh_token.text)

    def steps(self, surroundings: Surroundings, now: float) -> Steps:
        """Raises ExchangeFailed."""
        request = Request(
            endpoint="the token endpoint of Google",
            url=surroundings.google_token,
            form={
                "grant_type": "refresh_token",
                "client_id": self.client_id,
                "client_secret": self.client_secret.text,
                "refresh_token": self.refresh_token.text,
            },
        )
        answer = yield request
        return bearer_token(request, answer, now)


class GCPFederation(msgspec.Struct, frozen=True, kw_only=True):
    """A token of an issuer that a workload identity pool trusts.

    audience: the provider of the pool. service_account: in whose name, as an address; empty: in the token's own.
    """

    audience: str
    login: OIDCLogin
    service_account: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        return ("GCP", self.audience, self.service_account, *self.login.identity)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.login.client_secret.text,)

    def steps(self, surroundings: Surroundings, now: float) -> Steps:
        """Raises ExchangeFailed."""
        subject = yield from self.login.steps()
        request = Request(
            endpoint="STS of Google",
            url=surroundings.google_sts.rstrip("/") + "/v1/token",
            json={
                "grantType": _EXCHANGE_GRANT,
                "audience": self.audience,
                "scope": SCOPE,
                "requestedTokenType": _TOKEN_TYPE + "access_token",
                "subjectToken": subject,
                "subjectTokenType": _TOKEN_TYPE + "jwt",
            },
        )
        answer = yield request
        token = bearer_token(request, answer, now)
        if not self.service_account:
            return token
        account = quote(self.service_account, safe="@")
        request = Request(
            endpoint=f"the credentials service of Google (for {self.service_account})",
            url=f"{surroundings.google_iam.rstrip('/')}/v1/projects/-/serviceAccounts/{account}:generateAccessToken",
            headers={"authorization": f"Bearer {token.secret.text}"},
            json={"scope": [SCOPE], "lifetime": "3600s"},
        )
        answer = yield request
        found = answer.json()
        value, until = found.get("accessToken"), found.get("expireTime")
        if answer.status != 200 or not isinstance(value, str):
            raise refused(request, answer, "accessToken")
        return Token(Concealed(sound(request, value)), moment(until))


class GCPDefault(msgspec.Struct, frozen=True):
    """What the gateway runs as: a credentials file that it is pointed at or finds at home, else the machine's account."""

    @property
    def identity(self) -> tuple[str, ...]:
        return ("GCP", "default")

    @property
    def secrets(self) -> tuple[str, ...]:
        return ()

    def steps(self, surroundings: Surroundings, now: float) -> Steps:
        """Raises ExchangeFailed."""
        given = surroundings.variable("GOOGLE_APPLICATION_CREDENTIALS")
        home = surroundings.variable("CLOUDSDK_CONFIG") or f"{surroundings.variable('HOME')}/.config/gcloud"
        path = given or f"{home}/application_default_credentials.json"
        answer = yield ReadFile(path)
        if answer.status == 200:
            try:
                found = read_credentials(answer.body)
            except ValueError as error:
                raise ExchangeFailed(f"{path} of the gateway: {error}") from None
            return (yield from found.steps(surroundings, now))
        if given:
            raise ExchangeFailed(f"{path}, which GOOGLE_APPLICATION_CREDENTIALS names, cannot be read")
        host = surroundings.variable("GCE_METADATA_HOST") or "metadata.google.internal"
        request = Request(
            endpoint="the metadata server of Google Cloud",
            method="GET",
            url=f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token",
            headers={"metadata-flavor": "Google"},
            optional=True,
        )
        answer = yield request
        if answer.status == 0:
            raise ExchangeFailed(
                "the gateway has no Google credentials of its own: no credentials file, and no metadata server",
                hint="give credentialsFile or workloadIdentityFederationConfig in the policy",
            )
        return bearer_token(request, answer, now)


def read_credentials(data: bytes) -> ServiceAccountKey | AuthorizedUser:
    """A credentials file of Google. Raises ValueError, with a message that tells no value."""
    try:
        found: Any = read_foreign_json(data)
    except ValueError:
        raise ValueError("that is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("that is not a JSON object")
    kind = found.get("type")

    def text(name: str) -> str:
        value = found.get(name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name} is missing")
        return value

    if kind == "service_account":
        load_key(text("private_key"))
        identifier, address = found.get("private_key_id"), found.get("token_uri")
        if address and not (isinstance(address, str) and address.startswith(("https://", "http://"))):
            raise ValueError("token_uri is no address")
        return ServiceAccountKey(
            client_email=text("client_email"),
            private_key=Concealed(text("private_key")),
            private_key_id=identifier if isinstance(identifier, str) else "",
            token_uri=address or "",
        )
    if kind == "authorized_user":
        return AuthorizedUser(
            client_id=text("client_id"),
            client_secret=Concealed(text("client_secret")),
            refresh_token=Concealed(text("refresh_token")),
        )
    shown = repr(kind) if isinstance(kind, str) and len(kind) < 60 else "missing"
    raise ValueError(f"its type is {shown}; service_account and authorized_user are honoured")


@lru_cache(maxsize=256)
def load_key(text: str) -> rsa.RSAPrivateKey:
    """Raises ValueError, with a message that tells nothing of the key."""
    # 7 MB that only gateways with such a key need.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("private_key is no private key in PEM") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("private_key is no RSA key")
    return key


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
