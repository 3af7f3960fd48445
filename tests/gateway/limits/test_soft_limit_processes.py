"""What is used up stays so while the processes of a laptop cluster are killed, each in its turn."""

from __future__ import annotations

import asyncio

from kajitori.gateway.accounting.log_file import unpacked
from kajitori.gateway.accounting.record_reading import read_position, read_request
from kajitori.gateway.accounting.records import FILE_NAME
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.opening import JOURNAL
from tests.gateway.limits.making import counted
from tests.gateway.limits.questions import budget
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


async def test_however_often_the_accountant_is_killed_each_request_counts_once(processes: Processes) -> None:  # noqa: F811
    async with running_provider(Provider()) as provider:
        processes.start_gateway()
        await eventually((processes.home / "run" / "envoy-bootstrap.json").exists, what=processes.logs)
        processes.start_accountant()
        processes.start_envoy()
        objects = (
            CLASS,
            gateway(processes.port),
            *backend("a", provider.port),
            ai_route("one", MODEL, {"name": "a"}),
        )
        many = {"requests": 1_000_000}
        await processes.apply(*objects, soft("late", many), budget("sure", many, onStoreLoss="Allow", routes=["two"]),
                              ai_route("two", "gpt-5", {"name": "a"}))  # fmt: skip
        await processes.answered(MODEL)
        await processes.answered("gpt-5")
        names = [("Budget default/late", 0), ("Budget default/sure", 0)]
        journal = processes.home / JOURNAL
        stop, answered = asyncio.Event(), list[int]()

        async def ask(model: str) -> None:
            while not stop.is_set():
                answered.append((await processes.ask(model))[0])
                await asyncio.sleep(0.01)

        async def more(count: int) -> None:
            wanted = len(answered) + count
            await eventually(lambda: len(answered) >= wanted, what=processes.logs)

        async def are_counted() -> bool:
            found = await counted(MemoryStore.read(journal), names)
            assert all(one <= other for one, other in zip(found, expected, strict=True)), (found, expected)
            return found == expected

        async def is_ahead() -> bool:
            place = unpacked(await MemoryStore.read(journal).position("local"))
            read = read_position(processes.home / FILE_NAME)
            return place is not None and (place.inode, place.offset) > (read.inode, read.offset)

        clients = [asyncio.create_task(ask(model)) for model in (MODEL, "gpt-5") * 2]
        for _ in range(3):
            await more(30)
            # What is settled now has no record on the disk yet.
            await eventually(is_ahead, what=processes.logs, pause_seconds=0.002)
            processes.kill("accountant")
            await more(30)  # nobody can be asked
            processes.start_accountant()
        stop.set()
        await asyncio.gather(*clients)
        assert set(answered) == {200}
        models = [seen.json["model"] for seen in provider.seen]
        expected = [len(models), models.count("gpt-5")]
        await eventually(are_counted, what=processes.logs)
