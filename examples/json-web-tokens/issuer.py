"""Stands in for an issuer of tokens: its public keys at /keys, and a token for a team at /token/TEAM. `issuer.py PORT`."""

import base64
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def keys() -> str:
    numbers = KEY.public_key().public_numbers()
    modulus, exponent = encoded(numbers.n.to_bytes(256, "big")), encoded(numbers.e.to_bytes(3, "big"))
    return json.dumps({"keys": [{"kty": "RSA", "alg": "RS256", "kid": "one", "n": modulus, "e": exponent}]})


def token(team: str) -> str:
    claims = {"iss": "https://issuer.example.com", "aud": "models", "exp": time.time() + 600, "team": team}
    parts = (json.dumps(part).encode() for part in ({"alg": "RS256", "kid": "one"}, claims))
    text = ".".join(encoded(part) for part in parts)
    return f"{text}.{encoded(KEY.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class Issuer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = keys() if self.path == "/keys" else token(self.path.removeprefix("/token/"))
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None: ...


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Issuer).serve_forever()
