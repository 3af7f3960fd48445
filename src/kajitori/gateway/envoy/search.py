"""Which of many things Envoy refuses, found by asking it about groups of them. Pure.

Envoy takes or refuses a group as a whole. A group that it refuses is halved, so one culprit of n is found by log2(n)
questions, one more for Envoy's words about it alone, and one for all that was set aside meanwhile. Where a second one
turns up, what is left is halved without setting aside, which bounds all questions by 2n + log2(n) + 2 however many are refused.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Search(Generic[T]):
    """Ask about `asked()`, tell `answer()`, until nothing is asked.

    found: what is refused, with Envoy's words. inferred: of these what was taken alone, but not with the others of its group.
    """

    def __init__(self, things: tuple[T, ...]) -> None:
        self.found: dict[T, str] = {}
        self.inferred: set[T] = set()
        self.good: set[T] = set()
        self._unknown: list[tuple[T, ...]] = [things] if things else []
        # A group in which one is refused at least, and what Envoy said of it.
        self._bad: tuple[T, ...] = ()
        self._words = ""

    def asked(self) -> tuple[T, ...]:
        """The group to ask about next, the same until it is answered; empty at the end."""
        if self._bad:
            return self._bad[: max(1, len(self._bad) // 2)]
        return self._unknown[-1] if self._unknown else ()

    def answer(self, refused: str | None) -> None:
        """What became of the group that was asked about: None, or why it was refused."""
        if not self._bad:
            group = self._unknown.pop()
            if refused is None:
                self.good |= set(group)
            else:
                self._bad, self._words = group, refused
                self._settle()
            return
        half = self.asked()
        rest = self._bad[len(half) :]
        if refused is not None:
            self._bad, self._words = half, refused
            if rest:
                self._set_aside(rest)
            self._settle()
        elif rest:
            self.good |= set(half)
            self._bad = rest
        else:
            # Something of the group has to go.
            self.inferred |= set(half)
            self._settle()

    def _settle(self) -> None:
        """A group of one is known."""
        if len(self._bad) == 1:
            self.found[self._bad[0]] = self._words
            self._bad = ()

    def _set_aside(self, group: tuple[T, ...]) -> None:
        if self._unknown and not self.found:
            self._unknown[-1] += group
        else:
            self._unknown.append(group)
