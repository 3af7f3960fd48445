"""A login at an OpenID provider, from the first redirect to the logout."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from aiohttp import web

from kajitori.gateway.observed import Index
from kajitori.gateway.plan import make_plan
from kajitori.gateway.policies.security.discovery import fetch_issuer, read_discovery
from kajitori.gateway.policies.security.issuer import Issuer
from kajitori.gateway.policies.security.references import issuers_asked, referenced_secrets
from tests.gateway.security.objects import local_jwt, plain_route, policy, token
from tests.gateway.workbench import Provider, Workbench, ai_route, backend, gateway, observe, running_provider

CLIENT = {"kind": "Secret", "metadata": {"name": "client"}, "stringData": {"client-secret": "of-the-client"}}


class Issuing:
    """Answers as a provider does."""

    def __init__(self) -> None:
        self.forms: list[dict[str, str]] = []
        self.provider = Provider(answer=self.answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.provider.port}"

    async def answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(
                {"issuer": self.url, "authorization_endpoint": "https://login.example.com/authorize",
                 "token_endpoint": f"{self.url}/token", "end_session_endpoint": "https://login.example.com/bye"}
            )  # fmt: skip
        assert request.path == "/token"
        credentials = base64.b64encode(b"the-client:of-the-client").decode()
        assert request.headers["authorization"] == f"Basic {credentials}"
        self.forms.append({name: values[0] for name, values in parse_qs(body.decode()).items()})
        return web.json_response(
            {
                "access_token": "of-ann",
                "id_token": token(sub="ann"),
                "token_type": "Bearer",
                "expires_in": 3600,
            }
        )


def oidc(issuer: str, **more: Any) -> dict[str, Any]:
    return {
        "provider": {"issuer": issuer},
        "clientID": "the-client",
        "clientSecret": {"name": "client"},
        **more,
    }


async def get(bench: Workbench, path: str, cookies: dict[str, str]) -> tuple[int, str]:
    """Status and location; cookies are kept as a browser does."""
    headers = {"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else {}
    async with bench.session.get(bench.url + path, headers=headers, allow_redirects=False) as response:
        for line in response.headers.getall("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            cookies[name] = value
            if value in ("", "deleted"):
                del cookies[name]
        return response.status, response.headers.get("Location", "")


async def test_people_log_in_at_their_provider(bench: Workbench, first: Provider) -> None:
    issuing = Issuing()
    async with running_provider(issuing.provider):
        asked = policy(
            "p", oidc=oidc(issuing.url, forwardAccessToken=True, scopes=["mail"],
                           redirectURL="http://app.example.com/back", logoutPath="/out")
        )  # fmt: skip
        documents = [gateway(bench.port), *backend("a", first.port), CLIENT, plain_route("ui", "/"), asked]
        observed = observe(*documents)
        assert issuers_asked(Index(observed)) == {issuing.url}
        assert referenced_secrets(Index(observed)) == {("default", "client")}
        unknown = make_plan(observed)
        said = str([each.status for each in unknown.statuses if each.resource.kind == "SecurityPolicy"])
        assert "are being asked for" in said
        found = await fetch_issuer(issuing.url)
        bench.ads.set_resources(
            "gateway", make_plan(msgspec.structs.replace(observed, issuers={issuing.url: found})).resources
        )
        await bench.settled()
        cookies: dict[str, str] = {}
        status, location = await get(bench, "/page?x=1", cookies)
        assert status == 302
        query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert location.startswith("https://login.example.com/authorize?")
        assert query["client_id"] == "the-client"
        assert query["redirect_uri"] == "http://app.example.com/back"
        assert query["scope"].split() == ["openid", "mail"]
        # Somebody else's answer of the provider does not log him in.
        assert (await get(bench, f"/back?code=c&state={query['state']}", {}))[0] == 401
        status, location = await get(bench, f"/back?code=c&state={query['state']}", cookies)
        assert (status, location) == (302, f"{bench.url}/page?x=1")
        assert issuing.forms[-1]["code"] == "c"
        challenge = hashlib.sha256(issuing.forms[-1]["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(challenge).rstrip(b"=").decode() == query["code_challenge"]
        assert (await get(bench, "/page", cookies))[0] == 200
        assert first.seen[-1].headers["authorization"] == "Bearer of-ann"
        assert "of-ann" not in str(cookies)
        dump = await bench.admin("/config_dump?include_eds")
        assert "of-the-client" not in dump
        status, location = await get(bench, "/out", cookies)
        assert status == 302
        assert location.startswith("https://login.example.com/bye")
        assert (await get(bench, "/page", cookies))[0] == 302


async def test_programs_bring_a_token_where_people_log_in(bench: Workbench, first: Provider) -> None:
    provider = {"issuer": "https://i", "authorizationEndpoint": "https://i/a", "tokenEndpoint": "https://i/t"}
    asked = {**oidc("https://i"), "provider": provider, "passThroughAuthHeader": True,
             "denyRedirect": {"headers": [{"name": "x-requested-with", "value": "XMLHttpRequest"}]}}  # fmt: skip
    parts = [gateway(bench.port), *backend("a", first.port), CLIENT, ai_route("r", "m", {"name": "a"})]
    await bench.apply(*parts, policy("p", oidc=asked, jwt={**local_jwt(), "optional": True}))
    question = {"model": "m", "messages": []}
    assert (await bench.post(question, headers={"authorization": f"Bearer {token()}"})).status == 200
    assert (await bench.post(question, headers={"authorization": "Bearer none"})).status == 401
    assert (await bench.post(question, headers={"x-requested-with": "XMLHttpRequest"})).status == 401
    assert (await bench.get("/v1/models")).status == 302
    plan = bench.set(*parts, policy("p", oidc=asked))
    said = str([each.status for each in plan.statuses if each.resource.kind == "SecurityPolicy"])
    assert "whoever sends some token passes" in said


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b'{"issuer": "https://other"}', "of another issuer"),
        (b'{"issuer": "https://i/", "authorization_endpoint": "x"}', "authorization_endpoint is no http"),
    ],
)
def test_a_provider_that_describes_itself_badly_is_not_believed(body: bytes, said: str) -> None:
    assert said in read_discovery("https://i", body).problem


async def test_a_provider_that_is_away_is_told() -> None:
    assert "cannot be asked" in (await fetch_issuer("http://127.0.0.1:1")).problem
    assert (await fetch_issuer("file:///etc/passwd")) == Issuer(
        problem="'file:///etc/passwd' is no http or https URI"
    )
