"""The node lifecycle controller: notices silent nodes, keeps taints in step with conditions, evicts pods.

A node speaks through its lease and its status. What counts is when this process saw either change, by its own
clock; a node's clock is never read. A renewed lease costs nothing here but a note of the time: the check is due
when the grace would be over, and looks at the note then.
"""

from __future__ import annotations

import asyncio

import msgspec

from kajitori.api.kubernetes.core_v1 import Taint
from kajitori.api.resource import LEASES, NODES, PODS
from kajitori.base.clock import rfc3339
from kajitori.base.errors import NotFound
from kajitori.control.cache import Informer
from kajitori.control.controller import After, Key, Result
from kajitori.control.runtime import Runtime
from kajitori.kube.objects import Object, set_condition
from kajitori.laptop.controllers.nodes.plan import (
    GRACE_SECONDS,
    plan_eviction,
    plan_taints,
    silent_conditions,
)
from kajitori.laptop.controllers.pods import node_index
from kajitori.laptop.controllers.views import NodeView, PodView, View

COMPONENT = "node-controller"
LEASE_NAMESPACE = "kube-node-lease"
_BY_NODE = "node"


class Nodes:
    """Reconciles one node, and one pod's stay on its node, at a time."""

    def __init__(self, runtime: Runtime, grace_seconds: float = GRACE_SECONDS) -> None:
        self._client = runtime.client
        self._clock = runtime.clock
        self._grace_seconds = grace_seconds
        self._recorder = runtime.recorder(COMPONENT)
        self._heard: dict[str, float] = {}
        self._nodes: Informer[NodeView] = runtime.informer(NODES, NodeView)
        self._pods: Informer[PodView] = runtime.informer(PODS, PodView, indexers={_BY_NODE: node_index})
        leases: Informer[View] = runtime.informer(LEASES, View, namespace=LEASE_NAMESPACE)
        leases.on_change(self._heard_lease)
        self._nodes.on_change(self._heard_status)
        lifecycle = runtime.controller("nodelifecycle", self.reconcile_node)
        lifecycle.watch(self._nodes, when=_node_matters)
        self._evictions = runtime.controller("taint-eviction", self.reconcile_pod, workers=2)
        self._evictions.watch(self._pods, when=_pod_matters)

    def _heard_lease(self, old: View | None, new: View | None) -> None:
        if new is not None:
            self._heard[new.metadata.name] = asyncio.get_running_loop().time()

    def _heard_status(self, old: NodeView | None, new: NodeView | None) -> None:
        if new is None:
            if old is not None:
                self._heard.pop(old.metadata.name, None)
            return
        reported = old is None or _heartbeats(old) != _heartbeats(new)
        if reported:
            self._heard[new.metadata.name] = asyncio.get_running_loop().time()
        if old is None or old.spec.taints != new.spec.taints:
            for pod in self._pods.by_index(_BY_NODE, new.metadata.name):
                self._evictions.enqueue(Key(pod.metadata.namespace, pod.metadata.name))

    async def reconcile_node(self, key: Key) -> Result:
        node = self._nodes.get("", key.name)
        if node is None:
            return None
        silence = asyncio.get_running_loop().time() - self._heard.get(key.name, 0.0)
        now = rfc3339(self._clock.now())
        if silence >= self._grace_seconds:
            conditions = silent_conditions(node, now)
            if conditions is not None:
                node = await self._write_conditions(node, conditions)
                await self._recorder.record(
                    node,
                    "NodeNotReady",
                    f"Node {key.name} status is now: NodeNotReady",
                    action="MarkNotReady",
                )
        await self._write_taints(node, now)
        if node.condition("Ready").get("status", "Unknown") != "True":
            await self._mark_pods(key.name)
        if silence >= self._grace_seconds:
            # It speaks again by a change of its status, which brings this key back.
            return None
        return After(self._grace_seconds - silence + 0.5)

    async def _write_conditions(self, node: NodeView, conditions: list[Object]) -> NodeView:
        # The version guards against overwriting a status that the node has just posted after all.
        patch: Object = {
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "status": {"conditions": conditions},
        }
        changed = await self._client.patch(
            NODES, node.metadata.name, patch, subresource="status", type=NodeView
        )
        self._nodes.remember(changed)
        return changed

    async def _write_taints(self, node: NodeView, now: str) -> None:
        taints = plan_taints(node, now)
        if taints is None:
            return
        patch: Object = {
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": [_taint_body(taint) for taint in taints]},
        }
        self._nodes.remember(await self._client.patch(NODES, node.metadata.name, patch, type=NodeView))

    async def _mark_pods(self, node_name: str) -> None:
        """Pods of a silent node cannot be counted on: not ready, so that Services leave them out."""
        for pod in self._pods.by_index(_BY_NODE, node_name):
            if pod.has_ended or not pod.is_ready:
                continue
            conditions = set_condition(
                msgspec.to_builtins(pod.status.conditions), "Ready", "False", "NodeNotReady",
                "The node is not ready.", rfc3339(self._clock.now()),
            )  # fmt: skip
            patch: Object = {
                "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
                "status": {"conditions": conditions},
            }
            try:
                marked = await self._client.patch(
                    PODS, pod.metadata.name, patch, namespace=pod.metadata.namespace,
                    subresource="status", type=PodView,
                )  # fmt: skip
            except NotFound:
                continue
            self._pods.remember(marked)

    async def reconcile_pod(self, key: Key) -> Result:
        """Evict the pod if its node's taints say so, now or later."""
        pod = self._pods.get(*key)
        if pod is None or pod.is_deleting or not pod.spec.node_name:
            return None
        node = self._nodes.get("", pod.spec.node_name)
        if node is None:
            return None
        eviction = plan_eviction(node.spec.taints, pod.spec.tolerations, self._clock.now())
        if eviction is None:
            return None
        if eviction.seconds > 0:
            return After(eviction.seconds + 0.5)
        await self._recorder.record(
            pod, "TaintManagerEviction",
            f"Deleting pod: it does not tolerate the taint {eviction.taint} of node {pod.spec.node_name} any longer",
            action="Evict",
        )  # fmt: skip
        try:
            await self._client.delete(
                PODS, pod.metadata.name, pod.metadata.namespace, preconditions_uid=pod.metadata.uid
            )
        except NotFound:
            pass
        return None


def _heartbeats(node: NodeView) -> list[object]:
    return [condition.get("lastHeartbeatTime") for condition in node.status.conditions]


def _taint_body(taint: Taint) -> Object:
    body: Object = {"key": taint.key, "effect": taint.effect}
    if taint.value:
        body["value"] = taint.value
    if taint.time_added:
        body["timeAdded"] = taint.time_added
    return body


def _node_matters(old: NodeView | None, new: NodeView | None) -> bool:
    """Heartbeats alone change nothing that is decided here."""
    if old is None or new is None:
        return new is not None
    return old.spec != new.spec or _statuses(old) != _statuses(new)


def _statuses(node: NodeView) -> list[object]:
    return [(condition.get("type"), condition.get("status")) for condition in node.status.conditions]


def _pod_matters(old: PodView | None, new: PodView | None) -> bool:
    if new is None:
        return False
    return (
        old is None
        or old.spec.node_name != new.spec.node_name
        or old.spec.tolerations != new.spec.tolerations
    )


def register(runtime: Runtime) -> None:
    Nodes(runtime)
