"""`tls` of a ClientTrafficPolicy: versions, ciphers and the certificates of clients, for one HTTPS listener. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.api.envoygateway.client_traffic_policy import OtherName
from kajitori.api.envoygateway.policy import GROUP
from kajitori.gateway.backends.certificates import AuthorityRef, Delivered, authorities, revocations, sds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.envoygateway.client_traffic_policy import (
        ClientTLS,
        ClientValidation,
        RevocationLists,
        StringMatch,
    )
    from kajitori.api.envoygateway.policy import Policy
    from kajitori.api.gateway.shared import SecretObjectReference
    from kajitori.gateway.observed import Index

KIND = "ClientTrafficPolicy"
_VERSIONS = {"Auto": "TLS_AUTO", "1.0": "TLSv1_0", "1.1": "TLSv1_1", "1.2": "TLSv1_2", "1.3": "TLSv1_3"}
_NAME_TYPES = (
    ("dns_names", "DNS"),
    ("email_addresses", "EMAIL"),
    ("ip_addresses", "IP_ADDRESS"),
    ("uris", "URI"),
    ("other_names", "OTHER_NAME"),
)
AUTHORITY_OF = "client-ca-of-policy/"
"""How names of authorities of policies begin, unlike those of Gateways; namespace/name of the policy follows."""


def change_tls(chain: dict[str, Any], tls: ClientTLS, authority: Delivered | None) -> None:
    """Puts the settings into the filter chain of an HTTPS listener. authority: see `client_authority`."""
    socket: dict[str, Any] = chain["transport_socket"]
    context: dict[str, Any] = dict(socket["typed_config"])
    common: dict[str, Any] = dict(context["common_tls_context"])
    context["common_tls_context"] = common
    chain["transport_socket"] = {**socket, "typed_config": context}
    parameters: dict[str, Any] = {}
    if tls.min_version:
        parameters["tls_minimum_protocol_version"] = _VERSIONS[tls.min_version]
    if tls.max_version:
        parameters["tls_maximum_protocol_version"] = _VERSIONS[tls.max_version]
    for name, values in (
        ("cipher_suites", tls.ciphers),
        ("ecdh_curves", tls.ecdh_curves),
        ("signature_algorithms", tls.signature_algorithms),
    ):
        if values:
            parameters[name] = list(values)
    if parameters:
        common["tls_params"] = parameters
    if tls.alpn_protocols:
        common["alpn_protocols"] = list(tls.alpn_protocols)
    resumption = tls.session.resumption if tls.session else None
    if resumption:
        context["disable_stateless_session_resumption"] = resumption.stateless is None
        context["disable_stateful_session_resumption"] = resumption.stateful is None
    validation = tls.client_validation
    if validation:
        if authority is not None:
            common["validation_context_sds_secret_config"] = sds(authority.name)
        context["require_client_certificate"] = _required(validation)


def _required(validation: ClientValidation) -> bool:
    if validation.mode:
        return validation.mode in ("RequireAny", "RequireAndVerify")
    return not validation.optional


def authority_refs(index: Index, policy: Policy, validation: ClientValidation) -> list[AuthorityRef]:
    """The references that the policy may follow: to authorities, and to what they have revoked."""
    revoked = validation.crl.refs if validation.crl else []
    return _permitted(index, policy, [*validation.ca_certificate_refs, *revoked])


def _permitted(index: Index, policy: Policy, refs: Sequence[SecretObjectReference]) -> list[AuthorityRef]:
    namespace = policy.key[0]
    return [
        AuthorityRef(ref.group, ref.kind, ref.namespace or namespace, ref.name)
        for ref in refs
        if index.granted(GROUP, KIND, namespace, ref.group, ref.kind, (ref.namespace or namespace, ref.name))
    ]


def client_authority(
    index: Index, policy: Policy, validation: ClientValidation, problems: list[str]
) -> Delivered | None:
    """What the certificates of clients are held against. problems: gets what keeps it from being there."""
    where = "spec.tls.clientValidation"
    refs = _permitted(index, policy, validation.ca_certificate_refs)
    if len(refs) < len(validation.ca_certificate_refs):
        problems.append(
            f"{where}.caCertificateRefs: no ReferenceGrant lets the policy refer to another namespace"
        )
    bundle, reasons = authorities(index, refs)
    problems += [f"{where}.caCertificateRefs: {reason.message}" for reason in reasons]
    context = _revoked(index, policy, validation.crl, problems) if validation.crl else {}
    if bundle:
        context["trusted_ca"] = {"inline_string": bundle}
    if validation.mode in ("Request", "RequireAny"):
        context["trust_chain_verification"] = "ACCEPT_UNTRUSTED"
    elif not bundle and not validation.spki_hashes and not validation.certificate_hashes:
        problems.append(f"{where}: nothing is given that a certificate could be held against")
        return None
    if validation.spki_hashes:
        context["verify_certificate_spki"] = list(validation.spki_hashes)
    if validation.certificate_hashes:
        context["verify_certificate_hash"] = list(validation.certificate_hashes)
    if validation.allow_expired_certificate:
        context["allow_expired_certificate"] = True
    names = validation.subject_alt_names
    if names:
        context["match_typed_subject_alt_names"] = [
            _name(kind, match) for member, kind in _NAME_TYPES for match in getattr(names, member)
        ]
    name = f"{AUTHORITY_OF}{'/'.join(policy.key)}"
    return Delivered(name, {"name": name, "validation_context": context})


def _revoked(index: Index, policy: Policy, crl: RevocationLists, problems: list[str]) -> dict[str, Any]:
    where = "spec.tls.clientValidation.crl.refs"
    refs = _permitted(index, policy, crl.refs)
    if len(refs) < len(crl.refs):
        problems.append(f"{where}: no ReferenceGrant lets the policy refer to another namespace")
    lists, reasons = revocations(index, refs)
    problems += [f"{where}: {reason.message}" for reason in reasons]
    return {"crl": {"inline_string": lists}, "only_verify_leaf_cert_crl": crl.only_verify_leaf_certificate}


def _name(kind: str, match: StringMatch | OtherName) -> dict[str, Any]:
    kinds = {"Exact": "exact", "Prefix": "prefix", "Suffix": "suffix"}
    if match.type == "RegularExpression":
        matcher: dict[str, Any] = {"safe_regex": {"regex": match.value}}
    else:
        matcher = {kinds[match.type]: match.value}
    made = {"san_type": kind, "matcher": matcher}
    return {**made, "oid": match.oid} if isinstance(match, OtherName) else made
