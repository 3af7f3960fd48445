"""The kinds that the gateway follows as a whole: where `Observed` keeps their objects, and what is decoded of them.

Secrets and ConfigMaps are not among them: of those only what is referred to is read (`kajitori.gateway.references`).
"""

from __future__ import annotations

from typing import Any

from kajitori.api.aigateway.gateway_config import RawGatewayConfig
from kajitori.api.aigateway.quota_policy import QuotaPolicy
from kajitori.api.aigateway.v1beta1 import AIGatewayRoute, AIServiceBackend, BackendSecurityPolicy
from kajitori.api.envoygateway.envoy_proxy import RawEnvoyProxy
from kajitori.api.envoygateway.http_route_filter import EnvoyHTTPRouteFilter
from kajitori.api.envoygateway.policy import Policy
from kajitori.api.envoygateway.v1alpha1 import Backend
from kajitori.api.gateway.backend_tls_policy import BackendTLSPolicy
from kajitori.api.gateway.grpc_route import GRPCRoute
from kajitori.api.gateway.http_route import HTTPRoute
from kajitori.api.gateway.reference_grant import ReferenceGrant
from kajitori.api.gateway.v1 import Gateway, GatewayClass
from kajitori.api.kajitori_gateway.ai_traffic_policy import AITrafficPolicy
from kajitori.api.kajitori_gateway.api_key import APIKey
from kajitori.api.kajitori_gateway.budget import Budget
from kajitori.api.kajitori_gateway.price_list import PriceList
from kajitori.api.kajitori_gateway.tenant import Tenant
from kajitori.api.kubernetes.core_v1 import Namespace, Service
from kajitori.api.kubernetes.discovery_v1 import EndpointSlice
from kajitori.api.resource import (
    AI_GATEWAY_ROUTES,
    AI_SERVICE_BACKENDS,
    AI_TRAFFIC_POLICIES,
    API_KEYS,
    BACKEND_SECURITY_POLICIES,
    BACKEND_TLS_POLICIES,
    BACKEND_TRAFFIC_POLICIES,
    BACKENDS,
    BUDGETS,
    CLIENT_TRAFFIC_POLICIES,
    ENDPOINT_SLICES,
    ENVOY_PROXIES,
    GATEWAY_CLASSES,
    GATEWAY_CONFIGS,
    GATEWAYS,
    GRPC_ROUTES,
    HTTP_ROUTE_FILTERS,
    HTTP_ROUTES,
    NAMESPACES,
    PRICE_LISTS,
    QUOTA_POLICIES,
    SECURITY_POLICIES,
    SERVICES,
    TENANTS,
    Resource,
)

REFERENCE_GRANTS = Resource("gateway.networking.k8s.io", "v1beta1", "referencegrants", "ReferenceGrant")
# Field of `kajitori.gateway.observed.Observed` -> resource and projection.
WATCHED: dict[str, tuple[Resource, type[Any]]] = {
    "gateway_classes": (GATEWAY_CLASSES, GatewayClass),
    "gateways": (GATEWAYS, Gateway),
    "ai_routes": (AI_GATEWAY_ROUTES, AIGatewayRoute),
    "http_routes": (HTTP_ROUTES, HTTPRoute),
    "grpc_routes": (GRPC_ROUTES, GRPCRoute),
    "route_filters": (HTTP_ROUTE_FILTERS, EnvoyHTTPRouteFilter),
    "tls_policies": (BACKEND_TLS_POLICIES, BackendTLSPolicy),
    "ai_backends": (AI_SERVICE_BACKENDS, AIServiceBackend),
    "backends": (BACKENDS, Backend),
    "policies": (BACKEND_SECURITY_POLICIES, BackendSecurityPolicy),
    "backend_traffic_policies": (BACKEND_TRAFFIC_POLICIES, Policy),
    "client_traffic_policies": (CLIENT_TRAFFIC_POLICIES, Policy),
    "envoy_proxies": (ENVOY_PROXIES, RawEnvoyProxy),
    "gateway_configs": (GATEWAY_CONFIGS, RawGatewayConfig),
    "security_policies": (SECURITY_POLICIES, Policy),
    "api_keys": (API_KEYS, APIKey),
    "tenants": (TENANTS, Tenant),
    "ai_traffic_policies": (AI_TRAFFIC_POLICIES, AITrafficPolicy),
    "quota_policies": (QUOTA_POLICIES, QuotaPolicy),
    "budgets": (BUDGETS, Budget),
    "price_lists": (PRICE_LISTS, PriceList),
    "services": (SERVICES, Service),
    "endpoint_slices": (ENDPOINT_SLICES, EndpointSlice),
    "grants": (REFERENCE_GRANTS, ReferenceGrant),
    "namespaces": (NAMESPACES, Namespace),
}
