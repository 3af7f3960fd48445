"""Asks the engines of draining groups whether anything is left to do; an answer ends a drain before its time.

Only leaders that drain are asked, at most once a second, and briefly: an engine that cannot be reached, asks for a key
or tells nothing is taken to be busy. Where it answers is read from its pod: `prometheus.io/port` and `prometheus.io/path`
if it has them, else its first port, `/metrics`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp
import msgspec

from kajitori.api.resource import PODS
from kajitori.base.clock import Clock
from kajitori.base.errors import KajitoriError
from kajitori.engines.load import open_requests
from kajitori.groups.leader_worker_sets.draining import POLL_SECONDS, may_be_idle
from kajitori.groups.leader_worker_sets.observed import Metadata, Pod
from kajitori.kube.client import Client

TIMEOUT_SECONDS = 0.5
DEFAULT_PORT = 8000
_LONGEST_ANSWER_BYTES = 4 << 20
_FORGET_SECONDS = 60.0


class _Port(msgspec.Struct, frozen=True, rename="camel"):
    container_port: int = 0


class _Container(msgspec.Struct, frozen=True):
    ports: tuple[_Port, ...] = ()


class _Spec(msgspec.Struct, frozen=True):
    containers: tuple[_Container, ...] = ()


class _Status(msgspec.Struct, frozen=True):
    pod_ip: str = msgspec.field(default="", name="podIP")


class Engine(msgspec.Struct, frozen=True):
    """The parts of a pod that say where its engine answers."""

    metadata: Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()

    def url(self) -> str:
        """Empty if it says nothing sensible."""
        annotations = self.metadata.annotations
        ports = [port.container_port for container in self.spec.containers for port in container.ports]
        port = annotations.get("prometheus.io/port") or str(ports[0] if ports else DEFAULT_PORT)
        address = self.status.pod_ip
        if not address or not port.isdecimal():
            # Anything else, such as `80@elsewhere`, would lead to another host.
            return ""
        host = f"[{address}]" if ":" in address else address
        path = annotations.get("prometheus.io/path", "/metrics").lstrip("/")
        return f"http://{host}:{port}/{path}"


class _Known(msgspec.Struct):
    asked: float
    url: str = ""
    idle: bool = False


class EngineWatch:
    """What the engines of draining leaders said last."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def idle(self, leaders: Sequence[Pod]) -> frozenset[str]:
        """The uids of those of these leaders whose engine has nothing to do."""
        now = self._clock.now()
        self._known = {
            uid: known for uid, known in self._known.items() if known.asked > now - _FORGET_SECONDS
        }
        asked = [leader for leader in leaders if may_be_idle(leader, now)]
        due = [leader for leader in asked if self._is_due(leader.metadata.uid, now)]
        if due:
            await self._ask_all(due, now)
        uids = (leader.metadata.uid for leader in asked)
        return frozenset(uid for uid in uids if uid in self._known and self._known[uid].idle)

    def _is_due(self, uid: str, now: float) -> bool:
        known = self._known.get(uid)
        return known is None or now >= known.asked + POLL_SECONDS

    async def _ask_all(self, leaders: Iterable[Pod], now: float) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
            for leader in leaders:
                known = self._known.setdefault(leader.metadata.uid, _Known(now))
                known.asked = now
                tasks.create_task(self._ask(session, leader, known))

    async def _ask(self, session: aiohttp.ClientSession, leader: Pod, known: _Known) -> None:
        known.idle = False
        try:
            known.url = known.url or await self._find(leader)
            if known.url:
                known.idle = await _has_nothing_to_do(session, known.url)
        except (KajitoriError, aiohttp.ClientError, TimeoutError, OSError, ValueError):
            # Nobody knows, so it is given its time.
            return

    async def _find(self, leader: Pod) -> str:
        metadata = leader.metadata
        pod: Any = await self._client.get(PODS, metadata.name, metadata.namespace, type=Engine)
        return pod.url() if pod.metadata.uid == metadata.uid else ""


async def _has_nothing_to_do(session: aiohttp.ClientSession, url: str) -> bool:
    async with session.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            return False
        text = await answer.content.read(_LONGEST_ANSWER_BYTES)
        while more := await answer.content.read(_LONGEST_ANSWER_BYTES):
            text += more
            if len(text) > _LONGEST_ANSWER_BYTES:
                return False
    return open_requests(text.decode(errors="replace")) == 0
