"""A place where nobody listens, behind the endpoints of a backend that others can stand in for. Pure.

Envoy answers 503 by itself, and tries nothing else, where a cluster has no endpoint that it may use: a Service without
ready pods, a name that cannot be resolved, endpoints that failed too often. With this place as the last resort it is
refused a connection instead, which costs microseconds, and goes on to the next backend.
"""

from __future__ import annotations

from typing import Any

NOBODY = ("127.0.0.1", 1)
"""Address and port. Only an administrator could listen there."""
_MARK = "~spare"
# As long as one endpoint in ten thousand may be used, nothing goes to the place behind them.
_PERCENT = 1_000_000


def spare_name(eds_name: str) -> str:
    """Under which EDS delivers the endpoints of a Service's port with the place behind them."""
    return eds_name + _MARK


def is_spare(eds_name: str) -> bool:
    return eds_name.endswith(_MARK)


def with_spare(assignment: dict[str, Any]) -> dict[str, Any]:
    """A ClusterLoadAssignment with the place behind its endpoints."""
    address, port = NOBODY
    place = {
        "endpoint": {
            "address": {"socket_address": {"address": address, "port_value": port}},
            # It is well by definition, or Envoy would take all for lost and ask those that failed.
            "health_check_config": {"disable_active_health_check": True},
        }
    }
    return {
        **assignment,
        "endpoints": [*assignment["endpoints"], {"priority": 1, "lb_endpoints": [place]}],
        "policy": {"overprovisioning_factor": _PERCENT},
    }


def add_spare(cluster: dict[str, Any]) -> None:
    """Puts the place behind the endpoints of a cluster."""
    lookup = cluster.get("eds_cluster_config")
    if lookup is not None:
        cluster["eds_cluster_config"] = {**lookup, "service_name": spare_name(lookup["service_name"])}
    else:
        cluster["load_assignment"] = with_spare(cluster["load_assignment"])
