"""The gRPC server that Envoy and its accountant talk to: discovery (ADS), and the policy.

On a laptop it listens on a Unix socket for its owner, on a cluster on a port that asks for a certificate.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio

from kajitori.gateway.accounting.policy_delivery import PolicyServer
from kajitori.gateway.envoy import ads
from kajitori.gateway.envoy.ads import AdsServer

_LARGEST_MESSAGE_BYTES = 64 * 1024 * 1024
_GRACE_SECONDS = 0.2
_CERTIFICATE_POLL_SECONDS = 0.2
_log = logging.getLogger(__name__)


class ControlPlane:
    """Serves Envoys until it is closed. policies: for their accountants."""

    def __init__(self, ads_server: AdsServer, policies: PolicyServer | None = None) -> None:
        self._ads = ads_server
        self._policies = policies
        self._server: Any = None

    async def start(self, socket: Path) -> None:
        """Listens on `socket`; one that is left from before is replaced."""
        server = self._make_server()
        _make_room(socket)
        before = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{socket}")
            await server.start()
        finally:
            os.umask(before)
        self._server = server

    async def start_secure(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Listens on `host:port`, for clients that the credentials accept; returns the port in force."""
        server = self._make_server()
        port: int = server.add_secure_port(address, credentials)
        await server.start()
        self._server = server
        return port

    def _make_server(self) -> Any:
        server: Any = grpc.aio.server(
            options=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", _LARGEST_MESSAGE_BYTES),
                ("grpc.http2.min_ping_interval_without_data_ms", 5000),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    ads.SERVICE,
                    {
                        "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(
                            self._ads.stream,  # pyright: ignore[reportArgumentType]  aio handlers are coroutines
                            request_deserializer=self._ads.request_class.FromString,
                            response_serializer=self._ads.response_class.SerializeToString,
                        )
                    },
                ),
            )
        )
        if self._policies is not None:
            server.add_generic_rpc_handlers((self._policies.handler(), self._policies.exhaustion.handler()))
        return server

    async def close(self) -> None:
        """Ends all streams."""
        if self._server is not None:
            await self._server.stop(_GRACE_SECONDS)
            self._server = None


class KeyPair(Protocol):
    """Where the server's certificate comes from: empty while there is none."""

    @property
    def server(self) -> Mapping[str, bytes]: ...
    def server_credentials(self) -> grpc.ServerCredentials: ...


class SecureListener:
    """Opens the port once there is a certificate. address: `host:port`; port 0 for any, see `port`."""

    def __init__(self, control_plane: ControlPlane, address: str, certificates: KeyPair) -> None:
        self._control_plane = control_plane
        self._address = address
        self._certificates = certificates
        self.port = 0

    @property
    def listening(self) -> bool:
        return self.port != 0

    async def run(self) -> None:
        """Listen until cancelled."""
        while not self._certificates.server:
            await asyncio.sleep(_CERTIFICATE_POLL_SECONDS)  # the leader is making one
        self.port = await self._control_plane.start_secure(
            self._address, self._certificates.server_credentials()
        )
        _log.info("Envoys may connect to port %d", self.port)
        try:
            await asyncio.Event().wait()
        finally:
            self.port = 0
            await self._control_plane.close()


def _make_room(socket: Path) -> None:
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
