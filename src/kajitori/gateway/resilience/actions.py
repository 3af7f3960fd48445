"""What of a rule's resilience stands in Envoy's route beside its groups and retries. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.resilience.cooling import BACKEND_METADATA, LUA_FILTER
from kajitori.gateway.resilience.order import describe_order, unknown_backends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.aigateway.v1beta1 import AIGatewayRouteRule
    from kajitori.gateway.resilience.order import Tier
    from kajitori.gateway.resilience.settings import Resilience

_MODEL_HEADER = "x-ai-eg-model"


def decision_headers(resilience: Resilience) -> dict[str, Any]:
    """The part of a route that tells clients why a request went where it went, if they are told."""
    if resilience.decision_headers == "Never":
        return {}
    kept = "metadata.filter_metadata['io.kajitori']"
    facts = f"{kept}.request"
    asked = f"'request' in {kept} && 'tell' in {facts}"
    backend = f"xds.cluster_metadata.filter_metadata['{BACKEND_METADATA}'].backend"
    values = {
        "x-gateway-decision": f"%CEL({asked} ? {facts}.decision : '')%",
        "x-gateway-backend": f"%CEL({asked} ? {backend} : '')%",
        "x-gateway-attempts": f"%CEL({asked} ? upstream.request_attempt_count : '')%",
    }
    added = [{"header": {"key": name, "value": value}} for name, value in values.items()]
    return {"response_headers_to_add": added}


def with_own_retries(route: dict[str, Any]) -> dict[str, Any]:
    """A route whose number of attempts is a policy's: an order that is arranged for a request does not change it."""
    metadata = route.get("metadata", {}).get("filter_metadata", {})
    told = {**metadata.get(LUA_FILTER, {}), "own_retries": True}
    return {**route, "metadata": {"filter_metadata": {**metadata, LUA_FILTER: told}}}


def told_of_rule(
    rule: AIGatewayRouteRule, number: int, tiers: Sequence[Tier], resilience: Resilience
) -> list[str]:
    """Sentences for the route's condition: the order in force, and what of a policy has no effect here."""
    backends = sum(map(len, tiers))
    found: list[str] = []
    if backends > 1:
        found.append(f"{_subject(rule, number)}: {describe_order(tiers)}")
    if not resilience.policy:
        return found
    where = f"AITrafficPolicy {resilience.policy}"
    unknown = unknown_backends(tiers, resilience)
    if unknown:
        found.append(
            f"{where} names {', '.join(unknown)}, not among the backends of {_subject(rule, number)}"
        )
    return found


def _subject(rule: AIGatewayRouteRule, number: int) -> str:
    models = [
        header.value
        for match in rule.matches
        for header in match.headers
        if header.name.lower() == _MODEL_HEADER and header.type == "Exact"
    ]
    return ", ".join(dict.fromkeys(models)) or f"rule {rule.name or number}"
