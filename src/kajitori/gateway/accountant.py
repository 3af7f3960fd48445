"""The accountant of one Envoy: answers whether a request may pass, and books what became of it.

Flows in: questions of Envoy on a Unix socket, the lines of its access log, the policy of the control plane. Flows out:
verdicts, records, metrics. It needs nothing of a cluster, and works on with the policy that it knows while the control
plane is away; while the accountant is away the lines wait in their file.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.accounting.admission_server import Admission, AdmissionServer, Page
from kajitori.gateway.accounting.exhaustion_reports import ExhaustionTeller
from kajitori.gateway.accounting.flags import WAS_OVERTAKEN
from kajitori.gateway.accounting.header_attributes import read_header_attributes
from kajitori.gateway.accounting.ledger import Ledger
from kajitori.gateway.accounting.log_reader import LogReader
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.places import Places
from kajitori.gateway.accounting.policy_delivery import PolicyFollower
from kajitori.gateway.accounting.reading_metrics import ReadingMetrics
from kajitori.gateway.accounting.record_reading import read_position
from kajitori.gateway.accounting.record_store import RecordStore
from kajitori.gateway.accounting.records import FILE_NAME, RequestRecord
from kajitori.gateway.accounting.scraping import Scraping
from kajitori.gateway.accounting.verdict_notes import VerdictNotes
from kajitori.gateway.envoy.admin import failed_log_writes, reopen_logs
from kajitori.gateway.limits.metrics import LimitMetrics
from kajitori.gateway.limits.opening import open_engine
from kajitori.gateway.limits.request import Settlement
from kajitori.gateway.operations import native_path
from kajitori.gateway.rescue.metrics import RescueCounts, RescueMetrics
from kajitori.gateway.telemetry.exporter import Exporter, open_exporter

if TYPE_CHECKING:
    import grpc.aio

_log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
_REFUSED = 429
_DISK_SECONDS = 10.0
# With less free than this, Envoy is asked whether it could write; and at least so often.
_LITTLE_SPACE_BYTES = 64 * 1024 * 1024
_ASK_ENVOY_SECONDS = 600.0


class Engine(Admission, Protocol):
    """Who holds requests to their limits."""

    @property
    def awaits(self) -> bool: ...
    def knows(self, request_id: str) -> bool: ...
    def together(self) -> AbstractContextManager[None]: ...
    def configure(self, policy: AccountantPolicy) -> None: ...
    async def settle(self, settlements: Sequence[Settlement], position: bytes = b"") -> None: ...
    async def position(self) -> bytes: ...
    def note_over(self, request_id: str) -> None: ...
    @property
    def is_kept(self) -> bool: ...
    async def run(self) -> None: ...


class Accountant:
    """Everything of one Envoy. engine: None where nothing is limited. connect: a channel to the control plane.

    endpoint: `HOST:PORT` for metrics and probes; empty: on the admission socket alone. telemetry: what exports spans and
    metrics, instead of on_record; None for nothing. metric_headers: see `GatewayMetrics`.
    """

    def __init__(
        self,
        places: Places,
        connect: Callable[[], grpc.aio.Channel],
        engine: Engine | None = None,
        *,
        endpoint: str = "",
        on_record: Callable[[RequestRecord], None] | None = None,
        telemetry: Exporter | None = None,
        metric_headers: Mapping[str, str] | None = None,
    ) -> None:
        self._places = places
        self._engine = engine
        self._limited: frozenset[str] = frozenset()
        self.endpoint = endpoint
        self.scraping = Scraping()
        metrics = GatewayMetrics(metric_headers)
        self.scraping.register(metrics)
        self._store = RecordStore(places.folder / FILE_NAME)
        notes = VerdictNotes(engine) if engine is not None else None
        self._telemetry = telemetry
        if telemetry is not None:
            self.scraping.register(telemetry)
            on_record = telemetry.take
        self._ledger = Ledger(self._store, metrics, on_record, notes)
        if engine is not None:
            self._ledger.on_whole = engine.note_over
        self._reader = LogReader(
            places.access_log,
            self._ledger,
            self._store,
            read_position(places.folder / FILE_NAME),
            lambda: reopen_logs(places.envoy_admin),
            self._settle if engine is not None else None,
            settled=engine.position if engine is not None else None,
            kept=(lambda: engine.is_kept) if engine is not None else (lambda: True),
            awaited=(lambda: engine.awaits) if engine is not None else (lambda: False),
        )
        self._reading = ReadingMetrics(self._ledger, self._store, self._reader)
        self.scraping.register(self._reading)
        self._follower = PolicyFollower(connect, places.folder, self.configure)
        # `/health` is what `aigw run` calls it.
        pages: dict[str, Page] = dict.fromkeys(("/healthz", "/health"), _healthy)
        pages |= {"/metrics": self._metrics, "/readyz": self._readiness}
        together = engine.together if engine is not None else nullcontext
        self._server = AdmissionServer(notes, pages, together)
        self._rescue_wanted = asyncio.Event()
        rescue_counts = RescueCounts()
        self._rescue = partial(self._relay_streams, rescue_counts)
        self.scraping.register(RescueMetrics(rescue_counts))

    def configure(self, policy: AccountantPolicy) -> None:
        """Takes a policy; requests that end later are booked by it."""
        self._ledger.configure(policy)
        self._limited = policy.limited_routes()
        if policy.rescues_streams:
            self._rescue_wanted.set()
        if self._engine is not None:
            self._engine.configure(policy)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop. Raises OSError if an address is taken."""
        async with AsyncExitStack() as stack:
            stack.callback(self._store.close)
            self._follower.restore()
            await self._server.listen(self._places.admission)
            stack.callback(self._server.close)
            if self.endpoint:
                self.endpoint = await self._server.listen_pages(self.endpoint)
            services = [self._follower.run, self._rescue, self._watch_disk]
            if self._engine is not None:
                services.append(self._engine.run)
            if self._telemetry is not None:
                services.append(partial(self._telemetry.run, self.scraping.registry))
                stack.push_async_callback(self._telemetry.close)
            tasks = [asyncio.create_task(_kept_up(service)) for service in services]
            reading = asyncio.create_task(self._read())
            try:
                await stop.wait()
            finally:
                self._reader.stop()
                if self._follower.known.is_set():
                    await reading
                    await self._reader.finish()
                for task in (*tasks, reading):
                    task.cancel()
                await asyncio.gather(*tasks, reading, return_exceptions=True)

    async def _relay_streams(self, counts: RescueCounts) -> None:
        """From when a policy first wants it: few need it."""
        await self._rescue_wanted.wait()
        from kajitori.gateway.rescue.relay import Relay

        await Relay(self._places.rescue, self._places.inner, counts).run()

    async def _read(self) -> None:
        """Lines wait in their file until it is known whom they speak of."""
        await self._follower.known.wait()
        await _kept_up(self._reader.run, once=True)

    async def _settle(self, records: list[RequestRecord], position: bytes) -> None:
        engine = self._engine
        if engine is None:
            return
        # What passed under limits is settled, too, when its route is gone meanwhile, or they are.
        concerned = [each for each in records if each.route in self._limited or engine.knows(each.id)]
        settlements = [settlement(record) for record in concerned]
        if not settlements:
            return
        try:
            await engine.settle(settlements, position)
        except Exception:
            # The reservations run out by themselves; the requests are booked all the same.
            _log.exception("%d requests cannot be settled", len(settlements))

    async def _watch_disk(self) -> None:
        """Tells when Envoy could not write what it had to tell: those requests are in no record."""
        asked = -_ASK_ENVOY_SECONDS
        while True:
            loop = asyncio.get_running_loop()
            status = await loop.run_in_executor(None, _space, self._places.access_log.parent)
            little = status is not None and status < _LITTLE_SPACE_BYTES
            if little or loop.time() - asked > _ASK_ENVOY_SECONDS:
                asked = loop.time()
                try:
                    self._reading.note_failed_writes(await failed_log_writes(self._places.envoy_admin))
                except OSError:
                    asked = -_ASK_ENVOY_SECONDS  # it is not there; when it is, it begins to count anew
            await asyncio.sleep(_DISK_SECONDS)

    def _metrics(self) -> tuple[int, str, bytes]:
        return 200, *self.scraping.text()

    def _readiness(self) -> tuple[int, str, bytes]:
        if self._follower.known.is_set():
            return 200, "text/plain", b"ok\n"
        return 503, "text/plain", b"no policy is known\n"


def _healthy() -> tuple[int, str, bytes]:
    return 200, "text/plain", b"ok\n"


def settlement(record: RequestRecord) -> Settlement:
    """What the engine is told of a request that has ended."""
    return Settlement(
        id=record.id,
        route=record.route,
        rule=str(record.rule),
        model=record.model,
        key=record.key,
        tenant=record.tenant,
        client=record.client,
        method=record.method,
        # Of a plain route the log has the path that it was given.
        path=native_path(record.operation, record.path) if record.operation else "",
        answered=bool(record.backend) and 200 <= record.status < 300,
        overtaken=record.outcome == WAS_OVERTAKEN,
        attempted=bool(record.attempts),
        refused_by=record.decision.partition(": ")[0]
        if record.status == _REFUSED and not record.attempts
        else "",
        backend=record.backend,
        backend_model=record.effective_model,
        usage=record.usage,
        estimated=record.usage_estimated,
        began=record.time,
    )


def _space(folder: Path) -> int | None:
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


async def run_accountant(
    places: Places,
    connect: Callable[[], grpc.aio.Channel],
    stop: asyncio.Event,
    *,
    instance: str = "",
    endpoint: str = "",
) -> None:
    """An accountant with all that its environment variables ask for, until told to stop.

    instance: its name among several, the same when it begins anew: so its own reservations are known again. Raises
    UsageError for a variable that makes no sense, OSError if an address is taken.
    """
    attributes = read_header_attributes(os.environ)
    telemetry = open_exporter(os.environ, instance, attributes)
    engine = open_engine(places.folder, name=instance or "local", used_up=places.used_up)
    try:
        accountant = Accountant(
            places,
            connect,
            engine,
            endpoint=endpoint,
            telemetry=telemetry,
            metric_headers=attributes.metrics,
        )
        accountant.scraping.register(LimitMetrics(engine))
        teller = ExhaustionTeller(connect, instance or "local", engine.exhaustion)
        telling = asyncio.create_task(_kept_up(teller.run))
        try:
            await accountant.run(stop)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
    finally:
        await engine.close()


async def _kept_up(run: Callable[[], Awaitable[None]], *, once: bool = False) -> None:
    """Runs a service; one that fails is started again and touches nothing else. once: it may return."""
    while True:
        try:
            await run()
            if once:
                return
        except Exception:
            _log.exception("a service of the accountant failed; starting it again")
        await asyncio.sleep(_AGAIN_SECONDS)
