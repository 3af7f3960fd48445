"""What routes become in Envoy and what their statuses say: the routes' part of a plan. Pure.

Routes go through in chunks, from the oldest to the youngest. What a chunk comes to is one part of the plan's memory: its routes of Envoy with the
places where they serve, its clusters, and what its statuses say. Nothing in it depends on other routes; what does is found out
for all of them each time, where the chunks are put together (`kajitori.gateway.plan_draft`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.api.resource import AI_GATEWAY_ROUTES, HTTP_ROUTES, Resource
from kajitori.gateway.accounting.accountant_policy import CostRule, RouteFacts, TargetFacts
from kajitori.gateway.accounting.costs import check_costs
from kajitori.gateway.conditions import StatusUpdate, ai_status
from kajitori.gateway.envoy.words import shown
from kajitori.gateway.limits.limit_plan import targets_of
from kajitori.gateway.plan_memory import chunks
from kajitori.gateway.policies.subjects import RouteKey, route_key
from kajitori.gateway.resources import ROUTES
from kajitori.gateway.routes.ai_routes import translate_ai_route
from kajitori.gateway.routes.attachment import Binding, ParentOutcome, Place
from kajitori.gateway.routes.backends_of_routes import backends_of_ai_route
from kajitori.gateway.routes.duplicate_matches import Wanted, wanted
from kajitori.gateway.routes.generated import Generated, foreign_names, generate
from kajitori.gateway.routes.key_requirement import asking_places, marked, what_is_wrong
from kajitori.gateway.routes.route_filters import at_listener
from kajitori.gateway.routes.route_status import has_stale_parents, parent_status
from kajitori.gateway.routes.rule_context import checked_references
from kajitori.gateway.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kajitori.api.aigateway.v1beta1 import AIGatewayRoute
    from kajitori.gateway.backends.tls_policies import BackendKey
    from kajitori.gateway.observed import Index
    from kajitori.gateway.plan_memory import PlanMemory
    from kajitori.gateway.policies.ai_traffic import TrafficPolicies
    from kajitori.gateway.policies.gateway_configs import GatewayConfigs
    from kajitori.gateway.resilience.settings import Resilience
    from kajitori.gateway.routes.attachment import Attachment
    from kajitori.gateway.routes.tables import Entry

_log = logging.getLogger(__name__)


class Surroundings(msgspec.Struct, frozen=True):
    """What routes look at besides their backends.

    refused_ports: why listeners do not serve. refused_tables: which Envoy does not take, and why. generates: whether
    AIGatewayRoutes get an HTTPRoute that stands for them.
    """

    index: Index
    memory: PlanMemory
    attachment: Attachment
    traffic_policies: TrafficPolicies
    gateway_configs: GatewayConfigs
    refused_ports: Mapping[int, str]
    refused_tables: Mapping[str, str]
    generates: bool

    @property
    def objects(self) -> tuple[Any, ...]:
        """By identity, for the memory."""
        return self.attachment, self.traffic_policies, self.gateway_configs

    @property
    def values(self) -> Any:
        """By equality, for the memory."""
        return self.refused_ports, self.refused_tables, self.generates

    def attach(
        self, kind: str, route: Any, *, stands_in: bool = False
    ) -> tuple[list[ParentOutcome], list[Binding]]:
        """Where a route attaches to which no other one's attachment matters, and the listeners that count it."""
        attachment, spec, namespace = self.attachment, route.spec, route.metadata.namespace or ""
        return self.memory.remembered(
            f"attach {kind}",
            (namespace, route.metadata.name),
            (route, attachment),
            lambda: attachment.attach_apart(
                kind, namespace, spec.hostnames, spec.parent_refs, stands_in=stands_in
            ),
            stands_in,
        )

    def status(self, resource: Resource, item: Any, status: dict[str, Any]) -> StatusUpdate:
        """The same object as before if it says the same."""
        metadata = item.metadata
        name, generation = (metadata.namespace or "", metadata.name or ""), metadata.generation or 0
        return self.memory.remembered(
            f"status of {resource.kind}",
            name,
            (),
            lambda: StatusUpdate(resource, *name, generation, status),
            (generation, status),
        )

    def how_it_serves(self, outcome: ParentOutcome) -> tuple[bool, str]:
        """Whether requests come in by this parent, and what keeps some or all from coming."""
        if not outcome.accepted:
            return False, outcome.message
        ports = {port for port, _ in outcome.places}
        refused = [self.refused_ports[port] for port in sorted(ports & self.refused_ports.keys())]
        if ports - self.refused_ports.keys():
            told = f"not every listener of the route serves: {'; '.join(refused)}" if refused else ""
            return True, told
        why = "; ".join(refused) or "the Gateway's conditions say why"
        return False, f"no listener of the route serves: {why}"

    def refusals(self, outcomes: Iterable[ParentOutcome]) -> list[str]:
        """What Envoy did not take of where a route serves."""
        if not self.refused_tables:
            return []
        tables = {place.table for outcome in outcomes for place in outcome.via}
        return [
            f"Envoy refused the route table {table} and keeps the last good one: {message}"
            for table in sorted(tables)
            if (message := self.refused_tables.get(f"{ROUTES}/{table}"))
        ]


class Placed(NamedTuple):
    """Entries of a route, and where they serve."""

    route: RouteKey
    place: Place
    entries: tuple[Entry, ...]


class Judged(NamedTuple):
    """An AIGatewayRoute. before, after: its notes, between which stands what older routes take."""

    route: AIGatewayRoute
    name: str
    places: tuple[Place, ...]
    wanted: tuple[Wanted, ...]
    problems: list[str]
    before: list[str]
    after: list[str]
    status: StatusUpdate


class Limited(NamedTuple):
    """A route whose requests may be limited. rules: their names."""

    route: RouteKey
    rules: tuple[str, ...]
    outcomes: list[ParentOutcome]


class Contribution(msgspec.Struct):
    """What routes come to together.

    counted: listeners, once for each route that they carry. uses: of backends, the Gateways from which requests get there.
    """

    world: World
    judged: list[Judged] = []
    statuses: list[StatusUpdate] = []
    facts: dict[str, RouteFacts] = {}
    counted: list[Binding] = []
    placed: list[Placed] = []
    limited: list[Limited] = []
    uses: dict[BackendKey, dict[tuple[str, str], str]] = {}
    generated: list[Generated] = []

    def use(self, outcomes: Iterable[ParentOutcome], backends: Iterable[BackendKey]) -> None:
        """Remembers from which Gateways requests get to backends."""
        gateways = {place.gateway: outcome.controller for outcome in outcomes for place in outcome.via}
        for backend in backends:
            self.uses.setdefault(backend, {}).update(gateways)

    def limit(self, route: Any, outcomes: list[ParentOutcome]) -> None:
        rules = tuple(rule.name or "" for rule in route.spec.rules)
        self.limited.append(Limited(route_key(route), rules, outcomes))

    def place(
        self,
        index: Index,
        route: Any,
        outcomes: Sequence[ParentOutcome],
        entries: list[Entry],
        forms: dict[bool, list[Entry]] | None = None,
    ) -> None:
        """Puts entries wherever the route attached, once each. forms: those that are known of the same entries, by
        whether they ask for a key.
        """
        places = dict.fromkeys(place for outcome in outcomes for place in outcome.via)
        asking = asking_places(route.metadata, outcomes, index.gateways)
        key = route_key(route)
        forms = {} if forms is None else forms
        for needs_key in {(each.port, each.hostname) in asking for each in places} - forms.keys():
            forms[needs_key] = marked(entries, f"{key.namespace}/{key.name}", needs_key)
        for place in places:
            found = forms[(place.port, place.hostname) in asking]
            self.placed.append(Placed(key, place, tuple(at_listener(entry, place.port) for entry in found)))


def contribution_of_ai_routes(around: Surroundings, routes: tuple[AIGatewayRoute, ...]) -> Contribution:
    """What AIGatewayRoutes come to."""
    made = Contribution(World(around.index))
    for route in routes:
        try:
            _ai_route(around, made, route)
        except Exception as error:
            made.statuses.append(
                around.status(AI_GATEWAY_ROUTES, route, ai_status([fault_of_ours(error)], [], ""))
            )
    made.world.finish()
    return made


def contribution_of_stand_ins(around: Surroundings, routes: tuple[Any, ...]) -> Contribution:
    """What HTTPRoutes come to that stand for AIGatewayRoutes: they carry no traffic and have a status."""
    made = Contribution(World(around.index))
    for route in routes:
        outcomes, counted = around.attach(HTTP_ROUTES.kind, route, stands_in=True)
        made.counted += counted
        if not outcomes:
            if has_stale_parents(route.status, around.index.observed.controllers):
                made.statuses.append(around.status(HTTP_ROUTES, route, {"parents": []}))
            continue
        context = checked_references(around.index, made.world, route)
        context.note(what_is_wrong(route.metadata))
        refused = around.refusals(outcomes)
        parents = [
            parent_status(outcome, context, around.how_it_serves(outcome)[1], refused) for outcome in outcomes
        ]
        made.statuses.append(around.status(HTTP_ROUTES, route, {"parents": parents}))
    made.world.finish()
    return made


def statuses_of(
    around: Surroundings,
    resource: Resource,
    items: tuple[Any, ...],
    judge: Callable[[Index, Any], dict[str, Any]],
) -> list[StatusUpdate]:
    """Of objects that say by themselves how they stand."""

    def status(item: Any) -> StatusUpdate:
        said = around.memory.remembered("said", key_of(item), (item,), lambda: judge(around.index, item))
        return around.status(resource, item, said)

    def of_chunk(chunk: tuple[Any, ...]) -> list[StatusUpdate]:
        return around.memory.remembered("chunk", key_of(chunk[0]), chunk, lambda: list(map(status, chunk)))

    return around.memory.remembered(
        resource.kind, "", (items,), lambda: [each for chunk in chunks(items) for each in of_chunk(chunk)]
    )


def key_of(item: Any) -> tuple[str, str]:
    """Namespace and name."""
    return item.metadata.namespace or "", item.metadata.name or ""


def fault_of_ours(error: Exception) -> str:
    """A defect of ours that one route meets; it must not take the others with it. Where it is goes to the log."""
    _log.error("a route meets a defect of the gateway", exc_info=error)
    return f"this route meets a defect of the gateway and is left out: {shown(f'{type(error).__name__}: {error}')}"


def _ai_route(around: Surroundings, made: Contribution, route: AIGatewayRoute) -> None:
    metadata = route.metadata
    outcomes, counted = around.attach("AIGatewayRoute", route)
    made.counted += counted
    if not outcomes:
        return
    problems: list[str] = []
    notes: list[str] = []
    for outcome in outcomes:
        where = f"Gateway {outcome.parent.namespace or metadata.namespace}/{outcome.parent.name}"
        serves, told = around.how_it_serves(outcome)
        if told:
            (notes if serves else problems).append(f"{where}: {told}")
    name = f"{metadata.namespace}/{metadata.name}"
    costs = around.gateway_configs.costs(route.spec.llm_request_costs, outcomes, notes)
    rules = tuple(
        CostRule(cost.metadata_key, cost.type, cost.cel or "") for cost in check_costs(costs, problems)
    )
    parted = around.traffic_policies.parted(route, outcomes)
    translated = _translated(around, route, [resilience for resilience, _ in parted])
    made.facts[name] = RouteFacts(costs=rules, targets=translated.targets)
    made.limit(route, outcomes)
    made.world.add(translated.world)
    problems += translated.problems
    notes += translated.notes
    for (_, there), part in zip(parted, translated.parts, strict=True):
        made.place(around.index, route, there, part.entries, part.forms)
    made.use(outcomes, translated.backends)
    after = what_is_wrong(metadata) + _generated(around, made, route)
    problems += around.refusals(outcomes)
    status = around.status(AI_GATEWAY_ROUTES, route, ai_status(problems, notes + after, "the route serves"))
    places = tuple(place for outcome in outcomes for place in outcome.via)
    made.judged.append(Judged(route, name, places, translated.wanted, problems, notes, after, status))


def _generated(around: Surroundings, made: Contribution, route: AIGatewayRoute) -> list[str]:
    """Plans the HTTPRoute that stands for a route; what is in its way, if something is."""
    if route.metadata.deletion_timestamp or not route.metadata.uid:
        return []
    made.generated += generate(around.index, route)
    return [
        f"{name} is not ours and is left as it is; policies for it do not hold for this route"
        for name in foreign_names(around.index, route)
    ]


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
    around: Surroundings, route: AIGatewayRoute, resiliences: Sequence[Callable[[str], Resilience]]
) -> _Translated:
    index = around.index

    def make() -> _Translated:
        world, problems, notes = World(index), list[str](), list[str]()
        parts = [
            _Part(translate_ai_route(index, world, route, problems, notes, resilience))
            for resilience in resiliences
        ]
        backends = backends_of_ai_route(index, route)
        return _Translated(parts, problems, notes, world.finish(), backends, targets_of(route), wanted(route))

    names = dict.fromkeys(rule.name or "" for rule in route.spec.rules)
    holding = tuple(tuple(map(resilience, names)) for resilience in resiliences)
    key = (route.metadata.namespace, route.metadata.name)
    return around.memory.remembered("AIGatewayRoute", key, (route,), make, holding)
