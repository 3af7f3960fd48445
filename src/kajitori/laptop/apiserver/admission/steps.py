"""A decision that may have to wait: a generator that yields what it waits for.

A write is decided on the stored object. Nearly always that is done at once, inside the store (`at_once`). Where a
webhook has a say the same generator yields the call, is given the answer, and goes on (`in_time`); what it decides
is committed only if the stored object is still the one that it saw.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

Wait = Callable[[], Awaitable[Any]]
"""Starts what is waited for; its result, or its error, goes back into the generator."""

T = TypeVar("T")
Steps = Generator[Wait, Any, T]


def at_once(steps: Steps[T]) -> T:
    """Run steps that wait for nothing."""
    try:
        next(steps)
    except StopIteration as stop:
        return stop.value
    steps.close()
    raise RuntimeError("a decision that was to be made at once waits for somebody")


async def in_time(steps: Steps[T]) -> T:
    """Run steps to their end, waiting for what they ask for."""
    try:
        wait = next(steps)
        while True:
            try:
                answer = await wait()
            except Exception as error:
                wait = steps.throw(error)
            else:
                wait = steps.send(answer)
    except StopIteration as stop:
        return stop.value
