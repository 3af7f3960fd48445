"""All SecurityPolicies of a cluster: which one holds where, what it comes to, and what its status says. Pure.

A policy that cannot be honoured lets nobody in. So does one with a field that is not honoured and might have kept
somebody out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.envoygateway.security_policy import SecurityPolicySpec
from kajitori.api.unhonoured import unhonoured_sentences
from kajitori.gateway.policies.attachment import PolicyAttachment
from kajitori.gateway.policies.merging import merge
from kajitori.gateway.policies.security.authorization import make_authorization
from kajitori.gateway.policies.security.bounds import problems_of
from kajitori.gateway.policies.security.logging_in import make_login_at_provider
from kajitori.gateway.policies.security.logins import make_login
from kajitori.gateway.policies.security.making import KIND, Making
from kajitori.gateway.policies.security.origins import make_cors, make_csrf
from kajitori.gateway.policies.security.questions import described_route, make_question
from kajitori.gateway.policies.security.tokens import make_tokens, token_filter
from kajitori.gateway.policies.statuses import policy_status
from kajitori.gateway.resources import EXTENSION
from kajitori.gateway.routes.protected_routes import protected_plain
from kajitori.gateway.routes.protection import Protection
from kajitori.gateway.routes.security_filters import ASK, ASK_TELLING, JWT, RULES, early, late

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kajitori.api.envoygateway.policy import Policy
    from kajitori.gateway.observed import Index
    from kajitori.gateway.policies.subjects import RouteKey, Subjects
    from kajitori.gateway.routes.attachment import Place
    from kajitori.gateway.routes.tables import Entry
    from kajitori.gateway.world import World

# Members by which strategic merges join the items of lists.
_KEYED_LISTS = {"providers": "name", "contextExtensions": "name"}
# Fields that say how to speak to a service; without them it is asked all the same.
_HARMLESS = (".backendSettings.", ".fallback")


class SecurityPolicies:
    """Falsy where no policy holds anywhere."""

    def __init__(self, index: Index, subjects: Subjects, world: World) -> None:
        self._index = index
        self._world = world
        policies = index.observed.security_policies
        self.attachment = PolicyAttachment(KIND, policies, index, subjects) if policies else None
        self._made: dict[tuple[str, ...], Making] = {}
        self._protections: dict[tuple[str, ...], Protection] = {}
        self._told: dict[tuple[str, ...], Protection] = {}

    def __bool__(self) -> bool:
        return bool(self.attachment)

    def effect(self, route: RouteKey, rule: str, place: Place) -> Protection | None:
        """What holds for requests to a rule of a route that come in by a listener."""
        if self.attachment is None:
            return None
        chain = self.attachment.chain(route, rule, place)
        if not chain:
            return None
        policy = chain[0]
        parent = self.attachment.parent(place) if policy.spec.get("mergeType") else None
        parent = parent if parent is not policy else None
        protection = self._protection(policy, parent)
        if not self._made[_key(policy, parent)].tells_route:
            return protection
        # Each rule has its own then, so that those by model each ask for themselves.
        told = (*_key(policy, parent), *route, rule)
        if told not in self._told:
            described = described_route(self._index, route, rule)
            self._told[told] = msgspec.structs.replace(protection, told=described)
        return self._told[told]

    def shape(self, entry: Entry, effect: Protection) -> Entry:
        """A route by model waits for the others of its host."""
        if entry.ai:
            return msgspec.structs.replace(entry, protection=effect)
        return protected_plain(entry, effect)

    def keeps_clusters(self, effect: Protection) -> bool:
        """Whether a copy may be taken again: a protection is made anew for each plan."""
        return False

    def keep(self, entry: Entry) -> None:
        """Nothing is gathered of routes that ask for nothing."""

    def _protection(self, policy: Policy, parent: Policy | None) -> Protection:
        key = _key(policy, parent)
        if key not in self._protections:
            self._made[key] = self._make(policy, parent)
            self._protections[key] = self._made[key].protection()
        return self._protections[key]

    def _make(self, policy: Policy, parent: Policy | None) -> Making:
        namespace, name = policy.key
        told = f"{namespace}/{name}" + (f"+{'/'.join(parent.key)}" if parent else "")
        making = Making(self._index, self._world, namespace, told)
        raw = policy.spec
        if parent is not None:
            raw = merge(parent.spec, raw, raw["mergeType"], _KEYED_LISTS)
        try:
            spec = msgspec.convert(raw, SecurityPolicySpec)
        except msgspec.ValidationError as error:
            making.problems.append(f"spec: {error}")
            return making
        for path, told in unhonoured_sentences(raw, SecurityPolicySpec).items():
            harmless = any(part in f"{path}." for part in _HARMLESS)
            (making.notes if harmless else making.problems).append(told)
        _translate(making, spec)
        return making

    def lines(self) -> dict[str, str]:
        """What the script checks, by the name of the login."""
        return {
            protection.login: self._made[key].login_line
            for key, protection in self._protections.items()
            if protection.login
        }

    def extensions(self) -> dict[str, dict[str, Any]]:
        """Configurations of filters that cannot be given at a route."""
        providers: dict[str, dict[str, Any]] = {}
        requirements: dict[str, dict[str, Any]] = {}
        for key, making in self._made.items():
            if making.jwt_requirement is not None and not self._protections[key].broken:
                providers |= making.jwt_providers
                requirements[making.name] = making.jwt_requirement
        return {name: token_filter(name, providers, requirements) for name in (early(JWT), late(JWT))}

    def statuses(self, refused: Mapping[str, str]) -> Iterator[tuple[Policy, dict[str, Any]]]:
        """Of each policy that concerns Gateways of ours. refused: resources that Envoy did not take, and why."""
        told = refused.get(f"{EXTENSION}/{early(JWT)}") or refused.get(f"{EXTENSION}/{late(JWT)}")
        if self.attachment is None:
            return
        for policy in self.attachment.policies:
            self._protection(policy, None)
        made: dict[tuple[str, str], list[Making]] = {}
        merged: dict[tuple[str, str], list[Making]] = {}
        for (namespace, name, *parent), making in self._made.items():
            (merged if parent else made).setdefault((namespace, name), []).append(making)
        for policy in self.attachment.policies:
            problems: list[str] = []
            notes: list[str] = []
            # A policy that is merged into another one need not be whole by itself.
            for making in merged.get(policy.key) or made[policy.key]:
                problems += [text for text in making.problems if text not in problems]
                notes += [text for text in making.notes if text not in notes]
                if told and making.jwt_requirement is not None:
                    problems.append(f"Envoy refused the tokens of all policies together: {told}")
            status = policy_status(self.attachment, policy, problems, notes)
            if status is not None:
                yield policy, status


def _key(policy: Policy, parent: Policy | None) -> tuple[str, ...]:
    return (*policy.key, *(parent.key if parent else ()))


def _translate(making: Making, spec: SecurityPolicySpec) -> None:
    making.problems += problems_of(spec)
    make_login(making, spec.api_key_auth, spec.basic_auth)
    if spec.cors is not None:
        make_cors(making, spec.cors)
    if spec.csrf is not None:
        make_csrf(making, spec.csrf)
    if spec.jwt is not None:
        make_tokens(making, spec.jwt)
    if spec.oidc is not None:
        make_login_at_provider(making, spec.oidc, spec.jwt)
    if spec.ext_auth is not None:
        make_question(making, spec.ext_auth)
    if spec.authorization is not None:
        providers = frozenset(item.name for item in spec.jwt.providers) if spec.jwt else frozenset[str]()
        make_authorization(making, spec.authorization, providers)
    if making.login_line:
        # Headers that name the client are those of the script, and not what the client sent by these names.
        making.behind |= making.steps.keys() & {ASK, ASK_TELLING, RULES}
