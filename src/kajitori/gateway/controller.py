"""The gateway controller: informers to plan to Envoy, and statuses back.

One key stands for the whole configuration, since Gateways share listeners and routes share tables; a plan is
pure and takes milliseconds, and only what differs is sent. Each object's status has a key of its own, so that
one refused write holds up no other.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Protocol

from kajitori.api.kubernetes.core_v1 import ConfigMap, Secret
from kajitori.api.resource import CONFIG_MAPS, HTTP_ROUTE_FILTERS, HTTP_ROUTES, SECRETS, Resource
from kajitori.base.clock import rfc3339
from kajitori.base.errors import NotFound
from kajitori.control.controller import After, Key, Result
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.accounting.exhaustion_reports import Exhaustion, ExhaustionServer
from kajitori.gateway.conditions import StatusUpdate
from kajitori.gateway.credentials.exchange import Surroundings
from kajitori.gateway.credentials.tokens import TokenSource
from kajitori.gateway.defect_isolation import DefectIsolation
from kajitori.gateway.foreign_kinds import ForeignKinds
from kajitori.gateway.garbage_collector import collector_paused
from kajitori.gateway.generated_routes import GeneratedRoutes
from kajitori.gateway.limits.exhaustion_status import with_exhaustion
from kajitori.gateway.observed import Observed, Settings
from kajitori.gateway.plan_memory import PlanMemory
from kajitori.gateway.policies.security.discovery import IssuerSource
from kajitori.gateway.problem_events import ProblemEvents
from kajitori.gateway.reference_watches import ReferenceWatches
from kajitori.gateway.references import find_references
from kajitori.gateway.status import complete_status
from kajitori.gateway.watched_kinds import WATCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from kajitori.control.cache import Informer
    from kajitori.control.runtime import Runtime
    from kajitori.gateway.envoy.ads import AdsServer

_log = logging.getLogger(__name__)

SOURCE = "gateway"
COMPONENT = "kajitori.dev/gateway"
FIELD_MANAGER = "kajitori-gateway"
_HEEDED_ANNOTATIONS = ("gateway.kajitori.dev/", "aigateway.envoyproxy.io/")
_EVERYTHING = Key("", "configuration")


class Envoys(Protocol):
    """What Envoys say: those of this process, or of all replicas."""

    @property
    def connected(self) -> int: ...
    @property
    def rejected(self) -> dict[str, str]: ...
    def on_change(self, callback: Callable[[], None]) -> None: ...


class Accountants(Protocol):
    """Who is told the policy."""

    def configure(self, policy: AccountantPolicy) -> None: ...


class GatewayController:
    """Keeps Envoy and the statuses in step with the objects; made, it has its informers and controllers in the process.

    envoys: whom statuses speak of; those of `ads` if not given. foreign_kinds: what other controllers serve.
    unserved: resources that the cluster does not serve, or not yet: what is there works without them.
    surroundings: what the exchange of tokens knows of this process; nothing of its environment if not given. exhaustion: what
    accountants tell of limits that are used up. exhausted: which are at a time; as those tell, if not given.
    """

    def __init__(
        self,
        runtime: Runtime,
        ads: AdsServer,
        accountants: Accountants,
        settings: Settings,
        *,
        envoys: Envoys | None = None,
        foreign_kinds: ForeignKinds | None = None,
        unserved: Collection[Resource] = (),
        surroundings: Surroundings | None = None,
        exhaustion: ExhaustionServer | None = None,
        exhausted: Callable[[float], list[Exhaustion]] | None = None,
    ) -> None:
        self._runtime = runtime
        self._ads = ads
        self._accountants = accountants
        self._settings = settings
        exhaustion = exhaustion or ExhaustionServer()
        self._exhausted = exhausted or exhaustion.known
        self._envoys: Envoys = envoys or ads
        self._foreign_kinds = foreign_kinds or ForeignKinds()
        self._ports: tuple[int, ...] = ()
        self._port_listeners: list[Callable[[], None]] = []
        self._secrets = ReferenceWatches(runtime, SECRETS, Secret, self._plan_soon)
        self._config_maps = ReferenceWatches(runtime, CONFIG_MAPS, ConfigMap, self._plan_soon)
        self._tokens = TokenSource(runtime, self._plan_soon, surroundings)
        self._issuers = IssuerSource(runtime, self._plan_soon)
        self._problem_events = ProblemEvents(runtime, runtime.recorder(COMPONENT))
        self._statuses: dict[Key, StatusUpdate] = {}
        # By identity, which the object itself keeps from being another's.
        self._told: dict[int, tuple[StatusUpdate, Key]] = {}
        # Objects that came under the name of one that had a status.
        self._made_again: set[Key] = set()
        # Of plans, and of what is looked up for them.
        self._memory, self._asked = PlanMemory(), PlanMemory()
        self._defect_isolation = DefectIsolation(
            {field: resource for field, (resource, _) in WATCHED.items()}
        )
        self._informers: dict[str, Informer[Any]] = {
            field: runtime.informer(resource, projection, optional=resource in unserved)
            for field, (resource, projection) in WATCHED.items()
        }
        self._by_resource = {resource: self._informers[field] for field, (resource, _) in WATCHED.items()}
        self._generated_routes = GeneratedRoutes(
            runtime,
            {resource: self._by_resource[resource] for resource in (HTTP_ROUTES, HTTP_ROUTE_FILTERS)},
        )
        self._plans = runtime.controller("gateway", self._plan, everywhere=True)
        self._writes = runtime.controller("gateway-status", self._write_status, workers=4)
        self._listen()
        if envoys is not None:
            envoys.on_change(self._plan_soon)
        exhaustion.on_change(self._plan_soon)
        # An empty cluster has no object whose arrival would start the first plan.
        self._plan_soon()

    def _listen(self) -> None:
        """Plans anew whenever what plans look at is another."""
        for informer in self._informers.values():
            self._plans.watch(informer, lambda _: (_EVERYTHING,), when=_matters)
        for resource, informer in self._by_resource.items():
            informer.on_change(functools.partial(self._note_made_again, resource))
        self._ads.on_change(self._plan_soon)
        self._foreign_kinds.on_change(self._plan_soon)

    def _plan_soon(self) -> None:
        self._plans.enqueue(_EVERYTHING)

    def observe(self) -> Observed:
        """What the caches hold now."""
        found: dict[str, Any] = {field: tuple(informer.list()) for field, informer in self._informers.items()}
        return Observed(
            settings=self._settings,
            controllers=self._foreign_kinds.controllers,
            foreign=self._foreign_kinds.foreign,
            secrets=self._secrets.list(),
            config_maps=self._config_maps.list(),
            tokens=self._tokens.states(),
            issuers=self._issuers.known(),
            **found,
        )

    @property
    def ports(self) -> tuple[int, ...]:
        """On which listeners serve, by the latest plan."""
        return self._ports

    def on_ports(self, callback: Callable[[], None]) -> None:
        """Called when they change."""
        self._port_listeners.append(callback)

    async def _plan(self, key: Key) -> Result:
        asked = find_references(self.observe(), self._asked)
        await self._secrets.want(asked.secrets)
        await self._config_maps.want(asked.config_maps)
        # What Secrets say decides which tokens are exchanged.
        await self._tokens.want(find_references(self.observe(), self._asked).exchanges)
        await self._issuers.want(asked.issuers)
        with collector_paused():
            exhausted = self._make_plan()
        # What frees by itself is told by nobody.
        frees = min((each.until for each in exhausted), default=None)
        return None if frees is None else After(max(1.0, frees - self._runtime.clock.now()))

    def _make_plan(self) -> list[Exhaustion]:
        """Returns what is used up."""
        observed, exhausted = self.observe(), self._exhausted(self._runtime.clock.now())
        plan = self._defect_isolation.plan(
            observed, self._envoys.rejected, envoys=self._envoys.connected, memory=self._memory
        )
        if plan.ports != self._ports:
            self._ports = plan.ports
            for callback in self._port_listeners:
                callback()
        self._accountants.configure(plan.policy)
        self._ads.set_resources(SOURCE, plan.resources)
        self._generated_routes.want(plan.generated, plan.unwanted)
        self._take_statuses(with_exhaustion(plan.statuses, exhausted, observed.tenants))
        return exhausted

    def _take_statuses(self, updates: Iterable[StatusUpdate]) -> None:
        """Enqueues those that say something new. What says the same is the same object in the next plan."""
        known, self._told = self._told, {}
        for update in updates:
            self._told[id(update)] = known.get(id(update)) or (update, _status_key(update))
        previous, self._statuses = self._statuses, {key: update for update, key in self._told.values()}
        self._problem_events.keep(set(self._statuses))
        for update, key in (self._told[new] for new in self._told.keys() - known.keys()):
            if previous.get(key) != update:
                self._writes.enqueue(key)

        for key in self._made_again & self._statuses.keys():
            self._writes.enqueue(key)
        self._made_again.clear()

    def _note_made_again(self, resource: Resource, old: Any, new: Any) -> None:
        """An object that was deleted and made again has no status, though plans may say the same of both."""
        if new is None or (old is not None and old.metadata.uid == new.metadata.uid):
            return
        key = _object_key(resource, new.metadata.namespace or "", new.metadata.name)
        if key in self._statuses:
            self._made_again.add(key)

    async def _write_status(self, key: Key) -> None:
        update = self._statuses.get(key)
        if update is None:
            return
        item: Any = self._by_resource[update.resource].get(update.namespace, update.name)
        if item is None:
            return
        now = rfc3339(self._runtime.clock.now())
        status = complete_status(update, item.status, now, self._foreign_kinds.controllers)
        if status is None:
            self._problem_events.judge(key, update.resource, item, update.status)
            return
        try:
            await self._runtime.client.patch(
                update.resource,
                update.name,
                {"status": status},
                namespace=update.namespace or None,
                subresource="status",
                field_manager=FIELD_MANAGER,
            )
        except NotFound:
            return
        self._problem_events.judge(key, update.resource, item, update.status)


def _status_key(update: StatusUpdate) -> Key:
    return _object_key(update.resource, update.namespace, update.name)


def _object_key(resource: Resource, namespace: str, name: str) -> Key:
    return Key(namespace, f"{resource.qualified_name}/{name}")


def _matters(old: Any, new: Any) -> bool:
    """Whether a change can change the plan; statuses and managed fields cannot.

    A status that someone else overwrote is mended with the next change of its object.
    """
    return old is None or new is None or _essence(old) != _essence(new)


def _essence(item: Any) -> tuple[Any, ...]:
    metadata = item.metadata
    fields = (name for name in item.__struct_fields__ if name not in ("metadata", "status"))
    return (
        metadata.uid,
        metadata.generation,
        metadata.labels,
        _heeded(metadata.annotations),
        metadata.deletion_timestamp,
        *(getattr(item, name) for name in fields),
    )


def _heeded(annotations: dict[str, str]) -> list[tuple[str, str]]:
    """Annotations that say something to the gateway; the generation does not change with them."""
    return [item for item in annotations.items() if item[0].startswith(_HEEDED_ANNOTATIONS)]
