"""What the plan looks at: the objects as they were seen, and an index of them.

Everything is a frozen struct; the same input gives the same plan.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

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
from kajitori.api.kubernetes.core_v1 import ConfigMap, Namespace, Secret, Service
from kajitori.api.kubernetes.discovery_v1 import EndpointSlice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kajitori.gateway.credentials.exchange import TokenState
    from kajitori.gateway.policies.security.issuer import Issuer

T = TypeVar("T")

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
OUR_CONTROLLER = "kajitori.dev/gateway-controller"
ENVOY_GATEWAY_CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
CONTROLLERS = (OUR_CONTROLLER, ENVOY_GATEWAY_CONTROLLER)
# An Envoy without privileges opens these ports higher up; the Service in front of it leads there.
_PRIVILEGED_PORTS = 1024
_PORT_SHIFT = 10_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed for a process.

    bind_address: where listeners bind; also the address that Gateways report, unless a Service is in front.
    body_limit_bytes: a larger request body is answered with 413.
    access_log: the file where Envoy tells of requests; none if empty. logged_headers: of clients, kept with their requests.
    rescue_sockets: where the relay of streams listens, and where Envoy listens for it; None: streams are not rescued.
    service: namespace and name of the Service in front of Envoy, if there is one.
    secret_namespaces: whose Secrets may be read; None for all.
    """

    bind_address: str = "0.0.0.0"
    body_limit_bytes: int = 32 * 1024 * 1024
    access_log: str = ""
    logged_headers: tuple[str, ...] = ()
    rescue_sockets: tuple[str, str] | None = None
    service: tuple[str, str] | None = None
    secret_namespaces: tuple[str, ...] | None = None

    def bound_port(self, port: int) -> int:
        """The port that Envoy opens for a listener's."""
        return port + _PORT_SHIFT if self.service is not None and port < _PRIVILEGED_PORTS else port

    def may_read_secrets_of(self, namespace: str) -> bool:
        return self.secret_namespaces is None or namespace in self.secret_namespaces


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """The objects of a cluster that concern the gateway.

    Which kind a field is of says `kajitori.gateway.watched_kinds`. controllers: names of GatewayClass controllers that we are. foreign: kinds that another controller serves; their
    objects are left to it.
    """

    settings: Settings = Settings()
    controllers: tuple[str, ...] = CONTROLLERS
    foreign: frozenset[str] = frozenset()
    gateway_classes: tuple[GatewayClass, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    ai_routes: tuple[AIGatewayRoute, ...] = ()
    http_routes: tuple[HTTPRoute, ...] = ()
    grpc_routes: tuple[GRPCRoute, ...] = ()
    route_filters: tuple[EnvoyHTTPRouteFilter, ...] = ()
    tls_policies: tuple[BackendTLSPolicy, ...] = ()
    ai_backends: tuple[AIServiceBackend, ...] = ()
    backends: tuple[Backend, ...] = ()
    policies: tuple[BackendSecurityPolicy, ...] = ()
    backend_traffic_policies: tuple[Policy, ...] = ()
    client_traffic_policies: tuple[Policy, ...] = ()
    envoy_proxies: tuple[RawEnvoyProxy, ...] = ()
    gateway_configs: tuple[RawGatewayConfig, ...] = ()
    security_policies: tuple[Policy, ...] = ()
    api_keys: tuple[APIKey, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    ai_traffic_policies: tuple[AITrafficPolicy, ...] = ()
    quota_policies: tuple[QuotaPolicy, ...] = ()
    budgets: tuple[Budget, ...] = ()
    price_lists: tuple[PriceList, ...] = ()
    secrets: tuple[Secret, ...] = ()
    config_maps: tuple[ConfigMap, ...] = ()
    services: tuple[Service, ...] = ()
    endpoint_slices: tuple[EndpointSlice, ...] = ()
    grants: tuple[ReferenceGrant, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    # What OpenID providers say of their endpoints, by issuer.
    issuers: Mapping[str, Issuer] = {}
    # How the tokens of BackendSecurityPolicies stand, by namespace and name.
    tokens: Mapping[tuple[str, str], TokenState] = {}


class Index:
    """Finds objects of one `Observed` by namespace and name."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed
        # Answers of `kajitori.gateway.backends.targets.find_backend`, which routes and statuses ask for alike.
        self.targets: dict[tuple[str, str], Any] = {}
        # BackendTLSPolicies by target and section; see `kajitori.gateway.backends.tls_policies`.
        self.tls_policies: dict[Any, dict[str, list[BackendTLSPolicy]]] | None = None

    @cached_property
    def ai_backends(self) -> dict[tuple[str, str], AIServiceBackend]:
        return _by_key(self.observed.ai_backends)

    @cached_property
    def gateways(self) -> dict[tuple[str, str], Gateway]:
        return _by_key(self.observed.gateways)

    @cached_property
    def backends(self) -> dict[tuple[str, str], Backend]:
        return _by_key(self.observed.backends)

    @cached_property
    def secrets(self) -> dict[tuple[str, str], Secret]:
        return _by_key(self.observed.secrets)

    @cached_property
    def config_maps(self) -> dict[tuple[str, str], ConfigMap]:
        return _by_key(self.observed.config_maps)

    @cached_property
    def http_routes(self) -> dict[tuple[str, str], HTTPRoute]:
        return _by_key(self.observed.http_routes)

    @cached_property
    def ai_routes(self) -> dict[tuple[str, str], AIGatewayRoute]:
        return _by_key(self.observed.ai_routes)

    @cached_property
    def grpc_routes(self) -> dict[tuple[str, str], GRPCRoute]:
        return _by_key(self.observed.grpc_routes)

    @cached_property
    def route_filters(self) -> dict[tuple[str, str], EnvoyHTTPRouteFilter]:
        return _by_key(self.observed.route_filters)

    @cached_property
    def services(self) -> dict[tuple[str, str], Service]:
        return _by_key(self.observed.services)

    @cached_property
    def slices(self) -> dict[tuple[str, str], list[EndpointSlice]]:
        """EndpointSlices by the Service that they belong to."""
        found: dict[tuple[str, str], list[EndpointSlice]] = {}
        for slice_ in self.observed.endpoint_slices:
            service = slice_.metadata.labels.get(SERVICE_NAME_LABEL)
            if service:
                found.setdefault((slice_.metadata.namespace or "", service), []).append(slice_)
        return found

    @cached_property
    def policies(self) -> dict[tuple[str, str], list[BackendSecurityPolicy]]:
        """BackendSecurityPolicies by the AIServiceBackend that they are for."""
        found: dict[tuple[str, str], list[BackendSecurityPolicy]] = {}
        for policy in self.observed.policies:
            for target in policy.spec.target_refs:
                if target.kind == "AIServiceBackend":
                    found.setdefault((policy.metadata.namespace or "", target.name), []).append(policy)
        return found

    @cached_property
    def namespace_labels(self) -> dict[str, dict[str, str]]:
        return {item.metadata.name or "": item.metadata.labels for item in self.observed.namespaces}

    def granted(
        self,
        from_group: str,
        from_kind: str,
        from_namespace: str,
        group: str,
        kind: str,
        key: tuple[str, str],
    ) -> bool:
        """Whether an object may refer to another one: in its own namespace always, else by a ReferenceGrant."""
        namespace, name = key
        if namespace == from_namespace:
            return True
        for grant in self.observed.grants:
            if grant.metadata.namespace != namespace:
                continue
            if any(
                source.group == from_group and source.kind == from_kind and source.namespace == from_namespace
                for source in grant.spec.from_
            ) and any(
                target.group == group and target.kind == kind and target.name in (None, "", name)
                for target in grant.spec.to
            ):
                return True
        return False


def _by_key(objects: Iterable[T]) -> dict[tuple[str, str], T]:
    found: dict[tuple[str, str], T] = {}
    for item in objects:
        metadata: Any = getattr(item, "metadata")  # noqa: B009  every one of these structs has it
        found[metadata.namespace or "", metadata.name or ""] = item
    return found


def age_key(item: Any) -> tuple[str, str, str]:
    """Sorts older objects first, then by namespace and name, as the Gateway API settles conflicts."""
    metadata = item.metadata
    return metadata.creation_timestamp or "", metadata.namespace or "", metadata.name or ""
