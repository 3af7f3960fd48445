"""What Envoy gets in place of a cluster that it never took. Pure.

Where a cluster is missing Envoy answers 503 and tries nothing else. Where there is one that refuses connections, it
goes on to the next backend of the request.
"""

from __future__ import annotations

from typing import Any

from kajitori.gateway.resilience.spare import NOBODY


def stand_in(name: str) -> dict[str, Any]:
    """A cluster by this name that nobody answers in."""
    address, port = NOBODY
    place = {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [place]}]},
    }
