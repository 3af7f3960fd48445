"""TLS towards backends: what a Backend's own settings and BackendTLSPolicies come to.

A policy beats a Backend's settings for the same matter; what only the Backend says (its client certificate, versions,
ciphers) holds beside it. Authorities and client certificates reach Envoy by SDS.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import field

from kajitori.api.gateway.shared import LocalObjectReference, SecretObjectReference
from kajitori.api.unhonoured import unhonoured_fields
from kajitori.base.reason import Reason
from kajitori.gateway.backends.certificates import (
    SYSTEM_AUTHORITIES,
    AuthorityRef,
    Delivered,
    authorities,
    key_pair,
    sds,
)

if TYPE_CHECKING:
    from kajitori.api.gateway.backend_tls_policy import BackendTLSPolicy
    from kajitori.gateway.observed import Index

_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_BACKEND_GROUP = "gateway.envoyproxy.io"
Version = Literal["Auto", "1.0", "1.1", "1.2", "1.3"]
_VERSIONS = {"Auto": "TLS_AUTO", "1.0": "TLSv1_0", "1.1": "TLSv1_1", "1.2": "TLSv1_2", "1.3": "TLSv1_3"}


class BackendTls(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`spec.tls` of a Backend, as far as it is honoured."""

    ca_certificate_refs: list[LocalObjectReference] = field(default_factory=list, name="caCertificateRefs")
    well_known_ca_certificates: str | None = field(default=None, name="wellKnownCACertificates")
    insecure_skip_verify: bool = False
    sni: str | None = None
    # Where no `sni` is given this is done without being asked for.
    auto_sni_from_endpoint_hostname: bool = field(default=False, name="autoSNIFromEndpointHostname")
    client_certificate_ref: SecretObjectReference | None = None
    min_version: Version | None = None
    max_version: Version | None = None
    ciphers: list[str] = field(default_factory=list)
    ecdh_curves: list[str] = field(default_factory=list, name="ecdhCurves")
    signature_algorithms: list[str] = field(default_factory=list)
    alpn_protocols: list[str] = field(default_factory=list, name="alpnProtocols")


class UpstreamTls(msgspec.Struct, frozen=True):
    """A transport socket, and what SDS delivers for it."""

    socket: dict[str, Any]
    secrets: tuple[Delivered, ...] = ()


def upstream_tls(
    index: Index,
    subject: str,
    namespace: str,
    raw: dict[str, Any] | None,
    policy: BackendTLSPolicy | None,
    notes: list[str],
) -> UpstreamTls | Reason | None:
    """How to connect; None: in plain text. raw: `spec.tls` of a Backend. notes: gets what is not honoured."""
    if raw is None and policy is None:
        return None
    try:
        own = msgspec.convert(raw or {}, BackendTls)
    except msgspec.ValidationError as error:
        return Reason("Invalid", f"{subject}: spec.tls: {error}", "correct it", subject)
    notes += [
        f"{subject}: {path} is not honoured" for path in unhonoured_fields(raw or {}, BackendTls, "tls")
    ]
    trust = _trust(index, subject, namespace, own, policy)
    if isinstance(trust, Reason):
        return trust
    pair = _client_certificate(index, subject, namespace, own.client_certificate_ref)
    if isinstance(pair, Reason):
        return pair
    secrets = tuple(each for each in (trust, pair) if each is not None)
    return UpstreamTls(_socket(own, policy, trust, pair), secrets)


def _socket(
    own: BackendTls, policy: BackendTLSPolicy | None, trust: Delivered | None, pair: Delivered | None
) -> dict[str, Any]:
    """The transport socket. trust: authorities, None for those of the system. pair: the gateway's own certificate."""
    names = _names(policy)
    verified = trust is not None or policy is not None or not own.insecure_skip_verify
    common: dict[str, Any] = _verification(trust, names) if verified else {}
    if pair is not None:
        common["tls_certificate_sds_secret_configs"] = [sds(pair.name)]
    if parameters := _parameters(own):
        common["tls_params"] = parameters
    if own.alpn_protocols:
        common["alpn_protocols"] = own.alpn_protocols
    context: dict[str, Any] = {"@type": _TYPE, "common_tls_context": common}
    sni = policy.spec.validation.hostname if policy else own.sni
    if sni:
        context["sni"] = sni
    else:
        context["auto_host_sni"] = True
    if verified and not names:
        # The certificate must be for the name that was asked for.
        context["auto_sni_san_validation"] = True
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _verification(trust: Delivered | None, names: list[dict[str, Any]]) -> dict[str, Any]:
    """By what a backend's certificate is verified; trust: None for the authorities of the system."""
    fitting: dict[str, Any] = {"match_typed_subject_alt_names": names} if names else {}
    if trust is None:
        return {"validation_context": {"trusted_ca": {"filename": SYSTEM_AUTHORITIES}, **fitting}}
    return {
        "combined_validation_context": {
            "default_validation_context": fitting,
            "validation_context_sds_secret_config": sds(trust.name),
        }
    }


def _names(policy: BackendTLSPolicy | None) -> list[dict[str, Any]]:
    """Which names the backend's certificate must have, one of them at least."""
    if policy is None:
        return []
    validation = policy.spec.validation
    if not validation.subject_alt_names:
        return [_name("DNS", validation.hostname)]
    return [
        _name("DNS", item.hostname or "") if item.type == "Hostname" else _name("URI", item.uri or "")
        for item in validation.subject_alt_names
    ]


def _name(kind: str, value: str) -> dict[str, Any]:
    return {"san_type": kind, "matcher": {"exact": value}}


def authority_refs(namespace: str, refs: list[LocalObjectReference]) -> list[AuthorityRef]:
    """Spelled out; such references stay in their namespace."""
    return [AuthorityRef(ref.group, ref.kind, namespace, ref.name) for ref in refs]


def _trust(
    index: Index, subject: str, namespace: str, own: BackendTls, policy: BackendTLSPolicy | None
) -> Delivered | Reason | None:
    """The authorities that are named; None for those of the system."""
    if policy is not None:
        validation = policy.spec.validation
        well_known, refs = validation.well_known_ca_certificates, validation.ca_certificate_refs
        subject = f"BackendTLSPolicy {policy.metadata.namespace}/{policy.metadata.name}"
    else:
        well_known, refs = own.well_known_ca_certificates, own.ca_certificate_refs
    if well_known and well_known != "System":
        told = f"{subject}: wellKnownCACertificates {well_known!r} is not known; System is"
        return Reason("NoValidCACertificate", told, "name authorities by caCertificateRefs", subject)
    if not refs:
        return None
    bundle, problems = authorities(index, authority_refs(namespace, refs))
    if problems:
        told = f"{subject}: {'; '.join(str(reason) for reason in problems)}"
        # A policy with one reference that cannot be read must not connect with less than it asks for.
        return Reason(problems[0].code if bundle else "NoValidCACertificate", told, "", subject)
    name = f"ca/{namespace}/{hashlib.sha256(bundle.encode()).hexdigest()[:16]}"
    return Delivered(name, {"name": name, "validation_context": {"trusted_ca": {"inline_string": bundle}}})


def _client_certificate(
    index: Index, subject: str, namespace: str, ref: SecretObjectReference | None
) -> Delivered | Reason | None:
    if ref is None:
        return None
    key = (ref.namespace or namespace, ref.name)
    if (ref.group, ref.kind) != ("", "Secret"):
        return Reason("Invalid", f"{subject}: tls.clientCertificateRef is not of a Secret", "", subject)
    if not index.granted(_BACKEND_GROUP, "Backend", namespace, "", "Secret", key):
        told = f"no ReferenceGrant lets {subject} refer to Secret {key[0]}/{key[1]}"
        return Reason("RefNotPermitted", told, "add a ReferenceGrant", subject)
    found = key_pair(index, *key)
    return found if isinstance(found, Delivered) else Reason("Invalid", f"{subject}: {found}", "", subject)


def _parameters(own: BackendTls) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if own.min_version:
        found["tls_minimum_protocol_version"] = _VERSIONS[own.min_version]
    # Left alone, Envoy goes up to 1.2 as a client, which is below a minimum of 1.3.
    if highest := own.max_version or ("1.3" if own.min_version == "1.3" else None):
        found["tls_maximum_protocol_version"] = _VERSIONS[highest]
    if own.ciphers:
        found["cipher_suites"] = own.ciphers
    if own.ecdh_curves:
        found["ecdh_curves"] = own.ecdh_curves
    if own.signature_algorithms:
        found["signature_algorithms"] = own.signature_algorithms
    return found
