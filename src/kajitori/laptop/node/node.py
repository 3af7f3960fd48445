"""What all pods of a node share: the clients, the pools, the folders, and where a container's end is told."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal

import kajitori
from kajitori.api.resource import PODS
from kajitori.base.errors import InvalidManifest
from kajitori.base.reason import Reason
from kajitori.engines.images import Program, find_program, read_user_mappings
from kajitori.engines.vllm import Asked
from kajitori.kube.client import Client
from kajitori.kube.events import EventRecorder
from kajitori.laptop.node.addresses import AddressPool, DevicePool
from kajitori.laptop.node.environment import Pod
from kajitori.laptop.node.names import HostsFiles
from kajitori.laptop.node.native import NativePrograms
from kajitori.laptop.node.references import SourceReader
from kajitori.laptop.node.restarts import FIRST_SECONDS
from kajitori.laptop.node.runner_client import ContainerRecord, RunnerClient, RunnerInfo
from kajitori.laptop.settings import NodeSettings

_log = logging.getLogger(__name__)

LOST_EXIT_CODE = 137


@dataclasses.dataclass(frozen=True)
class NodeOptions:
    """How long things take, in seconds; the defaults are a kubelet's."""

    back_off_first_seconds: float = FIRST_SECONDS
    """The wait before the second restart of a container; it doubles with each further one."""
    settle_seconds: float = 0.1
    """How long a container that ended by itself is not restarted yet, as its pod's deletion may be on its way."""
    retry_seconds: float = 1.0
    """The first wait before something missing (a ConfigMap, an image's program) is looked for again."""
    longest_retry_seconds: float = 10.0
    """That wait doubles up to this."""
    fresh_seconds: float = 60.0
    """How often ConfigMaps and Secrets are looked at for changes."""
    heartbeat_seconds: float = 10.0
    """Between two renewals of the node's lease."""
    concurrent_starts: int = 8
    """Pods and containers that are set up at the same time."""


class Node:
    """One node: its parts, for pods to use."""

    def __init__(
        self,
        home: Path,
        client: Client,
        settings: NodeSettings,
        native: NativePrograms,
        options: NodeOptions,
    ) -> None:
        self.home = home
        self.name = name = settings.name
        self.client = client
        self.settings = settings
        self.native = native
        self.options = options
        self.folder = home / "nodes" / name
        self.cache = home / "cache"
        self.allocatable: dict[str, str] = {}
        self.addresses = AddressPool(settings.pod_cidr)
        self.gpus = DevicePool(settings.gpus)
        self.events = EventRecorder(client, "kajitori.dev/node", instance=name)
        self.hosts = HostsFiles(client, self.folder / "hosts")
        self.sources: SourceReader  # set by the agent, which knows whom to tell of changes
        self.runner: RunnerClient
        self.runner_info = RunnerInfo()
        self.records: dict[str, ContainerRecord] = {}
        self.runner_connected = asyncio.Event()
        self.certificate_problem = ""
        """Why the kubelet API has no serving certificate; empty where it has or needs none."""
        self.start_slots = asyncio.Semaphore(options.concurrent_starts)
        self._ends: dict[str, asyncio.Future[ContainerRecord | None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def pod_folder(self, uid: str) -> Path:
        return self.folder / "pods" / uid

    def find_program(self, image: str, asked: Asked) -> Program | Reason:
        """The program for an image, by the user's mappings as they are now."""
        path = self.home / "images.yaml"
        try:
            mappings = read_user_mappings(path)
            return find_program(image, mappings, asked=asked, cache=self.cache, mappings_path=str(path))
        except InvalidManifest as error:
            return Reason("InvalidImageMapping", str(error), hint=error.hint)

    def exposed_folders(self, program: Program) -> list[str]:
        """What containers see of the home and of /tmp: the interpreter, this package, programs, the cache."""
        package = Path(kajitori.__file__).parent.parent
        folders = {str(self.cache), sys.prefix, sys.base_prefix, str(package)}
        folders |= {program.bin_path, str(Path(self.native.bind_library).parent)} - {"", "."}
        folders |= set(program.folders)
        # A container's command names its weights, and shall not show it more of the cluster's home that way.
        if program.weights and not Path(program.weights).resolve().is_relative_to(self.home.resolve()):
            folders.add(program.weights)
        return sorted(folders)

    async def event(
        self, pod: Pod, reason: str, message: str, type: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        regarding = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod.metadata.name,
                "namespace": pod.metadata.namespace,
                "uid": pod.metadata.uid,
                "resourceVersion": pod.metadata.resource_version,
            },
        }
        await self.events.record(regarding, reason, message, type=type, resource=PODS)

    # The ends of containers

    def expect_end(self, name: str) -> asyncio.Future[ContainerRecord | None]:
        """Becomes the record of the container's end, None if it was lost with its runner."""
        if name not in self._ends:
            self._ends[name] = asyncio.get_running_loop().create_future()
        return self._ends[name]

    def forget_end(self, name: str) -> None:
        self._ends.pop(name, None)
        self.records.pop(name, None)

    def on_runner_connected(self, info: RunnerInfo, records: list[ContainerRecord]) -> None:
        if info.pid != self.runner_info.pid:
            _log.info("runner %d answers with %d containers: %s", info.pid, len(records), info)
        self.runner_info = info
        self.records = {record.name: record for record in records}
        for name, future in list(self._ends.items()):
            record = self.records.get(name)
            if record is None:
                _set(future, None)
            elif record.state == "exited":
                _set(future, record)
        self.runner_connected.set()

    def on_runner_lost(self) -> None:
        self.runner_connected.clear()

    def on_container_start(self, record: ContainerRecord) -> None:
        # It may have ended already, and that is known better.
        self.records.setdefault(record.name, record)

    def on_container_end(self, record: ContainerRecord) -> None:
        self.records[record.name] = record
        if record.name in self._ends:
            _set(self._ends[record.name], record)

    # Tasks that outlive their caller

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task that the node owns: it is cancelled when the node stops."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_log_failure)
        return task

    async def stop_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _set(future: asyncio.Future[ContainerRecord | None], record: ContainerRecord | None) -> None:
    if not future.done():
        future.set_result(record)


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error("%s failed", task.get_name(), exc_info=error)
