"""`extAuth`: a service of the user's that says whether a request may pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.base.duration import protobuf_duration
from kajitori.gateway.policies.security.expressions import MODEL_HEADERS
from kajitori.gateway.policies.security.services import service_cluster
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes.protection import ROUTE_NAMESPACE
from kajitori.gateway.routes.security_filters import ASK, ASK_TELLING, KEEPS_OURS, brought

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.envoygateway.authorization import ContextExtension, ExtAuth, HTTPExtAuthService
    from kajitori.gateway.observed import Index
    from kajitori.gateway.policies.security.making import Making
    from kajitori.gateway.policies.subjects import RouteKey

_TYPE = TYPE + "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
_TIMEOUT = "10s"
_ANNOTATIONS = "gateway.envoyproxy.io/"


def make_question(making: Making, ask: ExtAuth) -> None:
    """The configuration of the ext_authz filter."""
    timeout = protobuf_duration(ask.timeout) if ask.timeout else _TIMEOUT
    service = _service(making, ask, timeout)
    extensions = _extensions(making, ask.context_extensions)
    step = ASK_TELLING if extensions and ask.grpc is not None else ASK
    if ask.body_to_ext_auth is not None or any(
        name.lower().startswith(MODEL_HEADERS) for name in ask.headers_to_ext_auth
    ):
        making.behind.add(step)
    if ask.body_to_ext_auth is not None:
        service["with_request_body"] = {"max_request_bytes": ask.body_to_ext_auth.max_request_bytes}
    if step == ASK_TELLING:
        making.notes += [
            f"spec.extAuth.{name} is not honoured beside contextExtensions"
            for name, given in (
                ("headersToExtAuth", ask.headers_to_ext_auth),
                ("failOpen", ask.fail_open),
                ("recomputeRoute", ask.recompute_route),
                ("statusOnError", ask.status_on_error),
                ("includeRouteMetadata", ask.include_route_metadata),
            )
            if given
        ]
        settings = {"context_extensions": extensions, **service}
        making.steps[step] = {"@type": _TYPE + "PerRoute", "check_settings": settings}
        return
    if extensions:
        making.notes.append(
            "spec.extAuth.contextExtensions is for gRPC services; one by HTTP is not told them"
        )
    if ask.include_route_metadata and ask.grpc is None:
        making.notes.append(
            "spec.extAuth.includeRouteMetadata is for gRPC services; one by HTTP is not told the route"
        )
    making.tells_route = bool(ask.include_route_metadata) and ask.grpc is not None
    making.steps[step] = brought("envoy.filters.http.ext_authz", {**_whole(ask), **service})


def described_route(index: Index, route: RouteKey, rule: str) -> dict[str, Any]:
    """What a service is told of a route: annotations without the group of Envoy Gateway, of which alone it tells."""
    kind, *key = route
    tables = (index.grpc_routes,) if kind == "GRPCRoute" else (index.ai_routes, index.http_routes)
    metadata = next((found.metadata for table in tables if (found := table.get((key[0], key[1])))), None)
    annotations = {
        name.removeprefix(_ANNOTATIONS): value
        for name, value in (metadata.annotations if metadata else {}).items()
        if name.startswith(_ANNOTATIONS)
    }
    told: dict[str, Any] = {"kind": kind, "namespace": key[0], "name": key[1]}
    if annotations:
        told["annotations"] = annotations
    if rule:
        told["sectionName"] = rule
    return {"resources": [told]}


def _whole(ask: ExtAuth) -> dict[str, Any]:
    """What is said of the filter itself."""
    config: dict[str, Any] = {
        "@type": _TYPE,
        "transport_api_version": "V3",
        "failure_mode_allow": ask.fail_open,
        "clear_route_cache": bool(ask.recompute_route),
        "decoder_header_mutation_rules": KEEPS_OURS,
    }
    if ask.include_route_metadata:
        config["route_metadata_context_namespaces"] = [ROUTE_NAMESPACE]
    if ask.headers_to_ext_auth:
        config["allowed_headers"] = _names(ask.headers_to_ext_auth)
    if ask.status_on_error is not None:
        config["status_on_error"] = {"code": ask.status_on_error}
    return config


def _service(making: Making, ask: ExtAuth, timeout: str) -> dict[str, Any]:
    if ask.http is not None:
        return {"http_service": _http(making, ask.http, timeout)}
    if ask.grpc is not None:
        cluster = service_cluster(making, ask.grpc, "extAuth.grpc", http2=True)
        return {"grpc_service": {"envoy_grpc": {"cluster_name": cluster or "no-service"}, "timeout": timeout}}
    making.problems.append("spec.extAuth: neither grpc nor http is given")
    return {}


def _http(making: Making, http: HTTPExtAuthService, timeout: str) -> dict[str, Any]:
    cluster = service_cluster(making, http, "extAuth.http")
    service: dict[str, Any] = {
        # Where it goes is the cluster's business; the name is that of the request.
        "server_uri": {"uri": "http://ext-auth", "cluster": cluster or "no-service", "timeout": timeout}
    }
    if http.path:
        service["path_prefix"] = http.path.rstrip("/")
    if http.path_override:
        service["path_override"] = http.path_override
    if http.headers_to_backend:
        service["authorization_response"] = {"allowed_upstream_headers": _names(http.headers_to_backend)}
    return service


def _names(names: Sequence[str]) -> dict[str, Any]:
    return {"patterns": [{"exact": name, "ignore_case": True} for name in names]}


def _extensions(making: Making, extensions: Sequence[ContextExtension]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, item in enumerate(extensions):
        where = f"spec.extAuth.contextExtensions[{number}]"
        if item.type == "Value":
            found[item.name] = item.value or ""
            continue
        ref = item.value_ref
        if ref is None or ref.kind != "ConfigMap":
            making.problems.append(
                f"{where}.valueRef: a Secret would stand in Envoy's configuration in clear; refer to a ConfigMap"
            )
            continue
        config_map = making.index.config_maps.get((making.namespace, ref.name))
        value = dict(config_map.data or {}).get(ref.key) if config_map is not None else None
        if value is None:
            making.problems.append(
                f"{where}.valueRef: ConfigMap {making.namespace}/{ref.name} has no {ref.key!r}"
            )
            continue
        found[item.name] = value
    return found
