"""Names that a set wants and others have: met when a create is refused, remembered for a while.

They may be lost with the process; they are then met again.
"""

from __future__ import annotations

KEPT_SECONDS = 30.0


class NamesInUse:
    """Of one set, told from another of the same name by its uid."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self._names: dict[str, tuple[str, float]] = {}

    def note(self, name: str, holder: str, now: float) -> None:
        """Do not try `name` (`Pod x-0`) again for a while. holder: whose it is, in words. now: seconds since 1970."""
        self._names[name] = (holder, now + KEPT_SECONDS)

    def has(self, name: str) -> bool:
        return name in self._names

    def fresh(self, now: float) -> dict[str, str]:
        """The names and whose they are, as far as that was found out lately."""
        self._names = {name: entry for name, entry in self._names.items() if entry[1] > now}
        return {name: holder for name, (holder, _) in self._names.items()}
