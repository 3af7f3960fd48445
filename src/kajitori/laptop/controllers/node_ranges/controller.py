"""Gives a Node without a range of pod addresses one that no other node has, as a cluster's IPAM does."""

from __future__ import annotations

import msgspec

from kajitori.api.resource import NODES
from kajitori.control.cache import Informer
from kajitori.control.controller import Done, Key, Result
from kajitori.control.runtime import Runtime
from kajitori.laptop.controllers.views import View

COMPONENT = "node-ranges"


class _Spec(msgspec.Struct, frozen=True):
    pod_cidr: str = msgspec.field(name="podCIDR", default="")


class NodeRangeView(View, frozen=True, kw_only=True):
    spec: _Spec = _Spec()


class NodeRanges:
    """Reconciles one node at a time. ranges: those to give, the first free one first."""

    def __init__(self, runtime: Runtime, ranges: list[str]) -> None:
        self._client = runtime.client
        self._ranges = ranges
        self._recorder = runtime.recorder(COMPONENT)
        self._nodes: Informer[NodeRangeView] = runtime.informer(NODES, NodeRangeView)
        controller = runtime.controller("node-ranges", self.reconcile)
        controller.watch(self._nodes, when=lambda old, new: new is not None and not new.spec.pod_cidr)

    async def reconcile(self, key: Key) -> Result:
        node = self._nodes.get("", key.name)
        if node is None or node.spec.pod_cidr or node.metadata.deletion_timestamp is not None:
            return Done()
        taken = {each.spec.pod_cidr for each in self._nodes.list()}
        cidr = next((each for each in self._ranges if each not in taken), None)
        if cidr is None:
            await self._recorder.record(
                node, "CIDRNotAvailable", "all ranges for nodes that join are taken", type="Warning", resource=NODES
            )  # fmt: skip
            return Done()
        changed = await self._client.patch(
            NODES, key.name, {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}, type=NodeRangeView
        )
        self._nodes.remember(changed)
        return Done()


def register(runtime: Runtime, ranges: list[str]) -> None:
    NodeRanges(runtime, ranges)
