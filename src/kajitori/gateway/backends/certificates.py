"""Certificates and authorities from Secrets and ConfigMaps, as Envoy takes them by SDS.

What cannot be used is found here, with the reason, so that Envoy is never sent a pair that it would refuse. Private
keys travel in SDS resources only; Envoy leaves them out of its dumps.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kajitori.gateway.observed import Index

CERTIFICATE_KEY, PRIVATE_KEY, AUTHORITY_KEY = "tls.crt", "tls.key", "ca.crt"
REVOCATION_KEY = "ca.crl"
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


class Delivered(msgspec.Struct, frozen=True):
    """Something that Envoy gets by SDS under a name."""

    name: str
    secret: dict[str, Any]


def sds(name: str) -> dict[str, Any]:
    """A reference to what SDS delivers."""
    return {"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}}


def key_pair(index: Index, namespace: str, name: str) -> Delivered | Reason:
    """The certificate with its private key that a Secret holds, or why it cannot be used."""
    subject = f"Secret {namespace}/{name}"
    if not index.observed.settings.may_read_secrets_of(namespace):
        return Reason(
            "SecretNotReadable",
            f"{subject} is in a namespace whose Secrets the gateway may not read",
            "add the namespace to gateway.secretNamespaces of the installation",
            subject,
        )
    secret = index.secrets.get((namespace, name))
    if secret is None:
        return Reason("SecretNotFound", f"{subject} does not exist", "create it", subject)
    texts: list[str] = []
    for key in (CERTIFICATE_KEY, PRIVATE_KEY):
        text = _decoded(secret.data.get(key))
        if not text:
            return Reason("InvalidSecret", f"{subject} has no text under {key!r}", "write it anew", subject)
        texts.append(text)
    if why := _why_no_pair(*texts):
        return Reason("InvalidSecret", f"{subject}: {why}", "write it anew", subject)
    certificate, private_key = texts
    sds_name = f"tls/{namespace}/{name}"
    return Delivered(
        sds_name,
        {
            "name": sds_name,
            "tls_certificate": {
                "certificate_chain": {"inline_string": certificate},
                "private_key": {"inline_string": private_key},
            },
        },
    )


def _decoded(value: str | None) -> str:
    try:
        return base64.b64decode(value or "", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _why_no_pair(certificate: str, private_key: str) -> str:
    digest = hashlib.sha256(f"{certificate}\0{private_key}".encode()).hexdigest()
    known = _VERDICTS.get(digest)
    if known is None:
        known = _judge_pair(certificate, private_key)
        if len(_VERDICTS) > 10_000:
            _VERDICTS.clear()
        _VERDICTS[digest] = known
    return known


# Parsing costs a millisecond and every plan asks anew; only a digest is kept of what was asked for.
_VERDICTS: dict[str, str] = {}


def _judge_pair(certificate: str, private_key: str) -> str:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    try:
        leaf = x509.load_pem_x509_certificates(certificate.encode())[0]
        public = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return f"{CERTIFICATE_KEY!r} is no certificate in PEM"
    try:
        key = load_pem_private_key(private_key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return f"{PRIVATE_KEY!r} is no private key in PEM, or is protected by a password"
    if key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public:
        return f"{PRIVATE_KEY!r} does not belong to {CERTIFICATE_KEY!r}"
    return ""


class AuthorityRef(msgspec.Struct, frozen=True):
    """A reference to an object with a bundle of authorities, spelled out."""

    group: str
    kind: str
    namespace: str
    name: str


def authorities(index: Index, refs: Sequence[AuthorityRef]) -> tuple[str, list[Reason]]:
    """The bundles of the references that can be used, as one PEM text, and what is wrong with the others.

    Codes: InvalidKind, InvalidCACertificateRef.
    """
    return _joined(index, refs, AUTHORITY_KEY, _is_bundle, "InvalidCACertificateRef", "certificate")


def revocations(index: Index, refs: Sequence[AuthorityRef]) -> tuple[str, list[Reason]]:
    """The lists of revoked certificates of the references, as one PEM text, and what is wrong with the others."""
    return _joined(
        index, refs, REVOCATION_KEY, _is_revocation_list, "InvalidCRL", "list of revoked certificates"
    )


def _joined(
    index: Index, refs: Sequence[AuthorityRef], key: str, holds: Callable[[str], bool], code: str, wanted: str
) -> tuple[str, list[Reason]]:
    """wanted: what stands under `key` where `holds` says yes; `code` tells of what does not."""
    found: list[str] = []
    problems: list[Reason] = []
    for ref in refs:
        subject = f"{ref.kind} {ref.namespace}/{ref.name}"
        text = _text_of(index, ref, subject, key)
        if isinstance(text, Reason):
            problems.append(text)
        elif not holds(text):
            problems.append(Reason(code, f"{subject}: {key!r} is no {wanted} in PEM", "", subject))
        else:
            found.append(text.strip() + "\n")
    return "".join(found), problems


def _text_of(index: Index, ref: AuthorityRef, subject: str, name: str) -> str | Reason:
    """What the object has under a name."""
    key = (ref.namespace, ref.name)
    if (ref.group, ref.kind) not in (("", "ConfigMap"), ("", "Secret")):
        return Reason(
            "InvalidKind",
            f"authorities are read from ConfigMaps and Secrets, not from {ref.kind} (group {ref.group!r})",
            "",
            subject,
        )
    if ref.kind == "ConfigMap":
        config_map = index.config_maps.get(key)
        if config_map is None:
            return Reason("InvalidCACertificateRef", f"{subject} does not exist", "create it", subject)
        text = config_map.data.get(name) or _decoded(config_map.binary_data.get(name))
    else:
        if not index.observed.settings.may_read_secrets_of(ref.namespace):
            return Reason(
                "InvalidCACertificateRef",
                f"{subject} is in a namespace whose Secrets the gateway may not read",
                "use a ConfigMap, or add the namespace to gateway.secretNamespaces of the installation",
                subject,
            )
        secret = index.secrets.get(key)
        if secret is None:
            return Reason("InvalidCACertificateRef", f"{subject} does not exist", "create it", subject)
        text = _decoded(secret.data.get(name))
    if not text:
        return Reason("InvalidCACertificateRef", f"{subject} has no key {name!r}", "add it", subject)
    return text


@lru_cache(maxsize=256)
def _is_bundle(text: str) -> bool:
    from cryptography import x509

    try:
        return bool(x509.load_pem_x509_certificates(text.encode()))
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _is_revocation_list(text: str) -> bool:
    from cryptography import x509

    begins = "-----BEGIN X509 CRL-----"
    lists = text.split(begins)[1:]
    try:
        return bool(lists) and all(x509.load_pem_x509_crl((begins + each).encode()) for each in lists)
    except ValueError:
        return False
