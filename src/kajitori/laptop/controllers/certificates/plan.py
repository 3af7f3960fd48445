"""What may be approved and signed. Pure.

Three of the four signers of Kubernetes can be asked by the API's version v1; the fourth, `legacy-unknown`, is signed
as the others are, should an object with it be stored.

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests: Kubernetes signers".
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT = "kubernetes.io/kube-apiserver-client"
NODE_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
NODE_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
SIGNERS = frozenset({CLIENT, NODE_CLIENT, NODE_SERVING, LEGACY})
NODES_GROUP, NODE_PREFIX = "system:nodes", "system:node:"
LONGEST_SECONDS = 365 * 24 * 3600
# How long a request is kept: signed or denied, and waiting.
SETTLED_KEPT_SECONDS, WAITING_KEPT_SECONDS = 3600.0, 24 * 3600.0
_CLOCKS_DIFFER = datetime.timedelta(minutes=5)

_NODE_USAGES = {"digital signature", "key encipherment"}
_EXTENDED = {
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
}


class Asked(NamedTuple):
    """A request, read. names: DNS names and addresses of the subject's alternative names."""

    signer: str
    usages: frozenset[str]
    user: str
    common_name: str
    organizations: tuple[str, ...]
    names: tuple[str, ...]
    other_names: bool
    request: x509.CertificateSigningRequest


def read_request(obj: dict[str, Any]) -> Asked:
    """Raises ValueError for what is no certificate request."""
    spec = obj["spec"]
    request = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))

    def subject(oid: x509.ObjectIdentifier) -> tuple[str, ...]:
        return tuple(str(each.value) for each in request.subject.get_attributes_for_oid(oid))

    names: list[str] = []
    other_names = False
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found = x509.SubjectAlternativeName([])
    for name in found:
        if isinstance(name, x509.DNSName | x509.IPAddress):
            names.append(str(name.value))
        else:
            other_names = True
    return Asked(
        spec.get("signerName", ""),
        frozenset(spec.get("usages") or ()),
        spec.get("username", ""),
        "".join(subject(NameOID.COMMON_NAME)[:1]),
        subject(NameOID.ORGANIZATION_NAME),
        tuple(names),
        other_names,
        request,
    )


def refusal(asked: Asked) -> str:
    """Why a signer does not sign this, though it is approved; empty if it does."""
    if asked.signer == CLIENT:
        return "" if "client auth" in asked.usages else 'usages must include "client auth"'
    if asked.signer not in (NODE_CLIENT, NODE_SERVING):
        return ""
    if asked.organizations != (NODES_GROUP,):
        return f"the organization must be {NODES_GROUP}"
    if not asked.common_name.startswith(NODE_PREFIX):
        return f"the common name must begin with {NODE_PREFIX}"
    if asked.other_names:
        return "only DNS names and addresses are allowed as alternative names"
    purpose = "client auth" if asked.signer == NODE_CLIENT else "server auth"
    if not {purpose, "digital signature"} <= asked.usages or asked.usages - _NODE_USAGES - {purpose}:
        return f'usages must be "digital signature", "{purpose}" and at most "key encipherment"'
    if asked.signer == NODE_CLIENT and asked.names:
        return "a node's client certificate has no alternative names"
    if asked.signer == NODE_SERVING and not asked.names:
        return "a DNS name or an address is needed as an alternative name"
    return ""


def right_to_be_approved(asked: Asked) -> str:
    """The subresource whose creation a requester must be allowed for an approval by itself; empty if there is none."""
    if asked.signer != NODE_CLIENT or refusal(asked):
        return ""
    return "selfnodeclient" if asked.user == asked.common_name else "nodeclient"


def serves_only_itself(asked: Asked, addresses: Collection[str]) -> bool:
    """Whether a node asks for a serving certificate for what its Node object says it is. addresses: of its status."""
    if asked.signer != NODE_SERVING or refusal(asked) or asked.user != asked.common_name:
        return False
    return set(asked.names) <= set(addresses)


def sign(
    asked: Asked,
    seconds: int | None,
    authority: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
) -> bytes:
    """The certificate, PEM. seconds: as long as the requester asked for."""
    lifetime = min(seconds or LONGEST_SECONDS, LONGEST_SECONDS)
    until = min(now + datetime.timedelta(seconds=lifetime), authority.not_valid_after_utc)
    public = asked.request.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(asked.request.subject)
        .issuer_name(authority.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    key_usage = _key_usage(asked.usages)
    # OpenSSL refuses a certificate whose key usage names nothing.
    if key_usage != _key_usage(()):
        builder = builder.add_extension(key_usage, critical=True)
    extended = [_EXTENDED[usage] for usage in sorted(asked.usages) if usage in _EXTENDED]
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if asked.names:
        names = asked.request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key_usage(usages: Collection[str]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="digital signature" in usages or "signing" in usages,
        content_commitment="content commitment" in usages,
        key_encipherment="key encipherment" in usages,
        data_encipherment="data encipherment" in usages,
        key_agreement="key agreement" in usages,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def kept_seconds(condition_types: Sequence[str]) -> float:
    """How long a request stays from its creation on."""
    settled = {"Approved", "Denied", "Failed"} & set(condition_types)
    return SETTLED_KEPT_SECONDS if settled else WAITING_KEPT_SECONDS
