"""Ephemeral containers: added to a pod that runs, as `kubectl debug` does, to look at the others.

They start once, at any time after the pod's volumes are there, and count for nothing else of the pod. With a target
they see that container's processes.
"""

from __future__ import annotations

import asyncio

import msgspec

from kajitori.api.kubernetes.core_v1 import Container
from kajitori.laptop.node.container import ContainerLife, Deadline, Surrounds
from kajitori.laptop.node.environment import Pod
from kajitori.laptop.node.node import Node


class Guests:
    """The ephemeral containers of one pod."""

    def __init__(self, node: Node, around: Surrounds) -> None:
        self.lives: list[ContainerLife] = []
        self._node = node
        self._around = around
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    def take(self, pod: Pod) -> None:
        """Note those that are new."""
        known = {life.spec.name for life in self.lives}
        for given in pod.spec.ephemeral_containers:
            if given.name not in known:
                # The same fields as any container's, but for the target.
                spec = msgspec.convert(msgspec.to_builtins(given), Container)
                target = given.target_container_name or ""
                self.lives.append(ContainerLife(self._node, self._around, spec, "ephemeral", target))

    def start(self) -> None:
        """Start those that have not been started yet."""
        for life in self.lives:
            name = life.spec.name
            if name not in self._tasks and not self._stopping:
                self._tasks[name] = self._node.spawn(life.run(), f"{self._around.pod}/{name}")

    async def stop(self, deadline: Deadline) -> None:
        """End them for good."""
        self._stopping = True
        await asyncio.gather(
            *(life.stop(deadline, f"Stopping container {life.spec.name}") for life in self.lives)
        )
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for life in self.lives:
            life.conclude()
