"""Which group versions other servers serve, whether they do, and the passing on of requests to them.

An APIService with a service takes its group version over. Whether it is available is looked at when it, its
Service or its endpoints change, and every 30 seconds while there is one; while it is not, requests are answered by
503. The other server learns who asks from the headers of a front proxy, and that it is us from our certificate.

Source: Kubernetes documentation, "Configure the aggregation layer".
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.clock import rfc3339
from kajitori.laptop.apiserver.admission.client import CallFailed
from kajitori.laptop.apiserver.answers import rendered
from kajitori.laptop.apiserver.api_services.definition import DEFINITION, RESOURCE
from kajitori.laptop.apiserver.api_services.metrics import GROUP_VERSION, RESOURCES, MetricsApi
from kajitori.laptop.apiserver.api_services.remote import RemoteServers, Unanswered
from kajitori.laptop.apiserver.store import Decision, Entry, Key

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.web import BaseRequest

    from kajitori.laptop.apiserver.auth import User
    from kajitori.laptop.apiserver.history import Event
    from kajitori.laptop.apiserver.request import Query, Target
    from kajitori.laptop.apiserver.state import ServerState

log = logging.getLogger(__name__)
Object = dict[str, Any]
CHECK_SECONDS = 30.0
# What follows an event comes in a moment: a service, its endpoints, the object that names it.
SETTLE_SECONDS = 0.2
_WATCHED = frozenset({RESOURCE, "services", "endpointslices.discovery.k8s.io"})


class ApiServices:
    """The APIServices of one server; `run` is its task."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._remote: dict[tuple[str, str], Object] = {}
        self._available: set[tuple[str, str]] = set()
        self._changed = asyncio.Event()
        self._servers = RemoteServers(state)
        self._metrics = MetricsApi(state)
        state.store.listeners.append(self._on_event)

    def load(self) -> None:
        """Serve the kind, and what was stored of it before this start."""
        self._state.registry.add_crd(DEFINITION)
        self._read()

    async def close(self) -> None:
        await self._servers.close()

    def _on_event(self, resource: str, event: Event) -> None:
        if resource == RESOURCE:
            before = (
                event.before.peek().get("spec") if event.before is not None and not event.deleted else None
            )
            if event.deleted or before != event.entry.peek().get("spec"):
                self._read()
                self._changed.set()
        elif self._remote and resource in _WATCHED:
            self._changed.set()

    def _read(self) -> None:
        self._remote = {}
        for entry in self._state.store.table(RESOURCE).scan():
            spec: Object = entry.peek().get("spec") or {}
            if spec.get("service"):
                self._remote[spec.get("group", ""), spec.get("version", "")] = {**spec, "name": entry.name}
        self._available &= self._remote.keys()
        documents: dict[tuple[str, str], tuple[Object, ...]] = {}
        documents.update(dict.fromkeys(self._remote, ()))
        if GROUP_VERSION not in self._remote:
            documents[GROUP_VERSION] = RESOURCES
        self._state.discovery.keep_remote(documents)

    def find(self, target: Target) -> tuple[str, str] | None:
        """The group version of a request that is not ours to answer from the store; None if it is."""
        if target.version:
            key = (target.group, target.version)
        else:
            parts = target.path.rstrip("/").split("/")
            key = (parts[2], parts[3]) if len(parts) == 4 and parts[1] == "apis" else ("", "")
        if key in self._remote or (key == GROUP_VERSION and target.version):
            return key
        return None

    async def answer(
        self, key: tuple[str, str], http: BaseRequest, target: Target, query: Query, user: User
    ) -> web.StreamResponse:
        """The answer of whoever serves the group version."""
        spec = self._remote.get(key)
        if spec is None:
            return await self._metrics.answer(http, target, query)
        if key not in self._available:
            return await _unavailable(http)
        try:
            return await self._servers.forward(spec, http, user)
        except (CallFailed, Unanswered) as error:
            log.info("APIService %s does not answer: %s", spec["name"], error)
            return await _unavailable(http)

    async def run(self) -> None:
        """Look at the APIServices once something asks for it."""
        try:
            async with asyncio.timeout(CHECK_SECONDS if self._remote else None):
                await self._changed.wait()
        except TimeoutError:
            pass
        await asyncio.sleep(SETTLE_SECONDS)
        self._changed.clear()
        found: dict[tuple[str, str], tuple[Object, ...]] = {}
        for entry in list(self._state.store.table(RESOURCE).scan()):
            spec: Object = entry.peek().get("spec") or {}
            key = (spec.get("group", ""), spec.get("version", ""))
            if not spec.get("service"):
                text = "Local APIServices are always available"
                await self._write_condition(entry.name, "True", "Local", text)
                continue
            reason, text, resources = await self._check(key, spec)
            if key in self._remote:
                found[key] = resources
                (self._available.discard if reason != "Passed" else self._available.add)(key)
            status = "True" if reason == "Passed" else "False"
            await self._write_condition(entry.name, status, reason, text)
        if GROUP_VERSION not in self._remote:
            found[GROUP_VERSION] = RESOURCES
        self._state.discovery.keep_remote(found)

    async def _check(self, key: tuple[str, str], spec: Object) -> tuple[str, str, tuple[Object, ...]]:
        """Reason, message and the resources of the other server."""
        service = spec["service"]
        name, namespace, port = (
            service.get("name", ""),
            service.get("namespace", ""),
            service.get("port", 443),
        )
        where = f'service/{name} in "{namespace}"'
        if self._state.store.get("services", namespace, name) is None:
            return "ServiceNotFound", f"{where} is not present", ()
        path = f"/apis/{key[0]}/{key[1]}"
        try:
            body = await self._servers.get(spec, path)
            decoded = msgspec.json.decode(body, type=dict[str, Any])
        except CallFailed as error:
            if "no service port" in str(error):
                return "ServicePortError", f"{where} is not listening on port {port}", ()
            return "MissingEndpoints", f"endpoints for {where} have no addresses", ()
        except (Unanswered, msgspec.DecodeError) as error:
            text = f"failing or missing response from {self._servers.shown(spec)}{path}: {error}"
            return "FailedDiscoveryCheck", text, ()
        resources = tuple(one for one in decoded.get("resources") or () if isinstance(one, dict))
        return "Passed", "all checks passed", resources

    async def _write_condition(self, name: str, status: str, reason: str, message: str) -> None:
        def decide(before: Entry | None) -> Decision:
            if before is None:
                return None
            obj = before.decode()
            conditions: list[Object] = (obj.get("status") or {}).get("conditions") or []
            old = next((one for one in conditions if one.get("type") == "Available"), {})
            fresh = {"type": "Available", "status": status, "reason": reason, "message": message}
            if all(old.get(field) == value for field, value in fresh.items()):
                return None
            moved = old.get("status") != status
            fresh["lastTransitionTime"] = rfc3339(time.time()) if moved else old["lastTransitionTime"]
            others = [one for one in conditions if one.get("type") != "Available"]
            obj["status"] = {**(obj.get("status") or {}), "conditions": [*others, fresh]}
            return obj

        await self._state.store.mutate(Key(RESOURCE, "", name), decide)


async def _unavailable(http: BaseRequest) -> web.StreamResponse:
    return await rendered(
        http, 503, b"service unavailable\n", content_type="text/plain; charset=utf-8", raw=True
    )
