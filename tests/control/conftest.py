"""An API server in memory, for tests of the machinery on virtual time: no sockets, no threads, faults at will.

It keeps to what the machinery depends on (versions that grow, lists, watches, 409, 410) and to nothing else;
whatever is about Kubernetes proper is tested against the embedded server.
"""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from kajitori.base.errors import Unreachable
from kajitori.kube.client import Client
from kajitori.kube.config import ClusterConfig
from kajitori.kube.transport import Answer, NeverSent

_NO_HEADERS = CIMultiDictProxy(CIMultiDict())


class MemoryServer:
    """A transport that is its own server. `log` has every request as (method, path)."""

    def __init__(self) -> None:
        self.version = 0
        self.objects: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[int, str, str, dict[str, Any]]] = []
        self.compacted = 0
        self.down = False
        self.log: list[tuple[str, str]] = []
        self.latency_seconds = 0.001
        self.watch_delay_seconds = 0.0
        self._changed = asyncio.Event()
        self._cut = asyncio.Event()

    def client(self, seed: int = 1) -> Client:
        return Client(ClusterConfig("http://memory"), transport=self, seed=seed)

    # Faults

    def cut_watches(self) -> None:
        self._cut.set()
        self._cut = asyncio.Event()

    def compact(self) -> None:
        self.compacted = self.version

    # The transport's side

    async def send(self, method, target, headers, body, timeout_seconds) -> Answer:
        await asyncio.sleep(self.latency_seconds)
        if self.down:
            raise NeverSent("down")
        path, _, raw = target.partition("?")
        query = dict(urllib.parse.parse_qsl(raw))
        self.log.append((method, path))
        status, answer = self._handle(method, path, query, msgspec.json.decode(body) if body else None)
        return Answer(status, _NO_HEADERS, msgspec.json.encode(answer))

    @contextlib.asynccontextmanager
    async def stream(self, method, target, headers, silence_seconds):
        await asyncio.sleep(self.latency_seconds)
        if self.down:
            raise NeverSent("down")
        path, _, raw = target.partition("?")
        self.log.append(("WATCH", path))
        yield _MemoryStream(self, path, dict(urllib.parse.parse_qsl(raw)))

    async def close(self) -> None:
        self.cut_watches()

    def _handle(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        collection, name = self._split(path)
        key = f"{collection}/{name}"
        if method == "GET" and not name:
            return 200, self._list(collection, query)
        if method == "POST":
            key = f"{collection}/{body['metadata']['name']}"
            if key in self.objects:
                return 409, _status(409, "AlreadyExists")
            body["metadata"]["uid"] = f"uid-{self.version}"
            return 201, self._commit("ADDED", collection, key, body)
        stored = self.objects.get(key)
        if stored is None:
            return 404, _status(404, "NotFound")
        if method == "GET":
            return 200, stored
        if method == "DELETE":
            del self.objects[key]
            self._commit("DELETED", collection, None, stored)
            return 200, _status(200, "")
        if method == "PUT":
            if (
                body["metadata"].get("resourceVersion", stored["metadata"]["resourceVersion"])
                != (stored["metadata"]["resourceVersion"])
            ):
                return 409, _status(409, "Conflict")
            return 200, self._commit("MODIFIED", collection, key, body)
        return 200, self._commit("MODIFIED", collection, key, _merge(stored, body))

    @staticmethod
    def _split(path: str) -> tuple[str, str]:
        parts = path.strip("/").split("/")
        head = 2 if parts[0] == "api" else 3
        rest = parts[head:]
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            return "/".join([*parts[:head], rest[2], rest[1]]), rest[3] if len(rest) > 3 else ""
        return "/".join([*parts[:head], rest[0]]), rest[1] if len(rest) > 1 else ""

    def _list(self, collection: str, query: dict[str, str]) -> dict[str, Any]:
        keys = sorted(key for key in self.objects if key.startswith(collection + "/"))
        start, limit = int(query.get("continue", 0)), int(query.get("limit", 0)) or len(keys)
        meta: dict[str, Any] = {"resourceVersion": str(self.version)}
        if start + limit < len(keys):
            meta["continue"] = str(start + limit)
        return {"metadata": meta, "items": [self.objects[key] for key in keys[start : start + limit]]}

    def _commit(self, kind: str, collection: str, key: str | None, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        if key is not None:
            self.objects[key] = body
        self.history.append((self.version, kind, collection, body))
        self._changed.set()
        self._changed = asyncio.Event()
        return body


class _MemoryStream:
    status = 200
    headers = _NO_HEADERS

    def __init__(self, server: MemoryServer, path: str, query: dict[str, str]) -> None:
        self._server = server
        self._collection = server._split(path)[0]
        self._after = int(query["resourceVersion"])
        self._timeout = float(query["timeoutSeconds"])

    async def read(self) -> bytes:
        return b""

    async def chunks(self):
        server, cut = self._server, self._server._cut
        ends = asyncio.get_running_loop().time() + self._timeout
        if self._after < server.compacted:
            yield msgspec.json.encode({"type": "ERROR", "object": _status(410, "Expired")}) + b"\n"
            return
        position = 0
        while True:
            changed = server._changed
            if server.watch_delay_seconds:
                await asyncio.sleep(server.watch_delay_seconds)
            while position < len(server.history):
                version, kind, collection, body = server.history[position]
                position += 1
                if version > self._after and f"{collection}/".startswith(f"{self._collection}/"):
                    yield msgspec.json.encode({"type": kind, "object": body}) + b"\n"
            left = ends - asyncio.get_running_loop().time()
            if left <= 0:
                return
            waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(cut.wait())]
            try:
                await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
            if cut.is_set() or server.down:
                raise Unreachable("cut")


def _status(code: int, reason: str) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


@pytest.fixture(scope="session")
def new_memory_server() -> type[MemoryServer]:
    return MemoryServer
