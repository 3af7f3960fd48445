"""Which AITrafficPolicy holds for the rules of a route, and what the policies' statuses say. Pure.

Attachment is that of `kajitori.gateway.policies.attachment`, which knows an AIGatewayRoute as the HTTPRoute of its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.envoygateway.policy import Policy
from kajitori.api.kajitori_gateway.ai_traffic_policy import KIND, AITrafficPolicy
from kajitori.gateway.policies.attachment import PolicyAttachment
from kajitori.gateway.policies.statuses import policy_status
from kajitori.gateway.policies.subjects import RouteKey
from kajitori.gateway.resilience.settings import (
    DEFAULTS,
    Resilience,
    read_policy,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.api.aigateway.v1beta1 import AIGatewayRoute
    from kajitori.gateway.observed import Index, Settings
    from kajitori.gateway.policies.subjects import Subjects
    from kajitori.gateway.routes.attachment import ParentOutcome, Place

_ROUTE, _STANDS_FOR = "AIGatewayRoute", "HTTPRoute"


class TrafficPolicies:
    """The AITrafficPolicies of a cluster. Falsy where none holds."""

    def __init__(self, index: Index, subjects: Subjects) -> None:
        self._policies = {
            (item.metadata.namespace or "", item.metadata.name or ""): item
            for item in index.observed.ai_traffic_policies
        }
        self._problems: dict[tuple[str, str], list[str]] = {}
        self._notes: dict[tuple[str, str], list[str]] = {}
        self._read: dict[tuple[str, str], Resilience] = {}
        if not self._policies:
            self._attachment = None
            return
        routes = {(item.metadata.namespace, item.metadata.name) for item in index.observed.ai_routes}
        for key, policy in self._policies.items():
            problems: list[str] = []
            self._read[key] = read_policy(policy, problems)
            problems += [
                f"{_ROUTE} {key[0]}/{ref.name} does not exist"
                for ref in policy.spec.target_refs
                if ref.kind == _ROUTE and (key[0], ref.name) not in routes
            ]
            self._problems[key] = problems
            self._notes[key] = _notes(policy, index.observed.settings)
        self._attachment = PolicyAttachment(KIND, map(_in_general, self._policies.values()), index, subjects)

    def finish(self) -> TrafficPolicies:
        """Looks at nothing more."""
        if self._attachment is not None:
            self._attachment.finish()
        return self

    def __bool__(self) -> bool:
        return bool(self._attachment)

    def parted(
        self, route: AIGatewayRoute, outcomes: list[ParentOutcome]
    ) -> list[tuple[Callable[[str], Resilience], list[ParentOutcome]]]:
        """Where a route attached, parted by what holds there for its rules, which is asked for by a rule's name."""
        if not self:
            return [(lambda rule: DEFAULTS, outcomes)]
        names = dict.fromkeys(rule.name or "" for rule in route.spec.rules)
        by_holding: dict[tuple[Resilience, ...], list[Place]] = {}
        for place in dict.fromkeys(place for outcome in outcomes for place in outcome.via):
            holding = tuple(self._held(route, name, place) for name in names)
            by_holding.setdefault(holding, []).append(place)
        return [
            (dict(zip(names, holding, strict=True)).__getitem__, _only(outcomes, places))
            for holding, places in by_holding.items()
        ]

    def _held(self, route: AIGatewayRoute, rule: str, place: Place) -> Resilience:
        if self._attachment is None:
            return DEFAULTS
        key = RouteKey(_STANDS_FOR, route.metadata.namespace or "", route.metadata.name or "")
        chain = self._attachment.chain(key, rule, place)
        # One that cannot be carried out does not hold, and neither does what it would have hidden.
        return self._read[chain[0].key] if chain and not self._problems[chain[0].key] else DEFAULTS

    def statuses(self) -> list[tuple[AITrafficPolicy, dict[str, Any]]]:
        """The status of each policy that concerns a Gateway of ours."""
        found: list[tuple[AITrafficPolicy, dict[str, Any]]] = []
        if self._attachment is None:
            return found
        for general in self._attachment.policies:
            told = policy_status(
                self._attachment, general, self._problems[general.key], self._notes[general.key]
            )
            if told is not None:
                found.append((self._policies[general.key], _in_words(told)))
        return found


def _only(outcomes: list[ParentOutcome], places: list[Place]) -> list[ParentOutcome]:
    return [
        msgspec.structs.replace(outcome, via=tuple(place for place in outcome.via if place in places))
        for outcome in outcomes
    ]


def _notes(policy: AITrafficPolicy, settings: Settings) -> list[str]:
    ending = policy.spec.streams.on_failure
    if ending == "Cut" or settings.rescue_sockets is not None:
        return []
    return [
        f"spec.streams.onFailure: {ending} is not honoured where no relay runs; a stream that dies is cut"
    ]


def _in_general(policy: AITrafficPolicy) -> Policy:
    """As the attachment wants it."""
    refs = [
        {
            "group": ref.group,
            "kind": _STANDS_FOR if ref.kind == _ROUTE else ref.kind,
            "name": ref.name,
            **({"sectionName": ref.section_name} if ref.section_name else {}),
        }
        for ref in policy.spec.target_refs
    ]
    return Policy(metadata=policy.metadata, spec={"targetRefs": refs})


def _in_words(status: dict[str, Any]) -> dict[str, Any]:
    """A status that speaks of the kind that the policy names."""
    text = msgspec.json.encode(status).replace(_STANDS_FOR.encode(), _ROUTE.encode())
    return msgspec.json.decode(text)
