"""What each replica of the gateway hears from its Envoys, told to the one that writes statuses.

Any replica may serve any Envoy, and only that one learns what it refused. So each keeps a Lease of its own, as
processes of Kubernetes do, with what it knows in an annotation; the leader adds them up. A Lease that is no longer
renewed counts for nothing, and the leader takes it away in time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.resource import LEASES
from kajitori.base.clock import rfc3339_micro
from kajitori.base.errors import Conflict, NotFound
from kajitori.gateway.accounting.exhaustion_reports import Exhaustion, ExhaustionServer, merged
from kajitori.gateway.envoy.refused_part import RefusedPart

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.control.runtime import Runtime
    from kajitori.gateway.envoy.ads import AdsServer

REPORT_LABEL = "kajitori.dev/report"
_ANNOTATION = "kajitori.dev/envoys"
FIELD_MANAGER = "kajitori-gateway"
_RENEW_SECONDS = 10.0
_LEASE_SECONDS = 30.0
_REMOVE_AFTER_SECONDS = 300.0
# Refusals are told in part where they are many or long: an annotation is for people too.
_LONGEST_REPORT_BYTES = 64_000
_MOST_PARTS = 200
_MOST_EXHAUSTED = 200


class Report(msgspec.Struct, frozen=True):
    """connected: Envoys with a stream. rejected, parts: as `AdsServer` has them. exhausted: what their accountants tell."""

    connected: int = 0
    rejected: dict[str, str] = {}
    parts: list[RefusedPart] = []
    exhausted: list[Exhaustion] = []


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    annotations: dict[str, str] = {}


class _Lease(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


class Reports:
    """Tells what this replica knows and adds up what all know. on_change: called when others' reports change."""

    def __init__(
        self,
        runtime: Runtime,
        ads: AdsServer,
        namespace: str,
        identity: str,
        exhaustion: ExhaustionServer | None = None,
    ) -> None:
        self._runtime = runtime
        self._exhaustion = exhaustion or ExhaustionServer()
        self._exhaustion.on_change(lambda: self._wake.set())
        self._ads = ads
        self._namespace = namespace
        self._name = f"kajitori-gateway-{identity.lower()}"[:253]
        self._told: Report | None = None
        self._heeded: list[RefusedPart] = []
        self._wake = asyncio.Event()
        self._seen_at: dict[str, float] = {}
        self._listeners: list[Callable[[], None]] = []
        self._leases = runtime.informer(
            LEASES, _Lease, namespace=namespace, label_selector=f"{REPORT_LABEL}=envoys"
        )
        self._leases.on_change(self._note)
        ads.on_change(self._wake.set)
        runtime.service("reports", self._tell, everywhere=True)
        runtime.service("old reports", self._remove_old)

    def on_change(self, callback: Callable[[], None]) -> None:
        self._listeners.append(callback)

    @property
    def connected(self) -> int:
        """Envoys of all replicas."""
        return self._ads.connected + sum(report.connected for report in self._others())

    @property
    def rejected(self) -> dict[str, str]:
        """What any Envoy refused."""
        found: dict[str, str] = {}
        for report in self._others():
            found |= report.rejected
        return found | self._ads.rejected

    def exhausted(self, now: float) -> list[Exhaustion]:
        """Limits that are used up, as any accountant tells."""
        told = [
            *self._exhaustion.known(now),
            *(each for report in self._others() for each in report.exhausted),
        ]
        return merged(told, now)

    def _others(self) -> list[Report]:
        oldest = asyncio.get_running_loop().time() - _LEASE_SECONDS
        found: list[Report] = []
        for lease in self._leases.list():
            name = lease.metadata.name
            if name == self._name or self._seen_at.get(name, 0.0) < oldest:
                continue
            try:
                found.append(
                    msgspec.json.decode(lease.metadata.annotations.get(_ANNOTATION, "{}"), type=Report)
                )
            except msgspec.MsgspecError:
                continue
        return found

    def _note(self, old: _Lease | None, new: _Lease | None) -> None:
        if new is None:
            if old is not None:
                self._seen_at.pop(old.metadata.name, None)
        else:
            self._seen_at[new.metadata.name] = asyncio.get_running_loop().time()
        said = [lease.metadata.annotations.get(_ANNOTATION) if lease else None for lease in (old, new)]
        if said[0] != said[1]:
            self._heed()
            for callback in self._listeners:
                callback()

    def _heed(self) -> None:
        """Envoys of this replica are not sent what those of others refuse."""
        parts = [part for report in self._others() for part in report.parts]
        if parts != self._heeded:
            self._heeded = parts
            self._ads.heed(parts)

    async def _tell(self) -> None:
        """Renews this replica's Lease for as long as it runs, and at once when there is news."""
        try:
            while True:
                self._wake.clear()
                await self._write()
                self._heed()
                try:
                    await asyncio.wait_for(self._wake.wait(), _RENEW_SECONDS)
                    await asyncio.sleep(0.1)  # news come in bunches
                except TimeoutError:
                    pass
        finally:
            await self._leave()

    async def _write(self) -> None:
        rejected: dict[str, str] = {}
        size = 0
        for name, message in sorted(self._ads.rejected.items()):
            size += len(name) + len(message)
            if size < _LONGEST_REPORT_BYTES:
                rejected[name] = message
        time = self._runtime.clock.now()
        exhausted = self._exhaustion.known(time)[:_MOST_EXHAUSTED]
        report = Report(self._ads.connected, rejected, self._ads.refused_parts[:_MOST_PARTS], exhausted)
        now = rfc3339_micro(time)
        await self._runtime.client.apply(
            LEASES,
            {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {
                    "namespace": self._namespace,
                    "name": self._name,
                    "labels": {REPORT_LABEL: "envoys", "app.kubernetes.io/part-of": "kajitori"},
                    "annotations": {_ANNOTATION: msgspec.json.encode(report).decode()},
                },
                "spec": {
                    "holderIdentity": self._name,
                    "leaseDurationSeconds": round(_LEASE_SECONDS),
                    "renewTime": now,
                },
            },
            field_manager=FIELD_MANAGER,
        )

    async def _leave(self) -> None:
        """So that nobody waits for this replica; if it fails, the Lease runs out."""
        try:
            async with asyncio.timeout(2.0):
                await self._runtime.client.delete(LEASES, self._name, self._namespace)
        except Exception:  # the process ends; there is nobody left to tell
            return

    async def _remove_old(self) -> None:
        """The leader takes away Leases of replicas that are no more."""
        while True:
            await asyncio.sleep(_REMOVE_AFTER_SECONDS / 2)
            oldest = asyncio.get_running_loop().time() - _REMOVE_AFTER_SECONDS
            for lease in self._leases.list():
                metadata: Any = lease.metadata
                if metadata.name != self._name and self._seen_at.get(metadata.name, 0.0) < oldest:
                    try:
                        await self._runtime.client.delete(
                            LEASES,
                            metadata.name,
                            self._namespace,
                            preconditions_resource_version=metadata.resource_version,
                        )
                    except (NotFound, Conflict):
                        continue
