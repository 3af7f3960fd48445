"""The controller of LeaderWorkerSets: looks, asks the plan, carries it out, writes the status.

Reads come from caches that hold only what has a set's name on it. The plan is
made anew each time; beside it there is only a small memory of ends that were decided (`memory.py`).
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import (
    CONTROLLER_REVISIONS,
    LEADER_WORKER_SETS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICES,
    STATEFUL_SETS,
)
from kajitori.base.errors import ApiError, Conflict, Forbidden, Invalid, NotFound
from kajitori.base.reason import Reason
from kajitori.control.controller import After, Controller, Key, Result
from kajitori.control.gate import Gate
from kajitori.control.runtime import Runtime
from kajitori.groups.leader_worker_sets.actions import Event, Plan
from kajitori.groups.leader_worker_sets.blame import Witness
from kajitori.groups.leader_worker_sets.container_commands import ContainerCommands
from kajitori.groups.leader_worker_sets.engine_watch import EngineWatch
from kajitori.groups.leader_worker_sets.execution import Execution, Informers, pod_reference
from kajitori.groups.leader_worker_sets.gang_kinds import GangKinds
from kajitori.groups.leader_worker_sets.gang_objects import (
    methods_in_play,
    with_gang_objects,
    with_schedulers,
)
from kajitori.groups.leader_worker_sets.hanging import hanging_pods
from kajitori.groups.leader_worker_sets.hash_plan import names_groups_by_hash
from kajitori.groups.leader_worker_sets.history import recall
from kajitori.groups.leader_worker_sets.memory import Memory
from kajitori.groups.leader_worker_sets.node_reading import NodeReader
from kajitori.groups.leader_worker_sets.node_states import NodeStates
from kajitori.groups.leader_worker_sets.observed import (
    Claim,
    GangObject,
    Pod,
    Revision,
    Service,
    StatefulSet,
    World,
)
from kajitori.groups.leader_worker_sets.options import GangDefault
from kajitori.groups.leader_worker_sets.plan import same_status
from kajitori.groups.leader_worker_sets.readiness import is_draining
from kajitori.groups.leader_worker_sets.stateful_sets.plan import plan_any_set

COMPONENT = "kajitori.dev/groups"
WORKERS = 4
# Nobody tells us that a quota, a policy or a rule of a definition no longer stands in the way.
LONGEST_BACKOFF_SECONDS = 60.0
# A set of many pods changes many times a second: looking at a thousand of them at most ten times a second keeps
# the work in proportion to the pods, and delays a small set by a millisecond or two.
PODS_LOOKED_AT_PER_SECOND = 10_000


class GroupController:
    """Reconciles one LeaderWorkerSet at a time and key.

    gate: closed while another controller serves the kind. audit: the API server tells who deleted a pod.
    """

    def __init__(
        self, runtime: Runtime, gate: Gate, *, audit: bool, gang_default: GangDefault = "None"
    ) -> None:
        self._gate = gate
        self._gang_default: GangDefault = gang_default
        self._client = runtime.client
        self._clock = runtime.clock
        self._random = runtime.random
        self._recorder = runtime.recorder(COMPONENT)
        self._node_states = NodeStates(runtime.client, runtime.clock)
        self._witness = Witness(runtime.client, self._node_states, audit=audit)
        self._commands = ContainerCommands(runtime.client, runtime.clock, self._node_states)
        self._memories: dict[Key, Memory] = {}
        self._nodes = NodeReader(runtime.client, runtime.clock)
        self._engines = EngineWatch(runtime.client, runtime.clock)
        by_set = {"set": _set_of}
        self._sets = runtime.informer(LEADER_WORKER_SETS, v1.LeaderWorkerSet, optional=True)
        self._informers = Informers(
            pods=runtime.informer(PODS, Pod, label_selector=v1.SET_NAME_LABEL, indexers=by_set),
            services=runtime.informer(SERVICES, Service, label_selector=v1.SET_NAME_LABEL, indexers=by_set),
            revisions=runtime.informer(
                CONTROLLER_REVISIONS, Revision, label_selector=v1.SET_NAME_LABEL, indexers=by_set
            ),
            claims=runtime.informer(
                PERSISTENT_VOLUME_CLAIMS,
                Claim,
                label_selector=v1.SET_NAME_LABEL,
                indexers=by_set,
                metadata_only=True,
            ),
            stateful_sets=runtime.informer(
                STATEFUL_SETS, StatefulSet, label_selector=v1.SET_NAME_LABEL, indexers=by_set
            ),
            gangs=GangKinds(runtime, lambda obj: self._enqueue(controller, obj)),
        )
        controller = runtime.controller(
            "leaderworkerset",
            self.reconcile,
            workers=WORKERS,
            longest_backoff_seconds=LONGEST_BACKOFF_SECONDS,
        )
        controller.watch(self._sets)
        controller.watch(self._informers.pods, _keys)
        controller.watch(self._informers.services, _keys)
        controller.watch(self._informers.revisions, _keys)
        controller.watch(self._informers.claims, _keys)
        controller.watch(self._informers.stateful_sets, _keys)
        gate.on_change(lambda: self._begin_again(controller))

    @staticmethod
    def _enqueue(controller: Controller, obj: GangObject) -> None:
        for key in _keys(obj):
            controller.enqueue(key)

    def _begin_again(self, controller: Controller) -> None:
        """What others did with the sets meanwhile is for the plan to find out; what we remembered is of no use."""
        self._memories.clear()
        for lws in self._sets.list():
            controller.enqueue(Key(lws.metadata.namespace or "", lws.metadata.name or ""))

    async def reconcile(self, key: Key) -> Result:
        """One look at one set."""
        if self._gate.closed is not None:
            return None
        index = f"{key.namespace}/{key.name}"
        if pods := len(self._informers.pods.by_index("set", index)):
            await asyncio.sleep(pods / PODS_LOOKED_AT_PER_SECOND)
        lws = self._sets.get(*key)
        if lws is None:
            self._memories.pop(key, None)
            await self._informers.gangs.release_ended(
                key.namespace, self._informers.pods.by_index("set", index)
            )
            return None
        memory = self._memories.get(key)
        if memory is None or memory.uid != lws.metadata.uid:
            hashed = names_groups_by_hash(lws)
            waiting = recall(lws.status.restarts, self._clock.now(), hashed=hashed)
            memory = self._memories[key] = Memory(lws.metadata.uid or "", waiting)
        world = self._look(lws, index, memory)
        try:
            world = await self._look_around(world, index)
            plan = await self._witness.complete(world, with_gang_objects(world, plan_any_set(world)))
            await self._say(lws, plan.events)
            await Execution(self._client, self._informers, self._recorder, world, memory).carry_out(plan)
        except ApiError as error:
            await self._report(world, error)
            raise
        await self._write_status(lws, plan)
        memory.note_pods(world)
        memory.unrecorded = ()
        await self._commands.run(plan.restart_containers, memory)
        if memory.take_news():
            # What was refused goes into the status, and is waited for.
            return After(0.0)
        if plan.again_after_seconds is not None:
            return After(plan.again_after_seconds)
        return None

    def _look(self, lws: v1.LeaderWorkerSet, index: str, memory: Memory) -> World:
        now = self._clock.now()
        return World(
            set=lws,
            pods=self._informers.pods.by_index("set", index),
            services=self._informers.services.by_index("set", index),
            revisions=self._informers.revisions.by_index("set", index),
            claims=self._informers.claims.by_index("set", index),
            stateful_sets=self._informers.stateful_sets.by_index("set", index),
            now=now,
            token=f"{self._random.getrandbits(40):010x}",
            restarts=memory.restarts,
            taken=memory.taken(now),
            refused=memory.refused(now),
            lives=memory.lives,
            unrecorded=memory.unrecorded,
            commands_refused=self._commands.refused,
            command_failures=memory.command_failures,
            pods_before=memory.pods,
            gang_default=self._gang_default,
        )

    async def _look_around(self, world: World, index: str) -> World:
        """The world with what is asked for only where it matters: nodes, engines, what other schedulers know."""
        if nodes := await self._nodes.nodes_for(world.pods):
            world = msgspec.structs.replace(world, nodes=nodes)
        if draining := [pod for pod in world.pods if pod.worker == 0 and is_draining(pod)]:
            world = msgspec.structs.replace(world, idle=await self._engines.idle(draining))
        if methods := methods_in_play(world):
            world = with_schedulers(world, await self._informers.gangs.look(methods, index))
        if hanging := hanging_pods(world.pods, world.now):
            states = await self._node_states.of(pod.spec.node_name for pod in hanging)
            world = msgspec.structs.replace(world, node_states=states)
        return world

    async def _say(self, lws: v1.LeaderWorkerSet, events: list[Event]) -> None:
        namespace = lws.metadata.namespace or ""
        for event in events:
            related = pod_reference(namespace, event.blame.pod, event.blame.pod_uid) if event.blame else None
            await self._recorder.record(
                lws, event.reason, event.text(), type=event.type, action=event.action, related=related
            )

    async def _report(self, world: World, error: ApiError) -> None:
        """A refused request goes into the status, where its author looks."""
        if isinstance(error, Conflict) or not isinstance(error, Forbidden | Invalid):
            return
        world = msgspec.structs.replace(world, trouble=Reason("FailedCreate", error.message, error.hint))
        plan = plan_any_set(world)
        await self._say(world.set, [event for event in plan.events if event.type == "Warning"])
        await self._write_status(world.set, plan)

    async def _write_status(self, lws: v1.LeaderWorkerSet, plan: Plan) -> None:
        if same_status(lws.status, plan.status):
            return
        status = _status_patch(plan.status)
        if plan.status.restarts != lws.status.restarts:
            # Not every definition of the kind has this field.
            status["restarts"] = msgspec.to_builtins(plan.status.restarts)
        patch = {"metadata": {"uid": lws.metadata.uid}, "status": status}
        try:
            written = await self._client.patch(
                LEADER_WORKER_SETS,
                lws.metadata.name or "",
                patch,
                namespace=lws.metadata.namespace,
                subresource="status",
                type=v1.LeaderWorkerSet,
            )
        except (NotFound, Conflict):
            # Deleted meanwhile.
            return
        self._sets.remember(written)


def _status_patch(status: v1.LeaderWorkerSetStatus) -> dict[str, Any]:
    """With its zeros written out: in a merge patch a field that is left out keeps its old value."""
    return {
        "conditions": msgspec.to_builtins(status.conditions),
        "hpaPodSelector": status.hpa_pod_selector,
        "observedGeneration": status.observed_generation,
        "readyReplicas": status.ready_replicas,
        "replicas": status.replicas,
        "updatedReplicas": status.updated_replicas,
    }


def _set_of(obj: Pod | Service | Revision | Claim | StatefulSet) -> list[str]:
    name = obj.metadata.labels.get(v1.SET_NAME_LABEL)
    return [f"{obj.metadata.namespace}/{name}"] if name else []


def _keys(obj: GangObject | Pod | Service | Revision | Claim | StatefulSet) -> list[Key]:
    name = obj.metadata.labels.get(v1.SET_NAME_LABEL)
    return [Key(obj.metadata.namespace, name)] if name else []


def register(
    runtime: Runtime,
    gate: Gate | None = None,
    *,
    audit: bool = True,
    gang_default: GangDefault = "Binder",
) -> None:
    """Add the controller to a runtime. audit: as our embedded API server has it; others do not.

    gang_default: how groups are placed if a set does not say; `Binder` where the scheduler is ours, `Gate` elsewhere.
    """
    GroupController(runtime, gate or Gate(), audit=audit, gang_default=gang_default)
