"""The certificates between Envoy and its control plane on a cluster: what shall be in their Secrets, and when anew.

An authority of the installation's own signs one certificate for the server and one for all Envoys. Nothing else is
signed by it, so holding a certificate of it is the right to connect. Leaf certificates are renewed after two thirds
of their life. An authority is replaced in steps, so that at no moment two sides do not trust each other: the next
one is published beside the present one first, and signs only when every process has had time to read it.

Pure but for the keys that it draws; `kajitori.gateway.fleet.identity` keeps the Secrets.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kajitori.base.certificates import certificate_pem, key_pem, key_usage

AUTHORITY_SECONDS = 10 * 365 * 86_400.0
LEAF_SECONDS = 90 * 86_400.0
# A kubelet brings a changed Secret to its pods within minutes; an hour is ample.
PUBLISHED_SECONDS = 3_600.0
# How often a process that runs for years looks whether something is due.
CHECK_SECONDS = 1_800.0

CERTIFICATE, KEY, BUNDLE = "tls.crt", "tls.key", "ca.crt"
_NEXT_CERTIFICATE, _NEXT_KEY, _PREVIOUS = "next.crt", "next.key", "previous.crt"
Data = Mapping[str, bytes]


class Leaf(msgspec.Struct, frozen=True):
    """A certificate to have. name: its subject. hosts: DNS names that it is good for. server: or else client."""

    name: str
    hosts: tuple[str, ...]
    server: bool


class Stored(msgspec.Struct, frozen=True):
    """The contents of the three Secrets, decoded; empty where there is none."""

    authority: Data
    server: Data
    client: Data


def renew(stored: Stored, server: Leaf, client: Leaf, now: float) -> Stored:
    """What shall be stored; the very same contents where nothing is due. now: seconds since 1970."""
    authority = _renew_authority(stored.authority, now)
    bundle = b"".join(
        authority[name] for name in (CERTIFICATE, _NEXT_CERTIFICATE, _PREVIOUS) if name in authority
    )
    return Stored(
        authority,
        _renew_leaf(stored.server, server, authority, bundle, now),
        _renew_leaf(stored.client, client, authority, bundle, now),
    )


def fingerprint(data: Data) -> str:
    """Tells two contents apart in a log without showing them."""
    digest = hashlib.sha256()
    for name in sorted(data):
        digest.update(name.encode() + b"\0" + data[name])
    return digest.hexdigest()[:12]


def _renew_authority(stored: Data, now: float) -> dict[str, bytes]:
    present = _load(stored.get(CERTIFICATE))
    if present is None or not _fits(present, stored.get(KEY)) or _remaining(present, now) <= 0:
        certificate, key = _new_authority(now)
        return {CERTIFICATE: certificate, KEY: key}
    kept = dict(stored)
    previous = _load(kept.get(_PREVIOUS))
    if _PREVIOUS in kept and (previous is None or _remaining(previous, now) <= 0):
        del kept[_PREVIOUS]
    following = _load(kept.get(_NEXT_CERTIFICATE))
    if following is not None and _fits(following, kept.get(_NEXT_KEY)):
        if now - _begin(following) < PUBLISHED_SECONDS:
            return kept
        return {
            CERTIFICATE: kept[_NEXT_CERTIFICATE],
            KEY: kept[_NEXT_KEY],
            _PREVIOUS: kept[CERTIFICATE],
        }
    # It must outlive whatever it still signs.
    if _remaining(present, now) < 2 * LEAF_SECONDS:
        kept[_NEXT_CERTIFICATE], kept[_NEXT_KEY] = _new_authority(now)
    return kept


def _renew_leaf(stored: Data, leaf: Leaf, authority: Data, bundle: bytes, now: float) -> Data:
    certificate = _load(stored.get(CERTIFICATE))
    signer = x509.load_pem_x509_certificate(authority[CERTIFICATE])
    if (
        certificate is None
        or not _fits(certificate, stored.get(KEY))
        or not _signed_by(certificate, signer)
        or _hosts(certificate) != set(leaf.hosts)
        or _remaining(certificate, now) < LEAF_SECONDS / 3
    ):
        issued, key = _issue(leaf, signer, authority[KEY], now)
        return {CERTIFICATE: issued, KEY: key, BUNDLE: bundle}
    if stored.get(BUNDLE) != bundle:
        return {**stored, BUNDLE: bundle}
    return stored


def _load(content: bytes | None) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(content) if content else None
    except ValueError:
        return None


def _fits(certificate: x509.Certificate, key: bytes | None) -> bool:
    """Whether this is the certificate's key."""
    try:
        loaded = serialization.load_pem_private_key(key or b"", None)
    except (ValueError, TypeError):
        return False
    kind = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return loaded.public_key().public_bytes(*kind) == certificate.public_key().public_bytes(*kind)


def _signed_by(certificate: x509.Certificate, signer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(signer)
    except Exception:  # whatever is wrong with a signature, it is not the signer's
        return False
    return True


def _hosts(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return set(names.get_values_for_type(x509.DNSName))


def _remaining(certificate: x509.Certificate, now: float) -> float:
    return certificate.not_valid_after_utc.timestamp() - now


def _begin(certificate: x509.Certificate) -> float:
    """When it was made: it is valid from an hour before, for clocks that are late."""
    return certificate.not_valid_before_utc.timestamp() + 3_600.0


def _builder(
    subject: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: float, seconds: float
) -> x509.CertificateBuilder:
    start = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(subject))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(hours=1))
        .not_valid_after(start + datetime.timedelta(seconds=seconds))
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _new_authority(now: float) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    # A name of its own, so that two authorities in one bundle are never mistaken for each other.
    name = f"kajitori gateway {x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:12]}"
    certificate = (
        _builder(name, _subject(name), key, now, AUTHORITY_SECONDS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate_pem(certificate), key_pem(key)


def _issue(leaf: Leaf, signer: x509.Certificate, signing_key: bytes, now: float) -> tuple[bytes, bytes]:
    loaded = serialization.load_pem_private_key(signing_key, None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH if leaf.server else ExtendedKeyUsageOID.CLIENT_AUTH
    names: Sequence[x509.GeneralName] = [x509.DNSName(host) for host in leaf.hosts]
    certificate = (
        _builder(leaf.name, signer.subject, key, now, LEAF_SECONDS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(loaded.public_key()), critical=False
        )
        .sign(loaded, hashes.SHA256())
    )
    return certificate_pem(certificate), key_pem(key)
