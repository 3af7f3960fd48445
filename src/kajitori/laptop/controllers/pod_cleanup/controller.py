"""Clears pods away that nobody else will: of nodes that are gone, deleted before any node had them, ended ones in masses.

A pod on a node that does not exist is deleted at once and without grace, after the node was asked for at the
server and has been missing for a while: a cache may be behind, and a node may register a moment after its pods
were seen.
"""

from __future__ import annotations

import asyncio

from kajitori.api.resource import NODES, PODS
from kajitori.base.errors import NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result
from kajitori.control.runtime import Runtime
from kajitori.laptop.controllers.pods import node_index
from kajitori.laptop.controllers.views import NodeView, PodView

COMPONENT = "pod-garbage-collector"
MISSING_NODE_SECONDS = 20.0
# As many ended pods are kept as kube-controller-manager keeps by default.
MOST_ENDED = 12_500
_BY_NODE = "node"


class PodCleanup:
    """Reconciles one pod at a time."""

    def __init__(self, runtime: Runtime, most_ended: int = MOST_ENDED) -> None:
        self._client = runtime.client
        self._most_ended = most_ended
        self._recorder = runtime.recorder(COMPONENT)
        self._missing_since: dict[str, float] = {}
        self._ended: dict[tuple[str, str], str] = {}
        self._pods: Informer[PodView] = runtime.informer(PODS, PodView, indexers={_BY_NODE: node_index})
        self._nodes: Informer[NodeView] = runtime.informer(NODES, NodeView)
        self._controller = runtime.controller("podgc", self.reconcile)
        self._controller.watch(self._pods, when=self._pod_matters)
        self._pods.on_change(self._count_ended)
        self._nodes.on_change(self._node_changed)

    def _pod_matters(self, old: PodView | None, new: PodView | None) -> bool:
        if new is None:
            return False
        if old is None or old.spec.node_name != new.spec.node_name or old.is_deleting != new.is_deleting:
            return bool(new.spec.node_name) or new.is_deleting
        return False

    def _node_changed(self, old: NodeView | None, new: NodeView | None) -> None:
        if new is not None:
            self._missing_since.pop(new.metadata.name, None)
        elif old is not None:
            for pod in self._pods.by_index(_BY_NODE, old.metadata.name):
                self._controller.enqueue(Key(pod.metadata.namespace, pod.metadata.name))

    def _count_ended(self, old: PodView | None, new: PodView | None) -> None:
        """Keep the list of ended pods; too many: the oldest is due."""
        pod = new if new is not None else old
        if pod is None:
            return
        key = (pod.metadata.namespace, pod.metadata.name)
        if new is None or not new.has_ended or new.is_deleting:
            self._ended.pop(key, None)
        elif key not in self._ended:
            self._ended[key] = new.metadata.uid
            if len(self._ended) > self._most_ended:
                self._controller.enqueue(Key(*next(iter(self._ended))))

    async def reconcile(self, key: Key) -> Result:
        pod = self._pods.get(*key)
        if pod is None:
            return None
        if not pod.spec.node_name:
            if pod.is_deleting and not pod.metadata.finalizers:
                await self._remove(pod, "it was deleted before it was bound to a node")
            return None
        if self._nodes.get("", pod.spec.node_name) is None:
            return await self._reconcile_orphan(pod)
        if len(self._ended) > self._most_ended and next(iter(self._ended)) == (key.namespace, key.name):
            await self._remove(pod, "too many pods have ended")
            self._ended.pop((key.namespace, key.name), None)
        return None

    async def _reconcile_orphan(self, pod: PodView) -> Result:
        node = pod.spec.node_name
        now = asyncio.get_running_loop().time()
        left = self._missing_since.setdefault(node, now) + MISSING_NODE_SECONDS - now
        if left > 0:
            return After(left + 0.5)
        try:
            await self._client.get(NODES, node, type=NodeView)
        except NotFound:
            await self._remove(pod, f"node {node} does not exist")
        return None

    async def _remove(self, pod: PodView, why: str) -> None:
        await self._recorder.record(pod, "PodGC", f"Deleting pod: {why}", action="Delete")
        try:
            if not pod.has_ended:
                # Say how it ended, for whoever counts its end.
                status = {"phase": "Failed", "message": f"PodGC: {why}"}
                await self._client.patch(
                    PODS, pod.metadata.name, {"metadata": {"uid": pod.metadata.uid}, "status": status},
                    namespace=pod.metadata.namespace, subresource="status",
                )  # fmt: skip
            await self._client.delete(
                PODS, pod.metadata.name, pod.metadata.namespace,
                grace_period_seconds=0, preconditions_uid=pod.metadata.uid,
            )  # fmt: skip
        except NotFound:
            pass


def register(runtime: Runtime) -> None:
    PodCleanup(runtime)
