"""Certificates, keys and kubeconfigs of one cluster, made at first start and kept.

One authority signs the server's certificate and a client certificate for each user; service account tokens are
signed by a key of their own. Private keys and kubeconfigs are readable by their owner only.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
from typing import TYPE_CHECKING

import msgspec
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kajitori.base.certificates import certificate_pem, key_pem, key_usage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VALID_DAYS = 3_650
RENEWED_BEFORE_DAYS = 30
MASTERS_GROUP = "system:masters"
NODES_GROUP = "system:nodes"


class Identity(msgspec.Struct, frozen=True):
    """Whom a client certificate names. file: of its kubeconfig, without suffix."""

    file: str
    user: str
    groups: tuple[str, ...] = ()


ADMIN = Identity("admin", "kubernetes-admin", (MASTERS_GROUP,))


def component_identities(node_names: Iterable[str]) -> list[Identity]:
    """The clients that belong to a laptop cluster: controllers, gateway, one for each node."""
    return [
        Identity("controllers", "system:kajitori:controllers"),
        Identity("gateway", "system:kajitori:gateway"),
        *(Identity(name, f"system:node:{name}", (NODES_GROUP,)) for name in node_names),
    ]


def write_private(path: Path, content: bytes) -> None:
    """Replace a file as a whole; nobody else may read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_name(f".{path.name}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour of grace for a clock that is set back.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
    )


class Authority:
    """The cluster's certificate authority; loads its key and certificate, or makes them."""

    def __init__(self, folder: Path) -> None:
        certificate_file = folder / "ca.crt"
        key_file = folder / "ca.key"
        self.folder = folder
        if certificate_file.exists() and key_file.exists():
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self._key = key
            self._certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kajitori")])
        self._certificate = (
            _builder(name, name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        write_private(key_file, key_pem(self._key))
        write_private(certificate_file, certificate_pem(self._certificate))

    @property
    def certificate(self) -> bytes:
        """The authority's certificate, PEM."""
        return certificate_pem(self._certificate)

    def issue(
        self, subject: x509.Name, usage: x509.ObjectIdentifier, names: list[x509.GeneralName] | None = None
    ) -> tuple[bytes, bytes]:
        """A certificate and its key, both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, self._certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return certificate_pem(builder.sign(self._key, hashes.SHA256())), key_pem(key)

    def client_certificate(self, identity: Identity) -> tuple[bytes, bytes]:
        """Certificate and key, PEM, that make the bearer this user in these groups."""
        subject = x509.Name(
            [
                *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in identity.groups),
                x509.NameAttribute(NameOID.COMMON_NAME, identity.user),
            ]
        )
        return self.issue(subject, ExtendedKeyUsageOID.CLIENT_AUTH)

    def server_certificate(self, service_address: str) -> tuple[Path, Path]:
        """Files of the server's certificate and key; made anew when they run out or do not fit."""
        certificate_file = self.folder / "apiserver.crt"
        key_file = self.folder / "apiserver.key"
        wanted: list[x509.GeneralName] = [
            *(x509.DNSName(name) for name in ("localhost", *_service_names())),
            *(
                x509.IPAddress(ipaddress.ip_address(address))
                for address in ("127.0.0.1", "::1", service_address)
            ),
        ]
        if not (certificate_file.exists() and key_file.exists() and _serves(certificate_file, wanted)):
            certificate, key = self.issue(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")]),
                ExtendedKeyUsageOID.SERVER_AUTH,
                wanted,
            )
            write_private(key_file, key)
            write_private(certificate_file, certificate)
        return certificate_file, key_file


def _service_names() -> list[str]:
    return [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]


def _runs_out(certificate: x509.Certificate) -> bool:
    renewal = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=RENEWED_BEFORE_DAYS)
    return certificate.not_valid_after_utc < renewal


def _serves(file: Path, wanted: list[x509.GeneralName]) -> bool:
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return not _runs_out(certificate) and set(names) == set(wanted)


def service_account_key(folder: Path) -> rsa.RSAPrivateKey:
    """The key that signs service account tokens; made and written beside its public half if absent."""
    key_file = folder / "sa.key"
    if key_file.exists():
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return key
    key = rsa.generate_private_key(65_537, 2_048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_private(folder / "sa.pub", public)
    write_private(key_file, key_pem(key))
    return key


def kubeconfig(
    server: str, authority: bytes, certificate: bytes, key: bytes, user: str, *, as_json: bool = False
) -> bytes:
    """A kubeconfig with everything inline. as_json: which is YAML as well, for readers that shall stay small."""

    def inline(content: bytes) -> str:
        return base64.b64encode(content).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "kajitori",
                "cluster": {"server": server, "certificate-authority-data": inline(authority)},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": inline(certificate), "client-key-data": inline(key)},
            }
        ],
        "contexts": [{"name": "kajitori", "context": {"cluster": "kajitori", "user": user}}],
        "current-context": "kajitori",
    }
    if as_json:
        return msgspec.json.format(msgspec.json.encode(document))
    return yaml.safe_dump(document, sort_keys=False).encode()


def write_kubeconfig(path: Path, server: str, authority: Authority, identity: Identity) -> None:
    """The kubeconfig of an identity; left alone if it is for this server and authority and still valid."""
    if path.exists() and _fits(path, server, authority, identity):
        return
    certificate, key = authority.client_certificate(identity)
    own = identity != ADMIN
    write_private(
        path, kubeconfig(server, authority.certificate, certificate, key, identity.user, as_json=own)
    )


def _fits(path: Path, server: str, authority: Authority, identity: Identity) -> bool:
    try:
        document = yaml.safe_load(path.read_bytes())
        cluster = document["clusters"][0]["cluster"]
        user = document["users"][0]
        certificate = x509.load_pem_x509_certificate(
            base64.b64decode(user["user"]["client-certificate-data"])
        )
        return (
            cluster["server"] == server
            and base64.b64decode(cluster["certificate-authority-data"]) == authority.certificate
            and user["name"] == identity.user
            and not _runs_out(certificate)
        )
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError):
        return False
