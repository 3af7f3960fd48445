"""What one Envoy wants of one type of resources, and what it has of it. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kajitori.gateway.envoy.encoded import Encoded


class Subscription:
    """wildcard: all there is. names: what is asked for by name. has, holds: versions by name that were sent last, and that it
    took last. refused: what it refused last of a resource, by version, and why. outstanding: the message that is under way, by nonce.
    told_missing: names of which it was told that there is nothing. one_by_one: of what it refused without saying which of many.
    unasked: what is wanted and it has not asked for in time.
    """

    def __init__(self) -> None:
        self.wildcard = False
        self.answered = False
        self.names: set[str] = set()
        self.has: dict[str, str] = {}
        self.holds: dict[str, str] = {}
        self.refused: dict[str, tuple[str, str]] = {}
        self.told_missing: set[str] = set()
        self.outstanding: tuple[str, dict[str, Encoded]] | None = None
        self.one_by_one: set[str] = set()
        self.unasked: set[str] = set()

    @property
    def waits_for_nothing(self) -> bool:
        """Whether an Envoy that has nothing asked for all there is, and got no answer."""
        return self.wildcard and not self.answered and not self.has

    def forget(self, name: str) -> None:
        """It has nothing of this any more."""
        self.has.pop(name, None)
        self.holds.pop(name, None)
        self.refused.pop(name, None)

    def keeps_what_it_had(self, name: str) -> None:
        """What was sent was refused, so it goes out again if it is wanted again."""
        self.has.pop(name, None)
        if name in self.holds:
            self.has[name] = self.holds[name]
