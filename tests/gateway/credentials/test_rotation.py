"""When tokens are renewed, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.clock import LoopClock
from kajitori.control.runtime import Runtime
from kajitori.control.testing import run_virtual
from kajitori.gateway.credentials.exchange import (
    Concealed,
    ExchangeFailed,
    Steps,
    Surroundings,
    Token,
    TokenState,
)
from kajitori.gateway.credentials.rotation import seconds_to_retry, seconds_to_rotation
from kajitori.gateway.credentials.tokens import TokenSource

KEY = ("default", "p")


class Endpoint:
    """Gives tokens of an hour, refuses, or hangs; remembers when it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.answer: Callable[[float], Token] = lambda now: Token(Concealed(f"t{now:.0f}"), now + 3600)
        self.hangs = False


ENDPOINT = Endpoint()


class FakeExchange(msgspec.Struct, frozen=True):
    """Needs no step: what it gives is the endpoint's affair."""

    name: str = "app"
    password: str = "password-1"

    @property
    def identity(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.password,)

    def steps(self, surroundings: Surroundings, now: float) -> Steps:
        ENDPOINT.asked.append(asyncio.get_running_loop().time())
        return ENDPOINT.answer(now)
        yield


def refuse(message: str, retry_after_seconds: float | None = None) -> Callable[[float], Token]:
    def answer(now: float) -> Token:
        raise ExchangeFailed(message, retry_after_seconds=retry_after_seconds)

    return answer


def scenario(
    play: Callable[[TokenSource, Callable[[], TokenState | None]], Coroutine[Any, Any, None]],
) -> None:
    async def run() -> None:
        global ENDPOINT
        ENDPOINT = Endpoint()
        runtime: Any = Runtime(None, clock=LoopClock(), seed=1)  # type: ignore[arg-type]
        source = TokenSource(runtime, lambda: None)
        try:
            await play(source, lambda: source.states().get(KEY))
        finally:
            await source.close()

    run_virtual(run())


def test_a_token_is_renewed_about_five_minutes_before_it_ends() -> None:
    async def play(source: TokenSource, state: Callable[[], TokenState | None]) -> None:
        await source.want({KEY: FakeExchange()})
        await asyncio.sleep(24 * 3600)
        gaps = [after - before for before, after in zip(ENDPOINT.asked, ENDPOINT.asked[1:], strict=False)]
        assert all(3240 <= gap <= 3300.1 for gap in gaps)
        assert len(set(gaps)) > 10  # by chance, not in step with other replicas
        found = state()
        assert found is not None
        assert not found.problem

    scenario(play)


def test_a_failure_keeps_the_token_while_it_is_valid_and_tries_again_with_growing_delays() -> None:
    async def play(source: TokenSource, state: Callable[[], TokenState | None]) -> None:
        await source.want({KEY: FakeExchange()})
        good = ENDPOINT.answer
        ENDPOINT.answer = refuse("the endpoint refuses password-1 today")
        await asyncio.sleep(3500)
        found = state()
        assert found is not None
        assert found.token is not None
        assert found.problem == "the endpoint refuses *** today"
        await asyncio.sleep(200)
        found = state()
        assert found is not None
        assert found.token is None  # it has ended
        assert found.problem == "the endpoint refuses *** today"
        await asyncio.sleep(3 * 3600)
        gaps = [after - before for before, after in zip(ENDPOINT.asked[1:], ENDPOINT.asked[2:], strict=False)]
        assert gaps[0] < 2
        assert 200 < gaps[-1] <= 301
        assert len(ENDPOINT.asked) < 70
        ENDPOINT.answer = good
        await asyncio.sleep(301)
        assert state() == TokenState(state().token)  # type: ignore[union-attr]
        assert state().token is not None  # type: ignore[union-attr]

    scenario(play)


def test_an_endpoint_that_asks_for_patience_gets_it() -> None:
    async def play(source: TokenSource, state: Callable[[], TokenState | None]) -> None:
        ENDPOINT.answer = refuse("slow down", 100)
        await source.want({KEY: FakeExchange()})
        await asyncio.sleep(99)
        assert len(ENDPOINT.asked) == 1
        await asyncio.sleep(3)
        assert len(ENDPOINT.asked) == 2

    scenario(play)


def test_another_secret_keeps_the_token_until_the_new_one_is_there_and_another_identity_does_not() -> None:
    async def play(source: TokenSource, state: Callable[[], TokenState | None]) -> None:
        await source.want({KEY: FakeExchange()})
        ENDPOINT.answer = refuse("wrong")
        await source.want({KEY: FakeExchange(password="password-2")})
        assert state().token is not None  # type: ignore[union-attr]
        await source.want({KEY: FakeExchange(name="other")})
        assert state().token is None  # type: ignore[union-attr]
        await source.want({})
        assert state() is None
        asked = len(ENDPOINT.asked)
        await asyncio.sleep(7200)
        assert len(ENDPOINT.asked) == asked

    scenario(play)


def test_a_policy_that_changes_all_the_time_does_not_hammer_the_endpoint() -> None:
    async def play(source: TokenSource, state: Callable[[], TokenState | None]) -> None:
        for number in range(100):
            wanting = asyncio.create_task(source.want({KEY: FakeExchange(password=f"password-{number}")}))
            await asyncio.sleep(0.1)
            wanting.cancel()
        assert len(ENDPOINT.asked) <= 11

    scenario(play)


def test_a_defect_of_ours_is_told_and_ends_no_renewal() -> None:
    def broken(now: float) -> Token:
        raise KeyError("password-1")

    async def play(source: TokenSource, state: Callable[[], TokenState | None]) -> None:
        good, ENDPOINT.answer = ENDPOINT.answer, broken
        await source.want({KEY: FakeExchange()})
        assert state() == TokenState(None, "this exchange meets a defect of the gateway: KeyError")
        ENDPOINT.answer = good
        await asyncio.sleep(2)
        found = state()
        assert found is not None
        assert found.token is not None

    scenario(play)


def test_a_token_that_has_ended_on_arrival_is_refused() -> None:
    async def play(source: TokenSource, state: Callable[[], TokenState | None]) -> None:
        ENDPOINT.answer = lambda now: Token(Concealed("old"), now - 1)
        await source.want({KEY: FakeExchange()})
        found = state()
        assert found is not None
        assert found.token is None
        assert "ended already" in found.problem

    scenario(play)


@given(st.floats(1, 1e6), st.floats(0, 1))
def test_renewal_falls_into_the_life_of_the_token(life: float, spread: float) -> None:
    wait = seconds_to_rotation(1e9 + life, 1e9, spread)
    assert 1 <= wait <= max(1, life - min(300, life / 2)) + 1e-3


@given(st.integers(1, 10_000), st.floats(0, 1), st.none() | st.floats(0, 1e9))
def test_retries_are_never_at_once_and_never_far_off(
    failures: int, spread: float, asked_for: float | None
) -> None:
    assert 0.75 <= seconds_to_retry(failures, spread, asked_for) <= 300
