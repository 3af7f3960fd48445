"""How messages of OTLP leave: by HTTP, by gRPC, or to standard output."""

from __future__ import annotations

import gzip
import ssl
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

import aiohttp
import grpc
import grpc.aio

from kajitori import __version__
from kajitori.base.errors import KajitoriError, UsageError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from kajitori.gateway.telemetry.settings import Target

Signal = Literal["traces", "metrics"]
_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
_AGENT = f"kajitori-accountant/{__version__}"
# Those of the OTLP specification; any other failure is for good.
_TRY_AGAIN_STATUSES = (429, 502, 503, 504)
_TRY_AGAIN_CODES = (
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class NotSent(KajitoriError):
    """again: whether it may help to try again. after_seconds: when, if the collector said so."""

    def __init__(self, message: str, *, again: bool, after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.again = again
        self.after_seconds = after_seconds


class Sender(Protocol):
    """Who carries messages of one signal."""

    async def send(self, message: Message) -> bytes:
        """Returns the collector's answer, a message of OTLP. Raises NotSent."""
        ...

    async def close(self) -> None:
        """Ends connections."""
        ...


def open_sender(target: Target, signal: Signal) -> Sender:
    """For a target that is not `none`. Raises UsageError for certificates that cannot be read."""
    if target.exporter == "console":
        return ConsoleSender(print)
    return GrpcSender(target, signal) if target.protocol == "grpc" else HttpSender(target)


class HttpSender:
    """OTLP over HTTP, as protobuf."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._ssl = _ssl_context(target)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: Message) -> bytes:
        """See `Sender`."""
        target = self._target
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=target.timeout_seconds), trust_env=True
            )
        body = message.SerializeToString()
        headers = {"user-agent": _AGENT, **dict(target.headers), "content-type": "application/x-protobuf"}
        if target.gzip:
            body, headers["content-encoding"] = gzip.compress(body, 1), "gzip"
        try:
            async with self._session.post(
                target.endpoint, data=body, headers=headers, ssl=self._ssl or True, allow_redirects=False
            ) as answer:
                content = await answer.content.read(64 * 1024)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise NotSent(f"{target.endpoint}: {error or type(error).__name__}", again=True) from None
        if 200 <= answer.status < 300:
            return content
        again = answer.status in _TRY_AGAIN_STATUSES
        wait = answer.headers.get("retry-after", "")
        seconds = float(wait) if again and wait.isascii() and wait.isdigit() else None
        raise NotSent(f"{target.endpoint} answered {answer.status}", again=again, after_seconds=seconds)

    async def close(self) -> None:
        """See `Sender`."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class GrpcSender:
    """OTLP over gRPC."""

    def __init__(self, target: Target, signal: Signal) -> None:
        self._target = target
        self._method = _METHODS[signal]
        self._credentials = _channel_credentials(target)
        self._channel: grpc.aio.Channel | None = None

    async def send(self, message: Message) -> bytes:
        """See `Sender`."""
        call = self._open().unary_unary(self._method)
        try:
            return await call(
                message.SerializeToString(),
                timeout=self._target.timeout_seconds,
                metadata=[(name.lower(), value) for name, value in self._target.headers],
            )
        except grpc.aio.AioRpcError as error:
            again = error.code() in _TRY_AGAIN_CODES
            raise NotSent(f"{self._target.endpoint}: {error.code().name}", again=again) from None

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            url = urlsplit(self._target.endpoint)
            address = url.netloc.rpartition("@")[2]
            if url.port is None:
                address += ":4317"
            options = [("grpc.primary_user_agent", _AGENT)]
            compression = grpc.Compression.Gzip if self._target.gzip else None
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(address, options, compression)
            else:
                self._channel = grpc.aio.secure_channel(address, self._credentials, options, compression)
        return self._channel

    async def close(self) -> None:
        """See `Sender`."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None


class ConsoleSender:
    """JSON, a message on each line."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    async def send(self, message: Message) -> bytes:
        """See `Sender`."""
        from google.protobuf.json_format import MessageToJson

        self._write(MessageToJson(message, indent=None))
        sys.stdout.flush()
        return b""

    async def close(self) -> None:
        """There is nothing to end."""


def _ssl_context(target: Target) -> ssl.SSLContext | None:
    if not (target.certificate or target.client_certificate):
        return None
    try:
        context = ssl.create_default_context(cafile=target.certificate or None)
        if target.client_certificate:
            context.load_cert_chain(target.client_certificate, target.client_key or None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the collector's certificates cannot be read: {error}") from None
    return context


def _channel_credentials(target: Target) -> grpc.ChannelCredentials | None:
    if urlsplit(target.endpoint).scheme == "http":
        return None

    def content(path: str) -> bytes | None:
        if not path:
            return None
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise UsageError(f"the collector's certificates cannot be read: {error}") from None

    key, chain = content(target.client_key), content(target.client_certificate)
    return grpc.ssl_channel_credentials(content(target.certificate), key, chain)
