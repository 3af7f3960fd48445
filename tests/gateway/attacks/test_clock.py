"""The clock of the machine is put back and forth under limits that are in use."""

from __future__ import annotations

import random

import pytest

from kajitori.gateway.limits.limit import Window
from tests.gateway.limits.making import ended, engine, limit, request

WINDOWS = [Window("Fixed", 3600.0), Window("Sliding", 3600.0), Window("Calendar", unit="Day", zone="UTC")]


@pytest.mark.parametrize("ahead", [False, True], ids=["back", "ahead too"])
@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.kind)
async def test_a_clock_that_jumps_breaks_nothing_and_a_window_never_takes_more_than_it_has(
    window: Window, ahead: bool
) -> None:
    held, clock = engine(limit(amount=50, counts="requests", window=window))
    begin = 86_400.0 * 20_000 + 7200.0
    odds = random.Random(1)
    passed: dict[int, int] = {}
    for number in range(600):
        # Back by hours, by days, to the beginning of time, and again and again to the same hour. What ended long ago
        # is forgotten, so a clock that was far ahead for a while begins anew.
        hour = odds.choice((0, 0, 0, 0, -1, -24, -480_000, *((1, 24, 8_000_000) if ahead else ())))
        clock.time = begin + 3600.0 * hour + odds.random() * 1800.0
        verdict = await held.admit(request(str(number)))
        if verdict.allowed:
            passed[hour] = passed.get(hour, 0) + 1
            clock.time -= odds.choice((0.0, 100_000.0))
            await held.settle([ended(str(number), 1, 1)])
        await held.sweep()
    assert held.pending == 0
    assert ahead or passed[0] <= 50
    clock.time = begin + 3600.0 * 24 * 365
    # What was taken in a time that did not come yet counts until it has passed: too little passes, never too much.
    assert ahead or (await held.admit(request("later"))).allowed
