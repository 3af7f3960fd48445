"""What was made of one object or two, kept from plan to plan while these are the same. Pure in effect.

A `kajitori.gateway.plan_memory.PlanMemory` notes besides what was looked up; where nothing is looked up, this is cheaper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class ObjectMemo:
    """Of one kind of value. Nothing may be looked up while one is made."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, int], tuple[Any, Any, Any, Any]] = {}
        self._now: dict[tuple[int, int], tuple[Any, Any, Any, Any]] = {}

    def of(self, item: Any, other: Any, values: Any, make: Callable[[], T]) -> T:
        """The same as before, of the same two objects and of equal values."""
        key = (id(item), id(other))
        known = self._now.get(key) or self._before.get(key)
        if (
            known is None
            or known[0] is not item
            or known[1] is not other
            or not (known[2] is values or known[2] == values)
        ):
            known = (item, other, values, make())
        self._now[key] = known
        return known[3]

    def turn(self) -> None:
        """Another plan begins; what the one before did not ask for is forgotten."""
        self._before, self._now = self._now, {}
