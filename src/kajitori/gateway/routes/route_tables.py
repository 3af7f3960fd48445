"""The route tables of all listeners that serve: one for the HTTP of a port, one for each HTTPS listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.gateway.routes.hostnames import ANY_HOST, narrower
from kajitori.gateway.routes.tables import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.gateway.observed import Observed
    from kajitori.gateway.routes.attachment import Binding


def make_tables(observed: Observed, serving: Sequence[Binding]) -> dict[str, Table]:
    """Empty tables by name. serving: the bindings whose listeners serve."""
    tables: dict[str, Table] = {}
    hostnames: dict[int, list[str]] = {}
    for binding in serving:
        hostnames.setdefault(binding.listener.port, []).append(binding.hostname)
    # Who has the host of another listener without a narrower one of its own is known by having none: `*` is elsewhere, too.
    below = {port: narrower(names) for port, names in hostnames.items()}
    for binding in serving:
        if binding.table in tables:
            continue
        port = binding.listener.port
        secure = binding.protocol == "HTTPS"
        tables[binding.table] = Table(
            binding.table,
            observed.settings.body_limit_bytes,
            keyed=bool(observed.api_keys),
            hosts=[binding.hostname] if secure else [ANY_HOST, *hostnames[port]],
            elsewhere=[*below[port].get(binding.hostname, ()), ANY_HOST] if secure else (),
        )
    return tables
