"""What the parts of a running server share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.admission.chain import Admission
from kajitori.laptop.apiserver.api_services.services import ApiServices
from kajitori.laptop.apiserver.conversion import Conversion
from kajitori.laptop.apiserver.discovery import Discovery
from kajitori.laptop.apiserver.openapi import OpenApi

if TYPE_CHECKING:
    from pathlib import Path

    from kajitori.api.resource import Resource
    from kajitori.laptop.apiserver.addresses import ServiceAddresses
    from kajitori.laptop.apiserver.auth import Authenticator
    from kajitori.laptop.apiserver.kinds import Registry
    from kajitori.laptop.apiserver.rbac import Authorizer
    from kajitori.laptop.apiserver.store import Store
    from kajitori.laptop.apiserver.tokens import TokenSigner
    from kajitori.laptop.apiserver.watch import Hub


class ServerState:
    """One server's parts. home: the cluster's folder. server: its URL."""

    def __init__(
        self,
        *,
        home: Path,
        server: str,
        store: Store,
        hub: Hub,
        registry: Registry,
        authenticator: Authenticator,
        authorizer: Authorizer,
        signer: TokenSigner,
        addresses: ServiceAddresses,
    ) -> None:
        self.home = home
        self.server = server
        self.store = store
        self.hub = hub
        self.registry = registry
        self.authenticator = authenticator
        self.authorizer = authorizer
        self.signer = signer
        self.addresses = addresses
        self.discovery = Discovery(registry)
        self.openapi = OpenApi(self.discovery)
        self.conversion = Conversion(self)
        self.admission = Admission(self)
        self.api_services = ApiServices(self)
        self.stopping = asyncio.Event()

    def lookup(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """A stored object, not to be changed; without kind and apiVersion."""
        entry = self.store.get(resource.qualified_name, namespace, name)
        return entry.peek() if entry is not None else None
