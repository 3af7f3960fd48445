"""A certificate authority for tests: keys, certificates, and the Secrets and ConfigMaps that hold them."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kajitori.base.certificates import certificate_pem, key_pem, key_usage

_DAY = datetime.timedelta(days=1)


class Authority:
    """Signs for one day."""

    def __init__(self, name: str = "tests") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), authority=True, names=[])

    @property
    def pem(self) -> str:
        return certificate_pem(self.certificate).decode()

    def pair(self, *names: str) -> tuple[str, str]:
        """Certificate and key for names: hosts, addresses, or URIs."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key.public_key(), authority=False, names=names)
        return certificate_pem(certificate).decode(), key_pem(key).decode()

    def secret(self, name: str, *names: str, namespace: str = "default") -> dict[str, Any]:
        certificate, key = self.pair(*names)
        data = {"tls.crt": certificate, "tls.key": key}
        return {"kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data}

    def config_map(self, name: str) -> dict[str, Any]:
        return {"kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": self.pem}}

    def revocations(self, *pairs: Path) -> str:
        """A list with the certificates of these files, as PEM."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(now - _DAY).next_update(now + _DAY)
        for path in pairs:
            serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - _DAY)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def client_context(self) -> ssl.SSLContext:
        """A client that believes this authority."""
        return ssl.create_default_context(cadata=self.pem)

    def pair_file(self, folder: Path, *names: str) -> Path:
        """Certificate and key in one file."""
        path = folder / f"{names[0].replace('/', '_')}.pem"
        path.write_text("".join(self.pair(*names)))
        return path

    def server_context(self, folder: Path, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pair_file(folder, *names))
        return context

    def _sign(self, subject: x509.Name, key: Any, *, authority: bool, names: Any) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(key_usage(authority=authority), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if names:
            found = x509.SubjectAlternativeName([_general(name) for name in names])
            builder = builder.add_extension(found, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
