"""To what policies attach, and which of them hold for a request.

A policy names targets or selects them by labels. What is more specific wins: a rule over its route, a route over the
listener that it came by, a listener over its Gateway. Of two policies for the same target the older one holds, and
the other is told so. Merging (`mergeType`) is up to the kind that has it: see `merging`. Pure.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.api.envoygateway.policy import GROUP as POLICY_GROUP
from kajitori.api.envoygateway.policy import Policy, PolicyTargets, TargetSelector
from kajitori.api.gateway.shared import GROUP
from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.gateway.observed import age_key
from kajitori.gateway.policies.subjects import GatewayKey, RouteKey, Subjects
from kajitori.model.selection import matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kajitori.gateway.observed import Index
    from kajitori.gateway.routes.attachment import Place

GATEWAY = "Gateway"
SERVED_KINDS = (GATEWAY, "HTTPRoute", "GRPCRoute")


class Scope(NamedTuple):
    """One target. section: a listener of a Gateway, or a rule of a route; empty for the whole."""

    kind: str
    namespace: str
    name: str
    section: str = ""

    @property
    def whole(self) -> Scope:
        return self._replace(section="")

    def __str__(self) -> str:
        part = "listener" if self.kind == GATEWAY else "rule"
        return f"{self.kind} {self.namespace}/{self.name}" + (
            f", {part} {self.section}" if self.section else ""
        )


class Ancestor(NamedTuple):
    """The Gateway, or a listener of it, of which a policy's status speaks."""

    gateway: GatewayKey
    listener: str
    controller: str


class Attached(msgspec.Struct, frozen=True):
    """What became of one target of a policy. reason: why it has no effect there, such as Conflicted, if so."""

    scope: Scope
    ancestors: tuple[Ancestor, ...]
    reason: str = ""
    message: str = ""


class PolicyAttachment:
    """The policies of one kind. Where nothing attaches, `at` and `chain` cost next to nothing.

    kinds: of targets that can be served.
    """

    def __init__(
        self,
        kind: str,
        policies: Iterable[Policy],
        index: Index,
        subjects: Subjects,
        kinds: tuple[str, ...] = SERVED_KINDS,
    ) -> None:
        self.kind = kind
        self.subjects = subjects
        self.policies = [policy for policy in sorted(policies, key=age_key) if not _is_going(policy)]
        self._index: Index | None = index
        self._kinds = kinds
        self._holders: dict[Scope, Policy] = {}
        self._of_listeners: dict[tuple[GatewayKey, str], tuple[Policy, ...]] = {}
        self.attached: dict[tuple[str, str], list[Attached]] = {}
        self.unreadable: dict[tuple[str, str], str] = {}
        for policy in self.policies:
            self.attached[policy.key] = [self._attach(policy, scope) for scope in self._scopes(policy)]

    def finish(self) -> None:
        """Looks at nothing more, so that what is kept of it does not keep all objects of its time."""
        self._index = None
        self.subjects.finish()

    def __bool__(self) -> bool:
        """Whether any policy holds anywhere."""
        return bool(self._holders)

    def at(self, scope: Scope) -> Policy | None:
        """The policy that holds for exactly this target."""
        return self._holders.get(scope)

    def holders(self) -> Mapping[Scope, Policy]:
        """Every target with the policy that holds for it."""
        return self._holders

    @cached_property
    def parts(self) -> Mapping[Scope, list[Scope]]:
        """Of a target as a whole, its sections that have a policy of their own."""
        found: dict[Scope, list[Scope]] = {}
        for scope in self._holders:
            if scope.section:
                found.setdefault(scope.whole, []).append(scope)
        return found

    @cached_property
    def routes_of(self) -> Mapping[GatewayKey, list[Scope]]:
        """Of a Gateway, the routes and their rules that have a policy of their own and may be reached by it."""
        found: dict[GatewayKey, list[Scope]] = {}
        for scope in self._holders:
            subject = None if scope.kind == GATEWAY else self.subjects.routes.get(_route_of(scope))
            for gateway in {parent for parent, _ in subject.parents} if subject is not None else ():
                found.setdefault(gateway, []).append(scope)
        return found

    def chain(self, route: RouteKey, rule: str, place: Place) -> tuple[Policy, ...]:
        """Those that bear upon requests to a rule of a route by a listener, the most specific first.

        Without merging the first one holds alone.
        """
        if not self._holders:
            return ()
        if route not in self._routes:
            return self._of_listener(place)
        own = [Scope(*route, rule), Scope(*route)] if rule else [Scope(*route)]
        found = [self._holders.get(scope) for scope in own]
        return (*(policy for policy in found if policy is not None), *self._of_listener(place))

    def is_for(self, route: RouteKey) -> bool:
        """Whether a route or one of its rules has a policy of its own."""
        return route in self._routes

    @cached_property
    def _routes(self) -> frozenset[tuple[str, str, str]]:
        """Those that have a policy of their own, or one of whose rules has."""
        return frozenset((scope.kind, scope.namespace, scope.name) for scope in self._holders)

    def _of_listener(self, place: Place) -> tuple[Policy, ...]:
        key = (place.gateway, place.listener)
        known = self._of_listeners.get(key)
        if known is None:
            found = [self._holders.get(scope) for scope in _parents(place)]
            known = self._of_listeners[key] = tuple(policy for policy in found if policy is not None)
        return known

    def parent(self, place: Place) -> Policy | None:
        """The policy of the listener or else of the Gateway, with which a route's policy may be merged."""
        found = (self._holders.get(scope) for scope in _parents(place))
        return next((policy for policy in found if policy is not None), None)

    def _scopes(self, policy: Policy) -> list[Scope]:
        """What the policy is for, in its own order, each once."""
        members = {key: policy.spec[key] for key in _TARGET_FIELDS if key in policy.spec}
        try:
            targets = msgspec.convert(members, PolicyTargets)
        except msgspec.ValidationError as error:
            self.unreadable[policy.key] = f"spec: {error}"
            return []
        namespace = policy.key[0]
        refs = [targets.target_ref] if targets.target_ref else targets.target_refs
        found = [Scope(ref.kind, namespace, ref.name, ref.section_name or "") for ref in refs]
        for selector in targets.target_selectors:
            found += self._selected(policy, selector)
        return list(dict.fromkeys(found))

    def _selected(self, policy: Policy, selector: TargetSelector) -> list[Scope]:
        wanted = LabelSelector(
            match_labels=selector.match_labels, match_expressions=selector.match_expressions
        )
        found: list[tuple[str, Scope]] = []
        if selector.kind == GATEWAY:
            found += [
                (item.created, Scope(GATEWAY, *key))
                for key, item in self.subjects.gateways.items()
                if matches(wanted, item.labels)
            ]
        found += [
            (item.created, Scope(*key))
            for key, item in self.subjects.routes.items()
            if key.kind == selector.kind and matches(wanted, item.labels)
        ]
        return [scope for _, scope in sorted(found) if self._may_select(policy, selector, scope)]

    def _may_select(self, policy: Policy, selector: TargetSelector, scope: Scope) -> bool:
        namespace = policy.key[0]
        choice = selector.namespaces
        if choice is None or choice.from_ == "Same":
            return scope.namespace == namespace
        if choice.from_ == "Selector":
            assert self._index is not None
            labels = self._index.namespace_labels.get(scope.namespace, {})
            if choice.selector is None or not matches(choice.selector, labels):
                return False
        assert self._index is not None
        return self._index.granted(
            POLICY_GROUP, self.kind, namespace, GROUP, scope.kind, (scope.namespace, scope.name)
        )

    def _attach(self, policy: Policy, scope: Scope) -> Attached:
        ancestors = self._ancestors(scope)
        if scope.kind not in self._kinds:
            served = ", ".join(self._kinds)
            return self._missing(scope, f"targets of kind {scope.kind} are not served; those of {served} are")
        if ancestors is None:
            return self._missing(scope, f"{scope.whole} does not exist")
        if not ancestors:
            return Attached(scope, ())
        if scope.section and scope.section not in self._sections(scope):
            return Attached(scope, ancestors, "TargetNotFound", f"there is no {scope}")
        holder = self._holders.setdefault(scope, policy)
        if holder is not policy:
            older = "/".join(holder.key)
            return Attached(
                scope, ancestors, "Conflicted", f"{self.kind} {older} is older and holds for {scope} already"
            )
        return Attached(scope, ancestors)

    def _missing(self, scope: Scope, message: str) -> Attached:
        """There is no Gateway to speak of, so the status speaks of the target itself, in our own name."""
        return Attached(scope, (), "TargetNotFound", message)

    def _ancestors(self, scope: Scope) -> tuple[Ancestor, ...] | None:
        """None: the target does not exist. Empty: it is another controller's."""
        if scope.kind == GATEWAY:
            key = (scope.namespace, scope.name)
            gateway = self.subjects.gateways.get(key)
            if gateway is not None:
                return (Ancestor(key, scope.section, gateway.controller),)
            return () if key in self.subjects.foreign_gateways else None
        route = RouteKey(scope.kind, scope.namespace, scope.name)
        subject = self.subjects.routes.get(route)
        if subject is None:
            return () if route in self.subjects.foreign_routes else None
        return tuple(
            Ancestor(key, listener, self.subjects.gateways[key].controller)
            for key, listener in subject.parents
        )

    def _sections(self, scope: Scope) -> Iterable[str]:
        if scope.kind == GATEWAY:
            return self.subjects.gateways[scope.namespace, scope.name].listeners
        return self.subjects.routes[RouteKey(scope.kind, scope.namespace, scope.name)].rules


_TARGET_FIELDS = ("targetRef", "targetRefs", "targetSelectors")


def _parents(place: Place) -> tuple[Scope, Scope]:
    return Scope(GATEWAY, *place.gateway, place.listener), Scope(GATEWAY, *place.gateway)


def _route_of(scope: Scope) -> RouteKey:
    return RouteKey(scope.kind, scope.namespace, scope.name)


def _is_going(policy: Policy) -> bool:
    return policy.metadata.deletion_timestamp is not None


def more_specific(attachment: PolicyAttachment, scope: Scope) -> list[tuple[Scope, Policy]]:
    """The targets inside a target that have a policy of their own, which hides the one of `scope` there.

    Inside a Gateway: its listeners, and the routes that have it as a parent. Inside a listener: the routes that may
    come in by it. Inside a route: its rules.
    """
    holders = attachment.holders()
    inside = list(attachment.parts.get(scope, ())) if not scope.section else []
    if scope.kind == GATEWAY:
        near = attachment.routes_of.get((scope.namespace, scope.name), ())
        inside += [other for other in near if _comes_in(attachment, other, scope)]
    return [(other, holders[other]) for other in sorted(inside)]


def _comes_in(attachment: PolicyAttachment, route: Scope, gateway: Scope) -> bool:
    """Whether requests may get to a route by a Gateway, or by the listener that the scope names."""
    subject = attachment.subjects.routes.get(_route_of(route))
    key = (gateway.namespace, gateway.name)
    return subject is not None and any(
        parent == key and (not gateway.section or listener in ("", gateway.section))
        for parent, listener in subject.parents
    )


def target_reference(scope: Scope) -> dict[str, Any]:
    """A target as `ancestorRef` spells it."""
    reference = {"group": GROUP, "kind": scope.kind, "namespace": scope.namespace, "name": scope.name}
    return {**reference, "sectionName": scope.section} if scope.section else reference
