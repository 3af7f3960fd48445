"""How a running container is: its postStart hook, its startup, readiness and liveness probes.

`watch` follows one run of a container until it is cancelled, keeps `started` and `ready`, and asks for a restart where
a hook or a probe says so.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from kajitori.api.kubernetes.core_v1 import Container, LifecycleHandler, Probe
from kajitori.base.errors import KajitoriError
from kajitori.laptop.node import probes
from kajitori.laptop.node.environment import Pod
from kajitori.laptop.node.node import Node

# Says why, and the grace that a probe wants for it (None: the pod's).
AskRestart = Callable[[str, float | None], None]


class Health:
    """pod: the pod as it is now. on_change: started or ready may have changed. ask_restart: see AskRestart."""

    def __init__(
        self,
        node: Node,
        pod: Callable[[], Pod],
        on_change: Callable[[], None],
        ask_restart: AskRestart,
    ) -> None:
        self.started = False
        self.ready = False
        self._node = node
        self._pod = pod
        self._on_change = on_change
        self._ask_restart = ask_restart
        self._started_event = asyncio.Event()

    async def wait_until_started(self) -> None:
        await self._started_event.wait()

    def ended(self) -> None:
        self.started = self.ready = False

    async def watch(self, spec: Container, name: str, started_at: float, *, adopted: bool) -> None:
        """name: as the runner calls it. adopted: it was started by an agent before; hooks have run, `started` and
        `ready` are as that one left them."""
        run = _Run(self._node, self._pod, spec, name, started_at)
        hook = spec.lifecycle.post_start if spec.lifecycle else None
        if hook and not adopted:
            try:
                await run.hook(hook)
            except (KajitoriError, OSError) as error:
                message = f"PostStartHook failed: {error}"
                await self._node.event(self._pod(), "FailedPostStartHook", message, "Warning")
                self._ask_restart("failed its postStart hook", None)
                return
        if spec.startup_probe and not self.started and not await run.probe_until_decided(spec.startup_probe):
            self._ask_restart("failed startup probe", _grace(spec.startup_probe))
            return
        self.started = True
        self._started_event.set()
        self.ready = spec.readiness_probe is None or (adopted and self.ready)
        self._on_change()
        async with asyncio.TaskGroup() as group:
            if spec.readiness_probe:
                group.create_task(self._watch_readiness(run, spec.readiness_probe))
            if spec.liveness_probe:
                group.create_task(self._watch_liveness(run, spec.liveness_probe))

    async def _watch_readiness(self, run: _Run, probe: Probe) -> None:
        counter = probes.ProbeCounter(probe, initial=self.ready)
        await run.wait_initially(probe)
        while True:
            if counter.count(await run.attempt(probe, "Readiness")):
                self.ready = bool(counter.healthy)
                self._on_change()
            await asyncio.sleep(probe.period_seconds or 10)

    async def _watch_liveness(self, run: _Run, probe: Probe) -> None:
        counter = probes.ProbeCounter(probe, initial=True)
        await run.wait_initially(probe)
        while True:
            if counter.count(await run.attempt(probe, "Liveness")) and not counter.healthy:
                self._ask_restart("failed liveness probe", _grace(probe))
                return
            # Spread, so that a thousand pods that started together are not probed together for ever.
            await asyncio.sleep((probe.period_seconds or 10) * random.uniform(0.98, 1.02))


def _grace(probe: Probe) -> float | None:
    seconds = probe.termination_grace_period_seconds
    return None if seconds is None else float(seconds)


class _Run:
    """One run of a container, to be probed and hooked."""

    def __init__(
        self, node: Node, pod: Callable[[], Pod], spec: Container, name: str, started_at: float
    ) -> None:
        self._node = node
        self._pod = pod
        self._spec = spec
        self._name = name
        self._started_at = started_at

    def _target(self) -> probes.ProbeTarget:
        record = self._node.records.get(self._name)
        address = record.labels["address"] if record else self._pod().status.pod_ip or ""
        return probes.ProbeTarget(self._spec, address, self._run_inside)

    async def _run_inside(self, argv: list[str]) -> tuple[int, str]:
        async def execute(descriptors: list[int]) -> int:
            return await self._node.runner.execute(self._name, argv, descriptors)

        return await probes.run_with_output(execute)

    async def wait_initially(self, probe: Probe) -> None:
        elapsed = time.time() - self._started_at
        await asyncio.sleep(max(0.0, (probe.initial_delay_seconds or 0) - elapsed))

    async def attempt(self, probe: Probe, kind: str) -> bool:
        outcome = await probes.attempt(probe, self._target())
        if not outcome.success:
            message = f"{kind} probe failed: {outcome.message}"
            await self._node.event(self._pod(), "Unhealthy", message, "Warning")
        return outcome.success

    async def probe_until_decided(self, probe: Probe) -> bool:
        """Probe until the thresholds say healthy or not."""
        counter = probes.ProbeCounter(probe)
        await self.wait_initially(probe)
        while True:
            counter.count(await self.attempt(probe, "Startup"))
            if counter.healthy is not None:
                return counter.healthy
            await asyncio.sleep(probe.period_seconds or 10)

    async def hook(self, hook: LifecycleHandler) -> None:
        """Raises KajitoriError or OSError where it fails."""
        if hook.exec:
            code, output = await self._run_inside(hook.exec.command)
            if code:
                raise KajitoriError(f"command {hook.exec.command} exited with {code}: {output}")
        elif hook.http_get:
            outcome = await probes.http_get(hook.http_get, self._target())
            if not outcome.success:
                raise KajitoriError(outcome.message)
        elif hook.sleep:
            await asyncio.sleep(hook.sleep.seconds)
        elif hook.tcp_socket:
            port = probes.resolve_port(self._spec, hook.tcp_socket.port)
            _, writer = await asyncio.open_connection(hook.tcp_socket.host or self._target().address, port)
            writer.close()


def run_hook(
    node: Node, pod: Callable[[], Pod], spec: Container, name: str, hook: LifecycleHandler
) -> Awaitable[None]:
    """Run a hook in the container that the runner calls so. Raises KajitoriError or OSError where it fails."""
    return _Run(node, pod, spec, name, time.time()).hook(hook)
