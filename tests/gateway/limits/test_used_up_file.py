"""What Envoy is told of limits that are used up, on virtual time."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kajitori.gateway.accounting.accountant_policy import (
    AccountantPolicy,
    KeyFacts,
    Price,
    RouteFacts,
    TargetFacts,
)
from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.limit import Limit, Selector, Window
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.request import Settlement
from kajitori.gateway.limits.used_up_file import HEAD, MOST_COUNTS, MOST_PLACES
from tests.gateway.limits.making import ManualClock, distinct, ended, failed, limit, policy, request

A = TargetFacts(0, 0, "default/a")


class Pushed:
    """An engine whose limits are pushed, with its clock and its file."""

    def __init__(self, folder: Path, *limits: Limit, made: AccountantPolicy | None = None) -> None:
        self.path = folder / "used-up"
        self.clock = ManualClock()
        self.store = MemoryStore(folder / "journal")
        self.policy = made or policy(*limits)
        self.begin()

    def begin(self) -> None:
        self.engine = Engine(self.store, self.clock, used_up=self.path)
        self.configure(self.policy)

    def configure(self, made: AccountantPolicy) -> None:
        self.engine.configure(msgspec.structs.replace(made, pushes=True))

    async def end(self, *settlements: Settlement) -> None:
        await self.engine.settle(settlements)

    def lines(self, kind: str) -> list[list[str]]:
        text = self.path.read_text() if self.path.exists() else ""
        assert not text or text.startswith(HEAD)
        return [line.split("\t")[1:] for line in text.splitlines()[1:] if line.startswith(kind)]


def soft(**fields: object) -> Limit:
    return limit(**{"strict": False, "counts": "requests", "amount": 2, **fields})  # type: ignore[arg-type]


async def test_nothing_is_told_before_a_limit_is_used_up_and_all_is_taken_back_when_its_window_frees(
    tmp_path: Path,
) -> None:
    pushed = Pushed(tmp_path, soft(window=Window("Fixed", 3600.0)))
    await pushed.end(ended("a"))
    assert not pushed.path.exists()
    await pushed.end(ended("b"))
    ((number, name, until, *_, message),) = pushed.lines("C")
    assert (number, name, float(until) % 3600) == ("0", "", 0)
    assert message.startswith("Budget default/all: 0 of 2 requests are left; it frees in {} s, at ")
    assert pushed.lines("R") == [["default/chat", "0"]]
    pushed.clock.time = float(until)
    await pushed.end(ended("c"))
    assert pushed.lines("C") == []


async def test_of_a_sliding_window_it_is_told_when_the_first_of_it_frees(tmp_path: Path) -> None:
    pushed = Pushed(tmp_path, soft(window=Window("Sliding", 60.0)))
    first = pushed.clock.time
    await pushed.end(ended("a"))
    pushed.clock.time += 30
    await pushed.end(ended("b"))
    until = float(pushed.lines("C")[0][2])
    assert first + 60 <= until <= first + 62


async def test_what_counts_is_who_was_sent_to_a_backend_in_the_window_in_which_it_came(
    tmp_path: Path,
) -> None:
    pushed = Pushed(tmp_path, soft(amount=3, window=Window("Fixed", 3600.0)))
    refused = Settlement(id="r", route="default/chat", model="gpt", attempted=False)
    await pushed.end(*[refused] * 5, failed("f"), ended("old", began=pushed.clock.time - 3600.0), ended("a"))
    assert pushed.lines("C") == []
    await pushed.end(ended("b"))
    assert len(pushed.lines("C")) == 1


async def test_each_value_that_is_counted_apart_closes_alone_and_keys_are_told_by_their_ids(
    tmp_path: Path,
) -> None:
    each = soft(
        selectors=(distinct("key"), distinct("model"), Selector("tenant", "Exact", "red", invert=True))
    )
    made = AccountantPolicy(
        routes={"default/chat": RouteFacts(targets=(A,))},
        limits=(each,),
        keys={"id1": KeyFacts("default/ann", budgets=("default/all",)), "id2": KeyFacts("default/ben")},
        budgets={"default/all": 0},
    )
    pushed = Pushed(tmp_path, made=made)
    await pushed.end(ended("a", key="id1"), ended("b", key="id1"), ended("c", key="id2"))
    assert [line[:2] for line in pushed.lines("C")] == [["0", "id1|gpt"]]
    assert pushed.lines("K") == [["id1", "0"]]
    assert pushed.lines("L") == [["0", "0", "key,model", "tenant 1 V red", "Budget default/all"]]


@pytest.mark.parametrize(
    "selector",
    [
        Selector("model", "Regex", "g.*"),
        Selector("client", "Cidr", "10.0.0.0/8"),
        Selector("backend", "Exact", "default/a"),
        Selector("model", "Exact", "gpt\t"),
    ],
)
async def test_whom_the_script_cannot_tell_it_shall_ask_about(tmp_path: Path, selector: Selector) -> None:
    pushed = Pushed(tmp_path, soft(selectors=(selector,)))
    model = "gpt\t" if selector.kind == "Exact" else "gpt"
    settled = [ended(str(number), client="10.1.1.1", model=model) for number in range(2)]
    await pushed.end(*settled)
    assert (pushed.lines("C"), [line[1] for line in pushed.lines("L")]) == ([], ["1"])


async def test_what_finds_no_room_in_the_file_is_asked_about(tmp_path: Path) -> None:
    pushed = Pushed(tmp_path, soft(amount=1, selectors=(distinct("model"),)))
    await pushed.end(*(ended(str(number), model=f"m{number}") for number in range(MOST_COUNTS + 5)))
    assert len(pushed.lines("C")) == MOST_COUNTS
    assert [line[1] for line in pushed.lines("L")] == ["1"]
    routes = {
        f"default/r{number}": RouteFacts(limits=(0,), targets=(A,)) for number in range(MOST_PLACES + 1)
    }
    wide = Pushed(tmp_path / "wide", made=AccountantPolicy(routes=routes, limits=(soft(amount=1),)))
    await wide.end(Settlement(id="a", route="default/r1", model="gpt", backend="default/a"))
    assert wide.path.read_text().splitlines()[1:] == ["A"]


async def test_a_model_without_a_price_is_asked_about_once_it_was_seen(tmp_path: Path) -> None:
    made = policy(soft(counts="usd", amount=1.0), prices=[Price("gpt", input_usd=1.0)])
    pushed = Pushed(tmp_path, made=made)
    await pushed.end(ended("a", 10, backend_model="gpt"))
    assert not pushed.path.exists()
    await pushed.end(ended("b", 10, model="strange", backend_model="strange"))
    assert [line[1] for line in pushed.lines("L")] == ["0"]
    assert pushed.lines("U") == [["0", "strange"]]
    assert (await pushed.engine.admit(request("c", model="strange"))).status == 403
    assert (await pushed.engine.admit(request("d", model="gpt"))).allowed
    pushed.configure(
        policy(
            soft(counts="usd", amount=1.0),
            prices=[Price("gpt", input_usd=1.0), Price("strange", input_usd=1.0)],
        )
    )
    await pushed.end()
    assert pushed.lines("U") == []


async def test_a_limit_of_nothing_is_always_asked_about(tmp_path: Path) -> None:
    pushed = Pushed(tmp_path, soft(amount=0))
    await pushed.end(ended("a"))
    assert [line[1] for line in pushed.lines("L")] == ["1"]
    assert "allows nothing at all" in (await pushed.engine.admit(request("b"))).message


async def test_a_shadow_counts_and_tells_and_keeps_nobody_back(tmp_path: Path) -> None:
    pushed = Pushed(tmp_path, soft(shadow=True))
    await pushed.end(ended("a"), ended("b"))
    assert pushed.lines("C") == []
    assert pushed.engine.counts.shadowed == {"Budget default/all": 1}


async def test_a_new_process_finds_out_what_is_used_up_and_a_larger_amount_opens_at_once(
    tmp_path: Path,
) -> None:
    pushed = Pushed(tmp_path, soft())
    await pushed.end(ended("a"), ended("b"))
    before = pushed.lines("C")
    pushed.path.unlink()
    pushed.begin()
    await pushed.end(failed("other"))
    assert [line[:2] for line in pushed.lines("C")] == [line[:2] for line in before]
    pushed.configure(policy(soft(amount=10)))
    await pushed.end()
    assert pushed.lines("C") == []


@pytest.mark.parametrize(
    "other",
    [
        soft(name="Budget default/strict", strict=True),
        soft(name="Budget default/deny", deny_without_store=True),
        soft(name="BackendTrafficPolicy default/told, rule 0", told=True),
        soft(name="Budget default/header", selectors=(distinct("header:x-team"),)),
    ],
)
def test_a_route_is_asked_about_if_any_of_its_limits_must_be(other: Limit) -> None:
    alone = AccountantPolicy(routes=policy(soft()).routes, limits=(soft(),), pushes=True)
    assert alone.unasked_routes() == {"default/chat"}
    by_path = soft(selectors=(Selector("path", "Exact", "/v1/chat/completions"),))
    of_both = {
        "default/chat": RouteFacts(limits=(0,), targets=(A,)),
        "default/plain": RouteFacts(limits=(0,)),
    }
    told = AccountantPolicy(routes=of_both, limits=(by_path,), pushes=True)
    assert told.unasked_routes() == {"default/chat"}
    both = policy(soft(), other)
    assert (
        AccountantPolicy(routes=both.routes, limits=both.limits, pushes=True).unasked_routes() == frozenset()
    )
    of_a_key = AccountantPolicy(
        routes=alone.routes,
        limits=(soft(), other),
        keys={"k": KeyFacts("default/k", budgets=("default/b",))},
        budgets={"default/b": 1},
        pushes=True,
    )
    assert of_a_key.unasked_routes() == frozenset()
