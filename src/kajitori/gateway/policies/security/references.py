"""What SecurityPolicies refer to: the Secrets and ConfigMaps that are read for them, and providers that are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kajitori.api.envoygateway.security_policy import SecurityPolicySpec
from kajitori.gateway.credentials.secrets import readable
from kajitori.gateway.policies.security.logging_in import issuers_to_ask
from kajitori.gateway.policies.security.making import GROUP, KIND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kajitori.gateway.observed import Index


def referenced_secrets(index: Index) -> set[tuple[str, str]]:
    """Namespace and name of each that may be read."""
    found: set[tuple[str, str]] = set()
    for namespace, spec in _specs(index):
        references = list(spec.api_key_auth.credential_refs) if spec.api_key_auth else []
        if spec.basic_auth:
            references.append(spec.basic_auth.users)
        if spec.oidc:
            references.append(spec.oidc.client_secret)
            if spec.oidc.client_id_ref:
                references.append(spec.oidc.client_id_ref)
        found |= readable(index, (GROUP, KIND, namespace), references)
    return found


def config_maps_of_security_policies(index: Index) -> set[tuple[str, str]]:
    """Namespace and name of each: keys of tokens, and what services are told."""
    found: set[tuple[str, str]] = set()
    for namespace, spec in _specs(index):
        refs = [
            provider.local_jwks.value_ref
            for provider in (spec.jwt.providers if spec.jwt else ())
            if provider.local_jwks and provider.local_jwks.value_ref
        ]
        found |= {(namespace, ref.name) for ref in refs if ref.kind == "ConfigMap"}
        for item in spec.ext_auth.context_extensions if spec.ext_auth else ():
            if item.value_ref is not None and item.value_ref.kind == "ConfigMap":
                found.add((namespace, item.value_ref.name))
    return found


def issuers_asked(index: Index) -> set[str]:
    """Issuers whose endpoints no policy says."""
    return {
        issuer
        for _, spec in _specs(index)
        if spec.oidc is not None and (issuer := issuers_to_ask(spec.oidc)) is not None
    }


def _specs(index: Index) -> Iterator[tuple[str, SecurityPolicySpec]]:
    for policy in index.observed.security_policies:
        try:
            yield policy.key[0], msgspec.convert(policy.spec, SecurityPolicySpec)
        except msgspec.ValidationError:
            continue
