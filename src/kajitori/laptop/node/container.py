"""One container of a pod, from its first start to its last end: starting, restarting, stopping.

The task in `run` follows the container; cancelling it leaves the container running, which is what an agent that is
replaced wants. Only `stop` ends it. State is read by whoever writes the pod's status; `on_change` tells of changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import time
from typing import Protocol

from kajitori.api.kubernetes.core_v1 import Container, ContainerStatus
from kajitori.base.errors import KajitoriError
from kajitori.base.reason import Reason
from kajitori.engines.images import Program
from kajitori.engines.vllm import Asked
from kajitori.laptop.node.environment import Pod
from kajitori.laptop.node.health import Health, run_hook
from kajitori.laptop.node.launch import (
    ContainerFolder,
    Surroundings,
    adopted_program,
    asked_of,
    start_request,
)
from kajitori.laptop.node.logs import last_lines
from kajitori.laptop.node.node import LOST_EXIT_CODE, Node
from kajitori.laptop.node.references import MissingSource
from kajitori.laptop.node.restarts import BackOff, restarts
from kajitori.laptop.node.runner_client import ContainerRecord, RunnerError, RunnerLost
from kajitori.laptop.node.status import (
    ContainerView,
    Running,
    State,
    Terminated,
    Waiting,
    exit_reason,
    parse_state,
)
from kajitori.laptop.node.volumes import VolumeError

_log = logging.getLogger(__name__)

MESSAGE_BYTES = 4096
LOG_MESSAGE_BYTES = 2048
LOG_MESSAGE_LINES = 80
# What a container gets at least between SIGTERM and SIGKILL after a preStop hook used up its grace.
LEAST_GRACE_SECONDS = 2.0


class Surrounds(Protocol):
    """What a container asks of its pod."""

    @property
    def pod(self) -> Pod: ...

    async def surroundings(self, container: Container) -> Surroundings:
        """Raises MissingSource."""
        ...

    def on_change(self) -> None: ...

    def find_container(self, name: str) -> ContainerLife | None: ...


class Deadline:
    """When a stopping container is killed; may be brought forward while somebody waits for it."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds
        self._changed = asyncio.Event()

    def remaining_seconds(self) -> float:
        return max(0.0, self._at - time.monotonic())

    def bring_forward(self, seconds: float) -> None:
        at = time.monotonic() + seconds
        if at < self._at:
            self._at = at
            self._changed.set()

    async def wait(self, end: asyncio.Future[ContainerRecord | None], least_seconds: float = 0.0) -> bool:
        """Whether the end came before the deadline, which is at least so many seconds from now."""
        least = time.monotonic() + least_seconds
        while not end.done():
            seconds = max(self._at, least) - time.monotonic()
            if seconds <= 0:
                return False
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait({end, changed}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
        return True


class ContainerLife:
    """A container and what is known of it. target: of an ephemeral one, the container whose processes it sees."""

    def __init__(self, node: Node, around: Surrounds, spec: Container, kind: str, target: str = "") -> None:
        self.spec = spec
        self.kind = kind
        self.target = target
        self.state: State = Waiting("ContainerCreating")
        self.last: Terminated | None = None
        self.attempt = 0
        self.health = Health(node, lambda: around.pod, around.on_change, self._ask_restart)
        self.program: Program | None = None
        self.stopping = False
        self._node = node
        self._around = around
        self._back_off = BackOff(first_seconds=node.options.back_off_first_seconds)
        self._end: asyncio.Future[ContainerRecord | None] | None = None
        self._starting: asyncio.Task[ContainerRecord] | None = None
        self._announced = ""
        self._never_started = True

    # What others read

    @property
    def name(self) -> str:
        """As the runner calls the present attempt."""
        return f"{self._around.pod.metadata.uid}/{self.spec.name}/{self.attempt}"

    @property
    def folder(self) -> ContainerFolder:
        return ContainerFolder(
            self._node.pod_folder(self._around.pod.metadata.uid) / self.spec.name, self.attempt
        )

    def view(self) -> ContainerView:
        program = self.program
        has_id = not self._never_started
        return ContainerView(
            name=self.spec.name,
            kind=self.kind,
            image=self.spec.image or "",
            image_id=f"{program.engine}://{program.name}" if program else "",
            container_id=f"kajitori://{self.name}" if has_id else "",
            state=self.state,
            last=self.last,
            restart_count=self.attempt,
            started=self.health.started,
            ready=self.health.ready,
        )

    # Taking over from an agent before

    def restore(self, before: ContainerStatus | None, record: ContainerRecord | None) -> None:
        """Go on from what the status and the runner say."""
        state: State | None = None
        if before is not None:
            state, self.last, self.attempt = parse_state(before)
        last = self.last
        if record is not None:
            self.attempt = int(record.labels["attempt"])
            self._never_started = False
            self._end = self._node.expect_end(self.name)
            if record.state == "exited" and not self._end.done():
                self._end.set_result(record)
            self.state = Running(record.started_at)
            if before is not None and before.restart_count == self.attempt:
                self.health.started, self.health.ready = bool(before.started), before.ready
        elif isinstance(state, Running):
            self._never_started = False
            self.state = self._lost(state.started_at)
        elif isinstance(state, Terminated):
            self._never_started = False
            self.state = state
        elif last is not None:
            # It waited for its next start: last says how the present attempt ended.
            self._never_started = False
            self.state = last
            self.last = None
        self.program = adopted_program(record.labels) if record is not None else None
        if self.program is None:
            asked = Asked(self.spec.command, self.spec.args)
            program = self._node.find_program(self.spec.image or "", asked)
            self.program = program if isinstance(program, Program) else None

    @property
    def ended_well(self) -> bool:
        return isinstance(self.state, Terminated) and self.state.exit_code == 0

    # Living

    async def run(self) -> None:
        """Until it has ended and will not start again."""
        while True:
            if isinstance(self.state, Terminated):
                policy = self._around.pod.spec.restart_policy or "Always"
                if self.stopping or not restarts(self.spec, self.kind, policy, self.state.exit_code):
                    return
                # When many pods are deleted together, some fail since a peer was stopped first. They are not to
                # start again before they hear of their own deletion.
                await asyncio.sleep(self._node.options.settle_seconds - _seconds_since(self.state))
                if self._around.pod.metadata.deletion_timestamp:
                    return
                await self._wait_for_restart(self.state)
            if not isinstance(self.state, Running):
                await self._start()
            if isinstance(self.state, Running):
                await self._attend(self.state)

    async def _wait_for_restart(self, ended: Terminated) -> None:
        ran = ended.finished_at - ended.started_at if ended.started_at else 0.0
        seconds = self._back_off.next_wait_seconds(ran) - _seconds_since(ended)
        if seconds > 0:
            self.last = ended
            pod = self._around.pod
            text = f"restarting failed container={self.spec.name} pod={pod.metadata.name}_{pod.metadata.namespace}"
            self._set(Waiting("CrashLoopBackOff", f"back-off {round(seconds)}s {text}({pod.metadata.uid})"))
            await self._node.event(
                pod,
                "BackOff",
                f"Back-off restarting failed container {self.spec.name} in pod {pod}",
                "Warning",
            )
            await asyncio.sleep(seconds)
        self._tidy_after(self.attempt)
        self.last = ended
        self.attempt += 1
        self.state = Waiting("ContainerCreating")

    def _tidy_after(self, attempt: int) -> None:
        """Forget an attempt, but for its log, which `--previous` shows, and remove the log before it."""
        self._node.forget_end(self.name)
        self._node.spawn(self._forget_record(self.name), f"forget {self.name}")
        base = self.folder.base
        shutil.rmtree(base / str(attempt), ignore_errors=True)
        for path in base.glob(f"{attempt - 1}.log*"):
            path.unlink(missing_ok=True)

    async def _forget_record(self, name: str) -> None:
        with contextlib.suppress(KajitoriError):
            await self._node.runner.call("forget", container=name)

    async def _start(self) -> None:
        """Start it, waiting for whatever is missing; the state is Running or Terminated then."""
        wait_seconds = self._node.options.retry_seconds
        while True:
            try:
                async with self._node.start_slots:
                    await self._try_to_start()
                return
            except RunnerLost:
                await self._node.runner_connected.wait()
                continue
            except _NotYet as error:
                self._set(Waiting(error.reason, error.message))
                if error.message != self._announced:
                    self._announced = error.message
                    await self._node.event(self._around.pod, "Failed", f"Error: {error.message}", "Warning")
            except RunnerError as error:
                self._never_started = False
                now = time.time()
                self._set(Terminated(128, "StartError", error.message, now, now, f"kajitori://{self.name}"))
                await self._node.event(self._around.pod, "Failed", f"Error: {error.message}", "Warning")
                return
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, self._node.options.longest_retry_seconds)

    async def _try_to_start(self) -> None:
        try:
            around = await self._around.surroundings(self.spec)
            found = self._node.find_program(self.spec.image or "", asked_of(self._node, self.spec, around))
            if isinstance(found, Reason):
                raise _NotYet(found.code, str(found))
            request = start_request(self._node, self.spec, found, around, self.name, self.folder)
            if self.target and (target := self._around.find_container(self.target)):
                request["beside"] = target.name
        except (RunnerLost, RunnerError):
            raise
        except MissingSource as error:
            raise _NotYet("CreateContainerConfigError", str(error)) from error
        except (VolumeError, KajitoriError) as error:
            raise _NotYet("CreateContainerError", str(error)) from error
        except OSError as error:
            raise _NotYet("CreateContainerError", f"{error.strerror}: {error.filename}") from error
        self.program = found
        self._end = self._node.expect_end(self.name)
        self._starting = asyncio.ensure_future(self._node.runner.start(request))
        # A start that was sent is not unsent by cancelling: `stop` waits for it and then ends the container.
        try:
            record = await asyncio.shield(self._starting)
        except RunnerError as error:
            if error.exit_code is None:  # not the command's fault
                raise _NotYet("CreateContainerError", error.message) from error
            raise
        self._node.on_container_start(record)
        self._never_started = False
        self.state = Running(record.started_at)
        self._announced = ""

    async def _attend(self, running: Running) -> None:
        """Follow a running container to its end."""
        assert self._end is not None
        adopted = self._starting is None
        self._starting = None
        watching = self._node.spawn(
            self.health.watch(self.spec, self.name, running.started_at, adopted=adopted),
            f"watch {self.name}",
        )
        try:
            if not adopted:
                self._set(running)
                await self._node.event(self._around.pod, "Started", f"Container started: {self.spec.name}")
            record = await asyncio.shield(self._end)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        self.health.ended()
        self._set(self._ended(record) if record else self._lost(running.started_at))

    def _lost(self, started_at: float) -> Terminated:
        return Terminated(
            LOST_EXIT_CODE,
            "ContainerStatusUnknown",
            "the container ended with its node's runner",
            started_at,
            time.time(),
            f"kajitori://{self.name}",
        )

    def _ended(self, record: ContainerRecord) -> Terminated:
        return Terminated(
            record.exit_code,
            exit_reason(record.exit_code),
            self._termination_message(record.exit_code),
            record.started_at,
            record.finished_at,
            f"kajitori://{self.name}",
        )

    def _termination_message(self, exit_code: int) -> str:
        try:
            with self.folder.termination_message.open("rb") as file:
                text = file.read(MESSAGE_BYTES).decode(errors="replace")
        except OSError:
            text = ""
        if not text and exit_code != 0 and self.spec.termination_message_policy == "FallbackToLogsOnError":
            text = last_lines(self.folder.log, LOG_MESSAGE_LINES)[-LOG_MESSAGE_BYTES:]
        return text

    def _set(self, state: State) -> None:
        self.state = state
        self._around.on_change()

    def _ask_restart(self, why: str, grace_seconds: float | None) -> None:
        """End the container so that its restart policy decides what is next."""
        given = self._around.pod.spec.termination_grace_period_seconds
        grace = grace_seconds if grace_seconds is not None else 30.0 if given is None else float(given)
        message = f"Container {self.spec.name} {why}, will be restarted"
        self._node.spawn(self.stop(Deadline(grace), message, for_good=False), f"restart {self.name}")

    # Ending

    async def stop(self, deadline: Deadline, why: str, *, for_good: bool = True) -> None:
        """End it: preStop hook, SIGTERM (or its stop signal), and SIGKILL at the deadline. Returns when it has ended.

        for_good: it does not start again.
        """
        self.stopping = self.stopping or for_good
        if self._starting is not None:
            # StartError and a lost runner leave nothing to stop.
            with contextlib.suppress(KajitoriError):
                record = await asyncio.shield(self._starting)
                self._node.on_container_start(record)
                self.state = Running(record.started_at)
        end = self._end
        if end is None or not isinstance(self.state, Running) or end.done():
            return
        await self._node.event(self._around.pod, "Killing", why)
        await self._pre_stop(deadline)
        while not end.done():
            try:
                await self._node.runner.call("signal", container=self.name, signal=self._stop_signal())
                if await deadline.wait(end, LEAST_GRACE_SECONDS if self._has_pre_stop else 0.0):
                    return
                await self._node.runner.call("kill", container=self.name)
                await asyncio.shield(end)
            except RunnerLost:
                await self._node.runner_connected.wait()
            except RunnerError as error:
                _log.warning("stopping %s: %s", self.name, error)
                await asyncio.sleep(0.1)

    def conclude(self) -> None:
        """Take the state that follows from how it ended, where `run` no longer does."""
        if isinstance(self.state, Running) and self._end is not None and self._end.done():
            record = self._end.result()
            self.health.ended()
            self.state = self._ended(record) if record else self._lost(self.state.started_at)
        elif (
            isinstance(self.state, Waiting)
            and self.last is not None
            and self.state.reason == "CrashLoopBackOff"
        ):
            self.state, self.last = self.last, None

    def names(self) -> list[str]:
        """What the runner may hold of it."""
        return [] if self._never_started else [self.name]

    @property
    def _has_pre_stop(self) -> bool:
        return bool(self.spec.lifecycle and self.spec.lifecycle.pre_stop)

    async def _pre_stop(self, deadline: Deadline) -> None:
        hook = self.spec.lifecycle.pre_stop if self.spec.lifecycle else None
        if hook is None:
            return
        try:
            async with asyncio.timeout(deadline.remaining_seconds()):
                await run_hook(self._node, lambda: self._around.pod, self.spec, self.name, hook)
        except (KajitoriError, OSError, TimeoutError) as error:
            message = str(error) or "it did not end within the termination grace period"
            await self._node.event(
                self._around.pod, "FailedPreStopHook", f"PreStopHook failed: {message}", "Warning"
            )

    def _stop_signal(self) -> int:
        name = self.spec.lifecycle.stop_signal if self.spec.lifecycle else None
        return int(getattr(signal, name or "SIGTERM", signal.SIGTERM))


def _seconds_since(ended: Terminated) -> float:
    return max(0.0, time.time() - (ended.finished_at or time.time()))


class _NotYet(Exception):
    """Why a container cannot be started as things are, as a waiting reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
