"""Nodes for the question whether a group can ever fit: listed when pods wait, and not more often than twice a minute."""

from __future__ import annotations

from collections.abc import Sequence

from kajitori.api.resource import NODES
from kajitori.base.clock import Clock
from kajitori.base.errors import ApiError
from kajitori.groups.leader_worker_sets.feasibility import Node, Nodes, is_unplaced
from kajitori.groups.leader_worker_sets.observed import Pod
from kajitori.kube.client import Client

LOOK_AGAIN_SECONDS = 30.0


class NodeReader:
    """One list of all nodes for all sets, kept for half a minute. A watch would cost more than it tells."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._nodes: Nodes | None = None
        self._read_at = float("-inf")

    async def nodes_for(self, pods: Sequence[Pod]) -> Nodes | None:
        """The nodes, if one of the pods finds none; None if all have one, and where nodes cannot be listed."""
        if not any(map(is_unplaced, pods)):
            return None
        now = self._clock.now()
        if now - self._read_at >= LOOK_AGAIN_SECONDS:
            self._read_at = now
            try:
                listed = await self._client.list(NODES, type=Node, resource_version="0")
            except ApiError:
                # A controller with fewer rights says less.
                self._nodes = None
            else:
                self._nodes = Nodes(listed.items)
        return self._nodes
