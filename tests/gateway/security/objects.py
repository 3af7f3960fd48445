"""SecurityPolicies for tests, tokens, and routes that they are for."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}


def policy(name: str, *targets: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A SecurityPolicy, for the Gateway if no target is given."""
    refs = list(targets) or [GATEWAY]
    return {"kind": "SecurityPolicy", "metadata": {"name": name}, "spec": {"targetRefs": refs, **spec}}


def for_route(name: str, kind: str = "HTTPRoute") -> dict[str, Any]:
    return {"group": "gateway.networking.k8s.io", "kind": kind, "name": name}


def plain_route(name: str, path: str, backend: str = "a") -> dict[str, Any]:
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            "rules": [
                {
                    "matches": [{"path": {"value": path}}],
                    "backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": backend}],
                }
            ],
        },
    }


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwks() -> str:
    """The public key, as a set of one."""
    numbers = _KEY.public_key().public_numbers()
    key = {
        "kty": "RSA", "alg": "RS256", "use": "sig", "kid": "one",
        "n": _encoded(numbers.n.to_bytes(256, "big")), "e": _encoded(numbers.e.to_bytes(3, "big")),
    }  # fmt: skip
    return json.dumps({"keys": [key]})


def token(**claims: Any) -> str:
    """A signed token of the issuer https://issuer."""
    head = _encoded(json.dumps({"alg": "RS256", "kid": "one"}).encode())
    body = _encoded(json.dumps({"iss": "https://issuer", "exp": 4_000_000_000, **claims}).encode())
    signature = _KEY.sign(f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{head}.{body}.{_encoded(signature)}"


def local_jwt(**provider: Any) -> dict[str, Any]:
    """`jwt` with the key in the policy."""
    known = {"name": "us", "issuer": "https://issuer", "localJWKS": {"type": "Inline", "inline": jwks()}}
    return {"providers": [{**known, **provider}]}
