"""The running server with namespace `default` ready for pods, and webhook servers over TLS beside it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.apiserver.core.conftest import Cluster, add_service_account, api, cluster
from tests.wire import Api, Object

from kajitori.laptop.apiserver.pki import Authority

__all__ = ["Cluster", "Hooks", "api", "cluster", "hooks", "ready"]

Answering = Callable[[Object], Any]


@cache
def _tls() -> tuple[ssl.SSLContext, str]:
    """A server context for 127.0.0.1 and `hook.default.svc`, and the bundle that trusts it."""
    with TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hook")])
        names: list[x509.GeneralName] = [
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.DNSName("hook.default.svc"),
        ]
        certificate, key = authority.issue(subject, ExtendedKeyUsageOID.SERVER_AUTH, names)
        file = Path(folder, "both.pem")
        file.write_bytes(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context, base64.b64encode(authority.certificate).decode()


class Hooks:
    """A webhook server: paths with what answers them, and the requests that came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.bundle = _tls()[1]
        self.answers: dict[str, Answering] = {}
        self.requests: list[tuple[str, Object]] = []
        self.calls: list[tuple[str, Object]] = []

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    def seen(self, path: str) -> list[Object]:
        return [request for at, request in self.requests if at == path]

    async def handle(self, http: web.Request) -> web.StreamResponse:
        review: Object = msgspec.json.decode(await http.read())
        request = review["request"]
        self.requests.append((http.path, request))
        answer = self.answers[http.path](request)
        if isinstance(answer, Awaitable):
            answer = await answer
        if isinstance(answer, web.StreamResponse):
            return answer
        if isinstance(answer, bytes):
            return web.Response(body=answer)
        if "response" not in answer:
            answer = {
                "kind": review["kind"],
                "apiVersion": review["apiVersion"],
                "response": {"uid": request["uid"], **answer},
            }
        return web.json_response(answer)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Hooks]:
    server = web.Server(lambda http: hooks.handle(http), lingering_time=0)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=_tls()[0])
    hooks = Hooks(listening.sockets[0].getsockname()[1])
    try:
        yield hooks
    finally:
        listening.close()
        server.pre_shutdown()
        await server.shutdown(0.1)


@pytest.fixture
async def hooks() -> AsyncIterator[Hooks]:
    async with serving() as hooks:
        yield hooks


@pytest.fixture
async def ready(api: Api) -> Api:
    await add_service_account(api)
    return api


def patch(*operations: Object) -> Object:
    """The answer of a webhook that changes an object."""
    encoded = base64.b64encode(msgspec.json.encode(operations)).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def rule(
    *resources: str, operations: tuple[str, ...] = ("*",), group: str = "", version: str = "v1"
) -> Object:
    return {
        "operations": list(operations),
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": list(resources),
    }


def webhook(hooks: Hooks, path: str, *rules: Object, name: str = "", **more: Any) -> Object:
    return {
        "name": name or f"{path.strip('/')}.example.com",
        "clientConfig": {"url": hooks.url(path), "caBundle": hooks.bundle},
        "rules": list(rules) or [rule("configmaps")],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
        **more,
    }


REGISTRATION = "/apis/admissionregistration.k8s.io/v1"


async def configure(api: Api, kind: str, name: str, *webhooks: Object) -> None:
    """kind: `Mutating` or `Validating`."""
    answer = await api.create(
        f"{REGISTRATION}/{kind.lower()}webhookconfigurations",
        {
            "kind": f"{kind}WebhookConfiguration",
            "apiVersion": "admissionregistration.k8s.io/v1",
            "metadata": {"name": name},
            "webhooks": list(webhooks),
        },
    )
    answer.ok()
