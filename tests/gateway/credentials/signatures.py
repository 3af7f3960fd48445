"""What AWS computes of a request that it got, version 4 of its signature: written from its documentation."""

from __future__ import annotations

import hashlib
import hmac
import re
from urllib.parse import quote, unquote

_UNRESERVED = "-_.~"


def canonical_request(
    method: str, target: str, headers: dict[str, str], signed: list[str], body: bytes
) -> str:
    """headers: by names in small letters."""
    path, _, query = target.partition("?")
    pairs = sorted(
        (quote(unquote(name), safe=_UNRESERVED), quote(unquote(value), safe=_UNRESERVED))
        for name, _, value in (part.partition("=") for part in query.split("&") if part)
    )
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in signed)
    return "\n".join(
        [
            method,
            quote(path, safe="/" + _UNRESERVED),
            "&".join(f"{name}={value}" for name, value in pairs),
            lines,
            ";".join(signed),
            hashlib.sha256(body).hexdigest(),
        ]
    )


def signature(secret: str, scope: str, time: str, request: str) -> str:
    """scope: date/region/service/aws4_request."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    digest = hashlib.sha256(request.encode()).hexdigest()
    return hmac.new(key, f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}".encode(), "sha256").hexdigest()


def check(
    secret: str, method: str, target: str, headers: dict[str, str], body: bytes
) -> tuple[str, str, list[str]]:
    """Access key, scope and signed headers of a request whose signature is right; fails if it is not."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\S+), SignedHeaders=(\S+), Signature=([0-9a-f]{64})",
        headers["authorization"],
    )
    assert found, headers["authorization"]
    access, scope, names, given = found.groups()
    signed = names.split(";")
    assert signed == sorted(signed)
    assert {"host", "x-amz-date"} <= set(signed)
    time = headers["x-amz-date"]
    assert time.startswith(scope.split("/")[0])
    assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
    request = canonical_request(method, target, headers, signed, body)
    assert signature(secret, scope, time, request) == given, request
    return access, scope, signed
