"""Leader election by a Lease: of several processes with the same name, one acts.

A contender judges by its own clock only: it notes when it saw the lease change, and takes it over when nothing
has changed for the whole lease duration. The times written into the lease are for people; clocks of different
machines are never compared. A leader that cannot renew stops before anybody else may begin, since it gives up
after the renew deadline, which is shorter than the lease duration.

Source: Kubernetes, coordination.k8s.io/v1 Lease, and the meaning of client-go's leader election settings.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Awaitable, Callable

from kajitori.api.resource import LEASES
from kajitori.base.clock import Clock, SystemClock, rfc3339_micro
from kajitori.base.errors import AlreadyExists, ApiError, Conflict, KajitoriError, NotFound, Unreachable
from kajitori.kube.client import Client
from kajitori.kube.objects import Object

_log = logging.getLogger(__name__)


class LeadershipLost(KajitoriError):
    """The lease could not be renewed in time, or another holder has it."""


@dataclasses.dataclass(frozen=True)
class LeaseSettings:
    """How long things take, in seconds. Defaults as in Kubernetes' own components."""

    lease_seconds: float = 15.0
    """A lease that has not changed for so long is free."""
    renew_deadline_seconds: float = 10.0
    """A leader that has not managed to renew for so long stops."""
    retry_seconds: float = 2.0
    """Between two attempts to get or renew it; each wait is longer by up to a fifth."""

    def __post_init__(self) -> None:
        if not 0 < self.retry_seconds < self.renew_deadline_seconds < self.lease_seconds:
            raise ValueError("lease settings must be in order: 0 < retry < renew deadline < lease")


class LeaderElection:
    """One contender. identity: must differ between contenders, as `host_uuid` does."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        *,
        settings: LeaseSettings | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
    ) -> None:
        self.identity = identity
        self.is_leader = False
        self._client = client
        self._namespace = namespace
        self._name = name
        self._settings = settings or LeaseSettings()
        self._clock: Clock = clock or SystemClock()
        self._random = random.Random(seed)
        self._lease: Object | None = None
        self._observed: object = None
        self._observed_at = 0.0

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, then do `work` while renewing; give the lease back when the work is done.

        Raises LeadershipLost after cancelling the work; whoever called starts over, or better, exits.
        """
        await self.acquire()
        task = asyncio.ensure_future(work())
        renewing = asyncio.ensure_future(self._renew_until_lost())
        try:
            await asyncio.wait((task, renewing), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise LeadershipLost("the lease was lost", where=f"Lease {self._namespace}/{self._name}")
            task.result()
        finally:
            lost = renewing.done()
            for running in (task, renewing):
                running.cancel()
            await asyncio.gather(task, renewing, return_exceptions=True)
            self.is_leader = False
            if not lost:
                await self._release()

    async def acquire(self) -> None:
        """Return when this contender holds the lease."""
        while not await self._try():
            await self._pause()
        self.is_leader = True
        _log.info("became leader: lease=%s/%s identity=%s", self._namespace, self._name, self.identity)

    async def _renew_until_lost(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.renew_deadline_seconds
        while True:
            await self._pause()
            try:
                async with asyncio.timeout_at(deadline):
                    renewed = await self._try()
            except TimeoutError:
                renewed = False
            if renewed:
                deadline = loop.time() + self._settings.renew_deadline_seconds
            elif loop.time() >= deadline or self._held_by_another():
                _log.error("lost the lease: lease=%s/%s", self._namespace, self._name)
                return

    async def _pause(self) -> None:
        await asyncio.sleep(self._settings.retry_seconds * (1.0 + 0.2 * self._random.random()))

    def _held_by_another(self) -> bool:
        holder = _spec(self._lease).get("holderIdentity")
        return bool(holder) and holder != self.identity

    async def _try(self) -> bool:
        """One attempt to get or keep the lease."""
        try:
            if self._lease is not None and _spec(self._lease).get("holderIdentity") == self.identity:
                # Ours when last seen: write without reading; a conflict tells if it no longer is.
                self._note(await self._client.update(LEASES, self._wanted(self._lease)))
                return True
            return await self._read_and_take()
        except (Conflict, AlreadyExists):
            self._lease = None
            return False
        except (ApiError, Unreachable) as error:
            _log.warning("cannot write the lease %s/%s: %s", self._namespace, self._name, error)
            return False

    async def _read_and_take(self) -> bool:
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            self._note(await self._client.create(LEASES, self._wanted(None)))
            return True
        self._note(lease)
        spec = _spec(lease)
        holder = spec.get("holderIdentity") or ""
        # The holder says how long its own lease lasts; ours may be configured otherwise.
        lasts = float(spec.get("leaseDurationSeconds") or self._settings.lease_seconds)
        age = asyncio.get_running_loop().time() - self._observed_at
        if holder not in ("", self.identity) and age < lasts:
            return False
        self._note(await self._client.update(LEASES, self._wanted(lease)))
        return True

    def _note(self, lease: Object) -> None:
        self._lease = lease
        seen = (lease["metadata"].get("uid"), lease["metadata"].get("resourceVersion"))
        if seen != self._observed:
            self._observed, self._observed_at = seen, asyncio.get_running_loop().time()

    def _wanted(self, lease: Object | None) -> Object:
        now = rfc3339_micro(self._clock.now())
        old = _spec(lease)
        ours = old.get("holderIdentity") == self.identity
        transitions = int(old.get("leaseTransitions") or 0)
        spec = {
            **old,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._settings.lease_seconds)),
            "acquireTime": old.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": transitions if ours or lease is None else transitions + 1,
        }
        metadata = lease["metadata"] if lease else {"namespace": self._namespace, "name": self._name}
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}

    async def _release(self) -> None:
        """Let others begin at once; if that fails, they wait for the lease to run out."""
        if self._lease is None or self._held_by_another():
            return
        spec = {**_spec(self._lease), "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            async with asyncio.timeout(self._settings.retry_seconds):
                await self._client.update(LEASES, {**self._lease, "spec": spec})
        except (ApiError, Unreachable, TimeoutError) as error:
            _log.info("could not give the lease back: %s", error)


def _spec(lease: Object | None) -> Object:
    return (lease or {}).get("spec") or {}
