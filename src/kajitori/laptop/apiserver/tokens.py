"""Service account tokens: JSON Web Tokens signed by the cluster (RS256), bound to an account, a pod, a node.

Source of the claims: `kubernetes.io` private claims of upstream's bound tokens.
"""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

ISSUER = "https://kubernetes.default.svc.cluster.local"
DEFAULT_AUDIENCE = ISSUER


class Reference(msgspec.Struct, frozen=True):
    name: str
    uid: str = ""


class Bound(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a token is bound to; it ends with any of these."""

    namespace: str
    serviceaccount: Reference
    pod: Reference | None = None
    node: Reference | None = None
    secret: Reference | None = None


class Claims(msgspec.Struct, frozen=True):
    """Payload of a token; times are Unix seconds."""

    aud: list[str]
    exp: int
    iat: int
    iss: str
    jti: str
    nbf: int
    sub: str
    bound: Bound = msgspec.field(name="kubernetes.io")


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class TokenSigner:
    """Signs and checks tokens with one key."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self._key = key
        self._public = key.public_key()
        der = self._public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = _encode(hashlib.sha256(der).digest())

    def sign(self, bound: Bound, audiences: list[str], seconds: int) -> tuple[str, int]:
        """A token and the Unix time at which it ends."""
        now = int(time.time())
        claims = Claims(
            aud=audiences or [DEFAULT_AUDIENCE],
            exp=now + seconds,
            iat=now,
            iss=ISSUER,
            jti=str(uuid.uuid4()),
            nbf=now,
            sub=f"system:serviceaccount:{bound.namespace}:{bound.serviceaccount.name}",
            bound=bound,
        )
        header = _encode(msgspec.json.encode({"alg": "RS256", "kid": self.key_id}))
        payload = _encode(msgspec.json.encode(claims))
        signed = f"{header}.{payload}".encode()
        signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return f"{signed.decode()}.{_encode(signature)}", claims.exp

    def verify(self, token: str) -> Claims | None:
        """The claims of a token of ours; None for any other and for one that has ended."""
        try:
            header, payload, signature = token.split(".")
            if msgspec.json.decode(_decode(header)).get("alg") != "RS256":
                return None
            self._public.verify(
                _decode(signature), f"{header}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
            claims = msgspec.json.decode(_decode(payload), type=Claims)
        except (ValueError, AttributeError, InvalidSignature, msgspec.MsgspecError):
            return None
        now = time.time()
        return claims if claims.iss == ISSUER and claims.nbf - 60 <= now < claims.exp else None

    def key_set(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set."""
        numbers = self._public.public_numbers()

        def number(value: int) -> str:
            return _encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))

        return {
            "keys": [
                {
                    "use": "sig",
                    "kty": "RSA",
                    "kid": self.key_id,
                    "alg": "RS256",
                    "n": number(numbers.n),
                    "e": number(numbers.e),
                }
            ]
        }

    def discovery(self) -> dict[str, Any]:
        """The OpenID provider document."""
        return {
            "issuer": ISSUER,
            "jwks_uri": f"{ISSUER}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
