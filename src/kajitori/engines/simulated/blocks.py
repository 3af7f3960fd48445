"""The KV cache of a simulated engine: blocks of tokens, shared between prompts that begin alike.

A block that holds a full stretch of a prompt is known by a hash of that stretch and all before it. When its last user
ends it stays, to be found again, until its room is needed: the one that was not used for longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class BlockPool:
    """Counts blocks; holds no data.

    total: blocks in all. used: held by running sequences. idle: kept only to be found again.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._private = 0
        self._users: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def used(self) -> int:
        return self._private + len(self._users)

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def used_fraction(self) -> float:
        return self.used / self.total if self.total else 0.0

    def can_take(self, count: int) -> bool:
        """Whether so many more blocks can be had, idle ones given up."""
        return self.used + count <= self.total

    def known_prefix(self, hashes: Sequence[int]) -> int:
        """How many blocks at the front are in the cache."""
        for position, value in enumerate(hashes):
            if value not in self._users and value not in self._idle:
                return position
        return len(hashes)

    def share(self, hashes: Sequence[int]) -> None:
        """Use blocks that are in the cache."""
        for value in hashes:
            self._idle.pop(value, None)
            self._users[value] = self._users.get(value, 0) + 1

    def idle_among(self, hashes: Sequence[int]) -> int:
        """How many of these would have to be counted as used again."""
        return sum(value in self._idle for value in hashes)

    def take(self, count: int) -> None:
        """Take private blocks; `can_take` said that they are there."""
        self._private += count
        while self.used + self.idle > self.total:
            self._idle.popitem(last=False)

    def publish(self, value: int) -> bool:
        """Turn a private block into one that others can find. False where they can already: it stays private."""
        if value in self._users or value in self._idle:
            return False
        self._private -= 1
        self._users[value] = 1
        return True

    def release(self, private: int, shared: Sequence[int]) -> None:
        """Give back private blocks, and leave shared ones; the end of a prompt is forgotten before its beginning."""
        self._private -= private
        for value in reversed(shared):
            left = self._users[value] - 1
            if left:
                self._users[value] = left
            else:
                del self._users[value]
                self._idle[value] = None
