"""Who asks: client certificate, bearer token, nobody; and whom they act for.

Results are cached: a certificate by its bytes, a token by its text with the end that it carries. A service account
token also ends with its account and its pod, which is looked up in the store on each request.
"""

from __future__ import annotations

import csv
import hashlib
import io
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID
from multidict import CIMultiDict

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.request import header_text
from kajitori.laptop.apiserver.tokens import DEFAULT_AUDIENCE, Claims, TokenSigner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from multidict import MultiMapping

    from kajitori.laptop.apiserver.store import Store

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
TOKENS_CACHED = 4_096
# The key under which a user's extra facts name the credential that was shown.
CREDENTIAL = "authentication.kubernetes.io/credential-id"


class User(msgspec.Struct, frozen=True):
    """Who a request is from. extra: such as the pod that a token is bound to. impersonator: who really asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    impersonator: str = ""

    def info(self) -> dict[str, object]:
        """As `userInfo` in reviews."""
        info: dict[str, object] = {"username": self.name}
        if self.uid:
            info["uid"] = self.uid
        info["groups"] = list(self.groups)
        if self.extra:
            info["extra"] = {key: list(values) for key, values in self.extra}
        return info


ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))


class _Checked(NamedTuple):
    user: User
    claims: Claims


class Authenticator:
    """Turns what a connection and its headers show into a user."""

    def __init__(self, store: Store, signer: TokenSigner, static_tokens: Mapping[str, User]) -> None:
        self._store = store
        self._signer = signer
        self._static = static_tokens
        self._certificates: dict[bytes, User] = {}
        self._tokens: dict[str, _Checked] = {}

    def authenticate(
        self, certificate: bytes | None, authorization: str | None, peer: User | None = None
    ) -> User:
        """The user. certificate: of the client, DER, already verified by TLS. peer: whose socket this came by.

        Raises StatusError 401.
        """
        if authorization:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() == "bearer" and token:
                user = self.user_of_token(token.strip())
                if user is None:
                    raise status.unauthorized()
                return user
        if certificate is not None:
            return self._certificates.get(certificate) or self._read_certificate(certificate)
        if authorization:
            raise status.unauthorized()
        return peer or ANONYMOUS

    def _read_certificate(self, der: bytes) -> User:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        groups = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        if not names:
            raise status.unauthorized()
        user = User(
            str(names[0].value),
            (*(str(group.value) for group in groups), AUTHENTICATED),
            extra=((CREDENTIAL, (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)),),
        )
        if len(self._certificates) > TOKENS_CACHED:
            self._certificates.clear()
        self._certificates[der] = user
        return user

    def user_of_token(self, token: str, audience: str = DEFAULT_AUDIENCE) -> User | None:
        """Whose token this is; None if it is no valid one for the audience."""
        static = self._static.get(token)
        if static is not None:
            return static
        checked = self._tokens.get(token)
        if checked is None:
            claims = self._signer.verify(token)
            if claims is None:
                return None
            checked = _Checked(_user_of_claims(claims), claims)
            if len(self._tokens) > TOKENS_CACHED:
                self._tokens.clear()
            self._tokens[token] = checked
        claims = checked.claims
        if audience not in claims.aud or time.time() >= claims.exp or not self._still_bound(claims):
            return None
        return checked.user

    def _still_bound(self, claims: Claims) -> bool:
        bound = claims.bound
        account = self._store.get("serviceaccounts", bound.namespace, bound.serviceaccount.name)
        if account is None or account.uid != bound.serviceaccount.uid:
            return False
        if bound.secret is not None:
            secret = self._store.get("secrets", bound.namespace, bound.secret.name)
            return secret is not None and secret.uid == bound.secret.uid
        if bound.pod is not None:
            pod = self._store.get("pods", bound.namespace, bound.pod.name)
            return pod is not None and pod.uid == bound.pod.uid
        return True


def _user_of_claims(claims: Claims) -> User:
    bound = claims.bound
    extra: list[tuple[str, tuple[str, ...]]] = [(CREDENTIAL, (f"JTI={claims.jti}",))]
    for key, reference in (("node", bound.node), ("pod", bound.pod)):
        if reference is not None:
            extra.append((f"authentication.kubernetes.io/{key}-name", (reference.name,)))
            extra.append((f"authentication.kubernetes.io/{key}-uid", (reference.uid,)))
    return User(
        claims.sub,
        (
            "system:serviceaccounts",
            f"system:serviceaccounts:{bound.namespace}",
            AUTHENTICATED,
        ),
        bound.serviceaccount.uid,
        tuple(extra),
    )


def read_static_tokens(path: Path) -> dict[str, User]:
    """Users of a token file, lines of `token,user,uid,"group1,group2"`; none if there is no such file."""
    if not path.exists():
        return {}
    users: dict[str, User] = {}
    for row in csv.reader(io.StringIO(path.read_text())):
        if len(row) >= 2:
            groups = tuple(filter(None, row[3].split(","))) if len(row) > 3 else ()
            users[row[0]] = User(row[1], (*groups, AUTHENTICATED), row[2] if len(row) > 2 else "")
    return users


class Impersonation(NamedTuple):
    """Whom the headers ask to act as; each part needs the right to `impersonate` it."""

    user: str
    groups: tuple[str, ...]
    uid: str
    extra: tuple[tuple[str, tuple[str, ...]], ...]

    def resulting_user(self, real: User) -> User:
        groups = self.groups
        if not groups and self.user.startswith("system:serviceaccount:"):
            namespace = self.user.split(":")[2]
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        if self.user == ANONYMOUS.name:
            groups = (*groups, UNAUTHENTICATED)
        elif AUTHENTICATED not in groups:
            groups = (*groups, AUTHENTICATED)
        return User(self.user, groups, self.uid, self.extra, real.name)


def read_impersonation(headers: MultiMapping[str]) -> Impersonation | None:
    """What the impersonation headers say, or None without them. Raises StatusError 400 for parts without a user."""
    headers = CIMultiDict((key, header_text(value)) for key, value in headers.items())
    user = headers.get("Impersonate-User")
    prefix = "impersonate-extra-"
    if user is None:
        if any(name.lower().startswith("impersonate-") for name in headers):
            raise status.bad_request("requested impersonation without impersonating a user name")
        return None
    extra: dict[str, list[str]] = {}
    for key, value in headers.items():
        if key.lower().startswith(prefix):
            extra.setdefault(key[len(prefix) :].lower(), []).append(value)
    return Impersonation(
        user,
        tuple(headers.getall("Impersonate-Group", [])),
        headers.get("Impersonate-Uid", ""),
        tuple((key, tuple(values)) for key, values in extra.items()),
    )
