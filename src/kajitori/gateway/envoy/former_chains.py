"""Filter chains that stay as they were, because Envoy refuses what they shall be, and would take whom they shall not. Pure.

A chain that is to ask for certificates, and asked for none, takes nobody until Envoy takes what it is to be.
"""

from __future__ import annotations

from kajitori.gateway.envoy.forms import Resource

_FINGERPRINT_OF_NOBODY = "00" * 32


def close_chain(chain: Resource) -> Resource:
    """A chain with TLS that takes no client."""
    socket: Resource = chain["transport_socket"]
    context: Resource = socket["typed_config"]
    common: Resource = dict(context["common_tls_context"])
    common.pop("validation_context_sds_secret_config", None)
    common["validation_context"] = {"verify_certificate_hash": [_FINGERPRINT_OF_NOBODY]}
    closed = {**context, "common_tls_context": common, "require_client_certificate": True}
    return {**chain, "transport_socket": {**socket, "typed_config": closed}}


def former_chain(before: Resource, wanted: Resource | None) -> Resource:
    """What stays of a chain; the very same where it takes nobody whom it shall not. wanted: what is refused."""
    opens = "transport_socket" in before and wanted is not None and _asks(wanted) and not _asks(before)
    return close_chain(before) if opens else before


def former(before: Resource, wanted: Resource) -> Resource:
    """What stays of a listener that is refused as a whole; the very same where nothing has to be closed."""
    chains = {chain.get("name"): chain for chain in wanted.get("filter_chains", ())}
    had: list[Resource] = before.get("filter_chains", [])
    kept = [former_chain(chain, chains.get(chain.get("name"))) for chain in had]
    return (
        before if all(a is b for a, b in zip(kept, had, strict=True)) else {**before, "filter_chains": kept}
    )


def _asks(chain: Resource) -> bool:
    """Whether it takes only clients with a certificate."""
    context: Resource = chain.get("transport_socket", {}).get("typed_config", {})
    return bool(context.get("require_client_certificate"))
