import asyncio

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from kajitori.control.queue import QueueClosed, WorkQueue
from kajitori.control.testing import run_virtual


def test_a_key_added_many_times_comes_once():
    async def scenario():
        queue = WorkQueue("q")
        for _ in range(5):
            queue.add("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert len(queue) == 0

    run_virtual(scenario())


def test_a_key_added_while_it_is_worked_on_comes_again_afterwards():
    async def scenario():
        queue = WorkQueue("q")
        queue.add("a")
        key = await queue.get()
        queue.add("a")
        assert len(queue) == 0, "no second worker may have it now"
        queue.done(key)
        assert await queue.get() == "a"

    run_virtual(scenario())


def test_a_busy_key_does_not_starve_the_others():
    async def scenario():
        queue = WorkQueue("q")
        for key in "abc":
            queue.add(key)
        taken = []
        for _ in range(6):
            key = await queue.get()
            taken.append(key)
            queue.add(key)
            queue.done(key)
        assert taken == ["a", "b", "c", "a", "b", "c"]

    run_virtual(scenario())


def test_the_back_off_doubles_for_each_key_alone_and_is_forgotten():
    async def scenario():
        queue = WorkQueue("q")
        assert [queue.add_rate_limited("a") for _ in range(4)] == [0.005, 0.01, 0.02, 0.04]
        assert queue.add_rate_limited("b") == 0.005
        for _ in range(100):
            last = queue.add_rate_limited("a")
        assert last == 1000.0
        queue.forget("a")
        assert queue.add_rate_limited("a") == 0.005

    run_virtual(scenario())


def test_of_several_delays_the_earliest_holds_and_time_passes_exactly():
    async def scenario():
        loop = asyncio.get_running_loop()
        queue = WorkQueue("q")
        queue.add_after("a", 60)
        queue.add_after("a", 3600)
        queue.add_after("a", 5)
        assert await queue.get() == "a"
        assert loop.time() == pytest.approx(5)
        queue.done("a")
        queue.add_after("b", 7200)
        assert await queue.get() == "b"
        assert loop.time() == pytest.approx(7205)
        assert queue.idle is False

    run_virtual(scenario())


def test_delays_too_short_for_a_timer_are_kept_on_the_loop_that_daemons_use():
    async def scenario():
        queue = WorkQueue("q")
        for key, seconds in (("a", 1e-4), ("b", 2e-4), ("c", 1e-5)):
            queue.add_after(key, seconds)
        async with asyncio.timeout(10):
            return {await queue.get() for _ in range(3)}

    assert uvloop.run(scenario()) == {"a", "b", "c"}


def test_closing_ends_the_workers_that_wait():
    async def scenario():
        queue = WorkQueue("q")
        waiting = [asyncio.ensure_future(queue.get()) for _ in range(3)]
        await asyncio.sleep(1)
        queue.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, QueueClosed) for result in results)
        queue.add("late")
        with pytest.raises(QueueClosed):
            await queue.get()

    run_virtual(scenario())


def test_a_cancelled_worker_hands_its_wake_up_on():
    async def scenario():
        queue = WorkQueue("q")
        first, second = asyncio.ensure_future(queue.get()), asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        first.cancel()
        assert await asyncio.wait_for(second, 1) == "a"

    run_virtual(scenario())


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["add", "after", "limited"]), st.floats(0, 3)),
        max_size=40,
    ),
    st.integers(1, 4),
)
def test_no_key_is_ever_worked_on_twice_at_once_and_none_is_lost(steps, workers):
    async def scenario():
        loop = asyncio.get_running_loop()
        queue = WorkQueue("q")
        busy, asked, worked = set(), {}, {}

        async def work():
            while True:
                key = await queue.get()
                assert key not in busy
                busy.add(key)
                worked[key] = loop.time()
                await asyncio.sleep(0.7)
                busy.remove(key)
                queue.done(key)

        tasks = [asyncio.ensure_future(work()) for _ in range(workers)]
        for key, how, delay in steps:
            asked[key] = loop.time()
            if how == "add":
                queue.add(key)
            elif how == "after":
                queue.add_after(key, delay)
            else:
                queue.add_rate_limited(key)
            await asyncio.sleep(delay / 3)
        await asyncio.sleep(10_000)
        assert queue.idle
        assert set(worked) == set(asked)
        assert all(worked[key] >= asked[key] for key in asked)
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError)

    run_virtual(scenario())
