"""What the controller knows of a set between two reconciles and cannot read from the API: names that are in use.

It may be lost with the process: they are met again when the next create is refused.
"""

from __future__ import annotations

TAKEN_SECONDS = 30.0


class Memory:
    """Of one set, told from another of the same name by its uid."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self._taken: dict[str, tuple[str, float]] = {}

    def note_taken(self, name: str, holder: str, now: float) -> None:
        """A create found `name` (`Job x-a-0`) in use; do not try again for a while. now: seconds since 1970."""
        self._taken[name] = (holder, now + TAKEN_SECONDS)

    def taken(self, now: float) -> dict[str, str]:
        """Names that are in use and by whom, as far as it is fresh."""
        self._taken = {name: entry for name, entry in self._taken.items() if entry[1] > now}
        return {name: holder for name, (holder, _) in self._taken.items()}
