"""BackendTrafficPolicies: which one holds for a request, and what it makes of its route and clusters.

A policy of a route with `mergeType` is merged with that of the listener or Gateway by which a request comes in. A
policy that cannot be served answers its requests with 500 and says why, as Envoy Gateway does: to serve them as if
the policy were not there might be worse. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kajitori.api.envoygateway.backend_traffic_policy import BackendTrafficPolicySpec
from kajitori.api.envoygateway.policy import Policy
from kajitori.api.unhonoured import unhonoured_sentences
from kajitori.gateway.policies.attachment import PolicyAttachment
from kajitori.gateway.policies.bounds import traffic_problems
from kajitori.gateway.policies.cluster_copies import ClusterCopies, hash_of
from kajitori.gateway.policies.cluster_settings import cluster_parts, with_settings
from kajitori.gateway.policies.merging import merge
from kajitori.gateway.policies.retries import retry_problems
from kajitori.gateway.policies.route_settings import filter_configs, with_route_settings
from kajitori.gateway.policies.statuses import policy_status
from kajitori.gateway.routes.answers import error_of, literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kajitori.api.envoygateway.rate_limit import RateLimitSpec
    from kajitori.gateway.observed import Index
    from kajitori.gateway.policies.subjects import RouteKey, Subjects
    from kajitori.gateway.routes.attachment import Place
    from kajitori.gateway.routes.tables import Entry
    from kajitori.gateway.world import World

T = TypeVar("T")
KIND = "BackendTrafficPolicy"
BODY_KEY = "response.body"
_KEYED_LISTS = {"compression": "type", "compressor": "type", "httpUpgrade": "type"}
# Fields of the struct that its rules need, and that change nothing here.
_INERT = (
    ("loadBalancer", "dynamicModule"),
    ("loadBalancer", "zoneAware"),
)


class TrafficEffect(msgspec.Struct, frozen=True):
    """What holds: a policy, perhaps merged with its parent.

    policies: the policy, and the parent if merged. problems: why it cannot be served. mark: of its clusters, empty
    if they stay as they are. notes: what did not fit the clusters that it met.
    """

    policies: tuple[Policy, ...]
    spec: BackendTrafficPolicySpec
    configs: dict[str, dict[str, Any]]
    problems: tuple[str, ...]
    mark: str
    notes: list[str] = msgspec.field(default_factory=list)


class BackendTraffic:
    """The policies of a plan; a `Shaper`."""

    def __init__(self, index: Index, subjects: Subjects) -> None:
        policies = index.observed.backend_traffic_policies
        self.attachment = PolicyAttachment(KIND, policies, index, subjects)
        answers = any(policy.spec.get("responseOverride") for policy in policies)
        # All at once, since bodies are only looked for when an effect is made.
        self._config_maps = dict(index.config_maps.items()) if answers else {}
        self._effects: dict[tuple[tuple[str, str], ...], TrafficEffect] = {}
        # Of this plan, by identity.
        self._used: dict[int, TrafficEffect] = {}
        self._at_places: dict[Place, TrafficEffect | None] = {}

    def finish_reading(self) -> BackendTraffic:
        """Looks at nothing more."""
        self.attachment.finish()
        return self

    def __bool__(self) -> bool:
        return bool(self.attachment)

    def begin(self, world: World) -> None:
        """For a plan; the policies and what they attach to are as they were."""
        self._copies = ClusterCopies(world)
        self._used, self._at_places = {}, {}
        for effect in self._effects.values():
            effect.notes.clear()

    def effect(self, route: RouteKey, rule: str, place: Place) -> TrafficEffect | None:
        """What holds for requests to a rule of a route that come in by a listener."""
        if self.attachment.is_for(route):
            found = self._effect(route, rule, place)
        elif place in self._at_places:
            found = self._at_places[place]
        else:
            found = self._at_places[place] = self._effect(route, rule, place)
        if found is not None:
            self._used[id(found)] = found
        return found

    def _effect(self, route: RouteKey, rule: str, place: Place) -> TrafficEffect | None:
        chain = self.attachment.chain(route, rule, place)
        if not chain:
            return None
        policy = chain[0]
        parent = self.attachment.parent(place) if policy.spec.get("mergeType") else None
        policies: tuple[Policy, ...] = (policy,)
        if parent is not None and parent is not policy:
            policies = (policy, parent)
        key = tuple(item.key for item in policies)
        found = self._effects.get(key)
        if found is None:
            found = self._effects[key] = self._make(policies)
        return found

    def noted(self, make: Callable[[], T]) -> tuple[T, list[TrafficEffect]]:
        """What is made, and the effects that were looked at meanwhile: see `note`."""
        outer, self._used = self._used, {}
        try:
            return make(), list(self._used.values())
        finally:
            self._used = outer | self._used

    def note(self, effects: Iterable[TrafficEffect]) -> None:
        """That these hold somewhere."""
        self._used |= {id(effect): effect for effect in effects}

    def rate_limits(self, route: RouteKey, rule: str, place: Place) -> list[tuple[Policy, RateLimitSpec]]:
        """The limits that hold, each with the policy that it was written in.

        Of a policy that was merged strategically with its parent, global limits of both hold, since each rule has a
        name of its own; a JSON merge replaces the parent's list.
        """
        effect = self.effect(route, rule, place)
        if effect is None or effect.problems:
            return []
        found: list[tuple[Policy, RateLimitSpec]] = []
        for policy in effect.policies:
            own = self._alone(policy).spec.rate_limit
            if own is not None:
                found.append((policy, own))
            if own is not None and own.global_ is not None and policy.spec.get("mergeType") == "JSONMerge":
                break
        return found

    def shape(self, entry: Entry, effect: TrafficEffect) -> Entry:
        """A copy of an entry as the policy has it."""
        if effect.problems:
            who = "/".join(effect.policies[0].key)
            message = f"{KIND} {who} cannot be served: {'; '.join(effect.problems)}"
            refusal = {key: value for key, value in entry.route.items() if key not in ("route", "redirect")}
            refusal["direct_response"] = error_of(entry.route, 500, literal(message))
            return msgspec.structs.replace(entry, route=refusal)
        route = with_route_settings(entry.route, effect.spec, effect.configs, ai=entry.ai, tiers=entry.tiers)
        if effect.mark:
            spec = effect.spec
            route = self._copies.redirect(
                route,
                effect.mark,
                lambda cluster: with_settings(cluster, spec, spec.use_client_protocol, effect.notes),
            )
        return msgspec.structs.replace(entry, route=route)

    def keeps_clusters(self, effect: TrafficEffect) -> bool:
        """Whether the clusters of a route stay as they are."""
        return not effect.mark and not effect.problems

    def keep(self, entry: Entry) -> None:
        """Tells that an entry serves without any policy somewhere."""
        if self.attachment:
            self._copies.keep(entry.route)

    def finish(self) -> None:
        """When all routes are placed: drops clusters to which none leads any more."""
        self._copies.drop_originals()

    def statuses(
        self, more: Mapping[tuple[str, str], Sequence[str]] | None = None
    ) -> list[tuple[Policy, dict[str, Any]]]:
        """Of every policy that concerns a Gateway of ours. more: what others do not honour, by policy."""
        found: list[tuple[Policy, dict[str, Any]]] = []
        for policy in self.attachment.policies:
            alone = self._alone(policy)
            problems, notes = list(alone.problems), [*_notes(policy), *(more or {}).get(policy.key, ())]
            for effect in self._used.values():
                if effect.policies[0] is policy:
                    problems += [text for text in effect.problems if text not in problems]
                    notes += sorted(set(effect.notes))
            status = policy_status(self.attachment, policy, problems, notes)
            if status is not None:
                found.append((policy, status))
        return found

    def _alone(self, policy: Policy) -> TrafficEffect:
        found = self._effects.get((policy.key,))
        if found is None:
            only: tuple[Policy, ...] = (policy,)
            found = self._effects[policy.key,] = self._make(only)
        return found

    def _make(self, policies: tuple[Policy, ...]) -> TrafficEffect:
        raw = policies[0].spec
        if len(policies) > 1:
            raw = _merged(policies[1].spec, raw)
        try:
            spec = msgspec.convert(raw, BackendTrafficPolicySpec)
        except msgspec.ValidationError as error:
            return TrafficEffect(policies, BackendTrafficPolicySpec(), {}, (f"spec: {error}",), "")
        problems = traffic_problems(spec)
        if problems:
            return TrafficEffect(policies, spec, {}, tuple(problems), "")
        # A reference is to the namespace of the policy that wrote it.
        writers = [item for item in policies if item.spec.get("responseOverride")]
        owner = (writers or list(policies))[0]
        configs = filter_configs(spec, lambda name: self._body(owner.key[0], name), problems)
        if spec.retry:
            problems += retry_problems(spec.retry)
        hashed = spec.load_balancer.consistent_hash if spec.load_balancer else None
        if hashed and not _is_prime(hashed.table_size):
            problems.append(f"spec.loadBalancer.consistentHash.tableSize: {hashed.table_size} is not prime")
        parts = cluster_parts(spec, spec.use_client_protocol)
        mark = hash_of(msgspec.to_builtins(parts))[:8] if parts else ""
        return TrafficEffect(policies, spec, configs, tuple(problems), mark)

    def _body(self, namespace: str, name: str) -> str | None:
        config_map = self._config_maps.get((namespace, name))
        if config_map is None or not config_map.data:
            return None
        if BODY_KEY in config_map.data:
            return config_map.data[BODY_KEY]
        return next(iter(config_map.data.values())) if len(config_map.data) == 1 else None


def _merged(parent: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Both specs in one. Rules of local limits are named by their policies, so a strategic merge keeps those of both;
    what they do not choose has the limit of the route's policy alone.
    """
    merge_type = own["mergeType"]
    made = merge(parent, own, merge_type, _KEYED_LISTS)
    theirs, ours = _local_rules(parent), _local_rules(own)
    if merge_type == "StrategicMerge" and theirs and ours:
        choosing = [rule for rule in theirs if rule.get("clientSelectors")]
        limit = made["rateLimit"]
        made["rateLimit"] = {**limit, "local": {**limit["local"], "rules": [*choosing, *ours]}}
    return made


def _local_rules(spec: dict[str, Any]) -> list[dict[str, Any]]:
    found: Any = spec
    for name in ("rateLimit", "local", "rules"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, list) else []


def _notes(policy: Policy) -> list[str]:
    """What the status names: fields that change nothing, and old spellings."""
    found = list(unhonoured_sentences(policy.spec, BackendTrafficPolicySpec).values())
    for member, name in _INERT:
        part: Any = policy.spec.get(member)
        if isinstance(part, dict) and name in part:
            found.append(f"spec.{member}.{name} is not honoured")
    if policy.spec.get("routingType") == "Service":
        found.append("spec.routingType: Service is not honoured; requests go to the endpoints of Services")
    for old, new in (("targetRef", "targetRefs"), ("compression", "compressor")):
        if policy.spec.get(old):
            found.append(f"spec.{old} is deprecated; write spec.{new}")
    return found


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, int(number**0.5) + 1))


def answers_in_config_maps(index: Index) -> set[tuple[str, str]]:
    """Namespace and name of each ConfigMap that holds the body of an answer."""
    found: set[tuple[str, str]] = set()
    for policy in index.observed.backend_traffic_policies:
        try:
            spec = msgspec.convert(policy.spec, BackendTrafficPolicySpec)
        except msgspec.ValidationError:
            continue
        for override in spec.response_override:
            body = override.response.body if override.response else None
            if body and body.value_ref:
                found.add((policy.key[0], body.value_ref.name))
    return found
