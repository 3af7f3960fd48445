"""Runs the commands of a restart in place, many at once and each for a few seconds at most.

Each container is looked at just before: one that is another by now, or is being restarted already, is left alone.
What a command leads to shows in the pod; here only matters why it could not be run, so that the group is made anew
at once rather than after a minute of waiting.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence

from kajitori.api.resource import PODS
from kajitori.base.clock import Clock
from kajitori.base.errors import ApiError, Forbidden, NotFound, Unreachable
from kajitori.groups.leader_worker_sets.in_place import RestartContainer
from kajitori.groups.leader_worker_sets.last_lines import last_lines
from kajitori.groups.leader_worker_sets.memory import Memory
from kajitori.groups.leader_worker_sets.node_states import NodeStates
from kajitori.groups.leader_worker_sets.observed import Pod
from kajitori.kube.client import Client
from kajitori.kube.exec import Executed, execute
from kajitori.kube.transport import HttpTransport

COMMANDS_AT_ONCE = 32
COMMAND_SECONDS = 10.0
# How long the status of a pod may lag behind the end of a container, and how often it is looked at in that time.
ENDING_SECONDS = 3.0
ENDING_LOOKS = 10
# So long a right that was refused is not asked for again.
REFUSED_SECONDS = 3600.0
# The command goes down with the container that it ends: killed, or by the signal that it sent.
_TAKEN_ALONG = (137, 143)


class ContainerCommands:
    """Commands in containers of all sets, and whether the controller may run any."""

    def __init__(self, client: Client, clock: Clock, nodes: NodeStates) -> None:
        self._client = client
        self._nodes = nodes
        self._clock = clock
        self._limit = asyncio.Semaphore(COMMANDS_AT_ONCE)
        self._refused = ""
        self._refused_at = float("-inf")

    @property
    def refused(self) -> str:
        """Why commands cannot be run here; empty if they can, or it is time to try again."""
        return self._refused if self._clock.now() - self._refused_at < REFUSED_SECONDS else ""

    async def run(self, restarts: Sequence[RestartContainer], memory: Memory) -> None:
        """Run those that were not run yet; failures go into the memory, by group."""
        async with asyncio.TaskGroup() as tasks:
            for restart in restarts:
                if memory.is_first_run(restart.pod.metadata.uid, restart.container, restart.restarts):
                    tasks.create_task(self._run(restart, memory))

    async def _run(self, restart: RestartContainer, memory: Memory) -> None:
        async with self._limit:
            try:
                failure = await self._execute(restart)
            except Forbidden:
                self._refused = "the controller may not run commands in containers (pods/exec)"
                self._refused_at = self._clock.now()
                failure = self._refused
            except NotFound:
                # The pod is gone, and the watch will tell.
                return
            except Unreachable:
                # A connection that is cut may be the container's end.
                return
            except ApiError as error:
                failure = f"no command runs there: {error.message}"
            # A container that has just ended takes no command either, and its pod says so a moment later.
            if failure and not self.refused and await self._ends_soon(restart):
                return
        if failure:
            memory.command_failures[restart.group] = failure

    async def _ends_soon(self, restart: RestartContainer) -> bool:
        """Whether the container turns out to have ended anyway. Raises nothing."""
        for _ in range(ENDING_LOOKS):
            try:
                if await self._running(restart) is None:
                    return True
            except (ApiError, Unreachable):
                return True
            await asyncio.sleep(ENDING_SECONDS / ENDING_LOOKS)
        return False

    async def _running(self, restart: RestartContainer) -> Pod | None:
        """The pod, if the container that is meant runs in it still. Raises NotFound."""
        metadata = restart.pod.metadata
        pod = await self._client.get(PODS, metadata.name, metadata.namespace, type=Pod)
        statuses = {status.name: status for status in pod.status.container_statuses}
        status = statuses.get(restart.container)
        if pod.metadata.uid != metadata.uid or status is None or status.state.running is None:
            return None
        return pod if status.restart_count == restart.restarts else None

    async def _execute(self, restart: RestartContainer) -> str:
        """What went wrong; empty if nothing did, or there was nothing to do."""
        metadata = restart.pod.metadata
        pod = await self._running(restart)
        if pod is None:
            return ""
        if await self._nodes.shares_processes(pod.spec.node_name):
            return f"containers on node {pod.spec.node_name} have no process ids of their own"
        transport = self._client.transport
        if not isinstance(transport, HttpTransport):
            return "no command can be sent over this connection"
        ended = await execute(
            transport,
            metadata.namespace,
            metadata.name,
            list(restart.command),
            container=restart.container,
            timeout_seconds=COMMAND_SECONDS,
        )
        return failure_of(restart, ended)


def failure_of(restart: RestartContainer, ended: Executed) -> str:
    """What went wrong with the command, without secrets; empty if nothing did."""
    if ended.exit_code == 0 or ended.exit_code in _TAKEN_ALONG:
        return ""
    # It goes into an event, which more people may read than the container's output.
    said = last_lines(ended.errors or ended.output).splitlines()
    what = f": {said[-1][:200]}" if said else ""
    return (
        f"{shlex.join(restart.command)} ended with exit code {ended.exit_code} in container {restart.container}"
        f" of pod {restart.pod.name}{what}"
    )
