"""Real processes killed under load, while one object is such that Envoy refuses it."""

from __future__ import annotations

import sys
from typing import Any

from kajitori.api.resource import AI_GATEWAY_ROUTES
from tests.gateway.accounting.test_faults import Load, booked
from tests.gateway.refusals.spoiling import OF_ACTION
from tests.gateway.test_process import Processes, processes  # noqa: F401  a fixture
from tests.gateway.workbench import CLASS, Provider, ai_route, backend, gateway
from tests.waiting import eventually


class Spoilt(Processes):
    """Its gateway is one of which Envoy refuses something. other: whose home, port and end it shares."""

    def __init__(self, other: Processes) -> None:
        self.__dict__ = other.__dict__

    def start_gateway(self) -> None:
        module = "tests.gateway.refusals.spoilt_gateway"
        self.start("gateway", sys.executable, "-m", module, "--home", str(self.home))


async def condition(found: Processes, name: str) -> dict[str, Any]:
    route = await found.client.get(AI_GATEWAY_ROUTES, name, "default")
    return ((route.get("status") or {}).get("conditions") or [{}])[0]


async def test_with_a_refused_object_gateway_accountant_and_envoy_are_killed_under_load_and_others_serve_and_change(
    processes: Processes,  # noqa: F811
    first: Provider,
) -> None:
    spoilt = Spoilt(processes)
    spoilt.start_gateway()
    await eventually((processes.home / "run" / "envoy-bootstrap.json").exists, what=processes.logs)
    processes.start_accountant()
    processes.start_envoy()
    good, bad = ai_route("one", "gpt-4o", {"name": "a"}), ai_route("bad", "bad", {"name": "a"})
    await processes.apply(CLASS, gateway(processes.port), *backend("a", first.port), good, bad)
    await processes.answered("gpt-4o")
    await processes.answered("bad", 500)

    async def told() -> bool:
        found = await condition(processes, "bad")
        return found.get("type") == "NotAccepted" and OF_ACTION in found["message"]

    await eventually(told, processes.logs)
    load = Load(f"http://127.0.0.1:{processes.port}")
    async with load.running():
        await load.more(20)
        for name in ("gateway", "accountant"):
            processes.kill(name)
            await load.more(20)
            getattr(spoilt, f"start_{name}")()
            # What changes meanwhile comes through, though the new process has to find out anew.
            await processes.apply(ai_route(f"after-{name}", f"after-{name}", {"name": "a"}))
            await processes.answered(f"after-{name}")
            await processes.answered("bad", 500)
            await load.more(20)
        assert load.failed == []
        processes.kill("envoy")
        processes.start_envoy()
        await processes.answered("after-gateway")
        await processes.answered("bad", 500)
        await load.more(20)
    await eventually(told, processes.logs)
    assert (await condition(processes, "one"))["type"] == "Accepted"
    last = set(list(load.answered)[-20:])
    await eventually(lambda: last <= {record.id for record in booked(processes)}, processes.logs)
