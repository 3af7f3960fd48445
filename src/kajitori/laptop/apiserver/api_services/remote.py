"""Connections to the servers of other APIs: as a front proxy that says for whom it asks."""

from __future__ import annotations

import base64
import binascii
import contextlib
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
from aiohttp import web

from kajitori.laptop.apiserver import pki
from kajitori.laptop.apiserver.admission.client import WebhookClient

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

    from kajitori.laptop.apiserver.auth import User
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
CHECK_SECONDS = 5.0
_CHUNK_BYTES = 64 << 10
# Of one hop only, or ours to say.
_NOT_PASSED_ON = frozenset(
    {
        "authorization",
        "connection",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
    }
)


class Unanswered(Exception):
    """The other server gave no usable answer."""


class RemoteServers:
    """Keeps connections; `close` at the end. An APIService's spec says where to and whom to believe."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._services = WebhookClient(state.store)
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[tuple[bool, str], ssl.SSLContext] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _address(self, spec: Object) -> str:
        """Raises CallFailed."""
        service = spec["service"]
        port = int(service.get("port") or 443)
        return self._services.resolve(service.get("namespace", ""), service.get("name", ""), port)

    def shown(self, spec: Object) -> str:
        """The server's URL in messages."""
        return f"https://{self._address(spec)}"

    def _request(
        self,
        method: str,
        spec: Object,
        target: str,
        headers: list[tuple[str, str]],
        data: Any,
        seconds: float | None,
    ) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        service = spec["service"]
        return self._session.request(
            method,
            f"https://{self._address(spec)}{target}",
            headers=headers,
            data=data,
            ssl=self._context(bool(spec.get("insecureSkipTLSVerify")), spec.get("caBundle") or ""),
            server_hostname=f"{service.get('name')}.{service.get('namespace')}.svc",
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CHECK_SECONDS),
        )

    async def get(self, spec: Object, path: str) -> bytes:
        """The body of a GET by the server itself. Raises CallFailed, Unanswered."""
        headers = [("X-Remote-User", "system:kube-aggregator"), ("X-Remote-Group", "system:masters")]
        headers.append(("Accept", "application/json"))
        try:
            async with self._request("GET", spec, path, headers, None, CHECK_SECONDS) as answer:
                body: bytes = await answer.read()
                if answer.status != 200:
                    raise Unanswered(f"bad status from {self.shown(spec)}{path}: {answer.status}")
                return body
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unanswered(str(error) or type(error).__name__) from None

    async def forward(self, spec: Object, http: BaseRequest, user: User) -> web.StreamResponse:
        """The other server's answer, piece by piece as it comes. Raises CallFailed, Unanswered."""
        headers = [(name, value) for name, value in http.headers.items() if _is_passed_on(name)]
        headers += _who_asks(user)
        data = http.content if http.body_exists else None
        started: web.StreamResponse | None = None
        try:
            async with self._request(http.method, spec, http.raw_path, headers, data, None) as answer:
                kept = [(name, value) for name, value in answer.headers.items() if _is_passed_on(name)]
                started = web.StreamResponse(status=answer.status, headers=dict(kept))
                await started.prepare(http)
                async for piece in answer.content.iter_chunked(_CHUNK_BYTES):
                    await started.write(piece)
                await started.write_eof()
                return started
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if started is not None:
                raise
            raise Unanswered(str(error) or type(error).__name__) from None

    def _context(self, insecure: bool, bundle: str) -> ssl.SSLContext:
        context = self._contexts.get((insecure, bundle))
        if context is None:
            context = ssl.create_default_context()
            if bundle:
                with contextlib.suppress(binascii.Error, UnicodeDecodeError):
                    context = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            context.load_cert_chain(self._own_certificate())
            self._contexts[insecure, bundle] = context
        return context

    def _own_certificate(self) -> str:
        """The file of the certificate that says that we are the front proxy."""
        folder = self._state.home / "pki"
        file = folder / "clients" / "front-proxy-client.pem"
        identity = pki.Identity("front-proxy-client", "front-proxy-client")
        pki.write_private(file, b"".join(pki.Authority(folder).client_certificate(identity)))
        return str(file)


def _is_passed_on(name: str) -> bool:
    lowered = name.lower()
    return lowered not in _NOT_PASSED_ON and not lowered.startswith(("x-remote-", "impersonate-"))


def _who_asks(user: User) -> list[tuple[str, str]]:
    said = [("X-Remote-User", user.name), *(("X-Remote-Group", group) for group in user.groups)]
    if user.uid:
        said.append(("X-Remote-Uid", user.uid))
    for key, values in user.extra:
        said += [(f"X-Remote-Extra-{quote(key, safe='')}", value) for value in values]
    return said
