"""What is used up stays so while the processes of a laptop cluster are killed, each in its turn."""

from __future__ import annotations

from kajitori.gateway.accounting.records import read_request
from tests.gateway.limits.test_soft_limits import soft
from tests.gateway.test_process import Processes, processes  # noqa: F401  a fixture
from tests.gateway.workbench import CLASS, Provider, ai_route, backend, gateway, running_provider
from tests.waiting import eventually

MODEL = "gpt-4o"


async def test_what_is_used_up_stays_so_whichever_process_is_killed(processes: Processes) -> None:  # noqa: F811
    async with running_provider(Provider()) as provider:
        processes.start_gateway()
        await eventually((processes.home / "run" / "envoy-bootstrap.json").exists, what=processes.logs)
        processes.start_accountant()
        processes.start_envoy()
        await processes.apply(
            CLASS,
            gateway(processes.port),
            *backend("a", provider.port),
            ai_route("one", MODEL, {"name": "a"}),
            soft("few", {"requests": 2}),
        )
        await processes.answered(MODEL)
        processes.kill("accountant")
        assert (await processes.ask(MODEL))[0] == 200  # is counted when somebody counts again
        processes.start_accountant()
        await processes.answered(MODEL, 429)
        passed = len(provider.seen)

        processes.kill("accountant")
        processes.kill("gateway")
        assert (await processes.ask(MODEL))[0] == 429
        processes.kill("envoy")
        processes.start_gateway()
        processes.start_envoy()
        key = await processes.answered(MODEL, 429)
        processes.start_accountant()
        await eventually(lambda: read_request(processes.home, key), what=processes.logs)
        assert (await processes.ask(MODEL))[0] == 429
        assert len(provider.seen) == passed
        record = read_request(processes.home, key)
        assert record is not None
        assert record.decision.startswith("Budget default/few: 0 of 2 requests are left")
