"""Envoy's bootstrap: nothing but the way to our control plane; all else comes by ADS.

On a laptop the way is a Unix socket. On a cluster it is the control plane's Service, with certificates on both sides
that are read from files, so that a renewed one is used without a restart; and since the administration stays on a
socket there too, one small listener answers probes and gives metrics.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kajitori.gateway.backends.clusters import HTTP_OPTIONS
from kajitori.gateway.resources import TYPE

_OWNER_ONLY = 0o600
CONTROL_PLANE_CLUSTER = "kajitori-control-plane"
ACCOUNTANT_CLUSTER = "kajitori-accountant"
# Where an Envoy of the fleet finds its files: the bootstrap and what belongs to it, certificates, sockets.
FLEET_FOLDER = "/etc/kajitori/envoy"
CERTIFICATE_FOLDER = "/etc/kajitori/certificates"
SOCKET_FOLDER = "/run/kajitori"
# Envoy refuses expressions of more than 100 steps by itself, which is less than users and our route tables need.
_RUNTIME = {"re2.max_program_size.error_level": 100_000, "re2.max_program_size.warn_level": 100_000}
# Nobody acts on a thread that is late but who reads of it in the metrics; looking ten times a second costs CPU for ever.
_WATCHDOG = {"miss_timeout": "2s", "megamiss_timeout": "10s"}
FLEET_ADMIN_SOCKET = f"{SOCKET_FOLDER}/envoy-admin.sock"
FLEET_ADMISSION_SOCKET = f"{SOCKET_FOLDER}/accountant.sock"
# Where streams are relayed, and where Envoy takes them back.
FLEET_RESCUE_SOCKETS = (f"{SOCKET_FOLDER}/rescue.sock", f"{SOCKET_FOLDER}/inner.sock")
CLIENT_FILE, AUTHORITY_FILE = "client.json", "authority.json"


def bootstrap(
    control_plane_socket: Path, admin_socket: Path, accountant_socket: Path | None, node_id: str
) -> dict[str, Any]:
    """The bootstrap configuration. All sockets are for their owner only. accountant_socket: None where no requests are
    counted."""
    pipe = {"pipe": {"path": str(control_plane_socket)}}
    clusters = [_control_plane("STATIC", pipe)]
    if accountant_socket is not None:
        clusters.append(_accountant(str(accountant_socket)))
    return {
        "node": {"id": node_id, "cluster": "kajitori"},
        **_bootstrap(str(admin_socket), clusters),
    }


def fleet_bootstrap(server: str, port: int, probe_port: int) -> dict[str, Any]:
    """The bootstrap of Envoys on a cluster; their ids come from the command line.

    server: the control plane's name, which its certificate must have. probe_port: for `/ready` and
    `/stats/prometheus`. Certificates are expected in CERTIFICATE_FOLDER, this file's neighbours in FLEET_FOLDER.
    """
    address = {"socket_address": {"address": server, "port_value": port}}
    cluster = {
        **_control_plane("STRICT_DNS", address),
        "dns_lookup_family": "V4_PREFERRED",
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": TYPE + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": server,
                "common_tls_context": {
                    "tls_certificate_sds_secret_configs": [_from_file("client", CLIENT_FILE)],
                    "validation_context_sds_secret_config": _from_file("authority", AUTHORITY_FILE),
                },
            },
        },
    }
    admin_socket = FLEET_ADMIN_SOCKET
    admin = {
        "name": "administration",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _one_endpoint("administration", {"pipe": {"path": admin_socket}}),
    }
    document = _bootstrap(admin_socket, [cluster, admin, _accountant(FLEET_ADMISSION_SOCKET)])
    document["static_resources"]["listeners"] = [_probe_listener(probe_port)]
    return document


def fleet_secrets(server: str) -> dict[str, dict[str, Any]]:
    """The files that the bootstrap reads its certificates through, by name."""
    kind = "envoy.extensions.transport_sockets.tls.v3.Secret"
    watched = {"path": CERTIFICATE_FOLDER}

    def file(name: str, content: dict[str, Any]) -> dict[str, Any]:
        return {"resources": [{"@type": TYPE + kind, "name": name, **content}]}

    return {
        CLIENT_FILE: file(
            "client",
            {
                "tls_certificate": {
                    "certificate_chain": {"filename": f"{CERTIFICATE_FOLDER}/tls.crt"},
                    "private_key": {"filename": f"{CERTIFICATE_FOLDER}/tls.key"},
                    "watched_directory": watched,
                }
            },
        ),
        AUTHORITY_FILE: file(
            "authority",
            {
                "validation_context": {
                    "trusted_ca": {"filename": f"{CERTIFICATE_FOLDER}/ca.crt"},
                    "watched_directory": watched,
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": server}}],
                }
            },
        ),
    }


def _from_file(name: str, file: str) -> dict[str, Any]:
    return {
        "name": name,
        "sds_config": {
            "path_config_source": {"path": f"{FLEET_FOLDER}/{file}"},
            "resource_api_version": "V3",
        },
    }


def _probe_listener(port: int) -> dict[str, Any]:
    routes = [
        {"match": {"path": path}, "route": {"cluster": "administration"}}
        for path in ("/ready", "/stats/prometheus")
    ]
    manager = {
        "@type": TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "probes",
        "route_config": {
            "name": "probes",
            "virtual_hosts": [{"name": "probes", "domains": ["*"], "routes": routes}],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "name": "probes",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "filter_chains": [{"filters": filters}],
    }


def _one_endpoint(cluster: str, address: dict[str, Any]) -> dict[str, Any]:
    return {
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    }


def _control_plane(discovery: str, address: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": CONTROL_PLANE_CLUSTER,
        "type": discovery,
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": TYPE + HTTP_OPTIONS,
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}
                },
            }
        },
        "load_assignment": _one_endpoint(CONTROL_PLANE_CLUSTER, address),
    }


def _accountant(socket: str) -> dict[str, Any]:
    """Who is asked whether a request may pass, as often as there are requests.

    By HTTP/2: questions of several requests are sent, read and answered together. Without Huffman's code, which saves nothing
    on one machine and which Python reads slowly.
    """
    most = {"max_connections": 65_536, "max_pending_requests": 65_536, "max_requests": 65_536}
    spoken = {"http2_protocol_options": {"enable_huffman_encoding": False}}
    return {
        "name": ACCOUNTANT_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "circuit_breakers": {"thresholds": [most]},
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {"@type": TYPE + HTTP_OPTIONS, "explicit_http_config": spoken}
        },
        "load_assignment": _one_endpoint(ACCOUNTANT_CLUSTER, {"pipe": {"path": socket}}),
    }


def _bootstrap(admin_socket: str, clusters: list[dict[str, Any]]) -> dict[str, Any]:
    retry = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
    ads = {"ads": {}, "resource_api_version": "V3"}
    return {
        "admin": {"address": {"pipe": {"path": admin_socket, "mode": _OWNER_ONLY}}},
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
        "static_resources": {"clusters": clusters},
        # Statistics are put together when somebody asks, not every five seconds: they are many where clusters are.
        "stats_flush_on_admin": True,
        "watchdogs": {"main_thread_watchdog": _WATCHDOG, "worker_watchdog": _WATCHDOG},
        "layered_runtime": {"layers": [{"name": "kajitori", "static_layer": _RUNTIME}]},
    }


def write_bootstrap(
    path: Path,
    control_plane_socket: Path,
    admin_socket: Path,
    accountant_socket: Path | None = None,
    node_id: str = "envoy",
) -> None:
    """Writes the bootstrap for its owner only."""
    text = json.dumps(bootstrap(control_plane_socket, admin_socket, accountant_socket, node_id), indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
