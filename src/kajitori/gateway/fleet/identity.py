"""The Secrets with the certificates between Envoy and its control plane, in the namespace of the installation.

The leader makes and renews them; every replica reads the server's and offers it to Envoys from then on, without a
restart. Envoy's own is mounted into its pods.
"""

from __future__ import annotations

import base64
import binascii
import logging
from typing import TYPE_CHECKING, Any

import grpc
import msgspec

from kajitori.api.resource import SECRETS
from kajitori.control.controller import After, Key, Result
from kajitori.gateway.fleet.certificates import (
    BUNDLE,
    CERTIFICATE,
    CHECK_SECONDS,
    KEY,
    Data,
    Leaf,
    Stored,
    fingerprint,
    renew,
)

if TYPE_CHECKING:
    from kajitori.control.cache import Informer
    from kajitori.control.runtime import Runtime

_log = logging.getLogger(__name__)

FIELD_MANAGER = "kajitori-gateway"
AUTHORITY_SECRET = "kajitori-gateway-authority"
SERVER_SECRET = "kajitori-gateway-server"
CLIENT_SECRET = "kajitori-envoy-client"
SECRET_NAMES = (AUTHORITY_SECRET, SERVER_SECRET, CLIENT_SECRET)
SERVER_SERVICE = "kajitori-gateway"
_KEY = Key("", "certificates")


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _Secret(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    data: dict[str, str] = {}

    def __repr__(self) -> str:  # its contents belong into no message
        return f"Secret {self.metadata.namespace}/{self.metadata.name}"


class Certificates:
    """Reads and, as the leader, writes the three Secrets. labels: of Secrets that it makes."""

    def __init__(self, runtime: Runtime, namespace: str, labels: dict[str, str]) -> None:
        self._runtime = runtime
        self._namespace = namespace
        self._labels = labels
        self._informers: dict[str, Informer[_Secret]] = {
            name: runtime.informer(
                SECRETS, _Secret, namespace=namespace, field_selector=f"metadata.name={name}"
            )
            for name in SECRET_NAMES
        }
        controller = runtime.controller("gateway-certificates", self._reconcile)
        for informer in self._informers.values():
            controller.watch(informer, lambda _: (_KEY,))
        controller.enqueue(_KEY)

    @property
    def server(self) -> Data:
        """Certificate, key and trusted authorities of the server, PEM; empty while there is none."""
        return self._data(SERVER_SECRET)

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server that asks its clients for certificates; follows the Secret. Only once there is one."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._configuration, require_client_authentication=True
        )

    def _configuration(self) -> Any:
        data = self.server
        return grpc.ssl_server_certificate_configuration(
            [(data[KEY], data[CERTIFICATE])], root_certificates=data[BUNDLE]
        )

    def _data(self, name: str) -> Data:
        secret = self._informers[name].get(self._namespace, name)
        if secret is None:
            return {}
        try:
            return {key: base64.b64decode(value) for key, value in secret.data.items()}
        except binascii.Error:
            return {}

    async def _reconcile(self, key: Key) -> Result:
        stored = Stored(*(self._data(name) for name in SECRET_NAMES))
        service = f"{SERVER_SERVICE}.{self._namespace}"
        server = Leaf(SERVER_SERVICE, (f"{service}.svc", service, SERVER_SERVICE), server=True)
        client = Leaf("kajitori-envoy", (f"kajitori-envoy.{self._namespace}",), server=False)
        wanted = renew(stored, server, client, self._runtime.clock.now())
        for name, before, after in zip(
            SECRET_NAMES,
            (stored.authority, stored.server, stored.client),
            (wanted.authority, wanted.server, wanted.client),
            strict=True,
        ):
            if after != before:
                await self._write(name, after)
        return After(CHECK_SECONDS)

    async def _write(self, name: str, data: Data) -> None:
        written = await self._runtime.client.apply(
            SECRETS,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"namespace": self._namespace, "name": name, "labels": self._labels},
                "type": "Opaque",
                "data": {key: base64.b64encode(value).decode() for key, value in sorted(data.items())},
            },
            field_manager=FIELD_MANAGER,
            type=_Secret,
        )
        self._informers[name].remember(written)
        _log.info("wrote the certificates of Secret %s/%s: %s", self._namespace, name, fingerprint(data))
