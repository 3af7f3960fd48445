"""Envoy's bootstrap: nothing but the way to our control plane, over a Unix socket; all else comes by ADS."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kajitori.gateway.clusters import HTTP_OPTIONS, TYPE
from kajitori.gateway.listeners import CONTROL_PLANE_CLUSTER

_OWNER_ONLY = 0o600


def bootstrap(control_plane_socket: Path, admin_socket: Path, node_id: str) -> dict[str, Any]:
    """The bootstrap configuration. Both sockets are for their owner only."""
    cluster = {
        "name": CONTROL_PLANE_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": TYPE + HTTP_OPTIONS,
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}
                },
            }
        },
        "load_assignment": {
            "cluster_name": CONTROL_PLANE_CLUSTER,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(control_plane_socket)}}}}]}
            ],
        },
    }
    retry = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
    ads = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {"id": node_id, "cluster": "kajitori"},
        "admin": {"address": {"pipe": {"path": str(admin_socket), "mode": _OWNER_ONLY}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {"envoy_grpc": {"cluster_name": CONTROL_PLANE_CLUSTER, "retry_policy": retry}}
                ],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {"clusters": [cluster]},
    }


def write_bootstrap(
    path: Path, control_plane_socket: Path, admin_socket: Path, node_id: str = "envoy"
) -> None:
    """Writes the bootstrap for its owner only."""
    text = json.dumps(bootstrap(control_plane_socket, admin_socket, node_id), indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
