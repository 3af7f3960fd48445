"""Bytes to an API server and back: the seam between what requests mean and how they travel.

`HttpTransport` carries them over aiohttp, with the credentials in force. Everything that can go wrong on the
way becomes `Unreachable`; `NeverSent` is the kind of it after which even a write may be tried again. An answer
with an error code is an answer: making an `ApiError` of it is the client's part. A test may put a transport of
its own in place, without sockets, and run on virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol
from weakref import WeakSet

import aiohttp
import msgspec
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from kajitori.base.errors import Unreachable, api_error
from kajitori.base.unix_sockets import short_path
from kajitori.kube.config import ClusterConfig
from kajitori.kube.credentials import Credentials, Identity

Headers = Sequence[tuple[str, str]]

_CONNECT_SECONDS = 10.0
_KEEPALIVE_SECONDS = 30.0
_BASE_OF_UNIX_SOCKETS = "http://localhost"
_CHUNK_BYTES = 1 << 18
_GOODBYE_SECONDS = 2.0
_GOODBYE_LOOK_SECONDS = 0.005
_Address = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]


class NeverSent(Unreachable):
    """The connection could not be made: nothing was sent, so nothing was done."""


class Untrusted(Unreachable):
    """The peer's certificate is not the server's: trying again changes nothing."""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. headers: case does not matter."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Stream(Protocol):
    """An answer that goes on."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    def chunks(self) -> AsyncIterator[bytes]: ...
    async def read(self) -> bytes: ...


class Transport(Protocol):
    """Carries requests. `target` is path and query, already quoted. All methods raise Unreachable."""

    async def send(
        self, method: str, target: str, headers: Headers, body: bytes | None, timeout_seconds: float
    ) -> Answer: ...

    def stream(
        self, method: str, target: str, headers: Headers, silence_seconds: float
    ) -> contextlib.AbstractAsyncContextManager[Stream]: ...

    async def close(self) -> None: ...


class HttpTransport:
    """Over HTTP/1.1 with connections kept alive."""

    def __init__(self, config: ClusterConfig, *, user_agent: str) -> None:
        self._config = config
        self._base = _BASE_OF_UNIX_SOCKETS if config.unix_socket else config.server
        self._credentials = Credentials(config)
        self._proxy = URL(config.proxy) if config.proxy else None
        self._server_name = config.tls_server_name or None
        # Compressing costs more than copying where nothing leaves the machine.
        compress = not (config.is_loopback or config.disable_compression)
        self._base_headers = (
            ("User-Agent", user_agent),
            ("Accept-Encoding", "gzip" if compress else "identity"),
        )
        self._session: aiohttp.ClientSession | None = None
        self._sockets = Sockets()
        self._at_close = contextlib.ExitStack()

    async def send(
        self, method: str, target: str, headers: Headers, body: bytes | None, timeout_seconds: float
    ) -> Answer:
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=_CONNECT_SECONDS)
        identity = await self._identity()
        answer = await self._send_once(method, target, headers, body, timeout, identity)
        if answer.status == 401 and self._credentials.may_change:
            self._credentials.refused(identity)
            identity = await self._identity()
            answer = await self._send_once(method, target, headers, body, timeout, identity)
        return answer

    async def _send_once(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes | None,
        timeout: aiohttp.ClientTimeout,
        identity: Identity,
    ) -> Answer:
        with self._errors():
            async with self._open(method, target, headers, body, timeout, identity) as response:
                return Answer(response.status, response.headers, await response.read())

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, target: str, headers: Headers, silence_seconds: float
    ) -> AsyncGenerator[Stream]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence_seconds)
        identity = await self._identity()
        with self._errors():
            async with self._open(method, target, headers, None, timeout, identity) as response:
                if response.status == 401:
                    self._credentials.refused(identity)
                yield _HttpStream(response, self._config.server)

    @contextlib.asynccontextmanager
    async def websocket(
        self, target: str, protocols: Sequence[str]
    ) -> AsyncGenerator[aiohttp.ClientWebSocketResponse]:
        """An upgraded connection in one of these protocols. Raises the ApiError with which an upgrade is refused."""
        identity = await self._identity()
        if self._session is None:
            self._session = self._new_session()
        with self._errors():
            async with self._session.ws_connect(
                URL(self._base + target, encoded=True),
                protocols=protocols,
                headers=CIMultiDict([*self._base_headers, *identity.headers]),
                ssl=identity.ssl_context if identity.ssl_context is not None else True,
                server_hostname=self._server_name,
                proxy=self._proxy,
                max_msg_size=0,
            ) as socket:
                yield socket

    def _open(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes | None,
        timeout: aiohttp.ClientTimeout,
        identity: Identity,
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = self._new_session()
        return self._session.request(
            method,
            URL(self._base + target, encoded=True),
            data=body,
            headers=CIMultiDict([*self._base_headers, *headers, *identity.headers]),
            timeout=timeout,
            ssl=identity.ssl_context if identity.ssl_context is not None else True,
            server_hostname=self._server_name,
            proxy=self._proxy,
            allow_redirects=False,
        )

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=self._new_connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Content-Type", "Accept"),
            read_bufsize=_CHUNK_BYTES,
            trust_env=False,
        )

    def _new_connector(self) -> aiohttp.BaseConnector:
        if self._config.unix_socket:
            try:
                path = self._at_close.enter_context(short_path(Path(self._config.unix_socket)))
            except OSError as error:
                raise NeverSent(
                    f"cannot connect: {_reason(error)}", where=self._config.unix_socket
                ) from error
            return aiohttp.UnixConnector(path, limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
        return aiohttp.TCPConnector(
            limit=0, socket_factory=self._sockets, ttl_dns_cache=30, keepalive_timeout=_KEEPALIVE_SECONDS
        )

    async def _identity(self) -> Identity:
        identity = self._credentials.cached()
        if identity is None:
            if self._credentials.may_change:
                identity = await asyncio.to_thread(self._credentials.current)
            else:
                identity = self._credentials.current()
        return identity

    def _errors(self) -> _Errors:
        return _Errors(self._config.server)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._at_close.close()
        await self._sockets.closed()


class _HttpStream:
    def __init__(self, response: aiohttp.ClientResponse, server: str) -> None:
        self._response = response
        self._server = server

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return self._response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        with _Errors(self._server):
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def read(self) -> bytes:
        with _Errors(self._server):
            return await self._response.read()


class _Errors:
    """Turns what aiohttp and the system raise into our own tree."""

    def __init__(self, server: str) -> None:
        self._server = server

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, aiohttp.WSServerHandshakeError) and error.status >= 400:
            # The answer's text is not kept; its code says what it is.
            raise api_error({}, error.status) from error
        if isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
            raise _unreachable(self._server, error) from error


def _unreachable(server: str, error: Exception) -> Unreachable:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Untrusted(
            "the server's certificate is not trusted",
            where=server,
            hint="the kubeconfig's certificate-authority-data does not match this server",
        )
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        cause = getattr(error, "os_error", None)
        return NeverSent(f"cannot connect: {_reason(cause or error)}", where=server)
    if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
        return Unreachable("no answer in time", where=server)
    if isinstance(error, aiohttp.InvalidURL):
        return NeverSent("the server's address is no URL", where=server)
    return Unreachable(f"the connection was cut: {_reason(error)}", where=server)


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


class Sockets:
    """Makes the sockets of connections, and waits for their end."""

    def __init__(self) -> None:
        self._made: WeakSet[socket.socket] = WeakSet()

    def __call__(self, address: _Address) -> socket.socket:
        """A socket that notices within a minute that its peer has vanished, for watches that are silent for hours."""
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        self._made.add(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        return made

    async def closed(self) -> None:
        """Wait, for 2 s at most, until all are closed.

        A TLS connection that was cut off says goodbye first; an event loop that ends before leaves its socket open.
        """
        deadline = time.monotonic() + _GOODBYE_SECONDS
        while any(made.fileno() >= 0 for made in self._made) and time.monotonic() < deadline:
            await asyncio.sleep(_GOODBYE_LOOK_SECONDS)
