"""Stand-ins for the token endpoints of the clouds. They check what they are sent and answer as the provider documents."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kajitori.gateway.credentials.exchange import Surroundings

CLIENT_SECRET = "s3cret/of+the=client"
OIDC_TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJnYXRld2F5In0.c2ln"
ROLE = "arn:aws:iam::123456789012:role/gateway"
AUDIENCE = "//iam.googleapis.com/projects/77/locations/global/workloadIdentityPools/pool/providers/provider"
ROLE_KEYS = ("ASIAROLE", "role/secret+key", "role-session-token")
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PRIVATE_KEY = _KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def rfc3339_in(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


@dataclass
class Clouds:
    """All endpoints on one port. refusals: (status, body) by path, instead of the normal answer."""

    url: str = ""
    seen: list[str] = field(default_factory=list)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    tokens_given: int = 0
    expires_in: float = 3600
    issuer_methods: list[str] | None = None
    issuer_scopes: tuple[str, ...] = ("openid", "all")
    asked_scopes: list[str] = field(default_factory=list)

    def surroundings(self, **environment: str) -> Surroundings:
        return Surroundings(
            environment={
                "AZURE_AUTHORITY_HOST": self.url + "/entra/",
                "AWS_ENDPOINT_URL_STS": self.url + "/sts",
                "AWS_EC2_METADATA_DISABLED": "true",
                **environment,
            },
            google_sts=self.url + "/google-sts",
            google_iam=self.url + "/google-iam",
            google_token=self.url + "/google-token",
        )

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._remember])
        app.router.add_post("/entra/{tenant}/oauth2/v2.0/token", self.entra)
        app.router.add_post("/sts/", self.aws_sts)
        app.router.add_get("/issuer/.well-known/openid-configuration", self.discovery)
        app.router.add_post("/issuer/token", self.issuer)
        app.router.add_post("/google-token", self.google_token)
        app.router.add_post("/google-sts/v1/token", self.google_sts)
        app.router.add_post("/google-iam/v1/projects/-/serviceAccounts/{account}", self.google_iam)
        app.router.add_get(
            "/computeMetadata/v1/instance/service-accounts/default/token", self.google_metadata
        )
        app.router.add_put("/latest/api/token", self.instance_session)
        app.router.add_get("/latest/meta-data/iam/security-credentials/{role:.*}", self.instance_role)
        app.router.add_get("/agent", self.container_agent)
        return app

    @web.middleware
    async def _remember(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen.append(request.path)
        refusal = self.refusals.get(request.path)
        if refusal is not None:
            kind = "application/json" if refusal[1].startswith("{") else "text/xml"
            return web.Response(status=refusal[0], text=refusal[1], content_type=kind)
        return await handler(request)

    def _token(self, name: str = "access_token", **more: Any) -> web.Response:
        self.tokens_given += 1
        return web.json_response({name: f"token-{self.tokens_given}", "token_type": "Bearer", **more})

    async def entra(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") != "client_credentials" or request.match_info["tenant"] != "tenant-1":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        if (
            form.get("scope") != "https://cognitiveservices.azure.com/.default"
            or form["client_id"] != "app-1"
        ):
            return web.json_response({"error": "invalid_scope"}, status=400)
        by_assertion = (
            form.get("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            and form.get("client_assertion") == OIDC_TOKEN
        )
        if form.get("client_secret") != CLIENT_SECRET and not by_assertion:
            said = f"AADSTS7000215: Invalid client secret provided: {form.get('client_secret')}"
            return web.json_response({"error": "invalid_client", "error_description": said}, status=401)
        return self._token(expires_in=self.expires_in, ext_expires_in=self.expires_in)

    async def discovery(self, request: web.Request) -> web.Response:
        found: dict[str, Any] = {
            "issuer": self.url + "/issuer",
            "token_endpoint": self.url + "/issuer/token",
            "scopes_supported": list(self.issuer_scopes),
        }
        if self.issuer_methods is not None:
            found["token_endpoint_auth_methods_supported"] = self.issuer_methods
        return web.json_response(found)

    async def issuer(self, request: web.Request) -> web.Response:
        form = await request.post()
        if self.issuer_methods is None or "client_secret_basic" in self.issuer_methods:
            scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
            assert scheme == "Basic"
            user, _, password = base64.b64decode(encoded).decode().partition(":")
            user, password = unquote(user), unquote(password)
            assert "client_secret" not in form
        else:
            user, password = str(form["client_id"]), str(form["client_secret"])
        if (user, password) != ("login-1", CLIENT_SECRET):
            return web.json_response({"error": "invalid_client"}, status=401)
        assert form["grant_type"] == "client_credentials"
        self.asked_scopes.append(f"{form.get('scope')} {form.get('audience')} {form.getall('resource', [])}")
        return web.json_response({"access_token": OIDC_TOKEN, "token_type": "Bearer", "expires_in": 60})

    async def aws_sts(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        assert "authorization" not in request.headers  # this action is not signed
        space = 'xmlns="https://sts.amazonaws.com/doc/2011-06-15/"'
        expected = {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": ROLE,
                    "RoleSessionName": form.get("RoleSessionName"), "WebIdentityToken": OIDC_TOKEN}  # fmt: skip
        if form != expected or not str(form["RoleSessionName"]).startswith("ai-gateway-"):
            text = (
                f"<ErrorResponse {space}><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code>"
                "<Message>No OpenIDConnect provider found</Message></Error></ErrorResponse>"
            )
            return web.Response(status=400, text=text, content_type="text/xml")
        access, secret, session = ROLE_KEYS
        text = (
            f"<AssumeRoleWithWebIdentityResponse {space}><AssumeRoleWithWebIdentityResult>"
            f"<AssumedRoleUser><Arn>{ROLE}</Arn></AssumedRoleUser><Credentials><AccessKeyId>{access}</AccessKeyId>"
            f"<SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{session}</SessionToken>"
            f"<Expiration>{rfc3339_in(self.expires_in)}</Expiration></Credentials>"
            "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
        return web.Response(text=text, content_type="text/xml")

    async def google_token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form["grant_type"] == "refresh_token":
            assert (form["client_id"], form["refresh_token"]) == ("user-1", "refresh-1")
            return self._token(expires_in=3599)
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        text, _, signature = str(form["assertion"]).rpartition(".")
        _KEY.public_key().verify(_decoded(signature), text.encode(), padding.PKCS1v15(), SHA256())
        header, claims = (json.loads(_decoded(part)) for part in text.split("."))
        assert header == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
        assert claims["iss"] == "robot@project-1.iam.gserviceaccount.com"
        assert claims["aud"] == self.url + "/google-token"
        assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
        assert claims["exp"] - claims["iat"] == 3600
        assert abs(claims["iat"] - time.time()) < 300
        return self._token(expires_in=3599)

    async def google_sts(self, request: web.Request) -> web.Response:
        assert await request.json() == {
            "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": AUDIENCE,
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
            "subjectToken": OIDC_TOKEN,
            "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
        }
        return web.json_response({"access_token": "federated-1", "token_type": "Bearer", "expires_in": 3600})

    async def google_iam(self, request: web.Request) -> web.Response:
        assert request.match_info["account"] == "robot@project-1.iam.gserviceaccount.com:generateAccessToken"
        assert request.headers["authorization"] == "Bearer federated-1"
        content = await request.json()
        assert content["scope"] == ["https://www.googleapis.com/auth/cloud-platform"]
        return web.json_response({"accessToken": "impersonated-1", "expireTime": rfc3339_in(3600)})

    async def google_metadata(self, request: web.Request) -> web.Response:
        assert request.headers["metadata-flavor"] == "Google"
        return self._token(expires_in=3599)

    async def instance_session(self, request: web.Request) -> web.Response:
        assert request.headers["x-aws-ec2-metadata-token-ttl-seconds"]
        return web.Response(text="session-1")

    async def instance_role(self, request: web.Request) -> web.Response:
        assert request.headers["x-aws-ec2-metadata-token"] == "session-1"
        if not request.match_info["role"]:
            return web.Response(text="machine-role")
        assert request.match_info["role"] == "machine-role"
        return web.json_response(_agent_keys("ASIAMACHINE"))

    async def container_agent(self, request: web.Request) -> web.Response:
        assert request.headers["authorization"] == "agent-token"
        return web.json_response(_agent_keys("ASIACONTAINER"))


def _agent_keys(access: str) -> dict[str, str]:
    return {
        "Code": "Success",
        "AccessKeyId": access,
        "SecretAccessKey": "agent-secret",
        "Token": "agent-session",
        "Expiration": rfc3339_in(3600),
    }


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def service_account(token_uri: str, **changes: Any) -> str:
    """The file `service_account.json`."""
    content = {
        "type": "service_account",
        "project_id": "project-1",
        "private_key_id": "key-1",
        "private_key": PRIVATE_KEY,
        "client_email": "robot@project-1.iam.gserviceaccount.com",
        "token_uri": token_uri,
        **changes,
    }
    return json.dumps(content)


@contextlib.asynccontextmanager
async def running_clouds() -> AsyncIterator[Clouds]:
    clouds = Clouds()
    runner = web.AppRunner(clouds.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server: Any = site._server
    clouds.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield clouds
    finally:
        await runner.cleanup()
