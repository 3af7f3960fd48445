"""Writes pods' statuses to the API server: only what differs, one write for changes that come together.

A few writers take pods that may have changed, compare what the status shall say with what the API server last said,
and patch. A pod that changes while it is being written is written again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from kajitori.api.resource import PODS
from kajitori.base.errors import ApiError, Conflict, NotFound, Unreachable
from kajitori.control.cache import version_number
from kajitori.laptop.node.environment import Pod
from kajitori.laptop.node.node import Node
from kajitori.laptop.node.pod import PodWorker
from kajitori.laptop.node.status import differs, pod_status

_log = logging.getLogger(__name__)

WRITERS = 4
COLLECT_SECONDS = 0.01
_RETRY_SECONDS = 1.0


class StatusWriter:
    """remember: called with each pod as the API server answered it."""

    def __init__(self, node: Node, remember: Callable[[Pod], None]) -> None:
        self._node = node
        self._remember = remember
        self._dirty: dict[str, PodWorker] = {}
        self._writing: set[str] = set()
        self._wake = asyncio.Event()

    def mark(self, worker: PodWorker) -> None:
        """The worker's status may have changed."""
        self._dirty[worker.pod.metadata.uid] = worker
        self._wake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write_forever())

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(COLLECT_SECONDS)
            uid = next((uid for uid in self._dirty if uid not in self._writing), None)
            if uid is None:
                self._wake.clear()
                continue
            worker = self._dirty.pop(uid)
            self._writing.add(uid)
            try:
                await self._write(worker)
            except (ApiError, Unreachable) as error:
                _log.warning("status of pod %s: %s", worker.pod, error)
                await asyncio.sleep(_RETRY_SECONDS)
                self._dirty.setdefault(uid, worker)
            except Exception:
                _log.exception("status of pod %s", worker.pod)
            finally:
                self._writing.discard(uid)
                if self._dirty:
                    self._wake.set()

    async def flush(self, worker: PodWorker) -> None:
        """Write the worker's status now, if it differs; gives up where the pod is gone or the server does not answer."""
        uid = worker.pod.metadata.uid
        while uid in self._writing:
            await asyncio.sleep(COLLECT_SECONDS)
        self._dirty.pop(uid, None)
        try:
            await self._write(worker)
        except (ApiError, Unreachable) as error:
            _log.warning("last status of pod %s: %s", worker.pod, error)

    async def _write(self, worker: PodWorker) -> None:
        view = worker.view()
        if view is None or worker.gone:
            return
        pod = worker.pod
        wanted = pod_status(view, pod.spec, pod.status.conditions, time.time())
        if not differs(wanted, pod.status):
            return
        try:
            written = await self._node.client.patch(
                PODS,
                pod.metadata.name,
                {"metadata": {"uid": pod.metadata.uid}, "status": wanted},
                namespace=pod.metadata.namespace,
                patch_type="strategic",
                subresource="status",
                type=Pod,
            )
        except NotFound:
            return
        except Conflict:
            return  # another pod of the same name; the watch will say so
        if written.metadata.uid != pod.metadata.uid:
            return
        # The watch may have been faster with what somebody wrote after us (a readiness gate, say): that stays.
        now = worker.pod.metadata.resource_version
        if version_number(written.metadata.resource_version) >= version_number(now):
            worker.pod = written
        self._remember(written)
