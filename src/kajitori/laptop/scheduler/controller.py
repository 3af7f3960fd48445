"""The scheduler's loop: pods that wait are planned in batches and bound.

Informers keep a `ClusterState`; a pod that was decided about counts there at once (it is *assumed*), before the API server
and the watch have said so. A pod for which there is no node is told so by a condition and an event, and then looked at
again only after something has changed that could help: a node, a pod that ended, the pod itself. Nothing is polled.
Where less important pods are in its way they are deleted, and the pod is bound once they have ended.

The pods of a gang are planned together. Where one of them could not be bound after all, the others keep their nodes and
it is planned again, near them; whoever made the gang takes it back if that lasts longer than the gang's deadline.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from kajitori.api.resource import NAMESPACES, NODES, POD_DISRUPTION_BUDGETS, PODS
from kajitori.laptop.scheduler.errands import COMPONENT, RETRY_SECONDS, Errands
from kajitori.laptop.scheduler.gathering import Gathering
from kajitori.laptop.scheduler.telling import Telling
from kajitori.model.gang import GANG_LABEL, PREFIX
from kajitori.scheduling.demand import Demand, demand_of
from kajitori.scheduling.plan import plan
from kajitori.scheduling.pods import Decision
from kajitori.scheduling.state import ClusterState
from kajitori.scheduling.views import BudgetView, NodeView, PodView, View

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from kajitori.control.runtime import Runtime
    from kajitori.scheduling.preemption import Preemption

# Whose pods are ours: the default, and our own name for manifests that want to be sure.
OUR_NAMES = ("", "default-scheduler", "kajitori")

_WRITES_AT_ONCE = 8
_BATCH = 100
# Changes that could help waiting pods come in bursts; one look at all of them for a burst is enough.
_SHORTEST_REST_SECONDS = 0.05
# Looking at waiting pods again may take at most this share of one core.
_LOOK_SHARE = 0.1


def register(runtime: Runtime) -> Scheduler:
    """Add the scheduler to a process."""
    return Scheduler(runtime)


class Scheduler:
    """Watches, decides, has it carried out.

    A pod that needs a node is in exactly one of: `_active` (to be planned next), `_binding` (assumed, until the watch
    shows it on its node), `_parked` (waits for a change, or for the rest of its gang).
    """

    def __init__(self, runtime: Runtime) -> None:
        self.state = ClusterState()
        self._active: dict[str, Demand] = {}
        # A heap, with entries for some that are not active any more.
        self._order: list[tuple[int, str, int, str]] = []
        self._numbers = itertools.count()
        self._binding: dict[str, Demand] = {}
        self._parked: dict[str, Demand] = {}
        self._gangs = Gathering()
        self._watched: set[str] = set()
        self._wake = asyncio.Event()
        self._look_at: float = 0.0
        self._look: asyncio.TimerHandle | None = None
        # The event loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()
        runtime.informer(NAMESPACES, View).on_change(self._namespace_changed)
        runtime.informer(NODES, NodeView).on_change(self._node_changed)
        self._pods = runtime.informer(PODS, PodView)
        self._pods.on_change(self._pod_changed)
        self._budgets = runtime.informer(POD_DISRUPTION_BUDGETS, BudgetView)
        client, clock, recorder = runtime.client, runtime.clock, runtime.recorder(COMPONENT)
        writes = asyncio.Semaphore(_WRITES_AT_ONCE)
        self._errands = Errands(client, clock, recorder, self._pods, writes)
        self._telling = Telling(client, clock, recorder, self._pods, writes, lambda uid: uid in self._parked)
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
            if gone is not None:
                self._pod_ended(gone, exists=new is not None)
            return
        uid = new.metadata.uid
        if new.spec.node_name:
            self._dequeue(uid)
            self._binding.pop(uid, None)
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
            self._start(self._telling.tell_gated(demand_of(new), gates))
            return
        self._enqueue(demand_of(new))

    def _pod_ended(self, pod: PodView, *, exists: bool) -> None:
        if GANG_LABEL in pod.metadata.labels:
            demand = demand_of(pod)
            if exists and pod.status.phase == "Succeeded":
                self._gangs.set_done(demand.group, demand.uid)
            else:
                self._gangs.forget_done(demand.group, demand.uid)
        if self._forget(pod.metadata.uid):
            self._look_again()

    # Queues.

    def _enqueue(self, demand: Demand) -> None:
        """It needs a node; if it is of a gang, those that wait for it may go on."""
        self._parked.pop(demand.uid, None)
        self._activate(demand)
        self._gangs.remove(demand.uid)
        if demand.gang is not None:
            self._gangs.add(demand, self._now())
            self._wake_gang(demand.group)
            if demand.group not in self._watched:
                self._watched.add(demand.group)
                self._watch_patience(demand.group)

    def _activate(self, demand: Demand) -> None:
        """It is planned next, by importance and age."""
        self._active[demand.uid] = demand
        heapq.heappush(self._order, (-demand.priority, demand.created, next(self._numbers), demand.uid))
        self._wake.set()

    def _wake_gang(self, gang: str) -> None:
        for uid in self._gangs.waiting(gang):
            if uid in self._parked:
                self._activate(self._parked.pop(uid))

    def _dequeue(self, uid: str) -> None:
        """It waits for no decision any more."""
        for queue in (self._active, self._parked):
            demand = queue.pop(uid, None)
            if demand is not None:
                self._gangs.remove(uid)
        self._telling.forget(uid)

    def _forget(self, uid: str) -> bool:
        """The pod needs nothing any more. True where that leaves room."""
        self._dequeue(uid)
        self._binding.pop(uid, None)
        return self.state.remove(uid)

    def _watch_patience(self, gang: str) -> None:
        """Look at the gang again once nothing of it has come for a while."""
        seconds = self._gangs.patience(gang, self._now())
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._watch_patience, gang)
        else:
            self._watched.discard(gang)
            self._wake_gang(gang)

    def _look_again(self) -> None:
        """Something changed that could help pods that wait."""
        if self._look is None and self._parked:
            delay = max(_SHORTEST_REST_SECONDS, self._look_at - self._now())
            self._look = asyncio.get_running_loop().call_later(delay, self._unpark)

    def _unpark(self) -> None:
        self._look = None
        parked, self._parked = self._parked, {}
        for demand in parked.values():
            self._activate(demand)

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

    def _take_batch(self) -> list[Demand]:
        """The most important pods that are active, gangs whole; those that wait for the rest of their gang are parked."""
        batch: list[Demand] = []
        now = self._now()
        while self._order and len(batch) < _BATCH:
            *_, uid = heapq.heappop(self._order)
            demand = self._active.get(uid)
            if demand is None:
                # Gone since, or taken with its gang.
                continue
            if demand.gang is None:
                batch.append(self._active.pop(uid))
                continue
            members = [
                self._active.pop(member, None) or self._parked.pop(member)
                for member in self._gangs.waiting(demand.group)
            ]
            placed = self.state.group_pods(demand.group).values()
            if self._gangs.is_due(demand.group, demand.group_size, placed, now):
                batch += members
            else:
                self._parked.update((member.uid, member) for member in members)
        return batch

    def _decide(self) -> None:
        """One batch."""
        started = self._now()
        batch = self._take_batch()
        try:
            decisions = plan(batch, self.state, self._budgets.list(), self._gangs.done)
        except BaseException:
            # Nobody is lost: this service is started again.
            for demand in batch:
                self._activate(demand)
            raise
        for decision in decisions:
            demand = decision.demand
            if decision.node:
                self._binding[demand.uid] = demand
                self._gangs.remove(demand.uid)
                self._telling.forget(demand.uid)
                self._start(self._bind(demand, decision.node))
            else:
                self._park(decision)
        self._look_at = self._now() + (self._now() - started) / _LOOK_SHARE

    def _park(self, decision: Decision) -> None:
        demand, found = decision.demand, decision.preemption
        if found is not None:
            demand = msgspec.structs.replace(demand, nominated_node=found.node)
            for victim in found.victims:
                self._lose_nomination(victim)
        self._parked[demand.uid] = demand
        if self._telling.news(demand, decision.message):
            self._start(self._telling.tell(demand))
        if found is not None:
            self._start(self._make_way(demand, found))

    def _lose_nomination(self, victim: Demand) -> None:
        """A pod that only held its place has lost it; it is looked at again."""
        for queue in (self._active, self._parked):
            waiting = queue.get(victim.uid)
            if waiting is not None:
                queue[victim.uid] = msgspec.structs.replace(waiting, nominated_node="")

    # Carrying out.

    async def _bind(self, demand: Demand, node: str) -> None:
        retry_seconds = await self._errands.bind(demand, node)
        if retry_seconds is not None:
            asyncio.get_running_loop().call_later(retry_seconds, partial(self._take_back, demand))

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
            self._enqueue(demand_of(pod))

    async def _make_way(self, demand: Demand, found: Preemption) -> None:
        """Less important pods are told to go; the one that they go for gets the node's name."""
        await self._errands.nominate(demand, found.node)
        for victim in found.victims:
            if victim.nominated_node:
                await self._errands.nominate(victim, "")
                self._look_again()
            elif not victim.leaving:
                node = self.state.node_of(victim.uid)
                cause = f"pod {demand.uid} on node {node}" if demand.gang is None else f"gang {demand.group}"
                if not await self._errands.evict(victim, cause):
                    # It is found again when the pod that waits is looked at again.
                    self.state.place(victim, node)
                    asyncio.get_running_loop().call_later(RETRY_SECONDS, self._look_again)


def _offer(node: NodeView) -> object:
    """What a node's change has to touch to matter."""
    return node.metadata.labels, node.spec, node.status.allocatable


def _asks(pod: PodView) -> object:
    """What a pod's change has to touch to matter."""
    metadata = pod.metadata
    gang = [value for key, value in metadata.annotations.items() if key.startswith(PREFIX)]
    return metadata.uid, metadata.labels, gang, pod.spec, metadata.deletion_timestamp


def _wants_a_node(pod: PodView) -> bool:
    return (
        not pod.spec.node_name
        and not pod.has_ended
        and not pod.spec.scheduling_gates
        and pod.metadata.deletion_timestamp is None
    )
