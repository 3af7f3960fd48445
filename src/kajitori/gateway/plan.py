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
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy, BackendFacts
from kajitori.gateway.backends.tls_policies import policy_statuses
from kajitori.gateway.conditions import StatusUpdate, condition
from kajitori.gateway.envoy.shards import scope
from kajitori.gateway.fleet.front import service_addresses
from kajitori.gateway.keys.delivery import LUA_FILTER, request_lua
from kajitori.gateway.keys.table import KeyTable, make_key_table
from kajitori.gateway.limits.limit_plan import LimitPlan, make_limits
from kajitori.gateway.observed import Observed
from kajitori.gateway.plan_draft import PlanDraft, take_ai_routes, take_gateway_routes
from kajitori.gateway.plan_memory import PlanMemory
from kajitori.gateway.policies.refused_fields import RefusedFields
from kajitori.gateway.policies.subjects import Subjects
from kajitori.gateway.refusal_status import refusals_told
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
from kajitori.gateway.route_translation import (
    key_of,
    statuses_of,
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
    policy: AccountantPolicy = AccountantPolicy()
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
    draft = PlanDraft(observed, rejected or {}, envoys, memory)
    plan = _make(draft)
    memory.end()
    if not rejected:
        return plan
    told = refusals_told(plan.statuses, plan.resources, rejected, observed.gateways, _refused_fields(draft))
    return msgspec.structs.replace(plan, statuses=told)


def _refused_fields(draft: PlanDraft) -> RefusedFields:
    attachments = (draft.backend_traffic.attachment, draft.security.attachment)
    return RefusedFields(
        draft.observed,
        Subjects(draft.index, draft.attachment),
        [attachment for attachment in attachments if attachment is not None],
    )


def _make(draft: PlanDraft) -> Plan:
    observed = draft.observed
    take_ai_routes(draft)
    take_gateway_routes(draft)
    _backends(draft)
    for policy, status in policy_statuses(draft.index, draft.uses):
        draft.policy_status(policy, status)
    _gateways(draft)
    keys = make_key_table(draft.index)
    limits = make_limits(observed, draft.route_facts, keys.facts, draft.traffic_uses)
    draft.backend_traffic.finish()
    draft.gateway_configs.finish()
    extensions: dict[str, dict[str, Any]] = {}
    if draft.tables:
        extensions = {LUA_FILTER: request_lua(keys.lines, draft.security.lines())}
        extensions |= draft.security.extensions()
        extensions |= draft.envoy_proxies.extensions(limits.routes)
    listeners = draft.listeners()
    _policies(draft, keys, limits)
    policy = AccountantPolicy(
        backends={name: BackendFacts(*facts) for name, facts in draft.world.backends.items()},
        routes=limits.routes,
        limits=limits.limits,
        keys=keys.facts,
        prices=limits.prices,
        budgets=limits.budgets,
        rescues_streams=bool(draft.rescues),
        pushes=bool(observed.settings.access_log),
    )
    resources = _resources(draft, policy, listeners, extensions)
    return Plan(
        resources,
        draft.statuses,
        draft.world.backends,
        tuple(draft.ports),
        policy,
        tuple(draft.generated),
        tuple(unwanted(observed, draft.generated) if draft.around.generates else ()),
    )


def _resources(
    draft: PlanDraft,
    policy: AccountantPolicy,
    listeners: dict[str, dict[str, Any]],
    extensions: dict[str, dict[str, Any]],
) -> Resources:
    """What Envoy shall have. policy: by which routes are asked about."""
    asking = Asking(policy, draft.memory.memo("routes that are asked about"))
    resources = Resources(
        {
            CLUSTER: draft.world.clusters,
            ENDPOINTS: draft.world.endpoints,
            SECRET: draft.world.secrets,
            LISTENER: listeners,
            EXTENSION: extensions,
            SCOPES: {name: scope(name) for name in draft.tables},
            ROUTES: {
                name: draft.client_traffic.table(name, table.route_configuration(asking))
                for name, table in draft.tables.items()
            },
        }
    )
    for kind, found in draft.rescues.resources().items():
        resources.by_type[kind].update(found)
    return resources


def _policies(draft: PlanDraft, keys: KeyTable, limits: LimitPlan) -> None:
    """Statuses of policies, when all is made that they bear upon."""
    for resource, item, status in limits.statuses:
        draft.status(resource, item, status)
    for resource, found in (
        (API_KEYS, keys.key_statuses),
        (TENANTS, keys.tenant_statuses),
        (AI_TRAFFIC_POLICIES, draft.traffic_policies.statuses()),
        (BACKEND_TRAFFIC_POLICIES, draft.backend_traffic.statuses(limits.traffic_notes)),
        (CLIENT_TRAFFIC_POLICIES, draft.client_traffic.statuses()),
        (SECURITY_POLICIES, draft.security.statuses(draft.rejected)),
        (ENVOY_PROXIES, draft.envoy_proxies.statuses(limits.routes)),
        (GATEWAY_CONFIGS, draft.gateway_configs.statuses()),
    ):
        for item, status in found:
            draft.status(resource, item, status)


def _backends(draft: PlanDraft) -> None:
    """Statuses of what routes refer to, whether a route does or not."""
    observed = draft.observed
    for resource, items, judge in (
        (AI_SERVICE_BACKENDS, observed.ai_backends, ai_backend_status),
        (BACKEND_SECURITY_POLICIES, observed.policies, security_policy_status),
        (BACKENDS, observed.backends, lambda index, item: backend_status(index, *key_of(item))),
    ):
        if resource.kind not in observed.foreign:
            draft.statuses += statuses_of(draft.around, resource, items, judge)


def _gateways(draft: PlanDraft) -> None:
    for item in draft.observed.gateway_classes:
        if item.metadata.name in draft.attachment.controllers:
            state = condition("Accepted", True, "Accepted", "Kajitori serves Gateways of this class")
            if invalid := draft.envoy_proxies.invalid_classes.get(item.metadata.name or ""):
                state = condition("Accepted", False, "InvalidParameters", invalid)
            features = [{"name": name} for name in SUPPORTED_FEATURES]
            draft.status(GATEWAY_CLASSES, item, {"conditions": [state], "supportedFeatures": features})
    for gateway in draft.observed.gateways:
        key = (gateway.metadata.namespace or "", gateway.metadata.name or "")
        if key in draft.attachment.bindings:
            status = gateway_status(
                draft.attachment.bindings[key],
                _reported_addresses(draft),
                draft.refused_ports,
                draft.envoys,
                [told] if (told := draft.gateway_configs.missing.get(key)) else [],
                draft.envoy_proxies.invalid_gateways.get(key, ""),
            )
            draft.status(GATEWAYS, gateway, status)


def _reported_addresses(draft: PlanDraft) -> list[tuple[str, str]]:
    settings = draft.observed.settings
    if settings.service is not None:
        return service_addresses(draft.index.services.get(settings.service))
    bind_address = settings.bind_address
    return [("IPAddress", "127.0.0.1" if bind_address == "0.0.0.0" else bind_address)]
