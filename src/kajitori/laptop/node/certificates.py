"""Certificates of a joined node: asked for with CertificateSigningRequests, renewed long before they end.

A node has two. With the first it is the user `system:node:NAME` towards the API server; with the second it serves
the kubelet API. Each lies with its key in one file, which is replaced as a whole. A node may ask for both itself;
of serving certificates a cluster's own approver approves none, so that an administrator must (`kaji node join` does
where it may). Until then the node says so in a condition.

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests", "TLS bootstrapping".
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import ipaddress
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kajitori.api.resource import CONFIG_MAPS, Resource
from kajitori.base.errors import AlreadyExists, ApiError, KajitoriError, NotFound, Unreachable
from kajitori.kube.client import Client

_log = logging.getLogger(__name__)

SIGNING_REQUESTS = Resource(
    "certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", namespaced=False
)
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
AUTHENTICATION = "extension-apiserver-authentication"
NODES_GROUP = "system:nodes"
USER_PREFIX = "system:node:"
RENEW_FRACTION = 0.8
_USAGES = {
    CLIENT_SIGNER: ["digital signature", "client auth"],
    SERVING_SIGNER: ["digital signature", "server auth"],
}
_PURPOSES = {CLIENT_SIGNER: "client", SERVING_SIGNER: "serving"}
_LOOK_SECONDS = 0.5
_RETRY_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 3600.0
_AUTHORITY_SECONDS = 300.0


class Refused(KajitoriError):
    """A request for a certificate was denied, or failed."""


def client_file(home: Path) -> Path:
    """Certificate and key of the node as a client, PEM."""
    return home / "pki" / "node-client.pem"


def serving_file(home: Path) -> Path:
    """Certificate and key of the kubelet API, PEM."""
    return home / "pki" / "kubelet.pem"


def client_authority_file(home: Path) -> Path:
    """Who signs the certificates of the kubelet API's clients, PEM."""
    return home / "pki" / "client-ca.crt"


def write_private(path: Path, content: bytes) -> None:
    """Replace a file as a whole; nobody else may read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    scratch.replace(path)


def make_key() -> bytes:
    """A new key, PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signing_request(key: bytes, node: str, address: str = "") -> bytes:
    """The PKCS#10 request for a node, PEM. address: for a serving certificate, with the node's name beside it."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, NODES_GROUP),
            x509.NameAttribute(NameOID.COMMON_NAME, USER_PREFIX + node),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if address:
        names = [x509.DNSName(node), x509.IPAddress(ipaddress.ip_address(address))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    loaded = serialization.load_pem_private_key(key, None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return builder.sign(loaded, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def request_object(request: bytes, signer: str, node: str) -> dict[str, Any]:
    """The CertificateSigningRequest; its name follows from its contents, so that a second one is the same."""
    digest = hashlib.sha256(request).hexdigest()[:12]
    return {
        "apiVersion": SIGNING_REQUESTS.api_version,
        "kind": SIGNING_REQUESTS.kind,
        "metadata": {"name": f"node-{node}-{_PURPOSES[signer]}-{digest}"},
        "spec": {
            "request": base64.b64encode(request).decode(),
            "signerName": signer,
            "usages": _USAGES[signer],
        },
    }


def renewal_time(certificate: x509.Certificate, fraction: float = RENEW_FRACTION) -> datetime.datetime:
    """When to ask for the next one: after this part of its life."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begins + (ends - begins) * fraction


def read_certificate(path: Path, node: str, address: str = "") -> x509.Certificate | None:
    """The certificate in a file; None where there is none that is valid for this node (and address) now."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None
    names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [USER_PREFIX + node]:
        return None
    if certificate.not_valid_after_utc <= datetime.datetime.now(datetime.UTC):
        return None
    if address:
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return None
        if address not in map(str, extension.value.get_values_for_type(x509.IPAddress)):
            return None
    return certificate


async def obtain(
    client: Client,
    signer: str,
    node: str,
    address: str = "",
    *,
    on_request: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
) -> bytes:
    """A new certificate with its key, PEM, once it is approved and signed; waits for that without end.

    on_request: called with the request that was made, to approve it or to tell who must. Raises Refused, ApiError,
    Unreachable.
    """
    key = make_key()
    body = request_object(signing_request(key, node, address), signer, node)
    name = body["metadata"]["name"]
    try:
        made: dict[str, Any] = await client.create(SIGNING_REQUESTS, body)
    except AlreadyExists:
        made = await client.get(SIGNING_REQUESTS, name)
    if on_request is not None:
        await on_request(made)
    while True:
        try:
            status: dict[str, Any] = (await client.get(SIGNING_REQUESTS, name)).get("status") or {}
        except NotFound:
            raise Refused(f"the request {name} was removed before it was signed") from None
        for condition in status.get("conditions") or ():
            if condition["type"] in ("Denied", "Failed"):
                raise Refused(
                    f"the request {name} was {condition['type'].lower()}: {condition.get('message') or ''}"
                )
        if status.get("certificate"):
            return base64.b64decode(status["certificate"]).rstrip() + b"\n" + key
        await asyncio.sleep(_LOOK_SECONDS)


async def read_client_authority(client: Client) -> bytes:
    """Who signs the certificates of those that talk to kubelets, PEM. Raises Refused, ApiError, Unreachable."""
    found: dict[str, Any] = await client.get(CONFIG_MAPS, AUTHENTICATION, "kube-system")
    authority = (found.get("data") or {}).get("client-ca-file")
    if not authority:
        raise Refused(f"configmap kube-system/{AUTHENTICATION} names no client-ca-file")
    return authority.encode()


class NodeCertificates:
    """Keeps the files of a joined node's certificates good.

    on_change: a serving certificate is there, or what hinders it is another (see `problem`).
    """

    def __init__(
        self, client: Client, home: Path, node: str, address: str, on_change: Callable[[], None]
    ) -> None:
        self.problem = ""
        self.serving_ready = asyncio.Event()
        self._client = client
        self._home = home
        self._node = node
        self._address = address
        self._on_change = on_change

    async def run(self) -> None:
        """Forever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(CLIENT_SIGNER, client_file(self._home), ""))
            group.create_task(self._keep(SERVING_SIGNER, serving_file(self._home), self._address))
            group.create_task(self._keep_authority())

    async def _keep_authority(self) -> None:
        """Follow the authority of the kubelet API's clients, where the node may read who that is."""
        file = client_authority_file(self._home)
        while True:
            try:
                authority = await read_client_authority(self._client)
                if not file.exists() or authority != file.read_bytes():
                    write_private(file, authority)
            except (ApiError, Unreachable, Refused) as error:
                _log.info("who signs the certificates of the kubelet API's clients: %s", error)
            await asyncio.sleep(_AUTHORITY_SECONDS)

    async def _keep(self, signer: str, file: Path, address: str) -> None:
        serving = signer == SERVING_SIGNER
        while True:
            certificate = read_certificate(file, self._node, address)
            if certificate is not None:
                if serving:
                    self._tell("")
                due = renewal_time(certificate)
                seconds = (due - datetime.datetime.now(datetime.UTC)).total_seconds()
                if seconds > 0:
                    await asyncio.sleep(min(seconds, _LONGEST_WAIT_SECONDS))
                    continue
            try:
                await self.renew(signer, file, address)
            except (Refused, ApiError, Unreachable) as error:
                _log.warning("asking for a certificate (%s): %s", signer, error)
                if serving and certificate is None:
                    self._tell(f"logs, exec, attach and port-forward are not served: {error}")
                await asyncio.sleep(_RETRY_SECONDS)

    async def renew(self, signer: str, file: Path, address: str) -> None:
        """A new certificate into the file. Raises Refused, ApiError, Unreachable."""

        async def tell(made: dict[str, Any]) -> None:
            if signer == SERVING_SIGNER and read_certificate(file, self._node, address) is None:
                self._tell(
                    "logs, exec, attach and port-forward are not served until an administrator types: "
                    f"kubectl certificate approve {made['metadata']['name']}"
                )

        write_private(file, await obtain(self._client, signer, self._node, address, on_request=tell))

    def _tell(self, problem: str) -> None:
        if not problem:
            self.serving_ready.set()
        if problem != self.problem or not problem:
            self.problem = problem
            self._on_change()
