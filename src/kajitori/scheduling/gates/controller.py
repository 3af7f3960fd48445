"""The loop of the gates: gangs that wait are placed as a whole, and their pods' gates opened.

Decisions are made one gang after the other against one state, in which a gang that was placed counts at once: so
gangs never hold parts of each other's room. What a killed process leaves behind is a gang of which some pods are opened
and some are not; the next one places the rest beside them. Where that fails, where the scheduler refuses a chosen node, or
a node goes away before its pod is bound, the gang is marked `gang-released` and whoever made its pods begins it anew.

Nodes and other people's pods are watched from the first gated pod on, and not before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from kajitori.api.resource import NAMESPACES, NODES, PODS
from kajitori.control.runtime import Runtime
from kajitori.model.gang import GANG_LABEL
from kajitori.scheduling.demand import Demand, demand_of
from kajitori.scheduling.gates.members import Failure, Standing, facts_of, failure_of, is_gated, standing_of
from kajitori.scheduling.gates.opening import tied_to
from kajitori.scheduling.gates.placing import Round
from kajitori.scheduling.gates.records import PlacedPod
from kajitori.scheduling.gates.writing import Writer
from kajitori.scheduling.state import ClusterState
from kajitori.scheduling.views import NodeView, PodView, View

_log = logging.getLogger(__name__)

COMPONENT = "kajitori.dev/gang-gates"
HOLDING_A_NODE = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"

_RETRY_SECONDS = 1.0
# Changes that could help come in bursts, and looking again may take at most this share of one core.
_SHORTEST_REST_SECONDS = 0.05
_LOOK_SHARE = 0.2
_TELL_AGAIN_SECONDS = 30.0

GangKey = tuple[str, str]


def register(runtime: Runtime) -> GangGates:
    """Add the gates to a process."""
    return GangGates(runtime)


class GangGates:
    """Watches gangs, decides, opens.

    A gang is in `_open` while something is left to do for it. A pod that was given a node counts in the state (it is
    assumed) until the watch shows it bound or gone.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.state = ClusterState()
        self._runtime = runtime
        self._clock = runtime.clock
        self._open: set[GangKey] = set()
        self._busy: set[GangKey] = set()
        self._assumed: set[str] = set()
        self._demands: dict[str, Demand] = {}
        self._since: dict[GangKey, dict[str, float]] = {}
        self._told: dict[GangKey, tuple[str, float]] = {}
        self._wake = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        # The event loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()
        self._pods = runtime.informer(
            PODS, PodView, label_selector=GANG_LABEL, indexers={"gang": lambda pod: ["/".join(_key(pod))]}
        )
        self._writer = Writer(runtime.client, runtime.recorder(COMPONENT), self._pods)
        self._pods.on_change(self._pod_changed)
        runtime.service("gang-gates", self.run)

    # Changes.

    def _pod_changed(self, old: PodView | None, new: PodView | None) -> None:
        pod = new or old
        if pod is None:
            return
        uid = pod.metadata.uid
        if new is None or old is None or old.spec != new.spec:
            self._demands.pop(uid, None)
        if new is None or new.has_ended:
            if uid in self._assumed:
                self._forget(uid)
            if any(is_gated(other) for other in self._pods_of(_key(pod))):
                # They may have waited for this one to go.
                self._open.add(_key(pod))
                self._wake.set()
            return
        if new.spec.node_name:
            if _key(new) in self._open:
                self._wake.set()
            return
        node = tied_to(new)
        if not is_gated(new):
            if not node:
                # Never ours.
                return
            if uid not in self._assumed and not self.state.node_of(uid):
                self._assume(new, node)
        self._open.add(_key(new))
        self._wake.set()

    def _pods_of(self, key: GangKey) -> list[PodView]:
        return self._pods.by_index("gang", "/".join(key))

    def _assume(self, pod: PodView, node: str) -> None:
        self._assumed.add(pod.metadata.uid)
        self.state.place(demand_of(pod), node)

    def _demand(self, pod: PodView) -> Demand:
        """Of a pod that waits; worked out once."""
        uid = pod.metadata.uid
        demand = self._demands.get(uid)
        if demand is None:
            demand = self._demands[uid] = demand_of(pod)
        return demand

    def _forget(self, uid: str) -> None:
        self._assumed.discard(uid)
        self.state.remove(uid)

    def _other_pod_changed(self, old: PlacedPod | None, new: PlacedPod | None) -> None:
        if new is None:
            if old is not None:
                self._assumed.discard(old.metadata.uid)
                self.state.remove(old.metadata.uid)
                self._wake_waiting()
        elif old is None or old.demand.requests != new.demand.requests:
            self._assumed.discard(new.metadata.uid)
            self.state.place(new.demand, new.spec.node_name)
            self._wake_waiting()

    def _node_changed(self, old: NodeView | None, new: NodeView | None) -> None:
        if new is None:
            if old is not None:
                self.state.remove_node(old.metadata.name)
                self._wake_waiting()
        elif old is None or _offer(old) != _offer(new):
            self.state.set_node(new)
            self._wake_waiting()

    def _namespace_changed(self, old: View | None, new: View | None) -> None:
        if new is None:
            if old is not None:
                self.state.set_namespace(old.metadata.name, None)
        elif old is None or old.metadata.labels != new.metadata.labels:
            self.state.set_namespace(new.metadata.name, new.metadata.labels)

    def _wake_waiting(self) -> None:
        if self._open:
            self._wake.set()

    # The loop.

    async def run(self) -> None:
        """Look whenever something changed for gangs that are not settled; until cancelled."""
        timer: asyncio.TimerHandle | None = None
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._watch_all()
                started = self._now()
                again = self._look()
                if timer is not None:
                    timer.cancel()
                if again is not None:
                    delay = max(0.0, again - self._clock.now())
                    timer = asyncio.get_running_loop().call_later(delay, self._wake.set)
                await asyncio.sleep(max(_SHORTEST_REST_SECONDS, (self._now() - started) / _LOOK_SHARE))
        finally:
            if timer is not None:
                timer.cancel()
            tasks = [*self._tasks, *((self._watching,) if self._watching else ())]
            for task in tasks:
                task.cancel()
            self._watching = None
            await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _watch_all(self) -> None:
        """From the first gated pod on: what nodes have, and what is on them."""
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._begin_watching())
        await asyncio.shield(self._watching)

    async def _begin_watching(self) -> None:
        namespaces = self._runtime.informer(NAMESPACES, View)
        nodes = self._runtime.informer(NODES, NodeView)
        pods = self._runtime.informer(PODS, PlacedPod, field_selector=HOLDING_A_NODE)
        namespaces.on_change(self._namespace_changed)
        nodes.on_change(self._node_changed)
        pods.on_change(self._other_pod_changed)
        for informer in (namespaces, nodes, pods):
            await informer.synced()

    def _look(self) -> float | None:
        """One look at all gangs that are not settled. When to look again at the latest, seconds since 1970."""
        now = self._clock.now()
        due: list[float] = []
        ready: list[tuple[GangKey, Standing]] = []
        for key in list(self._open):
            standing = standing_of(self._pods_of(key))
            if standing is None or standing.settled:
                self._settle(key)
                continue
            if key in self._busy:
                continue
            since = self._since.get(key, {})
            self._since[key] = {fact: since.get(fact, now) for fact in facts_of(standing)}
            failure, again = failure_of(standing, now, self._since[key], self.state.nodes.__contains__)
            if failure is not None:
                self._start(key, self._give_up(standing, failure))
                continue
            if again is not None:
                due.append(again)
            if standing.ready_to_place:
                ready.append((key, standing))
        placing = Round(self.state)
        for key, standing in sorted(ready, key=_turn):
            self._place(key, standing, placing)
        return min(due, default=None)

    def _settle(self, key: GangKey) -> None:
        self._open.discard(key)
        self._since.pop(key, None)
        self._told.pop(key, None)

    def _place(self, key: GangKey, standing: Standing, look: Round) -> None:
        members = [self._demand(pod) for pod in standing.waiting]
        placing = look.place(members, holds=standing.holds)
        if not placing.nodes:
            self._start(None, self._tell_waiting(key, standing, placing.reason))
            return
        self._assumed.update(placing.nodes)
        self._start(key, self._open_all(key, standing, placing.nodes))

    def _start(self, key: GangKey | None, work: Coroutine[Any, Any, None]) -> None:
        """key: the gang that nothing else is done for meanwhile."""
        if key is not None:
            self._busy.add(key)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if key is not None:
                self._busy.discard(key)
                self._wake.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("gang %s: %s", key, error, exc_info=error)

        task.add_done_callback(done)

    # Carrying out.

    async def _open_all(self, key: GangKey, standing: Standing, nodes: Mapping[str, str]) -> None:
        async with asyncio.TaskGroup() as tasks:
            opened = [
                (pod, tasks.create_task(self._writer.open(pod, nodes[pod.metadata.uid])))
                for pod in standing.waiting
            ]
        failed = [pod for pod, task in opened if not task.result()]
        for pod in failed:
            self._forget(pod.metadata.uid)
        if failed:
            await asyncio.sleep(_RETRY_SECONDS)
            return
        self._told.pop(key, None)
        gang = standing.gang
        message = f"gang {gang.name} has places for all its {gang.size} pods: {_spread(nodes.values())}"
        await self._writer.tell(standing, "GangPlaced", message)

    async def _give_up(self, standing: Standing, failure: Failure) -> None:
        if not await self._writer.give_up(standing, failure):
            await asyncio.sleep(_RETRY_SECONDS)

    async def _tell_waiting(self, key: GangKey, standing: Standing, reason: str) -> None:
        """Say why, when it is news, and not more often than a person could read."""
        known, at = self._told.get(key, ("", float("-inf")))
        now = self._now()
        if reason == known or now - at < _TELL_AGAIN_SECONDS:
            return
        self._told[key] = (reason, now)
        await self._writer.tell(standing, "FailedScheduling", reason, warning=True)


def _key(pod: PodView) -> GangKey:
    return pod.metadata.namespace, pod.metadata.labels.get(GANG_LABEL, "")


def _turn(entry: tuple[GangKey, Standing]) -> tuple[int, str, GangKey]:
    """The more important first, then the older."""
    key, standing = entry
    return (
        -max(pod.spec.priority for pod in standing.waiting),
        min(pod.metadata.creation_timestamp for pod in standing.waiting),
        key,
    )


def _offer(node: NodeView) -> tuple[Any, ...]:
    """What a decision depends on; a heartbeat changes none of it."""
    return node.metadata.labels, node.spec, node.status


def _spread(nodes: Iterable[str]) -> str:
    names = sorted(set(nodes))
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
