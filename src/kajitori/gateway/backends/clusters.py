"""Envoy clusters: one for each backend and each way in which attempts are prepared for it.

All attempts of a request share one set of headers, and what an earlier attempt wrote is still there. So the
preparation of a backend starts with undoing what its siblings of the same rule may have written: credentials
above all, which must never reach another provider.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.aigateway.v1beta1 import BodyMutation, HeaderMutation, VersionedAPISchema
from kajitori.gateway.backends.targets import Target, host
from kajitori.gateway.credentials.credential import SIGNATURE_HEADERS, Credential
from kajitori.gateway.credentials.filters import credential_filters
from kajitori.gateway.internal_headers import is_ours
from kajitori.gateway.lua.scripts import ATTEMPT_SCRIPT
from kajitori.gateway.operations import has_native_paths, upstream_paths
from kajitori.gateway.resilience.cooling import BACKEND_METADATA, cooling_filter, outlier_detection
from kajitori.gateway.resilience.spare import add_spare
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CREDENTIAL_HEADERS = ("api-key", "x-api-key", "x-goog-api-key", *SIGNATURE_HEADERS)
CONNECT_TIMEOUT = "3s"
# A machine that is gone answers no probe; one that only thinks does, however long it is silent. Seconds.
_PROBES = {"keepalive_time": 30, "keepalive_interval": 10, "keepalive_probes": 3}
# What the gateway tells itself is no business of a backend's.
_INTERNAL_PREFIXES = ("x-ai-eg-", "x-envoy-", "x-kajitori-", "x-aigw-")


class Preparation(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to a request for one backend.

    undo: headers that an attempt at a sibling may have left. restore: a sibling may have changed path or body.
    strip_credentials: credentials of the client or of a sibling must not go out. cooled: what it says of being busy
    is remembered. spare: others can stand in for it. followed: by backends of another priority.
    """

    schema: VersionedAPISchema
    model: str = ""
    header_mutation: HeaderMutation | None = None
    body_mutation: BodyMutation | None = None
    credential: Credential | None = None
    undo: tuple[str, ...] = ()
    restore: bool = False
    strip_credentials: bool = False
    cooled: bool = False
    spare: bool = False
    followed: bool = False

    @property
    def changes_request(self) -> bool:
        """Whether path or body differ from what the client sent."""
        return bool(
            not has_native_paths(self.schema)
            or self.model
            or (self.body_mutation and (self.body_mutation.set or self.body_mutation.remove))
        )

    @property
    def written_headers(self) -> set[str]:
        mutation = self.header_mutation
        names = {header.name.lower() for header in mutation.set} if mutation else set[str]()
        return names | (self.credential.written_headers if self.credential else set())


def cluster_name(backend: str, preparation: Preparation) -> str:
    """The backend's own name for the plain preparation, else with a mark of what differs."""
    plain = Preparation(schema=preparation.schema, credential=preparation.credential)
    if preparation == plain:
        return backend
    text = json.dumps(msgspec.to_builtins(preparation), sort_keys=True)
    return f"{backend}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def plain_cluster(name: str, target: Target, filters: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    """A cluster that passes requests on as they are, or through filters of its own."""
    return _cluster(name, target, list(filters))


def ai_cluster(name: str, target: Target, preparation: Preparation, backend: str = "") -> dict[str, Any]:
    """A cluster that prepares each attempt for its backend, an AIServiceBackend as namespace/name."""
    filters: list[dict[str, Any]] = [_header_filter(preparation)]
    if preparation.changes_request or preparation.restore:
        filters.append(_attempt_filter(preparation))
    if preparation.credential:
        filters += credential_filters(preparation.credential)
    if preparation.cooled or preparation.spare:
        credential = preparation.credential
        key = "client" if credential is None else "request" if credential.override else "gateway"
        filters.append(cooling_filter(backend or name, preparation.model, key))
    cluster = _cluster(name, target, filters)
    cluster["metadata"] = {"filter_metadata": {BACKEND_METADATA: {"backend": backend or name}}}
    cluster["outlier_detection"] = outlier_detection(spare=preparation.spare, lost_whole=preparation.followed)
    cluster["upstream_connection_options"] = {"tcp_keepalive": _PROBES}
    if preparation.spare:
        add_spare(cluster)
    return cluster


def _protocol_options(target: Target, filters: list[dict[str, Any]]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "@type": TYPE + HTTP_OPTIONS,
        "explicit_http_config": {"http2_protocol_options": {}}
        if target.http2
        else {"http_protocol_options": {}},
        "common_http_protocol_options": {"idle_timeout": "60s"},
    }
    if filters:
        codec = {"@type": TYPE + "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"}
        options["http_filters"] = [
            *filters,
            {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
        ]
    return options


def _cluster(name: str, target: Target, filters: list[dict[str, Any]]) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": name,
        "type": target.discovery,
        "connect_timeout": CONNECT_TIMEOUT,
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        # A model server with thousands of streams open is no reason to refuse one more.
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 100_000,
                    "max_pending_requests": 100_000,
                    "max_requests": 100_000,
                    "max_retries": 10_000,
                }
            ]
        },
        "typed_extension_protocol_options": {HTTP_OPTIONS: _protocol_options(target, filters)},
    }
    if target.discovery == "EDS":
        cluster["eds_cluster_config"] = {
            "service_name": target.eds_name,
            "eds_config": {"ads": {}, "resource_api_version": "V3"},
        }
    else:
        cluster["load_assignment"] = {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [host(*place) for place in target.endpoints]}],
        }
    if target.discovery == "STRICT_DNS":
        cluster["dns_lookup_family"] = "V4_PREFERRED"
        cluster["respect_dns_ttl"] = True
    if target.tls:
        cluster["transport_socket"] = target.tls
    return cluster


def _header_filter(preparation: Preparation) -> dict[str, Any]:
    mutation = _without_ours(preparation.header_mutation or HeaderMutation())
    written = {header.name.lower() for header in mutation.set}
    # A compressed answer would have to be inflated to read the usage in it.
    gone = ["accept-encoding", *(name.lower() for name in mutation.remove)]
    if preparation.strip_credentials:
        gone += CREDENTIAL_HEADERS
    removals = dict.fromkeys([*gone, *(name for name in preparation.undo if name not in written)])
    mutations: list[dict[str, Any]] = [
        {"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in _INTERNAL_PREFIXES
    ]
    mutations += [{"remove": name} for name in removals]
    mutations += [
        {
            "append": {
                "header": {"key": header.name.lower(), "value": header.value.replace("%", "%%")},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        }
        for header in mutation.set
    ]
    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": mutations},
        },
    }


def _without_ours(mutation: HeaderMutation) -> HeaderMutation:
    """Requests are booked by what is left as it is; the route's condition names what is not done."""
    return HeaderMutation(
        set=[header for header in mutation.set if not is_ours(header.name)],
        remove=[name for name in mutation.remove if not is_ours(name)],
    )


def _attempt_filter(preparation: Preparation) -> dict[str, Any]:
    paths = upstream_paths(preparation.schema)
    context: dict[str, Any] = {"paths": "\n".join(f"{name} {path}" for name, path in paths.items())}
    if preparation.model:
        context["model"] = preparation.model
    mutation = preparation.body_mutation
    if mutation and mutation.set:
        context["set"] = {item.path: item.value for item in mutation.set}
    if mutation and mutation.remove:
        context["remove"] = dict.fromkeys(mutation.remove, True)
    text = json.dumps(context, sort_keys=True)
    context["id"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": ATTEMPT_SCRIPT},
            "filter_context": context,
            "shared_vm_id": "kajitori-attempt",
        },
    }
