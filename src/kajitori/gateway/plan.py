"""From what was observed to what Envoy shall have and what the statuses shall say. Pure.

The same objects give the same plan, so a change of one object changes only the resources that depend on it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.aigateway.v1beta1 import AIGatewayRoute
from kajitori.api.resource import (
    AI_GATEWAY_ROUTES,
    AI_SERVICE_BACKENDS,
    AI_TRAFFIC_POLICIES,
    API_KEYS,
    BACKEND_SECURITY_POLICIES,
    BACKEND_TLS_POLICIES,
    BACKEND_TRAFFIC_POLICIES,
    BACKENDS,
    CLIENT_TRAFFIC_POLICIES,
    ENVOY_PROXIES,
    GATEWAY_CLASSES,
    GATEWAY_CONFIGS,
    GATEWAYS,
    GRPC_ROUTES,
    HTTP_ROUTES,
    SECURITY_POLICIES,
    TENANTS,
)
from kajitori.gateway.accounting.costs import check_costs
from kajitori.gateway.accounting.policy import BackendFacts, CostRule, Policy, RouteFacts, TargetFacts
from kajitori.gateway.backends.tls_policies import policy_statuses
from kajitori.gateway.conditions import StatusUpdate, ai_status, condition
from kajitori.gateway.envoy.shards import scope
from kajitori.gateway.fleet.front import service_addresses
from kajitori.gateway.keys.delivery import LUA_FILTER, request_lua
from kajitori.gateway.keys.table import KeyTable, make_key_table
from kajitori.gateway.limits.gathering import traffic_uses
from kajitori.gateway.limits.planning import LimitPlan, TrafficUse, make_limits, targets_of
from kajitori.gateway.memory import PlanMemory
from kajitori.gateway.observed import Index, Observed, age_key
from kajitori.gateway.policies.ai_traffic import TrafficPolicies
from kajitori.gateway.policies.backend_traffic import BackendTraffic
from kajitori.gateway.policies.client_traffic import ClientTraffic
from kajitori.gateway.policies.envoy_proxies import EnvoyProxies
from kajitori.gateway.policies.gateway_configs import GatewayConfigs
from kajitori.gateway.policies.security.policies import SecurityPolicies
from kajitori.gateway.policies.shaping import Shaping
from kajitori.gateway.policies.subjects import Subjects, route_key
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
from kajitori.gateway.routes.ai_routes import translate_ai_route
from kajitori.gateway.routes.attachment import Attachment, ParentOutcome
from kajitori.gateway.routes.backend_status import ai_backend_status, backend_status, security_policy_status
from kajitori.gateway.routes.doubles import Doubles, Wanted, wanted
from kajitori.gateway.routes.features import SUPPORTED_FEATURES
from kajitori.gateway.routes.gateway_status import gateway_status
from kajitori.gateway.routes.generated import (
    Generated,
    Unwanted,
    foreign_names,
    generate,
    is_generated,
    unwanted,
)
from kajitori.gateway.routes.grpc_routes import translate_grpc_route
from kajitori.gateway.routes.http_routes import translate_http_route
from kajitori.gateway.routes.key_requirement import asking_places, marked, what_is_wrong
from kajitori.gateway.routes.listeners import listener, listener_name, why_refused
from kajitori.gateway.routes.rescue import Rescues
from kajitori.gateway.routes.route_filters import at_listener
from kajitori.gateway.routes.route_status import entry as route_entry
from kajitori.gateway.routes.route_status import has_stale_parents, parent_status
from kajitori.gateway.routes.route_tables import make_tables
from kajitori.gateway.routes.rule_context import checked_references
from kajitori.gateway.routes.uses import backends_of_ai_route, backends_of_route
from kajitori.gateway.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kajitori.api.gateway.backend_tls_policy import BackendTLSPolicy
    from kajitori.api.resource import Resource
    from kajitori.gateway.backends.tls_policies import BackendKey
    from kajitori.gateway.resilience.settings import Resilience
    from kajitori.gateway.routes.rule_context import RuleContext
    from kajitori.gateway.routes.tables import Entry


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


class _Kind(msgspec.Struct, frozen=True):
    """A kind of route of the Gateway API. field: of `Observed`."""

    resource: Resource
    field: str
    translate: Callable[[Index, World, Any], tuple[list[Entry], RuleContext]]


_KINDS = (
    _Kind(HTTP_ROUTES, "http_routes", translate_http_route),
    _Kind(GRPC_ROUTES, "grpc_routes", translate_grpc_route),
)


class _Making:
    """The state of one run."""

    def __init__(self, observed: Observed, rejected: dict[str, str], envoys: int, memory: PlanMemory) -> None:
        self.observed = observed
        self.envoys = envoys
        self.rejected = rejected
        self.memory = memory
        self.index = memory.begin(observed)
        self.world = World(self.index)
        self.attachment = memory.remembered("attachment", "", (), lambda: Attachment(self.index))
        self.attachment.begin(self.index)
        self.ports = self.attachment.ports()
        self.tables = make_tables(observed, self.attachment.serving())
        self.refused_ports = {
            port: why_refused(port, message)
            for port in self.ports
            if (message := rejected.get(f"{LISTENER}/{listener_name(port)}"))
        }
        self.statuses: list[StatusUpdate] = []
        self.generates = "AIGatewayRoute" not in observed.foreign
        self.generated: list[Generated] = []
        self.uses: dict[BackendKey, dict[tuple[str, str], str]] = {}
        self.route_facts: dict[str, RouteFacts] = {}
        self.traffic_uses: list[TrafficUse] = []
        self.subjects = Subjects(self.index, self.attachment)
        self.traffic_policies = TrafficPolicies(self.index, self.subjects)
        self.client_traffic = ClientTraffic(self.index, self.subjects)
        self.envoy_proxies = EnvoyProxies(self.index, self.attachment)
        self.gateway_configs = GatewayConfigs(self.index, self.world)
        self.backend_traffic = BackendTraffic(self.index, self.subjects, self.world)
        self.security = SecurityPolicies(self.index, self.subjects, self.world)
        self.shaping = Shaping([self.backend_traffic, self.security, self.gateway_configs])
        self.rescues = Rescues(observed.settings)
        self.doubles = Doubles()

    def generate(self, route: AIGatewayRoute) -> list[str]:
        """Plans the HTTPRoute that stands for a route; what is in its way, if something is."""
        if route.metadata.deletion_timestamp or not route.metadata.uid:
            return []
        self.generated += generate(self.index, route)
        return [
            f"{name} is not ours and is left as it is; policies for it do not hold for this route"
            for name in foreign_names(self.index, route)
        ]

    def use(self, outcomes: list[ParentOutcome], backends: Iterable[BackendKey]) -> None:
        """Remembers from which Gateways requests get to backends."""
        gateways = {place.gateway: outcome.controller for outcome in outcomes for place in outcome.via}
        for backend in backends:
            self.uses.setdefault(backend, {}).update(gateways)

    def limit(self, route: Any, outcomes: list[ParentOutcome]) -> set[str]:
        """Remembers which policies limit a route's requests; under what name it is limited, if it is."""
        rules = [rule.name or "" for rule in route.spec.rules]
        uses = traffic_uses(self.backend_traffic, route_key(route), rules, outcomes)
        self.traffic_uses += uses
        return {use.route for use in uses}

    def policy_status(self, policy: BackendTLSPolicy, status: dict[str, Any]) -> None:
        """Of a policy without ancestors only if it still speaks of one of ours."""
        before = policy.status.ancestors if policy.status else []
        stale = any(item.controller_name in self.observed.controllers for item in before)
        if status["ancestors"] or stale:
            self.status(BACKEND_TLS_POLICIES, policy, status)

    def listeners(self) -> dict[str, dict[str, Any]]:
        """Envoy's listeners by name; the secrets of their TLS go to the world."""
        serving = self.attachment.serving()
        for binding in serving:
            if binding.tls is not None:
                self.world.secrets |= binding.tls.secrets()
        found: dict[str, dict[str, Any]] = {}
        for port in self.ports:
            bindings = [item for item in serving if item.listener.port == port]
            made = listener(port, self.observed.settings, bindings)
            made = self.client_traffic.listener(made, bindings, self.world.secrets)
            found[listener_name(port)] = self.envoy_proxies.listener(made, bindings)
        return found

    def status(self, resource: Any, item: Any, status: dict[str, Any]) -> None:
        if resource.kind in self.observed.foreign:
            return
        metadata = item.metadata
        update = StatusUpdate(
            resource, metadata.namespace or "", metadata.name or "", metadata.generation or 0, status
        )
        self.statuses.append(self.memory.status(update))

    def attach(self, kind: str, route: Any, *, stands_in: bool = False) -> list[ParentOutcome]:
        """Where a route attaches to which no other one's attachment matters."""
        attachment, spec, namespace = self.attachment, route.spec, route.metadata.namespace or ""
        outcomes, counted = self.memory.remembered(
            f"attach {kind}",
            (namespace, route.metadata.name),
            (route, attachment),
            lambda: attachment.attach_apart(
                kind, namespace, spec.hostnames, spec.parent_refs, stands_in=stands_in
            ),
            stands_in,
        )
        for binding in counted:
            binding.attached_routes += 1
        return outcomes

    def place(
        self,
        route: Any,
        outcomes: list[ParentOutcome],
        entries: list[Entry],
        forms: dict[bool, list[Entry]] | None = None,
    ) -> None:
        """Puts entries into every table and host where the route attached, once each. forms: those that are known of
        the same entries, by whether they ask for a key.
        """
        places = dict.fromkeys(place for outcome in outcomes for place in outcome.via)
        asking = asking_places(route.metadata, outcomes, self.index.gateways)
        key = f"{route.metadata.namespace}/{route.metadata.name}"
        forms = {} if forms is None else forms
        for needs_key in {(each.port, each.hostname) in asking for each in places} - forms.keys():
            forms[needs_key] = marked(entries, key, needs_key)
        for place in places:
            for entry in forms[(place.port, place.hostname) in asking]:
                shaped = self.shaping.shaped(at_listener(entry, place.port), route_key(route), place)
                for part in self.rescues.split(shaped, place.table, place.hostname):
                    self.tables[place.table].add(place.hostname, part, place.hidden)


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
    making = _Making(observed, rejected or {}, envoys, memory)
    plan = _make(making)
    memory.end()
    if not rejected:
        return plan
    told = refusals_told(plan.statuses, plan.resources, rejected, observed.gateways)
    return msgspec.structs.replace(plan, statuses=told)


def _make(making: _Making) -> Plan:
    observed = making.observed
    ai_routes = () if "AIGatewayRoute" in observed.foreign else observed.ai_routes
    for route in sorted(ai_routes, key=age_key):
        try:
            _ai_route(making, route)
        except Exception as error:
            making.status(AI_GATEWAY_ROUTES, route, ai_status([_fault(error)], [], ""))
    routes = [(kind, route) for kind in _KINDS for route in getattr(observed, kind.field)]
    for kind, route in sorted(routes, key=lambda item: age_key(item[1])):
        try:
            _gateway_route(making, kind, route)
        except Exception as error:
            making.status(kind.resource, route, _faulty_parents(making, kind.resource.kind, route, error))
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
    asking = Asking(policy)
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
    return Plan(
        resources,
        making.statuses,
        making.world.backends,
        tuple(making.ports),
        policy,
        tuple(making.generated),
        tuple(unwanted(observed, making.generated) if making.generates else ()),
    )


def _policies(making: _Making, keys: KeyTable, limits: LimitPlan) -> None:
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


def _fault(error: Exception) -> str:
    """A defect of ours that one route meets; it must not take the others with it."""
    return f"this route meets a defect of the gateway and is left out: {type(error).__name__}: {error}"


def _faulty_parents(making: _Making, kind: str, route: Any, error: Exception) -> dict[str, Any]:
    outcomes = making.attachment.attach(
        kind, route.metadata.namespace or "", route.spec.hostnames, route.spec.parent_refs
    )
    accepted = condition("Accepted", False, "Pending", _fault(error))
    return {"parents": [route_entry(outcome, [accepted]) for outcome in outcomes]}


def _ai_route(making: _Making, route: AIGatewayRoute) -> None:
    metadata = route.metadata
    outcomes = making.attach("AIGatewayRoute", route)
    if not outcomes:
        return
    problems: list[str] = []
    notes: list[str] = []
    for outcome in outcomes:
        where = f"Gateway {outcome.parent.namespace or metadata.namespace}/{outcome.parent.name}"
        serves, told = _how_it_serves(making, outcome)
        if told:
            (notes if serves else problems).append(f"{where}: {told}")
    name = f"{metadata.namespace}/{metadata.name}"
    costs = making.gateway_configs.costs(route.spec.llm_request_costs, outcomes, notes)
    rules = tuple(
        CostRule(cost.metadata_key, cost.type, cost.cel or "") for cost in check_costs(costs, problems)
    )
    parted = making.traffic_policies.parted(route, outcomes)
    names = dict.fromkeys(rule.name or "" for rule in route.spec.rules)
    translated = making.memory.remembered(
        "AIGatewayRoute",
        name,
        (route,),
        lambda: _translated(making.index, route, [resilience for resilience, _ in parted]),
        tuple(tuple(map(resilience, names)) for resilience, _ in parted),
    )
    making.route_facts[name] = RouteFacts(costs=rules, targets=translated.targets)
    making.limit(route, outcomes)
    making.world.add(translated.world)
    problems += translated.problems
    notes += translated.notes
    places = (place for outcome in outcomes for place in outcome.via)
    notes += making.doubles.told(name, places, translated.wanted)
    for (_, there), part in zip(parted, translated.parts, strict=True):
        making.place(route, there, part.entries, part.forms)
    notes += what_is_wrong(metadata)
    making.use(outcomes, translated.backends)
    notes += making.generate(route)
    problems += _refusals(making, outcomes)
    making.status(AI_GATEWAY_ROUTES, route, ai_status(problems, notes, "the route serves"))


class _Part(msgspec.Struct):
    """entries: of a route where one setting of resilience holds. forms: the same by whether they ask for a key."""

    entries: list[Entry]
    forms: dict[bool, list[Entry]] = {}


class _Translated(msgspec.Struct, frozen=True):
    """What an AIGatewayRoute comes to, wherever it attaches."""

    parts: list[_Part]
    problems: list[str]
    notes: list[str]
    world: World
    backends: set[BackendKey]
    targets: tuple[TargetFacts, ...]
    wanted: tuple[Wanted, ...]


def _translated(
    index: Index, route: AIGatewayRoute, resiliences: Sequence[Callable[[str], Resilience]]
) -> _Translated:
    world, problems, notes = World(index), list[str](), list[str]()
    parts = [
        _Part(translate_ai_route(index, world, route, problems, notes, resilience))
        for resilience in resiliences
    ]
    return _Translated(
        parts,
        problems,
        notes,
        world.finish(),
        backends_of_ai_route(index, route),
        targets_of(route),
        wanted(route),
    )


def _how_it_serves(making: _Making, outcome: ParentOutcome) -> tuple[bool, str]:
    """Whether requests come in by this parent, and what keeps some or all from coming."""
    if not outcome.accepted:
        return False, outcome.message
    ports = {port for port, _ in outcome.places}
    refused = [making.refused_ports[port] for port in sorted(ports & making.refused_ports.keys())]
    if ports - making.refused_ports.keys():
        return True, f"not every listener of the route serves: {'; '.join(refused)}" if refused else ""
    why = "; ".join(refused) or "the Gateway's conditions say why"
    return False, f"no listener of the route serves: {why}"


def _refusals(making: _Making, outcomes: list[ParentOutcome]) -> list[str]:
    tables = {place.table for outcome in outcomes for place in outcome.via}
    return [
        f"Envoy refused the route table {table} and keeps the last good one: {message}"
        for table in sorted(tables)
        if (message := making.rejected.get(f"{ROUTES}/{table}"))
    ]


def _gateway_route(making: _Making, kind: _Kind, route: Any) -> None:
    """An HTTPRoute or a GRPCRoute."""
    metadata, spec = route.metadata, route.spec
    stands_in = making.generates and is_generated(route)
    if stands_in:
        outcomes = making.attach(kind.resource.kind, route, stands_in=True)
    else:
        outcomes = making.attachment.attach(
            kind.resource.kind, metadata.namespace or "", spec.hostnames, spec.parent_refs
        )
    if not outcomes:
        if has_stale_parents(route.status, making.observed.controllers):
            making.status(kind.resource, route, {"parents": []})
        return
    if kind.resource is HTTP_ROUTES and not stands_in:
        making.route_facts.setdefault(f"{metadata.namespace}/{metadata.name}", RouteFacts())
    if not stands_in:
        for limited in making.limit(route, outcomes):
            making.route_facts.setdefault(limited, RouteFacts())
    if stands_in:
        context = checked_references(making.index, World(making.index), route)
    else:
        entries, context = kind.translate(making.index, making.world, route)
        making.place(route, outcomes, entries)
        making.use(outcomes, backends_of_route(route))
    refused = _refusals(making, outcomes)
    context.note(what_is_wrong(metadata))
    parents = [
        parent_status(outcome, context, _how_it_serves(making, outcome)[1], refused) for outcome in outcomes
    ]
    making.status(kind.resource, route, {"parents": parents})


def _backends(making: _Making) -> None:
    """Statuses of what routes refer to, whether a route does or not."""
    observed, index, remembered = making.observed, making.index, making.memory.remembered
    for backend in observed.ai_backends:
        status = remembered(
            "AIServiceBackend", _key(backend), (backend,), partial(ai_backend_status, index, backend)
        )
        making.status(AI_SERVICE_BACKENDS, backend, status)
    for policy in observed.policies:
        status = remembered(
            "BackendSecurityPolicy", _key(policy), (policy,), partial(security_policy_status, index, policy)
        )
        making.status(BACKEND_SECURITY_POLICIES, policy, status)
    for backend in observed.backends:
        status = remembered(
            "Backend", _key(backend), (backend,), partial(backend_status, index, *_key(backend))
        )
        making.status(BACKENDS, backend, status)


def _key(item: Any) -> tuple[str, str]:
    return item.metadata.namespace or "", item.metadata.name or ""


def _gateways(making: _Making) -> None:
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


def _reported_addresses(making: _Making) -> list[tuple[str, str]]:
    settings = making.observed.settings
    if settings.service is not None:
        return service_addresses(making.index.services.get(settings.service))
    bind_address = settings.bind_address
    return [("IPAddress", "127.0.0.1" if bind_address == "0.0.0.0" else bind_address)]
