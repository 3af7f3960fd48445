"""What our objects refer to outside of themselves: Secrets and ConfigMaps, tokens to be had, issuers to be asked. Pure.

Nothing else is ever read; `kajitori.gateway.reference_watches` reads it. A reference across namespaces counts only where a
ReferenceGrant allows it, and a Secret only where the installation lets the gateway read Secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kajitori.gateway.backends.certificates import AuthorityRef
from kajitori.gateway.backends.tls import BackendTls, authority_refs
from kajitori.gateway.credentials.exchange import Exchange
from kajitori.gateway.credentials.exchanges import wanted_exchanges
from kajitori.gateway.credentials.secrets import referenced_secrets
from kajitori.gateway.policies.backend_traffic import answers_in_config_maps
from kajitori.gateway.policies.client_traffic import referenced_authorities
from kajitori.gateway.policies.security.references import config_maps_of_security_policies, issuers_asked
from kajitori.gateway.policies.security.references import referenced_secrets as secrets_of_security_policies
from kajitori.gateway.routes.extension_filters import GROUP, KIND
from kajitori.gateway.routes.tls import referenced_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kajitori.gateway.observed import Index, Observed
    from kajitori.gateway.plan_memory import PlanMemory

ObjectKey = tuple[str, str]


class References(msgspec.Struct, frozen=True):
    """secrets, config_maps: to be read. exchanges: of credentials for tokens. issuers: of tokens, by URL."""

    secrets: set[ObjectKey]
    config_maps: set[ObjectKey]
    exchanges: dict[ObjectKey, Exchange]
    issuers: set[str]


def find_references(observed: Observed, memory: PlanMemory) -> References:
    """memory: of what was found before; not that of the plans."""
    index = memory.begin(observed)
    found = References(
        memory.remembered("secrets", "", (), lambda: wanted_secrets(index)),
        memory.remembered("config maps", "", (), lambda: wanted_config_maps(index)),
        memory.remembered("exchanges", "", (), lambda: wanted_exchanges(index)),
        memory.remembered("issuers", "", (), lambda: issuers_asked(index)),
    )
    memory.end()
    return found


def wanted_secrets(index: Index) -> set[ObjectKey]:
    """Namespace and name of each."""
    settings = index.observed.settings
    certificates = {
        (ref.namespace, ref.name)
        for ref in _references(index)
        if (ref.group, ref.kind) == ("", "Secret") and settings.may_read_secrets_of(ref.namespace)
    }
    return certificates | referenced_secrets(index) | secrets_of_security_policies(index)


def wanted_config_maps(index: Index) -> set[ObjectKey]:
    """Namespace and name of each."""
    return (
        {
            (ref.namespace, ref.name)
            for ref in _references(index)
            if (ref.group, ref.kind) == ("", "ConfigMap")
        }
        | config_maps_of_security_policies(index)
        | answers_in_config_maps(index)
    )


def _references(index: Index) -> Iterator[AuthorityRef]:
    observed = index.observed
    classes = {
        item.metadata.name
        for item in observed.gateway_classes
        if item.spec.controller_name in observed.controllers
    }
    ours = [gateway for gateway in observed.gateways if gateway.spec.gateway_class_name in classes]
    yield from referenced_objects(index, ours)
    for policy in observed.tls_policies:
        refs = policy.spec.validation.ca_certificate_refs
        yield from authority_refs(policy.metadata.namespace or "", refs)
    yield from referenced_authorities(index)
    yield from _of_backends(index)
    yield from _of_route_filters(index)


def _of_backends(index: Index) -> Iterator[AuthorityRef]:
    for backend in index.observed.backends:
        namespace = backend.metadata.namespace or ""
        if backend.spec.tls is None:
            continue
        try:
            tls = msgspec.convert(backend.spec.tls, BackendTls)
        except msgspec.ValidationError:
            continue
        yield from authority_refs(namespace, tls.ca_certificate_refs)
        ref = tls.client_certificate_ref
        if ref is not None:
            key = (ref.namespace or namespace, ref.name)
            if index.granted("gateway.envoyproxy.io", "Backend", namespace, ref.group, ref.kind, key):
                yield AuthorityRef(ref.group, ref.kind, *key)


def _of_route_filters(index: Index) -> Iterator[AuthorityRef]:
    for item in index.observed.route_filters:
        namespace, spec = item.metadata.namespace or "", item.spec
        body = spec.direct_response.body if spec.direct_response else None
        if body is not None and body.value_ref is not None:
            yield AuthorityRef(body.value_ref.group, body.value_ref.kind, namespace, body.value_ref.name)
        if spec.credential_injection is not None:
            ref = spec.credential_injection.credential.value_ref
            key = (ref.namespace or namespace, ref.name)
            if index.granted(GROUP, KIND, namespace, ref.group, ref.kind, key):
                yield AuthorityRef(ref.group, ref.kind, *key)
