"""What Envoy gets in place of a cluster or a listener that it never took. Pure.

Where a cluster is missing Envoy answers 503 and tries nothing else. Where there is one that refuses connections, it
goes on to the next backend of the request. Where a listener is missing nobody answers; one that is refused for what it is to do
with requests, and not for its port, tells clients so.
"""

from __future__ import annotations

from typing import Any

from kajitori.gateway.error_names import openai_name
from kajitori.gateway.resilience.spare import NOBODY
from kajitori.gateway.resources import CLUSTER, LISTENER, TYPE

# What Envoy says where it is the port itself that cannot be had.
OF_PORTS = ("Address already in use", "Permission denied")
_REFUSED_STATUS = 500
_TOLD = "Envoy refuses what is configured for this port; the status of its Gateway says why"
_FILTERS = TYPE + "envoy.extensions.filters."


def stand_in(kind: str, wanted: dict[str, Any], words: str) -> dict[str, Any] | None:
    """What there is in place of a resource, if there can be anything. words: why it was refused."""
    if kind == CLUSTER:
        return _cluster(str(wanted["name"]))
    # Who speaks TLS could not be told anything.
    plain = not any("transport_socket" in chain for chain in wanted.get("filter_chains", ()))
    if kind == LISTENER and plain and not any(text in words for text in OF_PORTS):
        return _listener(wanted)
    return None


def _cluster(name: str) -> dict[str, Any]:
    """A cluster by this name that nobody answers in."""
    address, port = NOBODY
    place = {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [place]}]},
    }


def _listener(wanted: dict[str, Any]) -> dict[str, Any]:
    """One on the same port that answers everything with an error."""
    error = {"type": openai_name(_REFUSED_STATUS), "code": str(_REFUSED_STATUS), "message": _TOLD}
    answer = {
        "status": _REFUSED_STATUS,
        "body_format": {"json_format": {"type": "error", "error": error}},
    }
    everything = {"name": "refused-port", "match": {"prefix": "/"}, "direct_response": answer}
    router = {"@type": f"{_FILTERS}http.router.v3.Router"}
    manager = {
        "@type": f"{_FILTERS}network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "refused-port",
        "route_config": {"virtual_hosts": [{"name": "*", "domains": ["*"], "routes": [everything]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "name": wanted["name"],
        "address": wanted["address"],
        "enable_reuse_port": False,
        "filter_chains": [chain],
    }
