"""One pod of the node, from binding to removal.

`run` first takes over what an earlier agent left, then admits the pod (address, GPUs), sets up its volumes, runs init
containers one by one, starts the others and follows them until the pod is over. When the pod is to be deleted, its
containers are stopped, its last status is written, and the API server is told that it is gone. Cancelling `run` leaves
everything running.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from kajitori.api.kubernetes.core_v1 import Container
from kajitori.api.resource import PODS
from kajitori.base.clock import parse_rfc3339
from kajitori.base.errors import ApiError, Conflict, Infeasible, KajitoriError, NotFound, Unreachable
from kajitori.laptop.node.container import ContainerLife, Deadline
from kajitori.laptop.node.environment import Pod, PodFacts
from kajitori.laptop.node.guests import Guests
from kajitori.laptop.node.hosts import own_names
from kajitori.laptop.node.launch import Surroundings, limits_of, requested_gpus
from kajitori.laptop.node.names import PodNames
from kajitori.laptop.node.node import Node
from kajitori.laptop.node.pod_volumes import PodVolumes
from kajitori.laptop.node.references import MissingSource, Reference, environment_references
from kajitori.laptop.node.status import ContainerView, PodView, Waiting, is_over

_log = logging.getLogger(__name__)

# Containers of a pod that vanished from the API without a word get so long.
ORPHAN_GRACE_SECONDS = 1.0
_LEAST_RENEWAL_SECONDS = 10.0


class PodWorker:
    """pod: as the API server last said. on_change: the status may have changed."""

    def __init__(self, node: Node, pod: Pod, on_change: Callable[[PodWorker], None]) -> None:
        self.node = node
        self.pod = pod
        self.gone = False
        self._on_change = on_change
        self._volumes = PodVolumes(node, pod)
        self._address = ""
        self._gpus: dict[str, list[int]] = {}
        self._prepared = False
        self._failure: tuple[str, str] | None = None
        self._over_before = is_over(pod.status.phase or "")
        self._start_time = parse_rfc3339(pod.status.start_time) if pod.status.start_time else time.time()
        self._ending = asyncio.Event()
        self._ended = False
        self._deadline: Deadline | None = None
        self._inits = [
            ContainerLife(node, self, each, "sidecar" if each.restart_policy == "Always" else "init")
            for each in pod.spec.init_containers
        ]
        self._mains = [ContainerLife(node, self, each, "main") for each in pod.spec.containers]
        self._guests = Guests(node, self)
        self._guests.take(pod)
        if self._inits:
            for life in (*self._inits, *self._mains):
                life.state = Waiting("PodInitializing")

    @property
    def lives(self) -> list[ContainerLife]:
        return [*self._inits, *self._mains, *self._guests.lives]

    def find_container(self, name: str) -> ContainerLife | None:
        return next((life for life in self.lives if life.spec.name == name), None)

    @property
    def facts(self) -> PodFacts:
        return PodFacts(
            self.pod, self._address, self.node.settings.address, self.node.name, self.node.allocatable
        )

    def on_change(self) -> None:
        self._on_change(self)

    def view(self) -> PodView | None:
        """What the status shall say; None where the status that is there is the last one."""
        if self._over_before:
            return None
        simulated = sorted(
            {life.program.notice for life in self.lives if life.program and life.program.notice}
        )
        return PodView(
            containers=[self._view(life) for life in self.lives],
            prepared=self._prepared,
            address=self._address,
            host_address=self.node.settings.address,
            start_time=self._start_time,
            failure=self._failure,
            restart_policy=self.pod.spec.restart_policy or "Always",
            limits=limits_of(self.node, self.pod),
            simulated="; ".join(simulated),
            ended=self._ended,
        )

    def _view(self, life: ContainerLife) -> ContainerView:
        view = life.view()
        return view._replace(ready=view.is_done) if life.kind == "init" else view

    # What others tell

    def update(self, pod: Pod) -> None:
        """The API server has a new version of the pod."""
        before, self.pod = self.pod, pod
        if pod.metadata.deletion_timestamp:
            grace = pod.metadata.deletion_grace_period_seconds
            self._end_within(30.0 if grace is None else float(grace))
            return
        self._guests.take(pod)
        if self._prepared:
            self._guests.start()
        labels = (pod.metadata.labels, pod.metadata.annotations)
        if self._prepared and labels != (before.metadata.labels, before.metadata.annotations):
            self.node.spawn(self.refresh(), f"refresh {pod}")
        for life in self._mains:
            image = next((each.image for each in pod.spec.containers if each.name == life.spec.name), None)
            if image and image != life.spec.image:
                self.node.spawn(self._replace_image(life, pod), f"image of {pod}")
        self.on_change()

    def removed(self) -> None:
        """The pod is no longer in the API."""
        self.gone = True
        self._end_within(ORPHAN_GRACE_SECONDS)

    def _end_within(self, seconds: float) -> None:
        if self._deadline is None:
            self._deadline = Deadline(seconds)
        else:
            self._deadline.bring_forward(seconds)
        self._ending.set()

    async def _replace_image(self, life: ContainerLife, pod: Pod) -> None:
        life.spec = next(each for each in pod.spec.containers if each.name == life.spec.name)
        why = f"Container {life.spec.name} definition changed, will be restarted"
        await life.stop(Deadline(self._grace_seconds()), why, for_good=False)

    def sources_changed(self, namespace: str, reference: Reference) -> None:
        if namespace == self.pod.metadata.namespace and self._volumes.refers_to(reference) and self._prepared:
            self.node.spawn(self.refresh(), f"refresh {self.pod}")

    async def refresh(self) -> None:
        """Write again volumes whose contents may have changed."""
        try:
            await self._volumes.refresh(self.facts)
        except (KajitoriError, OSError) as error:
            await self.node.event(self.pod, "FailedMount", f"updating volumes: {error}", "Warning")

    # Living

    async def run(self) -> None:
        """Until the pod is gone from this node."""
        self._restore()
        if self.pod.metadata.deletion_timestamp:
            self.update(self.pod)
        living = asyncio.ensure_future(self._live_and_release())
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await ending
        finally:
            for task in (living, ending):
                task.cancel()
            await asyncio.gather(living, ending, return_exceptions=True)
        await self._end()

    def _restore(self) -> None:
        statuses = {
            each.name: each
            for each in (
                *self.pod.status.init_container_statuses,
                *self.pod.status.container_statuses,
                *self.pod.status.ephemeral_container_statuses,
            )
        }
        latest = {
            record.labels["container"]: record
            for record in sorted(self.node.records.values(), key=lambda record: int(record.labels["attempt"]))
            if record.labels["uid"] == self.pod.metadata.uid
        }
        for life in self.lives:
            name = life.spec.name
            if name in latest or name in statuses:
                life.restore(statuses.get(name), latest.get(name))
            if name in latest and (text := latest[name].labels["gpus"]):
                wanted = [int(number) for number in text.split(",")]
                with contextlib.suppress(Infeasible):
                    self._gpus[name] = self.node.gpus.take(self._device_owner(name), len(wanted), wanted)
            waiting = isinstance(life.state, Waiting) and life.state.reason == "ContainerCreating"
            if waiting and self._inits and life.kind != "ephemeral":
                life.state = Waiting("PodInitializing")

    def _device_owner(self, container: str) -> str:
        return f"{self.pod.metadata.uid}/{container}"

    async def _live_and_release(self) -> None:
        if self._over_before or not self._admit():
            self.on_change()
            return
        while True:
            try:
                await self._live()
                break
            except Exception:
                # A mistake of ours about one pod: its containers stay as they are, and we look again.
                _log.exception("pod %s", self.pod)
                await asyncio.sleep(self.node.options.longest_retry_seconds)
        self.on_change()
        await self._release()

    async def _live(self) -> None:
        deadline = asyncio.timeout(self._active_deadline_seconds())
        try:
            async with deadline:
                await self._prepare()
                self._guests.start()
                renewal = asyncio.ensure_future(self._renew_tokens())
                try:
                    await self._run_containers()
                finally:
                    renewal.cancel()
        except TimeoutError:
            if not deadline.expired():
                raise
            message = "Pod was active on the node longer than the specified deadline"
            await self.node.event(self.pod, "DeadlineExceeded", message)
            await self._stop_all(Deadline(self._grace_seconds()))
            self._failure = ("DeadlineExceeded", message)

    def _admit(self) -> bool:
        try:
            if self.pod.spec.host_network:
                self._address = self.node.settings.address
            else:
                wanted = self.pod.status.pod_ip or ""
                self._address = self.node.addresses.take(self.pod.metadata.uid, wanted)
            for life in self.lives:
                name = life.spec.name
                if (count := requested_gpus(life.spec)) and name not in self._gpus:
                    # Init containers hand their devices on to those that come after them.
                    owner = self._device_owner(name if life.kind != "init" else self._mains[0].spec.name)
                    self._gpus[name] = self.node.gpus.take(owner, count)
        except Infeasible as error:
            self._failure = (
                "OutOfnvidia.com/gpu" if "GPU" in error.message else "OutOfAddresses",
                str(error),
            )
            return False
        return True

    def _active_deadline_seconds(self) -> float | None:
        seconds = self.pod.spec.active_deadline_seconds
        return None if seconds is None else max(0.0, self._start_time + seconds - time.time())

    def _grace_seconds(self) -> float:
        seconds = self.pod.spec.termination_grace_period_seconds
        return 30.0 if seconds is None else float(seconds)

    async def _prepare(self) -> None:
        """Set up the volumes, waiting for whatever is missing."""
        wait_seconds = self.node.options.retry_seconds
        while True:
            try:
                async with self.node.start_slots:
                    await self._volumes.set_up(self.facts)
                break
            except KajitoriError as error:
                self.on_change()
                await self.node.event(self.pod, "FailedMount", str(error), "Warning")
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, self.node.options.longest_retry_seconds)
        self._prepared = True

    async def _renew_tokens(self) -> None:
        while (seconds := self._volumes.next_renewal_seconds) is not None:
            await asyncio.sleep(max(seconds, _LEAST_RENEWAL_SECONDS))
            await self.refresh()

    async def surroundings(self, container: Container) -> Surroundings:
        """What a container's start needs; reads what its environment refers to. Raises MissingSource."""
        namespace = self.pod.metadata.namespace
        # A runner that was replaced has lost what was in memory, as a machine that was restarted has.
        await self._volumes.make_memory()
        try:
            sources = await self.node.sources.read(namespace, environment_references([container]))
        except (ApiError, Unreachable) as error:
            raise MissingSource(str(error)) from error
        gpus = self._gpus.get(container.name, [])
        return Surroundings(self.facts, sources, self._volumes.places, gpus, self._hosts_file())

    def _hosts_file(self) -> Path | None:
        if not self.node.runner_info.namespaces:
            return None
        spec, metadata = self.pod.spec, self.pod.metadata
        own = (
            []
            if spec.host_network
            else own_names(self.pod.hostname, spec.subdomain or "", metadata.namespace)
        )
        aliases = [(alias.ip, alias.hostnames) for alias in spec.host_aliases]
        names = PodNames(metadata.namespace, self._address, own, aliases)
        return self.node.hosts.add(metadata.uid, names, self.node.pod_folder(metadata.uid))

    async def _run_containers(self) -> None:
        async with asyncio.TaskGroup() as group:
            for life in self._inits:
                if life.kind == "sidecar":
                    group.create_task(life.run(), name=f"{self.pod}/{life.spec.name}")
                    await life.health.wait_until_started()
                elif not life.ended_well and not self._past_inits:
                    await life.run()
                    if not life.ended_well:
                        await self._stop_sidecars(Deadline(self._grace_seconds()))
                        return
                self.on_change()
            async with asyncio.TaskGroup() as mains:
                for life in self._mains:
                    mains.create_task(life.run(), name=f"{self.pod}/{life.spec.name}")
            await self._guests.stop(Deadline(self._grace_seconds()))
            await self._stop_sidecars(Deadline(self._grace_seconds()))

    @property
    def _past_inits(self) -> bool:
        """Whether init containers have done their work, though what they said may be lost."""
        return any(life.names() for life in self._mains)

    # Ending

    async def _stop_sidecars(self, deadline: Deadline) -> None:
        for life in reversed(self._inits):
            if life.kind == "sidecar":
                await life.stop(deadline, f"Stopping container {life.spec.name}")

    async def _stop_all(self, deadline: Deadline) -> None:
        stopped = [*self._mains, *(life for life in self._inits if life.kind == "init")]
        await asyncio.gather(
            *(life.stop(deadline, f"Stopping container {life.spec.name}") for life in stopped),
            self._guests.stop(deadline),
        )
        await self._stop_sidecars(deadline)
        for life in self.lives:
            life.conclude()

    async def _end(self) -> None:
        assert self._deadline is not None
        await self._stop_all(self._deadline)
        self._ended = True
        await self._forget_records()
        await self._release()
        await self._volumes.take_down()
        folder = self.node.pod_folder(self.pod.metadata.uid)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _forget_records(self) -> None:
        uid = self.pod.metadata.uid
        for name in [name for name, record in self.node.records.items() if record.labels["uid"] == uid]:
            with contextlib.suppress(KajitoriError):
                await self.node.runner.call("forget", container=name)
        for life in self.lives:
            for name in life.names():
                self.node.forget_end(name)

    async def _release(self) -> None:
        """Give back what a pod that is over no longer needs."""
        uid = self.pod.metadata.uid
        self.node.hosts.remove(uid)
        self.node.addresses.release(uid)
        for life in self.lives:
            self.node.gpus.release(self._device_owner(life.spec.name))

    async def confirm_removal(self) -> None:
        """Tell the API server that the pod's processes are gone, until it has heard."""
        metadata = self.pod.metadata
        while not self.gone:
            try:
                await self.node.client.delete(
                    PODS,
                    metadata.name,
                    metadata.namespace,
                    grace_period_seconds=0,
                    preconditions_uid=metadata.uid,
                )
                return
            except (NotFound, Conflict):
                return
            except (ApiError, Unreachable) as error:
                _log.warning("removing pod %s: %s", self.pod, error)
                await asyncio.sleep(self.node.options.retry_seconds)
