"""A gate: whether a capability may act, and why not. Another controller that serves the same kind closes it.

Whoever acts asks `closed` first; whoever must begin again when it opens (or let go when it closes) listens.
"""

from __future__ import annotations

from collections.abc import Callable

from kajitori.base.reason import Reason


class Gate:
    """Open from the start. closed: why it is not, or None."""

    def __init__(self) -> None:
        self.closed: Reason | None = None
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, callback: Callable[[], None]) -> None:
        """Called after it opened, closed, or closed for another reason."""
        self._listeners.append(callback)

    def set(self, closed: Reason | None) -> None:
        """Close it for a reason, or open it with None."""
        if closed != self.closed:
            self.closed = closed
            for callback in self._listeners:
                callback()
