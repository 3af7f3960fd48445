"""A plan while it is made: which policies hold, what routes came to so far, and what was said of objects. Pure.

Routes are taken in here, as `kajitori.gateway.route_translation` makes them; `kajitori.gateway.plan` begins and finishes it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.resource import (
    BACKEND_TLS_POLICIES,
    GRPC_ROUTES,
    HTTP_ROUTES,
)
from kajitori.gateway.accounting.accountant_policy import RouteFacts
from kajitori.gateway.conditions import StatusUpdate, ai_status, condition
from kajitori.gateway.limits.limit_plan import TrafficUse
from kajitori.gateway.limits.traffic_uses import traffic_uses
from kajitori.gateway.observed import Index, Observed, age_key
from kajitori.gateway.plan_memory import PlanMemory, chunks
from kajitori.gateway.policies.ai_traffic import TrafficPolicies
from kajitori.gateway.policies.backend_traffic import BackendTraffic
from kajitori.gateway.policies.client_traffic import ClientTraffic
from kajitori.gateway.policies.envoy_proxies import EnvoyProxies
from kajitori.gateway.policies.gateway_configs import GatewayConfigs
from kajitori.gateway.policies.security.policies import SecurityPolicies
from kajitori.gateway.policies.security.shut_routes import ShutRoutes
from kajitori.gateway.policies.shaping import Shaping
from kajitori.gateway.policies.subjects import Subjects, route_key
from kajitori.gateway.policies.unchecked_clients import UncheckedClients
from kajitori.gateway.resources import (
    LISTENER,
    ROUTES,
)
from kajitori.gateway.route_translation import (
    Contribution,
    Judged,
    Placed,
    Surroundings,
    contribution_of_ai_routes,
    contribution_of_stand_ins,
    fault_of_ours,
    key_of,
)
from kajitori.gateway.routes.attachment import Attachment, ParentOutcome
from kajitori.gateway.routes.backends_of_routes import backends_of_route
from kajitori.gateway.routes.duplicate_matches import DuplicateMatches
from kajitori.gateway.routes.generated import (
    Generated,
    is_generated,
)
from kajitori.gateway.routes.grpc_routes import translate_grpc_route
from kajitori.gateway.routes.http_routes import translate_http_route
from kajitori.gateway.routes.key_requirement import what_is_wrong
from kajitori.gateway.routes.listeners import listener, listener_name, why_refused
from kajitori.gateway.routes.rescue import Rescues
from kajitori.gateway.routes.route_status import entry as route_entry
from kajitori.gateway.routes.route_status import has_stale_parents, parent_status
from kajitori.gateway.routes.route_tables import make_tables
from kajitori.gateway.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kajitori.api.gateway.backend_tls_policy import BackendTLSPolicy
    from kajitori.api.resource import Resource
    from kajitori.gateway.backends.tls_policies import BackendKey
    from kajitori.gateway.routes.rule_context import RuleContext
    from kajitori.gateway.routes.tables import Entry


class _Kind(msgspec.Struct, frozen=True):
    """A kind of route of the Gateway API. field: of `Observed`."""

    resource: Resource
    field: str
    translate: Callable[[Index, World, Any], tuple[list[Entry], RuleContext]]


_KINDS = (
    _Kind(HTTP_ROUTES, "http_routes", translate_http_route),
    _Kind(GRPC_ROUTES, "grpc_routes", translate_grpc_route),
)


class PlanDraft:
    """Of one plan."""

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
        self.generated: list[Generated] = []
        self.uses: dict[BackendKey, dict[tuple[str, str], str]] = {}
        self.route_facts: dict[str, RouteFacts] = {}
        self.traffic_uses: list[TrafficUse] = []
        self._take_policies()
        self.around = Surroundings(
            self.index,
            memory,
            self.attachment,
            self.traffic_policies,
            self.gateway_configs,
            self.refused_ports,
            {name: message for name, message in rejected.items() if name.startswith(f"{ROUTES}/")},
            "AIGatewayRoute" not in observed.foreign,
        )
        self.duplicate_matches = DuplicateMatches()
        self.shut_routes = ShutRoutes()

    def _take_policies(self) -> None:
        """Which attach where, and shape routes. What many routes ask is remembered."""
        index, remembered, attached = self.index, self.memory.remembered, (self.attachment,)
        self.subjects = Subjects(index, self.attachment)
        self.client_traffic = ClientTraffic(index, self.subjects)
        self.envoy_proxies = EnvoyProxies(index, self.attachment)
        self.security = SecurityPolicies(index, self.subjects, self.world)
        self.traffic_policies = remembered(
            "AITrafficPolicies",
            "",
            attached,
            lambda: TrafficPolicies(index, Subjects(index, self.attachment)).finish(),
        )
        self.gateway_configs = remembered("GatewayConfigs", "", attached, lambda: GatewayConfigs(index))
        self.gateway_configs.begin(self.world)
        self.backend_traffic = remembered(
            "BackendTrafficPolicies",
            "",
            attached,
            lambda: BackendTraffic(index, Subjects(index, self.attachment)).finish_reading(),
        )
        self.backend_traffic.begin(self.world)
        unchecked = UncheckedClients(self.client_traffic.unchecked(self.attachment.serving()))
        shapers = [self.backend_traffic, self.security, self.gateway_configs, unchecked]
        self.shaping = Shaping(shapers, self.memory.memo("shaped entries"))
        self.rescues = Rescues(self.observed.settings)

    def take(self, found: Contribution) -> list[TrafficUse]:
        """Adds what some routes come to. Returns which policies limit their requests."""
        for binding in found.counted:
            binding.attached_routes += 1
        self.world.add(found.world)
        self.route_facts |= found.facts
        self.generated += found.generated
        self.statuses += found.statuses
        if self.observed.tls_policies:
            for backend, gateways in found.uses.items():
                self.uses.setdefault(backend, {}).update(gateways)
        for placed in found.placed:
            self._place(placed)
        for judged in found.judged:
            self.statuses.append(self._judged(judged))
        return self._limit(found)

    def _judged(self, judged: Judged) -> StatusUpdate:
        told = self.duplicate_matches.told(judged.name, judged.places, judged.wanted)
        shut = self.shut_routes.told(route_key(judged.route))
        if not told and not shut:
            return judged.status
        notes = judged.before + told + judged.after
        status = ai_status(judged.problems + shut, notes, "the route serves")
        return self.memory.status(msgspec.structs.replace(judged.status, status=status))

    def _limit(self, found: Contribution) -> list[TrafficUse]:
        traffic = self.backend_traffic
        if not traffic:
            return []
        uses, effects = self.memory.memo("limited routes").of(
            found,
            traffic,
            None,
            lambda: traffic.noted(
                lambda: [use for limited in found.limited for use in traffic_uses(traffic, *limited)]
            ),
        )
        traffic.note(effects)
        self.traffic_uses += uses
        return uses

    def _place(self, placed: Placed) -> None:
        place = placed.place
        table = self.tables[place.table]
        for entry in placed.entries:
            shaped = self.shaping.shaped(entry, placed.route, place)
            if self.security and shaped.ai:
                self.shut_routes.note(placed.route, shaped)
            for part in self.rescues.split(shaped, place.table, place.hostname):
                table.add(place.hostname, part, place.hidden)

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


def take_ai_routes(draft: PlanDraft) -> None:
    if draft.around.generates:
        _in_chunks(draft, "AIGatewayRoutes", draft.observed.ai_routes, contribution_of_ai_routes)


def _in_chunks(
    draft: PlanDraft,
    kind: str,
    routes: Sequence[Any],
    contribution: Callable[[Surroundings, tuple[Any, ...]], Contribution],
) -> None:
    around = draft.around
    for chunk in chunks(sorted(routes, key=age_key)):
        draft.take(
            draft.memory.remembered(
                kind,
                key_of(chunk[0]),
                (*chunk, *around.objects),
                partial(contribution, around, chunk),
                around.values,
            )
        )


def take_gateway_routes(draft: PlanDraft) -> None:
    """HTTPRoutes and GRPCRoutes. Those that stand for AIGatewayRoutes carry no traffic."""
    observed = draft.observed
    stand_ins = [item for item in observed.http_routes if draft.around.generates and is_generated(item)]
    if HTTP_ROUTES.kind not in observed.foreign:
        _in_chunks(draft, "stand-ins", stand_ins, contribution_of_stand_ins)
    standing_in = set(map(id, stand_ins))
    routes = [
        (kind, route)
        for kind in _KINDS
        for route in getattr(observed, kind.field)
        if id(route) not in standing_in
    ]
    for kind, route in sorted(routes, key=lambda item: age_key(item[1])):
        try:
            _gateway_route(draft, kind, route)
        except Exception as error:
            draft.status(kind.resource, route, _faulty_parents(draft, kind.resource.kind, route, error))


def _faulty_parents(draft: PlanDraft, kind: str, route: Any, error: Exception) -> dict[str, Any]:
    # It has been counted already.
    outcomes = draft.attachment.attach(
        kind, route.metadata.namespace or "", route.spec.hostnames, route.spec.parent_refs, stands_in=True
    )
    accepted = condition("Accepted", False, "Pending", fault_of_ours(error))
    return {"parents": [route_entry(outcome, [accepted]) for outcome in outcomes]}


def _gateway_route(draft: PlanDraft, kind: _Kind, route: Any) -> None:
    """An HTTPRoute or a GRPCRoute, which attach one after the other: of two kinds one has a host."""
    metadata, spec, around = route.metadata, route.spec, draft.around
    outcomes = draft.attachment.attach(
        kind.resource.kind, metadata.namespace or "", spec.hostnames, spec.parent_refs
    )
    if not outcomes:
        if has_stale_parents(route.status, draft.observed.controllers):
            draft.status(kind.resource, route, {"parents": []})
        return
    if kind.resource is HTTP_ROUTES:
        draft.route_facts.setdefault(f"{metadata.namespace}/{metadata.name}", RouteFacts())
    found, context = draft.memory.remembered(
        kind.resource.kind,
        key_of(route),
        (route, draft.attachment),
        partial(_contribution, draft, kind, route, outcomes),
        outcomes,
    )
    for use in draft.take(found):
        draft.route_facts.setdefault(use.route, RouteFacts())
    refused = around.refusals(outcomes)
    parents = [
        parent_status(outcome, context, around.how_it_serves(outcome)[1], refused) for outcome in outcomes
    ]
    draft.status(kind.resource, route, {"parents": parents})


def _contribution(
    draft: PlanDraft, kind: _Kind, route: Any, outcomes: list[ParentOutcome]
) -> tuple[Contribution, RuleContext]:
    found = Contribution(World(draft.index))
    entries, context = kind.translate(draft.index, found.world, route)
    context.note(what_is_wrong(route.metadata))
    found.limit(route, outcomes)
    found.place(draft.index, route, outcomes, entries)
    found.use(outcomes, backends_of_route(route))
    found.world.finish()
    return found, context.finish()
