"""A bare HTTP client of an API server: what goes over the wire is what is checked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import yaml

from kajitori.kube.transport import Sockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Object = dict[str, Any]


class Answer:
    """Status code, headers and body of an answer; `json` is decoded when asked for."""

    def __init__(self, code: int, headers: Any, body: bytes) -> None:
        self.code = code
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def ok(self) -> Any:
        assert self.code < 300, (self.code, self.body)
        return self.json if self.body.startswith((b"{", b"[")) else self.body.decode()


class Watch:
    """Lines of a watch as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self, seconds: float = 10) -> Object:
        async with asyncio.timeout(seconds):
            line = await self.response.content.readline()
        if not line:
            raise EOFError
        return msgspec.json.decode(line)

    async def take(self, count: int) -> list[Object]:
        return [await self.next() for _ in range(count)]


class Api:
    """A client with one identity."""

    def __init__(self, url: str, context: ssl.SSLContext, headers: dict[str, str] | None = None) -> None:
        self.url = url
        self._context = context
        self._headers = headers or {}
        self._sockets = Sockets()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0, socket_factory=self._sockets),
            read_bufsize=1 << 22,
        )

    async def close(self) -> None:
        await self._session.close()
        await self._sockets.closed()

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        **query: str,
    ) -> Answer:
        data = body if isinstance(body, (bytes, io.BytesIO)) or body is None else msgspec.json.encode(body)
        sent = {**self._headers, **(headers or {})}
        if data is not None and content_type:
            sent["Content-Type"] = content_type
        async with self._session.request(
            method,
            self.url + path,
            data=data,
            headers=sent,
            params=query or None,
            allow_redirects=False,
            skip_auto_headers=["Content-Type"],
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **query: str) -> Answer:
        return await self.request("GET", path, **query)

    async def create(self, path: str, obj: Object, **query: str) -> Answer:
        return await self.request("POST", path, obj, **query)

    async def put(self, path: str, obj: Object, **query: str) -> Answer:
        return await self.request("PUT", path, obj, **query)

    async def merge(self, path: str, patch: Any, **query: str) -> Answer:
        return await self.request("PATCH", path, patch, content_type="application/merge-patch+json", **query)

    async def apply(self, path: str, obj: Object, manager: str = "m1", **query: str) -> Answer:
        return await self.request(
            "PATCH", path, obj, content_type="application/apply-patch+yaml", fieldManager=manager, **query
        )

    async def delete(self, path: str, options: Object | None = None, **query: str) -> Answer:
        return await self.request("DELETE", path, options, **query)

    @contextlib.asynccontextmanager
    async def watch(
        self, path: str, headers: dict[str, str] | None = None, /, **query: str
    ) -> AsyncIterator[Watch]:
        async with self._session.get(
            self.url + path, params={"watch": "true", **query}, headers={**self._headers, **(headers or {})}
        ) as response:
            assert response.status == 200, await response.text()
            yield Watch(response)


def tls_context(kubeconfig: Path, *, with_certificate: bool = True) -> ssl.SSLContext:
    document = yaml.safe_load(kubeconfig.read_text())
    authority = base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"])
    context = ssl.create_default_context(cadata=authority.decode())
    if with_certificate:
        user = document["users"][0]["user"]
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder, "c"), Path(folder, "k")
            certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
            key.write_bytes(base64.b64decode(user["client-key-data"]))
            context.load_cert_chain(certificate, key)
    return context
