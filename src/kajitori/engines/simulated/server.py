"""Rank 0 of a simulated engine: meets its group, loads, serves, and ends with the group or on a signal."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from kajitori.base.errors import KajitoriError
from kajitori.engines.addresses import POD_ADDRESS_VARIABLE, bind_address
from kajitori.engines.simulated.api import Api
from kajitori.engines.simulated.engine import SimulatedEngine
from kajitori.engines.simulated.group import Group, GroupLost
from kajitori.engines.simulated.http1 import HttpConnection
from kajitori.engines.simulated.metrics import Metrics
from kajitori.engines.simulated.sizing import Sizing, size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kajitori.engines.simulated.arguments import Settings

ENDED = 0
FAILED = 1
DEFAULT_LOAD_SECONDS = 0.3


def run(settings: Settings, environment: Mapping[str, str]) -> int:
    """Serve until the end. Returns the exit code."""
    try:
        sizing = size(settings, environment)
        load_seconds = float(environment.get("KAJITORI_SIMULATED_LOAD_SECONDS") or DEFAULT_LOAD_SECONDS)
        speed = float(environment.get("KAJITORI_SIMULATED_SPEED") or 1)
    except KajitoriError as error:
        _log(f"error: {error}")
        return FAILED
    except ValueError as error:
        _log(f"error: KAJITORI_SIMULATED_LOAD_SECONDS and KAJITORI_SIMULATED_SPEED are numbers: {error}")
        return FAILED
    _log(sizing.summary)
    return asyncio.run(_Server(settings, sizing, environment, load_seconds, speed).run())


def _log(text: str) -> None:
    sys.stderr.write(f"vllm (simulated): {text}\n")
    sys.stderr.flush()


class _Server:
    def __init__(
        self,
        settings: Settings,
        sizing: Sizing,
        environment: Mapping[str, str],
        load_seconds: float,
        speed: float,
    ) -> None:
        self._settings = settings
        self._sizing = sizing
        self._environment = environment
        self._load_seconds = load_seconds
        self._speed = speed
        self._api = Api(settings, sizing.max_model_tokens)
        self._connections: set[HttpConnection] = set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        asked_to_end = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked_to_end.set)
        group = Group(self._settings, _log)
        address = bind_address(self._settings.host, self._environment.get(POD_ADDRESS_VARIABLE, ""))
        try:
            listener = await loop.create_server(
                lambda: HttpConnection(self._api.handle, self._connections), address, self._settings.port
            )
            await group.listen(bind_address("", self._environment.get(POD_ADDRESS_VARIABLE, "")))
        except OSError as error:
            _log(f"error: cannot listen: {error}")
            return FAILED
        watching = asyncio.create_task(group.watch())
        serving = asyncio.create_task(self._load_and_step(group))
        ending = asyncio.create_task(asked_to_end.wait())
        done, _ = await asyncio.wait({watching, serving, ending}, return_when=asyncio.FIRST_COMPLETED)
        if ending in done:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            return await self._end(group, listener, watching, serving)
        return await self._fail(group, listener, watching if watching in done else serving)

    async def _load_and_step(self, group: Group) -> None:
        settings, api = self._settings, self._api
        if settings.nodes > 1:
            api.why_not_ready = "waiting for the group to form"
            await group.formed.wait()
            _log(f"the group of {settings.nodes} is formed")
        api.why_not_ready = "loading weights"
        await asyncio.sleep(self._load_seconds)
        nodes = {self._environment.get("KAJITORI_NODE_NAME", ""), *group.node_names.values()} - {""}
        metrics = Metrics(settings.served_names[0], self._sizing.max_model_tokens)
        engine = SimulatedEngine(
            self._sizing.engine_over(len(nodes)), self._sizing.limits, metrics, self._speed
        )
        api.engine = engine
        api.why_not_ready = ""
        _log(f"serving {', '.join(settings.served_names)} on port {settings.port}")
        await engine.run()

    async def _end(
        self,
        group: Group,
        listener: asyncio.Server,
        watching: asyncio.Task[None],
        serving: asyncio.Task[None],
    ) -> int:
        """Take nothing new, finish what was begun, let the group go."""
        _log("ending: finishing the answers that were begun")
        group.ending = True
        self._api.why_not_ready = "ending"
        listener.close()
        for connection in list(self._connections):
            connection.close_when_done()
        try:
            async with asyncio.timeout(self._settings.shutdown_seconds):
                while any(connection.busy for connection in self._connections):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            _log(f"answers were not complete after {self._settings.shutdown_seconds:g} s and are cut")
        watching.cancel()
        serving.cancel()
        await group.close("end")
        return ENDED

    async def _fail(self, group: Group, listener: asyncio.Server, cause: asyncio.Task[None]) -> int:
        error = cause.exception()
        why = str(error) if isinstance(error, GroupLost) else f"the engine failed: {error!r}"
        _log(f"{why}; the engine ends")
        self._api.why_not_ready = why
        listener.close()
        await group.close(f"lost {why}")
        if self._api.engine is not None:
            self._api.engine.fail()
            # Let the handlers tell their clients.
            await asyncio.sleep(0.05)
        return FAILED
