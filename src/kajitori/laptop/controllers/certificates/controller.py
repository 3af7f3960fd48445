"""Watches for requests for certificates, which `signing.py` settles.

That comes with a library of 8 MB, so it is loaded when there is a first request: a laptop cluster without nodes that joined
has none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kajitori.api.resource import Resource
from kajitori.control.cache import Informer
from kajitori.control.controller import Key, Result
from kajitori.control.runtime import Runtime
from kajitori.laptop.controllers.views import View

if TYPE_CHECKING:
    from kajitori.laptop.controllers.certificates.signing import Signing

SIGNING_REQUESTS = Resource(
    "certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", namespaced=False
)


class Certificates:
    """folder: of the authority's certificate and key."""

    def __init__(self, runtime: Runtime, folder: Path) -> None:
        self._client = runtime.client
        self._folder = folder
        self._signing: Signing | None = None
        requests: Informer[View] = runtime.informer(SIGNING_REQUESTS, View, metadata_only=True)
        controller = runtime.controller("certificates", self.reconcile)
        controller.watch(requests, when=lambda old, new: new is not None)

    async def reconcile(self, key: Key) -> Result:
        if self._signing is None:
            from kajitori.laptop.controllers.certificates.signing import Signing

            self._signing = Signing(self._client, self._folder)
        return await self._signing.reconcile(key)


def register(runtime: Runtime, folder: Path) -> None:
    """folder: `pki` of the cluster's home."""
    Certificates(runtime, folder)
