"""How the accountant gets its policy: a stream from the control plane, and a file for when that is away.

A follower is sent the latest policy at once and then each change; what changes faster than it reads is left out. Messages
are msgpack of `AccountantPolicy`, over gRPC on the control plane's own socket or port.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec

from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.accounting.exhaustion_reports import ExhaustionServer
from kajitori.gateway.accounting.policy_decoding import read_policy

_log = logging.getLogger(__name__)

SERVICE = "kajitori.gateway.v1.Policies"
METHOD = "Follow"
FILE_NAME = "policy.msgpack"
_LARGEST_MESSAGE_BYTES = 64 * 1024 * 1024
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.1, 1.0
_encoder = msgspec.msgpack.Encoder(order="deterministic")


class PolicyServer:
    """The control plane's side. exhaustion: what accountants tell in turn."""

    def __init__(self) -> None:
        self.exhaustion = ExhaustionServer()
        self._latest: bytes | None = None
        self._changed = asyncio.Event()

    def configure(self, policy: AccountantPolicy) -> None:
        """Sends a policy to all who follow, unless it is the one that they have."""
        encoded = _encoder.encode(policy)
        if encoded != self._latest:
            self._latest = encoded
            self._changed.set()
            self._changed = asyncio.Event()

    async def follow(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """The handler of the method."""
        while True:
            changed = self._changed
            if self._latest is not None:
                yield self._latest
            await changed.wait()

    def handler(self) -> Any:
        """For a gRPC server."""
        method = grpc.unary_stream_rpc_method_handler(self.follow)  # pyright: ignore[reportArgumentType]
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})


class PolicyFollower:
    """The accountant's side. connect: opens a channel anew each time, since certificates may have been renewed.

    folder: where the last policy is kept, for its owner only.
    """

    def __init__(
        self,
        connect: Callable[[], grpc.aio.Channel],
        folder: Path,
        on_policy: Callable[[AccountantPolicy], None],
    ) -> None:
        self._connect = connect
        self._path = folder / FILE_NAME
        self._on_policy = on_policy
        self.known = asyncio.Event()
        self.connected = False

    def restore(self) -> None:
        """Takes what an earlier process kept, if it is there and can be read."""
        try:
            self._take(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the policy in %s cannot be used: %s", self._path, error)

    async def run(self) -> None:
        """Follow until cancelled."""
        wait = _FIRST_RETRY_SECONDS
        while True:
            try:
                async with self._connect() as channel:
                    async for message in _messages(channel):
                        self.connected, wait = True, _FIRST_RETRY_SECONDS
                        self._take_and_keep(message)
            except (OSError, grpc.RpcError) as error:
                if self.connected:
                    _log.warning("the control plane went away: %s", _told(error))
            self.connected = False
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LAST_RETRY_SECONDS)

    def _take_and_keep(self, message: bytes) -> None:
        """A policy that cannot be taken changes nothing: the one before holds, here and in the file."""
        try:
            self._take(message)
        except Exception:
            _log.exception("a new policy cannot be used; the one before holds on")
        else:
            self._keep(message)

    def _take(self, message: bytes) -> None:
        policy, problems = read_policy(message)
        for problem in problems:
            _log.error("this accountant cannot read a part of the policy, which is left out: %s", problem)
        self._on_policy(policy)
        self.known.set()

    def _keep(self, message: bytes) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(message)
            fresh.rename(self._path)
        except OSError as error:
            _log.warning("the policy cannot be kept in %s: %s", self._path, error)


def _messages(channel: grpc.aio.Channel) -> AsyncIterator[bytes]:
    call: Any = channel.unary_stream(f"/{SERVICE}/{METHOD}")(b"")
    return call


def _told(error: BaseException) -> str:
    details: Any = getattr(error, "details", None)
    return str(details()) if callable(details) else str(error)


_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_http_proxy", 0),
]


def local_channel(socket: Path) -> grpc.aio.Channel:
    """To a control plane of this machine."""
    return grpc.aio.insecure_channel(f"unix:{socket}", options=_OPTIONS)


def secure_channel(address: str, certificates: Path, server_name: str = "") -> grpc.aio.Channel:
    """To a control plane at `host:port`, with the certificate of Envoy. server_name: that the control plane's certificate
    must have, the host if empty. Raises OSError if the certificate is not there.
    """
    name: list[tuple[str, Any]] = [("grpc.ssl_target_name_override", server_name)] if server_name else []
    credentials = grpc.ssl_channel_credentials(
        root_certificates=(certificates / "ca.crt").read_bytes(),
        private_key=(certificates / "tls.key").read_bytes(),
        certificate_chain=(certificates / "tls.crt").read_bytes(),
    )
    return grpc.aio.secure_channel(address, credentials, options=[*_OPTIONS, *name])
