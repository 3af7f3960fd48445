"""TLS of listeners: which certificates they show, and which ones of clients they take.

The answer for a listener is what goes into its filter chain, or the condition that says why there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.gateway.shared import GROUP
from kajitori.base.reason import Reason
from kajitori.gateway.backends.certificates import (
    AuthorityRef,
    Delivered,
    authorities,
    key_pair,
    sds,
)

if TYPE_CHECKING:
    from kajitori.api.gateway.shared import ObjectReference, SecretObjectReference
    from kajitori.api.gateway.v1 import FrontendValidation, Gateway, Listener
    from kajitori.gateway.observed import Index

_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"


class ListenerTls(msgspec.Struct, frozen=True):
    """certificates: with their keys. client_authorities: who signs the certificates of clients. optional: clients may
    come without one, or with any.
    """

    certificates: tuple[Delivered, ...]
    client_authorities: Delivered | None = None
    optional: bool = False

    def goes_with(self, other: ListenerTls) -> bool:
        """Whether both let in the same clients, so that one filter chain can serve for both."""
        mine, theirs = self.client_authorities, other.client_authorities
        if mine is None or theirs is None:
            return mine is theirs
        return (
            self.optional == other.optional
            and mine.secret["validation_context"] == theirs.secret["validation_context"]
        )

    def with_certificates_of(self, other: ListenerTls) -> ListenerTls:
        """Its own first, which clients see whose name is in none."""
        found = {item.name: item for item in (*self.certificates, *other.certificates)}
        return msgspec.structs.replace(self, certificates=tuple(found.values()))

    def transport_socket(self) -> dict[str, Any]:
        common: dict[str, Any] = {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [sds(item.name) for item in self.certificates],
        }
        context: dict[str, Any] = {"@type": _TYPE, "common_tls_context": common}
        if self.client_authorities is not None:
            common["validation_context_sds_secret_config"] = sds(self.client_authorities.name)
            context["require_client_certificate"] = not self.optional
        return {"name": "envoy.transport_sockets.tls", "typed_config": context}

    def secrets(self) -> dict[str, dict[str, Any]]:
        """What SDS delivers, by name."""
        delivered = [*self.certificates, *([self.client_authorities] if self.client_authorities else ())]
        return {item.name: item.secret for item in delivered}


class Fault(msgspec.Struct, frozen=True):
    """What is wrong. accepted: the reason of an `Accepted: False`; resolved: of a `ResolvedRefs: False`."""

    message: str
    accepted: str = ""
    resolved: str = ""


def resolve_tls(index: Index, gateway: Gateway, listener: Listener) -> tuple[ListenerTls | None, list[Fault]]:
    """The TLS of an HTTPS listener; None if it cannot serve. Some faults leave it serving with less."""
    faults: list[Fault] = []
    namespace = gateway.metadata.namespace or ""
    refs = listener.tls.certificate_refs if listener.tls else []
    if not refs:
        faults.append(Fault("the listener names no certificate", resolved="InvalidCertificateRef"))
    certificates: list[Delivered] = []
    for ref in refs:
        found = _certificate(index, namespace, ref)
        if isinstance(found, Fault):
            faults.append(found)
        else:
            certificates.append(found)
    validation = _validation(gateway, listener.port)
    client_authorities = None
    if validation is not None:
        client_authorities = _client_authorities(index, gateway, listener.port, validation, faults)
    if not certificates or (validation is not None and client_authorities is None):
        return None, faults
    optional = validation is not None and validation.mode == "AllowInsecureFallback"
    return ListenerTls(tuple(certificates), client_authorities, optional), faults


def _certificate(index: Index, namespace: str, ref: SecretObjectReference) -> Delivered | Fault:
    key = (ref.namespace or namespace, ref.name)
    if (ref.group, ref.kind) != ("", "Secret"):
        return Fault(
            f"certificates are read from Secrets, not from {ref.kind} {key[0]}/{key[1]} (group {ref.group!r})",
            resolved="InvalidCertificateRef",
        )
    if not index.granted(GROUP, "Gateway", namespace, "", "Secret", key):
        return Fault(
            f"no ReferenceGrant lets the Gateway refer to Secret {key[0]}/{key[1]}",
            resolved="RefNotPermitted",
        )
    found = key_pair(index, *key)
    return Fault(found.message, resolved="InvalidCertificateRef") if isinstance(found, Reason) else found


def _validation(gateway: Gateway, port: int) -> FrontendValidation | None:
    """What is asked of clients at a port: its own setting, else the default."""
    frontend = gateway.spec.tls.frontend if gateway.spec.tls else None
    if frontend is None:
        return None
    own = next((item.tls for item in frontend.per_port if item.port == port), None)
    return (own or frontend.default).validation


def _client_authorities(
    index: Index, gateway: Gateway, port: int, validation: FrontendValidation, faults: list[Fault]
) -> Delivered | None:
    namespace = gateway.metadata.namespace or ""
    permitted: list[AuthorityRef] = []
    for ref in validation.ca_certificate_refs:
        key = (ref.namespace or namespace, ref.name)
        if index.granted(GROUP, "Gateway", namespace, ref.group, ref.kind, key):
            permitted.append(AuthorityRef(ref.group, ref.kind, *key))
        else:
            told = f"no ReferenceGrant lets the Gateway refer to {ref.kind} {key[0]}/{key[1]}"
            faults.append(Fault(told, resolved="RefNotPermitted"))
    bundle, problems = authorities(index, permitted)
    for reason in problems:
        code = "InvalidCACertificateKind" if reason.code == "InvalidKind" else "InvalidCACertificateRef"
        faults.append(Fault(str(reason.message), resolved=code))
    if not bundle:
        told = "there is no valid authority for the certificates of clients"
        faults.append(Fault(told, accepted="NoValidCACertificate"))
        return None
    context: dict[str, Any] = {"trusted_ca": {"inline_string": bundle}}
    if validation.mode == "AllowInsecureFallback":
        context["trust_chain_verification"] = "ACCEPT_UNTRUSTED"
    name = f"client-ca/{namespace}/{gateway.metadata.name}/{port}"
    return Delivered(name, {"name": name, "validation_context": context})


def referenced_objects(index: Index, gateways: list[Gateway]) -> list[AuthorityRef]:
    """Secrets and ConfigMaps that listeners may use: all that is read for them."""
    found: list[AuthorityRef] = []
    for gateway in gateways:
        namespace = gateway.metadata.namespace or ""
        refs: list[SecretObjectReference | ObjectReference] = []
        for listener in gateway.spec.listeners:
            refs += listener.tls.certificate_refs if listener.tls else []
            validation = _validation(gateway, listener.port)
            refs += validation.ca_certificate_refs if validation else []
        for ref in refs:
            key = (ref.namespace or namespace, ref.name)
            if index.granted(GROUP, "Gateway", namespace, ref.group, ref.kind, key):
                found.append(AuthorityRef(ref.group, ref.kind, *key))
    return found
