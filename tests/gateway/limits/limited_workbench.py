"""A workbench whose Envoy asks an accountant that holds requests to their limits."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from kajitori.base.clock import SystemClock
from kajitori.gateway.accountant import settlement
from kajitori.gateway.accounting.admission_server import AdmissionServer
from kajitori.gateway.accounting.log_reader import LogReader
from kajitori.gateway.accounting.places import used_up_beside
from kajitori.gateway.accounting.record_reading import read_position
from kajitori.gateway.accounting.records import FILE_NAME, RequestRecord
from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.opening import open_engine
from kajitori.gateway.limits.redis_store import RedisStore
from kajitori.gateway.lua import scripts
from kajitori.gateway.plan import Plan
from tests.gateway.workbench import Workbench


class LimitedWorkbench(Workbench):
    """engine: holds the limits of what was applied. redis: the URL of its store, name: of it among those that share it."""

    redis, name = "", "local"

    async def start(self) -> None:
        await self._open_accountant()
        await super().start()

    async def _open_accountant(self) -> None:
        self.used_up = used_up_beside(self.access_log)
        self.engine = open_engine(self.folder, store="", name=self.name, used_up=self.used_up)
        if self.redis:  # with more patience than Envoy has, since the machine may have much to do
            store = RedisStore(self.redis, timeout_seconds=30.0)
            self.engine = Engine(store, SystemClock(), name=self.name, used_up=self.used_up)
        if self.plan is not None:
            self.engine.configure(self.plan.policy)
        self.ledger.on_whole = self.engine.note_over
        position = read_position(self.folder / FILE_NAME)
        self.log_reader = LogReader(
            self.access_log,
            self.ledger,
            self.store,
            position,
            self._reopen_logs,
            self._settle,
            settled=self.engine.position,
            awaited=lambda: self.engine.awaits,
        )
        self.admission = AdmissionServer(self.engine, None, self.engine.together)
        await self.admission.listen(self.folder / "accountant.sock")
        self._holding = asyncio.create_task(self.engine.run())

    def kill_accountant(self) -> None:
        """As if the process had been killed: nothing is said goodbye to."""
        self.admission.close()
        self._reading.cancel()
        self._holding.cancel()

    async def start_accountant(self) -> None:
        """Begins anew with what is on disk."""
        await self._open_accountant()
        self.start_reading()

    async def _settle(self, records: list[RequestRecord], position: bytes) -> None:
        await self.engine.settle([settlement(record) for record in records], position)

    def set(self, *documents: dict[str, Any] | str, **settings: Any) -> Plan:
        plan = super().set(*documents, **settings)
        self.engine.configure(plan.policy)
        return plan

    async def close(self) -> None:
        self.admission.close()
        await super().close()
        self._holding.cancel()
        await asyncio.gather(self._holding, return_exceptions=True)
        await self.engine.close()


@contextlib.asynccontextmanager
async def running_limited_workbench(redis: str = "", name: str = "local") -> AsyncIterator[LimitedWorkbench]:
    # Envoy looks at what is used up at each request, so that nobody has to wait for that.
    with patch.object(scripts, "LOOK_MILLISECONDS", 0), tempfile.TemporaryDirectory(prefix="kaji-") as folder:
        bench = LimitedWorkbench(Path(folder))
        bench.redis, bench.name = redis, name
        try:
            await bench.start()
            yield bench
        finally:
            await bench.close()
