"""The agent of a node: follows the pods that are bound to it, one worker each, and keeps the node registered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from kajitori.api.resource import PODS
from kajitori.base.errors import ApiError, KajitoriError, Unreachable
from kajitori.control.cache import Informer
from kajitori.kube.client import Client
from kajitori.laptop.node.claims import Claims
from kajitori.laptop.node.environment import Pod
from kajitori.laptop.node.memory import MemoryTrimmer
from kajitori.laptop.node.native import NativePrograms
from kajitori.laptop.node.node import Node, NodeOptions
from kajitori.laptop.node.pod import PodWorker
from kajitori.laptop.node.references import Reference, SourceReader
from kajitori.laptop.node.registration import Registration, capacity
from kajitori.laptop.node.runner_client import ContainerRecord, RunnerClient, RunnerInfo
from kajitori.laptop.node.secure import SecureSite
from kajitori.laptop.node.server import KubeletServer
from kajitori.laptop.node.status_writer import StatusWriter
from kajitori.laptop.node.usage import UsageMeter, UsageRoutes
from kajitori.laptop.settings import NodeSettings

if TYPE_CHECKING:
    from kajitori.laptop.node.certificates import NodeCertificates

_log = logging.getLogger(__name__)


class Agent:
    """Everything of one node but the runner. `run` it; cancelling it leaves the pods running."""

    def __init__(
        self,
        home: Path,
        client: Client,
        settings: NodeSettings,
        native: NativePrograms,
        options: NodeOptions | None = None,
    ) -> None:
        self.node = Node(home, client, settings, native, options or NodeOptions())
        name = settings.name
        self.workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.pods: Informer[Pod] = Informer(client, PODS, Pod, field_selector=f"spec.nodeName={name}")
        self._statuses = StatusWriter(self.node, self.pods.remember)
        self._registration = Registration(self.node)
        self._memory = MemoryTrimmer()
        self._certificates: NodeCertificates | None = None
        meter = UsageMeter(lambda: list(self.node.records.values()))
        usage = UsageRoutes(name, meter, self._pod_names)
        if settings.joined:
            # With it comes a library of 8 MB, which the nodes of a laptop never need.
            from kajitori.laptop.node.certificates import NodeCertificates

            self._certificates = NodeCertificates(
                client, home, name, settings.address, self._on_certificate_change
            )
            secure = SecureSite(home, settings.address, settings.port, self._certificates)
            self._server = KubeletServer(self.node, self.find_worker, usage, secure)
        else:
            self._server = KubeletServer(self.node, self.find_worker, usage)
        node = self.node
        node.allocatable = capacity(node)
        node.sources = SourceReader(client, self._on_source_change, fresh_seconds=node.options.fresh_seconds)
        node.runner = RunnerClient(
            home / "run" / f"{name}-runner.sock",
            on_connected=self._on_runner_connected,
            on_exit=self._on_container_end,
            on_lost=self._on_runner_lost,
        )

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for work in (
                    self.node.runner.run(),
                    self._registration.run(),
                    self.node.hosts.services.run(),
                    self.node.hosts.slices.run(),
                    self.node.hosts.run(),
                    self.node.sources.run(),
                    self._statuses.run(),
                    self.pods.run(),
                    self._server.run(),
                    self._follow_pods(),
                ):
                    group.create_task(work)
                if self._certificates is not None:
                    group.create_task(self._certificates.run())
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            await self.node.stop_tasks()
            await self.node.events.close()

    def _on_certificate_change(self) -> None:
        assert self._certificates is not None
        self.node.certificate_problem = self._certificates.problem
        self._registration.changed()

    def _pod_names(self) -> dict[str, tuple[str, str]]:
        metadata = [worker.pod.metadata for worker in self.workers.values()]
        return {one.uid: (one.namespace, one.name) for one in metadata}

    def find_worker(self, namespace: str, name: str) -> PodWorker | None:
        pod = self.pods.get(namespace, name)
        return self.workers.get(pod.metadata.uid) if pod else None

    async def _follow_pods(self) -> None:
        await self.node.runner_connected.wait()
        await self.node.hosts.synced()
        await self.pods.synced()
        await self._remove_strangers()
        self._memory.note()
        self.pods.on_change(self._on_pod)

    async def _remove_strangers(self) -> None:
        """End what earlier agents left of pods that the API server no longer has."""
        uids = {pod.metadata.uid for pod in self.pods.list()}
        for record in list(self.node.records.values()):
            if record.labels["uid"] not in uids:
                self.node.spawn(self._remove_stranger(record), f"remove {record.name}")
        folder = self.node.folder / "pods"
        for path in folder.iterdir() if folder.exists() else ():
            if path.name not in uids:
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        for path in (self.node.folder / "hosts").glob("*"):
            if path.name not in {pod.metadata.namespace for pod in self.pods.list()}:
                path.unlink(missing_ok=True)
        if self.node.settings.joined:
            return  # it may not list the cluster's claims
        with contextlib.suppress(ApiError, Unreachable):
            await Claims(self.node.client, self.node.home / "volumes").sweep()

    async def _remove_stranger(self, record: ContainerRecord) -> None:
        end = self.node.expect_end(record.name)
        if record.state == "exited" and not end.done():
            end.set_result(record)
        with contextlib.suppress(KajitoriError):
            if not end.done():
                await self.node.runner.call("kill", container=record.name)
            await end
            await self.node.runner.call("forget", container=record.name)
        self.node.forget_end(record.name)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            if old and (worker := self.workers.get(old.metadata.uid)):
                worker.removed()
            return
        uid = new.metadata.uid
        if uid in self.workers:
            self.workers[uid].update(new)
            return
        worker = self.workers[uid] = PodWorker(self.node, new, self._statuses.mark)
        task = asyncio.get_running_loop().create_task(self._run_worker(worker), name=f"pod {new}")
        self._tasks[uid] = task
        self._memory.note()

    async def _run_worker(self, worker: PodWorker) -> None:
        uid = worker.pod.metadata.uid
        try:
            await worker.run()
            await self._statuses.flush(worker)
            await worker.confirm_removal()
        except Exception:
            _log.exception("pod %s", worker.pod)
        finally:
            self.workers.pop(uid, None)
            self._tasks.pop(uid, None)
            self._memory.note()
        namespace = worker.pod.metadata.namespace
        if not any(other.pod.metadata.namespace == namespace for other in self.workers.values()):
            self.node.sources.forget_namespace(namespace)

    def _on_source_change(self, namespace: str, reference: Reference) -> None:
        for worker in list(self.workers.values()):
            worker.sources_changed(namespace, reference)

    def _on_runner_connected(self, info: RunnerInfo, records: list[ContainerRecord]) -> None:
        self.node.on_runner_connected(info, records)
        self._registration.changed()

    def _on_runner_lost(self) -> None:
        if self.node.runner_connected.is_set():
            self.node.on_runner_lost()
            self._registration.changed()

    def _on_container_end(self, record: ContainerRecord) -> None:
        self.node.on_container_end(record)
