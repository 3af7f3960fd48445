"""To which backends a route leads, whether they can be used or not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.backends.tls_policies import BackendKey

if TYPE_CHECKING:
    from kajitori.api.aigateway.v1beta1 import AIGatewayRoute
    from kajitori.gateway.observed import Index


def backends_of_route(route: Any) -> set[BackendKey]:
    """Of an HTTPRoute or a GRPCRoute."""
    namespace = route.metadata.namespace or ""
    return {
        BackendKey(ref.group, ref.kind, ref.namespace or namespace, ref.name)
        for rule in route.spec.rules
        for ref in rule.backend_refs
    }


def backends_of_ai_route(index: Index, route: AIGatewayRoute) -> set[BackendKey]:
    """What stands behind the AIServiceBackends of a route."""
    namespace = route.metadata.namespace or ""
    found: set[BackendKey] = set()
    for rule in route.spec.rules:
        for ref in rule.backend_refs:
            backend = index.ai_backends.get((ref.namespace or namespace, ref.name))
            if backend is not None:
                to = backend.spec.backend_ref
                found.add(
                    BackendKey(to.group, to.kind, to.namespace or backend.metadata.namespace or "", to.name)
                )
    return found
