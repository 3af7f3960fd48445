"""Webhooks and policies at work: which of them a request meets, and in which order.

    mutating policies -> mutating webhooks -> (both once more) -> rules of the kind -> validating policies ->
    validating webhooks

What is configured is compiled once (`Configured`) and looked up by resource and operation, so that a request for
which nothing is configured pays for one look into a dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kajitori.api.resource import NAMESPACES, Resource
from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.admission import webhooks
from kajitori.laptop.apiserver.admission.client import WebhookClient
from kajitori.laptop.apiserver.admission.expressions import authorizer_of
from kajitori.laptop.apiserver.admission.matching import GROUP, is_exempt
from kajitori.laptop.apiserver.admission.policies import (
    Applied,
    Binding,
    ConfigurationError,
    Policy,
    World,
    applied,
    judge,
)
from kajitori.laptop.apiserver.admission.review import Named, Review, request_of
from kajitori.laptop.apiserver.admission.webhooks import Hook, Invocation, Surroundings, hooks_of
from kajitori.laptop.apiserver.label_selectors import selects
from kajitori.laptop.apiserver.views import peek_object

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kajitori.laptop.apiserver.admission.steps import Steps
    from kajitori.laptop.apiserver.history import Event
    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.state import ServerState
    from kajitori.laptop.apiserver.store import Entry

Object = dict[str, Any]
T = TypeVar("T")
MUTATING_WEBHOOKS = f"mutatingwebhookconfigurations.{GROUP}"
VALIDATING_WEBHOOKS = f"validatingwebhookconfigurations.{GROUP}"
POLICIES = f"validatingadmissionpolicies.{GROUP}"
BINDINGS = f"validatingadmissionpolicybindings.{GROUP}"
WATCHED = frozenset({MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, POLICIES, BINDINGS})


def named(resource: Resource) -> Named:
    return Named(resource.group, resource.version, resource.kind)


@dataclass(frozen=True, slots=True)
class Chain:
    """Whom requests of one resource and operation meet."""

    around: Surroundings
    mutating: Sequence[Invocation] = ()
    validating: Sequence[Invocation] = ()
    policies: Sequence[Applied] = ()
    world: World | None = None

    @property
    def waits(self) -> bool:
        return bool(self.mutating or self.validating)

    def mutate(self, review: Review, prepare_again: Callable[[Object], None]) -> Steps[None]:
        """Let the review's object be changed. prepare_again: what the server itself does to it, in place."""
        rounds = webhooks.Rounds()
        for round_ in (0, 1):
            before = review.obj
            if self.mutating:
                yield from webhooks.mutate(self.mutating, review, self.around, round_=round_, rounds=rounds)
            if review.obj is None or review.obj is before:
                return
            left = msgspec.json.decode(msgspec.json.encode(review.obj))
            prepare_again(review.obj)
            if review.obj != left:
                rounds.changed()

    def validate(self, review: Review) -> Steps[None]:
        """Raises StatusError if somebody refuses."""
        if self.world is not None:
            judge(self.policies, review, self.world)
        wanted = [i for i in self.validating if webhooks.is_wanted(i, review, self.around)]
        if wanted:
            yield partial(webhooks.validate, wanted, review, self.around)


@dataclass(slots=True)
class Configured:
    """What was configured at one moment. revision: of the kinds that were served then."""

    admission: Admission
    revision: int
    mutating: list[Hook] = field(default_factory=list)
    validating: list[Hook] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    _chains: dict[tuple[Resource, str, str], Chain | None] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.mutating or self.validating or (self.policies and self.bindings))

    def chain(self, resource: Resource, subresource: str, operation: str) -> Chain | None:
        """Whom a request meets; None: nobody."""
        if self.empty:
            return None
        key = (resource, subresource, operation)
        try:
            return self._chains[key]
        except KeyError:
            chain = self._chains[key] = self._make(resource, subresource, operation)
            return chain

    def waits(self, resource: Resource, subresource: str) -> bool:
        """Whether any write of this resource may have to wait for a webhook."""
        if self.empty:
            return False
        chains = (self.chain(resource, subresource, operation) for operation in _OPERATIONS)
        return any(chain is not None and chain.waits for chain in chains)

    def _make(self, resource: Resource, subresource: str, operation: str) -> Chain | None:
        if is_exempt(resource):
            return None
        chain = Chain(
            self.admission.surroundings,
            self._invocations(self.mutating, resource, subresource, operation),
            self._invocations(self.validating, resource, subresource, operation),
            applied(
                self.policies,
                self.bindings,
                lambda rules: rules.matches(resource, subresource, operation, self.admission.equivalents),
            ),
            self.admission.world,
        )
        return chain if chain.waits or chain.policies else None

    def _invocations(
        self, hooks: list[Hook], resource: Resource, subresource: str, operation: str
    ) -> list[Invocation]:
        found: list[Invocation] = []
        for hook in hooks:
            matches = hook.rules.matches(resource, subresource, operation, self.admission.equivalents)
            if matches:
                seen_as = matches[0].resource
                kind = self.admission.kind_of(seen_as, subresource)
                found.append(Invocation(hook, seen_as, kind))
        return found


_OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT")


class Admission:
    """Follows the configurations in the store."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._current: Configured | None = None
        self._compiled: dict[tuple[str, str], tuple[int, Any]] = {}
        self.client = WebhookClient(state.store)
        self.surroundings = Surroundings(self.client, self.namespace_labels, self._convert, self.values)
        self.world = World(self.namespace_labels, self._values_as, self._namespace, self._params)
        state.store.listeners.append(self._on_event)

    def _on_event(self, resource: str, event: Event) -> None:
        if resource in WATCHED:
            self._current = None
            if event.deleted:
                self._compiled.pop((resource, event.entry.name), None)

    @property
    def current(self) -> Configured:
        """What is configured now; a request keeps to one."""
        current = self._current
        if current is None or current.revision != self._state.registry.revision:
            current = self._current = self._configured()
        return current

    def _configured(self) -> Configured:
        configured = Configured(self, self._state.registry.revision)
        for entry in self._state.store.table(MUTATING_WEBHOOKS).scan():
            configured.mutating += self._ready(MUTATING_WEBHOOKS, entry, partial(hooks_of, mutating=True))
        for entry in self._state.store.table(VALIDATING_WEBHOOKS).scan():
            configured.validating += self._ready(
                VALIDATING_WEBHOOKS, entry, partial(hooks_of, mutating=False)
            )
        for entry in self._state.store.table(POLICIES).scan():
            configured.policies.append(self._ready(POLICIES, entry, Policy.of))
        for entry in self._state.store.table(BINDINGS).scan():
            configured.bindings.append(self._ready(BINDINGS, entry, Binding.of))
        return configured

    def _ready(self, resource: str, entry: Entry, compile_: Callable[[Object], T]) -> T:
        """A configuration compiled, once a version of it."""
        key = (resource, entry.name)
        known = self._compiled.get(key)
        if known is None or known[0] != entry.version:
            known = self._compiled[key] = (entry.version, compile_(entry.peek()))
        return known[1]

    # What webhooks and policies ask of the server.

    def equivalents(self, resource: Resource) -> list[Resource]:
        """Other resources that show the same stored objects."""
        kind = self._state.registry.lookup(resource.group, resource.version, resource.plural)
        if kind is None:
            return []
        return [
            other.resource
            for other in self._state.registry.kinds()
            if other.storage == kind.storage and other.resource != resource
        ]

    def kind_of(self, resource: Resource, subresource: str) -> Named:
        """The kind of the body of a resource or subresource."""
        if subresource:
            kind = self._state.registry.lookup(resource.group, resource.version, resource.plural)
            found = kind.subresources.get(subresource) if kind is not None else None
            if found is not None:
                return Named(found.group, found.version, found.kind)
        return named(resource)

    def namespace_labels(self, review: Review) -> dict[str, str]:
        """Raises StatusError 404 if the namespace is gone."""
        if review.names_a_namespace and not review.subresource and review.operation in ("CREATE", "UPDATE"):
            return (review.obj or {}).get("metadata", {}).get("labels") or {}
        entry = self._state.store.get("namespaces", "", review.namespace)
        if entry is None:
            raise status.not_found(NAMESPACES, review.namespace)
        return entry.labels

    def values(self, review: Review) -> Object:
        """Variables of expressions."""
        return {
            "object": review.obj,
            "oldObject": review.old,
            "request": request_of(review, review.resource, review.kind),
            "authorizer": authorizer_of(self._state.authorizer, review),
        }

    def _values_as(self, review: Review, resource: Resource) -> Object:
        """Variables of a policy that sees the request as one of another resource."""
        values = self.values(review)
        if resource == review.resource:
            return values
        kind = self.kind_of(resource, review.subresource)
        shown = {key: self._shown_as(values[key], kind) for key in ("object", "oldObject")}
        return {**values, **shown, "request": request_of(review, resource, kind)}

    def _shown_as(self, obj: Object | None, wanted: Named) -> Object | None:
        kinds = self._kinds_between(obj, wanted)
        if obj is None or kinds is None or kinds[1].conversion is not None:
            return obj
        source, target = kinds
        return target.from_stored({**source.to_stored(obj), "kind": target.resource.kind})

    def _namespace(self, review: Review) -> Object | None:
        """The namespace object of a request for an object in one."""
        if not review.namespace or review.names_a_namespace:
            return None
        entry = self._state.store.get("namespaces", "", review.namespace)
        if entry is None:
            raise status.not_found(NAMESPACES, review.namespace)
        return entry.peek()

    def _params(self, kind: Object, reference: Object, namespace: str) -> list[Object | None]:
        group, _, version = str(kind.get("apiVersion", "")).rpartition("/")
        found = self._state.registry.lookup_kind(group, version, kind.get("kind", ""))
        if found is None:
            raise ConfigurationError(
                f"paramKind kind `{kind.get('apiVersion')}, Kind={kind.get('kind')}` not known"
            )
        if not found.namespaced:
            if reference.get("namespace"):
                raise ConfigurationError(
                    "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
                )
            namespace = ""
        else:
            namespace = reference.get("namespace") or namespace
            if not namespace:
                raise ConfigurationError(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        table = self._state.store.table(found.storage.qualified_name)
        if reference.get("name"):
            entry = table.entries.get((namespace, reference["name"]))
            return [peek_object(found, entry)] if entry is not None else []
        selector = reference.get("selector") or {}
        return [peek_object(found, e) for e in table.scan(namespace) if selects(selector, e.labels)]

    def _kinds_between(self, obj: Object | None, wanted: Named) -> tuple[Kind, Kind] | None:
        """The kind that an object is of, and the one that it is to be shown as; None: nothing is to be done."""
        if obj is None:
            return None
        api_version = f"{wanted.group}/{wanted.version}" if wanted.group else wanted.version
        if obj.get("apiVersion") == api_version or obj.get("kind") != wanted.kind:
            return None
        group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
        source = self._state.registry.lookup_kind(group, version, wanted.kind)
        target = self._state.registry.lookup_kind(wanted.group, wanted.version, wanted.kind)
        return (source, target) if source is not None and target is not None else None

    async def _convert(self, obj: Object | None, wanted: Named) -> Object | None:
        """An object in another version that is served."""
        kinds = self._kinds_between(obj, wanted)
        if obj is None or kinds is None:
            return obj
        return await self._state.conversion.convert(*kinds, obj)

    async def close(self) -> None:
        await self.client.close()


def body_kind(kind: Kind, subresource: str = "") -> Named:
    found = kind.subresources.get(subresource) if subresource else None
    if found is not None:
        return Named(found.group, found.version, found.kind)
    return named(kind.resource)
