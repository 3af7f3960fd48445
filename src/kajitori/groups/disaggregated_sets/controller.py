"""The controller of DisaggregatedSets: looks, asks the plan, carries it out, writes the status.

LeaderWorkerSets are read through the same cache as their own controller's, where that runs in this process. The plan is
made anew each time; beside it only names that were found in use are remembered, for half a minute.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from kajitori.api.disaggregatedset import v1
from kajitori.api.leaderworkerset.v1 import LeaderWorkerSet
from kajitori.api.resource import (
    DISAGGREGATED_SET_ROLE_SCALERS,
    DISAGGREGATED_SETS,
    LEADER_WORKER_SETS,
    SERVICES,
    Resource,
)
from kajitori.base.errors import ApiError, Conflict, Forbidden, Invalid, NotFound
from kajitori.base.reason import Reason
from kajitori.control.controller import After, Controller, Key, Result
from kajitori.control.gate import Gate
from kajitori.control.runtime import Runtime
from kajitori.groups.disaggregated_sets.actions import Event, Plan
from kajitori.groups.disaggregated_sets.execution import Execution, Informers
from kajitori.groups.disaggregated_sets.observed import (
    PAUSED_ANNOTATION,
    Child,
    Scaler,
    Service,
    SetView,
    World,
    child_of,
)
from kajitori.groups.disaggregated_sets.plan import plan_set
from kajitori.groups.disaggregated_sets.status import same_status
from kajitori.groups.names_in_use import NamesInUse
from kajitori.groups.ownership import controlled_by, controller_of, holder_of

COMPONENT = "kajitori.dev/groups"
WORKERS = 4
# Nobody tells us that a quota, a policy or a rule of a definition no longer stands in the way.
LONGEST_BACKOFF_SECONDS = 60.0
# A set of many slices changes many times a second: looking at it now and then keeps the work in proportion.
SETS_LOOKED_AT_PER_SECOND = 2_000
# Nobody tells when a cache without objects is filled.
UNSERVED_SECONDS = 0.5


class DisaggregatedSetController:
    """Reconciles one DisaggregatedSet at a time and key. gate: closed while another controller serves the kind."""

    def __init__(self, runtime: Runtime, gate: Gate) -> None:
        self._gate = gate
        self._client = runtime.client
        self._clock = runtime.clock
        self._recorder = runtime.recorder(COMPONENT)
        self._taken: dict[Key, NamesInUse] = {}
        self._sets = runtime.informer(DISAGGREGATED_SETS, SetView, optional=True)
        self._informers = Informers(
            leader_worker_sets=runtime.informer(
                LEADER_WORKER_SETS, LeaderWorkerSet, indexers={"disaggregated": _names_of}, optional=True
            ),
            services=runtime.informer(
                SERVICES, Service, label_selector=v1.NAME_LABEL, indexers={"set": _names_of}
            ),
            scalers=runtime.informer(
                DISAGGREGATED_SET_ROLE_SCALERS, Scaler, indexers={"set": _names_of}, optional=True
            ),
        )
        controller = runtime.controller(
            "disaggregatedset",
            self.reconcile,
            workers=WORKERS,
            longest_backoff_seconds=LONGEST_BACKOFF_SECONDS,
        )
        controller.watch(self._sets)
        controller.watch(self._informers.leader_worker_sets, self._keys_of_lws)
        controller.watch(self._informers.services, _keys)
        controller.watch(self._informers.scalers, self._keys_of_scaler)
        gate.on_change(lambda: self._begin_again(controller))

    def _begin_again(self, controller: Controller) -> None:
        self._taken.clear()
        for found in self._sets.list():
            controller.enqueue(Key(found.namespace, found.name))

    async def reconcile(self, key: Key) -> Result:
        """One look at one set."""
        if self._gate.closed is not None:
            return None
        if not self._served():
            return After(UNSERVED_SECONDS)
        children = self._informers.leader_worker_sets.by_index("disaggregated", f"{key.namespace}/{key.name}")
        await asyncio.sleep(len(children) / SETS_LOOKED_AT_PER_SECOND)
        found = self._sets.get(*key)
        if found is None or found.metadata.deletion_timestamp is not None:
            # What it has goes with it.
            self._taken.pop(key, None)
            return None
        taken = self._taken.get(key)
        if taken is None or taken.uid != found.uid:
            taken = self._taken[key] = NamesInUse(found.uid)
        world = self._look(found, taken)
        plan = plan_set(world)
        await self._say(found, plan.warnings)
        try:
            await Execution(self._client, self._informers, world, taken).carry_out(plan)
        except ApiError as error:
            await self._report(world, error)
            raise
        await self._say(found, plan.events)
        await self._write_status(found, plan)
        if taken.fresh(world.now).keys() - world.taken.keys():
            # A name was found in use just now: say so.
            return After(0.0)
        return None if plan.again_after_seconds is None else After(plan.again_after_seconds)

    def _served(self) -> bool:
        """Without these caches it would seem that nothing has been made yet."""
        return self._informers.leader_worker_sets.has_synced and self._informers.scalers.has_synced

    def _look(self, found: SetView, taken: NamesInUse) -> World:
        index, now = f"{found.namespace}/{found.name}", self._clock.now()
        children: list[Child] = []
        dying: set[str] = set()
        foreign: dict[str, str] = {}
        for lws in self._informers.leader_worker_sets.by_index("disaggregated", index):
            name = lws.metadata.name or ""
            child = child_of(lws) if controlled_by(lws.metadata, found.uid) else None
            if child is None:
                foreign[name] = holder_of(lws.metadata)
            elif child.dying:
                dying.add(name)
            else:
                children.append(child)
        fresh = taken.fresh(now)
        foreign |= {
            name: why
            for name, why in _of_kind(LEADER_WORKER_SETS, fresh).items()
            if self._informers.leader_worker_sets.get(found.namespace, name) is not None
        }
        scalers, foreign_scalers = self._look_at_scalers(found)
        return World(
            set=found,
            children=sorted(children, key=lambda child: child.name),
            dying=frozenset(dying),
            services=[
                service
                for service in self._informers.services.by_index("set", index)
                if controlled_by(service.metadata, found.uid) and service.metadata.deletion_timestamp is None
            ],
            scalers=scalers,
            foreign=foreign,
            foreign_scalers=foreign_scalers,
            taken=fresh,
            now=now,
            paused=found.metadata.annotations.get(PAUSED_ANNOTATION) == "true",
        )

    def _look_at_scalers(self, found: SetView) -> tuple[dict[str, Scaler], dict[str, str]]:
        ours: dict[str, Scaler] = {}
        foreign: dict[str, str] = {}
        names = {f"{found.name}-{role.name}" for role in found.spec.roles}
        listed = self._informers.scalers.by_index("set", f"{found.namespace}/{found.name}")
        by_name = [self._informers.scalers.get(found.namespace, name) for name in names]
        for scaler in (*listed, *(each for each in by_name if each is not None)):
            name = scaler.metadata.name or ""
            if controlled_by(scaler.metadata, found.uid):
                ours[name] = scaler
            else:
                foreign[name] = holder_of(scaler.metadata)
        return ours, foreign

    def _keys_of_lws(self, lws: LeaderWorkerSet) -> list[Key]:
        """Of its set, or of those in whose way it is."""
        name = f"{LEADER_WORKER_SETS.kind} {lws.metadata.name}"
        return _keys(lws) or [
            key
            for key, taken in self._taken.items()
            if key.namespace == lws.metadata.namespace and taken.has(name)
        ]

    def _keys_of_scaler(self, scaler: Scaler) -> list[Key]:
        """Of its set, or of those in whose way it may be."""
        keys = _keys(scaler)
        if keys:
            return keys
        namespace, name = scaler.metadata.namespace or "", scaler.metadata.name or ""
        return [
            Key(namespace, found.name)
            for found in self._sets.list(namespace)
            if name in {f"{found.name}-{role}" for role in found.role_names}
        ]

    async def _say(self, found: SetView, events: list[Event]) -> None:
        for event in events:
            await self._recorder.record(
                found, event.reason, event.message, type=event.type, resource=DISAGGREGATED_SETS
            )

    async def _report(self, world: World, error: ApiError) -> None:
        """A refused request goes into the status, where its author looks."""
        if isinstance(error, Conflict) or not isinstance(error, Forbidden | Invalid):
            return
        reason = Reason("FailedCreate", error.message, error.hint)
        plan = plan_set(msgspec.structs.replace(world, trouble=reason))
        await self._say(world.set, [Event(reason=reason.code, message=str(reason), type="Warning")])
        await self._write_status(world.set, plan)

    async def _write_status(self, found: SetView, plan: Plan) -> None:
        if same_status(found.status, plan.status):
            return
        patch = {"metadata": {"uid": found.metadata.uid}, "status": _status_patch(plan.status)}
        try:
            written = await self._client.patch(
                DISAGGREGATED_SETS,
                found.name,
                patch,
                namespace=found.namespace,
                subresource="status",
                type=SetView,
            )
        except (NotFound, Conflict):
            # Deleted meanwhile.
            return
        self._sets.remember(written)


def _status_patch(status: v1.DisaggregatedSetStatus) -> dict[str, Any]:
    """With its empty parts written out: in a merge patch a field that is left out keeps its old value."""
    return {
        "conditions": msgspec.to_builtins(status.conditions),
        "observedGeneration": status.observed_generation,
        "roleStatuses": msgspec.to_builtins(status.role_statuses),
    }


def _of_kind(resource: Resource, taken: dict[str, str]) -> dict[str, str]:
    prefix = f"{resource.kind} "
    return {name.removeprefix(prefix): why for name, why in taken.items() if name.startswith(prefix)}


def _set_name(obj: LeaderWorkerSet | Service | Scaler) -> str:
    """Of its controller, whatever became of its labels; or as the label of somebody else's object says."""
    owner = controller_of(obj.metadata)
    if owner is not None and owner.kind == DISAGGREGATED_SETS.kind:
        return owner.name
    return obj.metadata.labels.get(v1.NAME_LABEL, "")


def _names_of(obj: LeaderWorkerSet | Service | Scaler) -> list[str]:
    name = _set_name(obj)
    return [f"{obj.metadata.namespace}/{name}"] if name else []


def _keys(obj: LeaderWorkerSet | Service | Scaler) -> list[Key]:
    name = _set_name(obj)
    return [Key(obj.metadata.namespace or "", name)] if name else []


def register(runtime: Runtime, gate: Gate | None = None) -> None:
    """Add the controller to a runtime."""
    DisaggregatedSetController(runtime, gate or Gate())
