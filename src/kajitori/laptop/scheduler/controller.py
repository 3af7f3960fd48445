"""The scheduler's loop: pods that wait are planned in batches and bound.

Informers keep a `ClusterState`; a pod that was decided about counts there at once (it is *assumed*), before the API server
and the watch have said so. A pod for which there is no node is told so by a condition and an event, and then looked at
again only after something has changed that could help: a node, a pod that ended, the pod itself. Nothing is polled.
Where less important pods are in its way they are deleted, and the pod is bound once they have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import msgspec

from kajitori.api.resource import NAMESPACES, NODES, POD_DISRUPTION_BUDGETS, PODS
from kajitori.base.clock import rfc3339
from kajitori.base.errors import Conflict, KajitoriError, NotFound
from kajitori.kube.objects import Object, set_condition
from kajitori.scheduling.demand import Demand, demand_of
from kajitori.scheduling.plan import plan
from kajitori.scheduling.pods import Decision
from kajitori.scheduling.state import ClusterState
from kajitori.scheduling.views import BudgetView, NodeView, PodView, View

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kajitori.control.runtime import Runtime
    from kajitori.scheduling.preemption import Preemption

_log = logging.getLogger(__name__)

COMPONENT = "default-scheduler"
# Whose pods are ours: the default, and our own name for manifests that want to be sure.
OUR_NAMES = ("", "default-scheduler", "kajitori")

_BINDINGS_AT_ONCE = 8
_BATCH = 100
_RETRY_SECONDS = 1.0
_CONDITION_TRIES = 10
# Changes that could help waiting pods come in bursts; one look at all of them for a burst is enough.
_SHORTEST_REST_SECONDS = 0.05
# Looking at waiting pods again may take at most this share of one core.
_LOOK_SHARE = 0.1

GATED = "SchedulingGated"
UNSCHEDULABLE = "Unschedulable"


def register(runtime: Runtime) -> Scheduler:
    """Add the scheduler to a process."""
    return Scheduler(runtime)


class Scheduler:
    """Watches, decides, binds.

    A pod that needs a node is in exactly one of: `_active` (to be planned next), `_binding` (assumed, until the watch
    shows it on its node), `_parked` (waits for a change).
    """

    def __init__(self, runtime: Runtime) -> None:
        self.state = ClusterState()
        self._client = runtime.client
        self._clock = runtime.clock
        self._recorder = runtime.recorder(COMPONENT)
        self._active: dict[str, Demand] = {}
        self._binding: dict[str, Demand] = {}
        self._parked: dict[str, Demand] = {}
        self._wake = asyncio.Event()
        self._look_at: float = 0.0
        self._look: asyncio.TimerHandle | None = None
        # The event loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()
        self._bindings = asyncio.Semaphore(_BINDINGS_AT_ONCE)
        runtime.informer(NAMESPACES, View).on_change(self._namespace_changed)
        runtime.informer(NODES, NodeView).on_change(self._node_changed)
        self._pods = runtime.informer(PODS, PodView)
        self._pods.on_change(self._pod_changed)
        self._budgets = runtime.informer(POD_DISRUPTION_BUDGETS, BudgetView)
        runtime.service("scheduler", self.run)

    # Changes.

    def _namespace_changed(self, old: View | None, new: View | None) -> None:
        if new is not None and (old is None or old.metadata.labels != new.metadata.labels):
            self.state.set_namespace(new.metadata.name, new.metadata.labels)
            self._look_again()
        elif new is None and old is not None:
            self.state.set_namespace(old.metadata.name, None)

    def _node_changed(self, old: NodeView | None, new: NodeView | None) -> None:
        if new is None:
            if old is not None:
                self.state.remove_node(old.metadata.name)
        elif old is None or _offer(old) != _offer(new):
            self.state.set_node(new)
            self._look_again()

    def _pod_changed(self, old: PodView | None, new: PodView | None) -> None:
        if new is None or new.has_ended:
            gone = new or old
            if gone is not None and self._forget(gone.metadata.uid):
                self._look_again()
            return
        uid = new.metadata.uid
        if new.spec.node_name:
            for queue in (self._active, self._parked, self._binding):
                queue.pop(uid, None)
            if old is None or old.spec.node_name != new.spec.node_name or _asks(old) != _asks(new):
                self.state.place(demand_of(new), new.spec.node_name)
                # It may be what others want to be near to.
                self._look_again()
            return
        if new.spec.scheduler_name not in OUR_NAMES:
            return
        if new.metadata.deletion_timestamp is not None:
            self._forget(uid)
            return
        if (old is not None and _asks(old) == _asks(new)) or uid in self._binding:
            return
        if new.spec.scheduling_gates:
            self._forget(uid)
            gates = ", ".join(gate.name for gate in new.spec.scheduling_gates)
            self._start(self._tell_gated(demand_of(new), gates))
            return
        self._parked.pop(uid, None)
        self._active[uid] = demand_of(new)
        self._wake.set()

    def _forget(self, uid: str) -> bool:
        """The pod needs nothing any more. True where that leaves room."""
        for queue in (self._active, self._parked, self._binding):
            queue.pop(uid, None)
        return self.state.remove(uid)

    def _look_again(self) -> None:
        """Something changed that could help pods that wait."""
        if self._look is None and self._parked:
            delay = max(_SHORTEST_REST_SECONDS, self._look_at - self._now())
            self._look = asyncio.get_running_loop().call_later(delay, self._unpark)

    def _unpark(self) -> None:
        self._look = None
        # Parked ones are older than what came since.
        self._active = self._parked | self._active
        self._parked = {}
        self._wake.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Deciding.

    async def run(self) -> None:
        """Plan whenever pods are there to plan; until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._active:
                    self._decide()
                    # Let bindings begin, and changes come in.
                    await asyncio.sleep(0)
        finally:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _decide(self) -> None:
        """One batch: the most important pods that are active."""
        batch = sorted(self._active.values(), key=lambda demand: -demand.priority)[:_BATCH]
        started = self._now()
        for demand in batch:
            del self._active[demand.uid]
        for decision in plan(batch, self.state, self._budgets.list()):
            uid = decision.demand.uid
            if decision.node:
                self._binding[uid] = decision.demand
                self._start(self._bind(decision))
                continue
            self._parked[uid] = decision.demand
            self._start(self._tell_waiting(decision))
            if decision.preemption is not None:
                self._start(self._make_way(decision.demand, decision.preemption))
        self._look_at = self._now() + (self._now() - started) / _LOOK_SHARE

    # Carrying out.

    async def _bind(self, decision: Decision) -> None:
        demand = decision.demand
        body: Object = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": demand.name, "namespace": demand.namespace, "uid": demand.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": decision.node},
        }
        try:
            async with self._bindings:
                await self._client.create(PODS, body, namespace=demand.namespace, subresource="binding")
        except (NotFound, Conflict) as error:
            # Gone, or bound by someone else: the watch tells. If it is neither, the pod is planned again.
            _log.info("%s was not bound to %s: %s", demand.key, decision.node, error)
            asyncio.get_running_loop().call_later(_RETRY_SECONDS / 10, self._take_back, demand)
        except KajitoriError as error:
            _log.warning("%s could not be bound to %s, again soon: %s", demand.key, decision.node, error)
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._take_back, demand)
        else:
            pod = self._pods.get(demand.namespace, demand.name)
            await self._recorder.record(
                pod or _about(demand),
                "Scheduled",
                f"Successfully assigned {demand.key} to {decision.node}",
                action="Binding",
            )

    def _take_back(self, demand: Demand) -> None:
        """A binding failed: what was assumed does not hold."""
        if self._binding.pop(demand.uid, None) is None:
            return
        pod = self._pods.get(demand.namespace, demand.name)
        if pod is not None and pod.metadata.uid == demand.uid and pod.spec.node_name:
            return
        self.state.remove(demand.uid)
        self._look_again()
        if pod is not None and pod.metadata.uid == demand.uid and _wants_a_node(pod):
            self._active[demand.uid] = demand_of(pod)
            self._wake.set()

    async def _tell_waiting(self, decision: Decision) -> None:
        demand = decision.demand

        def still_waits(pod: PodView) -> bool:
            return pod.metadata.uid == demand.uid and demand.uid in self._parked

        pod = await self._set_condition(demand, UNSCHEDULABLE, decision.message, still_waits)
        if pod is not None:
            await self._recorder.record(
                pod, "FailedScheduling", decision.message, type="Warning", action="Scheduling"
            )

    async def _make_way(self, demand: Demand, found: Preemption) -> None:
        """Less important pods are told to go; the one that they go for gets the node's name."""
        nominated = msgspec.structs.replace(demand, nominated_node=found.node)
        if demand.uid in self._parked:
            self._parked[demand.uid] = nominated
        await self._nominate(nominated)
        for victim in found.victims:
            if victim.nominated_node:
                await self._nominate(msgspec.structs.replace(victim, nominated_node=""))
                self._look_again()
            elif not victim.leaving:
                await self._evict(victim, demand, found.node)

    async def _nominate(self, demand: Demand) -> None:
        patch: Object = {
            "metadata": {"uid": demand.uid},
            "status": {"nominatedNodeName": demand.nominated_node or None},
        }
        with contextlib.suppress(NotFound, Conflict):
            await self._patch_status(demand, patch)

    async def _evict(self, victim: Demand, demand: Demand, node: str) -> None:
        pod = self._pods.get(victim.namespace, victim.name)
        if pod is None or pod.metadata.uid != victim.uid:
            return
        now = rfc3339(self._clock.now())
        message = f"{COMPONENT}: preempting to accommodate a higher priority pod"
        conditions = set_condition(
            pod.status.conditions, "DisruptionTarget", "True", "PreemptionByScheduler", message, now
        )
        patch: Object = {"metadata": {"uid": victim.uid}, "status": {"conditions": conditions}}
        try:
            await self._patch_status(victim, patch)
            async with self._bindings:
                await self._client.delete(PODS, victim.name, victim.namespace, preconditions_uid=victim.uid)
        except (NotFound, Conflict):
            return
        except KajitoriError as error:
            # It is found again when the pod that waits is looked at again.
            _log.warning("%s could not be told to go: %s", victim.key, error)
            self.state.place(victim, node)
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._look_again)
            return
        await self._recorder.record(
            pod, "Preempted", f"Preempted by pod {demand.uid} on node {node}", action="Preempting"
        )

    async def _patch_status(self, demand: Demand, patch: Object) -> None:
        async with self._bindings:
            await self._client.patch(
                PODS, demand.name, patch, namespace=demand.namespace, subresource="status", type=PodView
            )

    async def _tell_gated(self, demand: Demand, gates: str) -> None:
        def still_gated(pod: PodView) -> bool:
            return pod.metadata.uid == demand.uid and bool(pod.spec.scheduling_gates)

        message = f"Scheduling is blocked due to non-empty scheduling gates: {gates}"
        await self._set_condition(demand, GATED, message, still_gated)

    async def _set_condition(
        self, demand: Demand, reason: str, message: str, holds: Callable[[PodView], bool]
    ) -> PodView | None:
        """PodScheduled=False for this reason, as long as that `holds`. The pod if it was news to it.

        The version guards against saying so of a pod that has been bound since.
        """
        for _ in range(_CONDITION_TRIES):
            pod = self._pods.get(demand.namespace, demand.name)
            if pod is None or not holds(pod):
                return None
            known = pod.condition("PodScheduled")
            if (known.get("status"), known.get("reason"), known.get("message")) == ("False", reason, message):
                return None
            now = rfc3339(self._clock.now())
            conditions = set_condition(pod.status.conditions, "PodScheduled", "False", reason, message, now)
            patch: Object = {
                "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
                "status": {"conditions": conditions},
            }
            try:
                async with self._bindings:
                    changed = await self._client.patch(
                        PODS,
                        demand.name,
                        patch,
                        namespace=demand.namespace,
                        subresource="status",
                        type=PodView,
                    )
            except NotFound:
                return None
            except Conflict:
                # The cache is behind by a moment.
                await asyncio.sleep(_RETRY_SECONDS / 10)
            except KajitoriError as error:
                _log.warning("the condition of %s could not be written, again soon: %s", demand.key, error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._pods.remember(changed)
                return changed
        return None


def _offer(node: NodeView) -> object:
    """What a node's change has to touch to matter."""
    return node.metadata.labels, node.spec, node.status.allocatable


def _asks(pod: PodView) -> object:
    """What a pod's change has to touch to matter."""
    return pod.metadata.uid, pod.metadata.labels, pod.spec, pod.metadata.deletion_timestamp


def _wants_a_node(pod: PodView) -> bool:
    return (
        not pod.spec.node_name
        and not pod.has_ended
        and not pod.spec.scheduling_gates
        and pod.metadata.deletion_timestamp is None
    )


def _about(demand: Demand) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": demand.namespace, "name": demand.name, "uid": demand.uid},
    }
