"""From what was observed to what Envoy shall have and what the statuses shall say. Pure.

The same objects give the same plan, so a change of one object changes only the resources that depend on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.resource import (
    AI_SERVICE_BACKENDS,
    AI_TRAFFIC_POLICIES,
    API_KEYS,
    BACKEND_SECURITY_POLICIES,
    BACKEND_TRAFFIC_POLICIES,
    BACKENDS,
    CLIENT_TRAFFIC_POLICIES,
    ENVOY_PROXIES,
    GATEWAY_CLASSES,
    GATEWAY_CONFIGS,
    GATEWAYS,
    SECURITY_POLICIES,
    TENANTS,
)
from kajitori.gateway.accounting.policy import BackendFacts, Policy
from kajitori.gateway.backends.tls_policies import policy_statuses
from kajitori.gateway.conditions import StatusUpdate, condition
from kajitori.gateway.envoy.shards import scope
from kajitori.gateway.fleet.front import service_addresses
from kajitori.gateway.keys.delivery import LUA_FILTER, request_lua
from kajitori.gateway.keys.table import KeyTable, make_key_table
from kajitori.gateway.limits.planning import LimitPlan, make_limits
from kajitori.gateway.memory import PlanMemory
from kajitori.gateway.observed import Observed
from kajitori.gateway.planned_routes import (
    key_of,
    statuses_of,
)
from kajitori.gateway.planning import Making, take_ai_routes, take_gateway_routes
from kajitori.gateway.refusals import refusals_told
from kajitori.gateway.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTES,
    SCOPES,
    SECRET,
    Resources,
)
from kajitori.gateway.routes.admission import Asking
from kajitori.gateway.routes.backend_status import ai_backend_status, backend_status, security_policy_status
from kajitori.gateway.routes.features import SUPPORTED_FEATURES
from kajitori.gateway.routes.gateway_status import gateway_status
from kajitori.gateway.routes.generated import (
    Generated,
    Unwanted,
    unwanted,
)

if TYPE_CHECKING:
    pass


class Plan(msgspec.Struct, frozen=True):
    """What shall be.

    resources: for Envoy. statuses: of every object that is ours. backends: cluster -> (AIServiceBackend as
    namespace/name, model override). ports: on which a listener serves. generated, unwanted: objects that stand for
    AIGatewayRoutes. policy: what the accountant is told.
    """

    resources: Resources
    statuses: list[StatusUpdate]
    backends: dict[str, tuple[str, str]]
    ports: tuple[int, ...] = ()
    policy: Policy = Policy()
    generated: tuple[Generated, ...] = ()
    unwanted: tuple[Unwanted, ...] = ()


def make_plan(
    observed: Observed,
    rejected: dict[str, str] | None = None,
    *,
    envoys: int = 1,
    memory: PlanMemory | None = None,
) -> Plan:
    """The plan. rejected: resources that Envoy refused (`type/name` as `Resources` has it) and why. envoys: how
    many are connected. memory: of the plan before; it spares work and changes nothing of the plan.
    """
    memory = memory or PlanMemory()
    making = Making(observed, rejected or {}, envoys, memory)
    plan = _make(making)
    memory.end()
    if not rejected:
        return plan
    told = refusals_told(plan.statuses, plan.resources, rejected, observed.gateways)
    return msgspec.structs.replace(plan, statuses=told)


def _make(making: Making) -> Plan:
    observed = making.observed
    take_ai_routes(making)
    take_gateway_routes(making)
    _backends(making)
    for policy, status in policy_statuses(making.index, making.uses):
        making.policy_status(policy, status)
    _gateways(making)
    keys = make_key_table(making.index)
    limits = make_limits(observed, making.route_facts, keys.facts, making.traffic_uses)
    making.backend_traffic.finish()
    making.gateway_configs.finish()
    extensions: dict[str, dict[str, Any]] = {}
    if making.tables:
        extensions = {LUA_FILTER: request_lua(keys.lines, making.security.lines())}
        extensions |= making.security.extensions()
    listeners = making.listeners()
    _policies(making, keys, limits)
    policy = Policy(
        backends={name: BackendFacts(*facts) for name, facts in making.world.backends.items()},
        routes=limits.routes,
        limits=limits.limits,
        keys=keys.facts,
        prices=limits.prices,
        budgets=limits.budgets,
        rescues_streams=bool(making.rescues),
        pushes=bool(observed.settings.access_log),
    )
    resources = _resources(making, policy, listeners, extensions)
    return Plan(
        resources,
        making.statuses,
        making.world.backends,
        tuple(making.ports),
        policy,
        tuple(making.generated),
        tuple(unwanted(observed, making.generated) if making.around.generates else ()),
    )


def _resources(
    making: Making,
    policy: Policy,
    listeners: dict[str, dict[str, Any]],
    extensions: dict[str, dict[str, Any]],
) -> Resources:
    """What Envoy shall have. policy: by which routes are asked about."""
    asking = Asking(policy, making.memory.derived("routes that are asked about"))
    resources = Resources(
        {
            CLUSTER: making.world.clusters,
            ENDPOINTS: making.world.endpoints,
            SECRET: making.world.secrets,
            LISTENER: listeners,
            EXTENSION: extensions,
            SCOPES: {name: scope(name) for name in making.tables},
            ROUTES: {
                name: making.client_traffic.table(name, table.route_configuration(asking))
                for name, table in making.tables.items()
            },
        }
    )
    for kind, found in making.rescues.resources().items():
        resources.by_type[kind].update(found)
    return resources


def _policies(making: Making, keys: KeyTable, limits: LimitPlan) -> None:
    """Statuses of policies, when all is made that they bear upon."""
    for resource, item, status in limits.statuses:
        making.status(resource, item, status)
    for resource, found in (
        (API_KEYS, keys.key_statuses),
        (TENANTS, keys.tenant_statuses),
        (AI_TRAFFIC_POLICIES, making.traffic_policies.statuses()),
        (BACKEND_TRAFFIC_POLICIES, making.backend_traffic.statuses(limits.traffic_notes)),
        (CLIENT_TRAFFIC_POLICIES, making.client_traffic.statuses()),
        (SECURITY_POLICIES, making.security.statuses(making.rejected)),
        (ENVOY_PROXIES, making.envoy_proxies.statuses()),
        (GATEWAY_CONFIGS, making.gateway_configs.statuses()),
    ):
        for item, status in found:
            making.status(resource, item, status)


def _backends(making: Making) -> None:
    """Statuses of what routes refer to, whether a route does or not."""
    observed = making.observed
    for resource, items, judge in (
        (AI_SERVICE_BACKENDS, observed.ai_backends, ai_backend_status),
        (BACKEND_SECURITY_POLICIES, observed.policies, security_policy_status),
        (BACKENDS, observed.backends, lambda index, item: backend_status(index, *key_of(item))),
    ):
        if resource.kind not in observed.foreign:
            making.statuses += statuses_of(making.around, resource, items, judge)


def _gateways(making: Making) -> None:
    for item in making.observed.gateway_classes:
        if item.metadata.name in making.attachment.controllers:
            state = condition("Accepted", True, "Accepted", "Kajitori serves Gateways of this class")
            if invalid := making.envoy_proxies.invalid_classes.get(item.metadata.name or ""):
                state = condition("Accepted", False, "InvalidParameters", invalid)
            features = [{"name": name} for name in SUPPORTED_FEATURES]
            making.status(GATEWAY_CLASSES, item, {"conditions": [state], "supportedFeatures": features})
    for gateway in making.observed.gateways:
        key = (gateway.metadata.namespace or "", gateway.metadata.name or "")
        if key in making.attachment.bindings:
            status = gateway_status(
                making.attachment.bindings[key],
                _reported_addresses(making),
                making.refused_ports,
                making.envoys,
                [told] if (told := making.gateway_configs.missing.get(key)) else [],
                making.envoy_proxies.invalid_gateways.get(key, ""),
            )
            making.status(GATEWAYS, gateway, status)


def _reported_addresses(making: Making) -> list[tuple[str, str]]:
    settings = making.observed.settings
    if settings.service is not None:
        return service_addresses(making.index.services.get(settings.service))
    bind_address = settings.bind_address
    return [("IPAddress", "127.0.0.1" if bind_address == "0.0.0.0" else bind_address)]
