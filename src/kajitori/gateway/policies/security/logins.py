"""`apiKeyAuth` and `basicAuth`: what lua/logins.lua checks. Only digests leave this process."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING

from kajitori.base.reason import Reason
from kajitori.gateway.policies.security.making import listed

if TYPE_CHECKING:
    from kajitori.api.envoygateway.authentication import APIKeyAuth, BasicAuth
    from kajitori.api.gateway.shared import SecretObjectReference
    from kajitori.gateway.policies.security.making import Making

HTPASSWD_KEY = ".htpasswd"
_SORTS = (("headers", "h"), ("params", "q"), ("cookies", "c"))
_LINE = re.compile(r"([^:\s]+):\{SHA\}([A-Za-z0-9+/]{27}=)")
_SHA1_BYTES = 20


def make_login(making: Making, keys: APIKeyAuth | None, passwords: BasicAuth | None) -> None:
    """The line that the script reads."""
    if keys is None and passwords is None:
        return
    clients = _clients(making, keys) if keys else []
    users = _users(making, passwords) if passwords else []
    making.login_line = "\t".join(
        (
            ((keys.forward_client_id_header or "").lower() if keys else ""),
            "1" if keys and keys.sanitize else "0",
            listed(_sources(making, keys) if keys else []),
            listed(clients),
            ((passwords.forward_username_header or "").lower() if passwords else ""),
            listed(users),
        )
    )


def _sources(making: Making, keys: APIKeyAuth) -> list[str]:
    found: list[str] = []
    for number, source in enumerate(keys.extract_from):
        given = [(sort, getattr(source, name)) for name, sort in _SORTS if getattr(source, name)]
        if len(given) != 1:
            making.problems.append(
                f"spec.apiKeyAuth.extractFrom[{number}]: give one of headers, params and cookies"
            )
        for sort, names in given:
            found += [f"{sort}:{name.lower() if sort == 'h' else name}" for name in names]
    return found


def _clients(making: Making, keys: APIKeyAuth) -> list[str]:
    """Lines `digest client`. A client that stands in two Secrets has the key of the first."""
    found: dict[str, str] = {}
    for reference in keys.credential_refs:
        secret = making.index.secrets.get((reference.namespace or making.namespace, reference.name))
        # Says what is wrong with the reference, where something is.
        names = sorted(secret.data) if secret is not None else [""]
        if not names:
            making.problems.append(
                f"Secret {reference.namespace or making.namespace}/{reference.name} is empty"
            )
        for name in names:
            value = making.take(making.secrets.value(reference, name))
            if value is not None and name not in found:
                found[name] = hashlib.sha256(value.encode()).hexdigest()
    by_digest: dict[str, str] = {}
    for client, digest in found.items():
        if digest in by_digest:
            making.problems.append(
                f"spec.apiKeyAuth: the clients {by_digest[digest]} and {client} have the same key"
            )
        by_digest[digest] = client
    return [f"{digest} {client}" for digest, client in by_digest.items()]


def _users(making: Making, passwords: BasicAuth) -> list[str]:
    """Lines `digest user`."""
    text = making.take(_htpasswd(making, passwords.users))
    if text is None:
        return []
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        digest = _sha1(match[2]) if match else None
        if match is None or digest is None:
            making.problems.append(
                f"{making.secrets.where(passwords.users, HTPASSWD_KEY)}, line {number}: not a user with a password"
                " in the form {SHA} (`htpasswd -s` makes such lines)"
            )
            return []
        if match[1] in found:
            making.problems.append(
                f"{making.secrets.where(passwords.users, HTPASSWD_KEY)}, line {number}: the user stands there twice"
            )
        found[match[1]] = digest
    if not found:
        making.problems.append(f"{making.secrets.where(passwords.users, HTPASSWD_KEY)} names no user")
    return [f"{digest} {user}" for user, digest in found.items()]


def _htpasswd(making: Making, reference: SecretObjectReference) -> str | Reason:
    data = making.secrets.data(reference, HTPASSWD_KEY)
    if isinstance(data, Reason):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return making.secrets.invalid(reference, HTPASSWD_KEY, "is not text")


def _sha1(text: str) -> str | None:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return data.hex() if len(data) == _SHA1_BYTES else None
