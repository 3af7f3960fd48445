"""Job: runs pods until enough of them have succeeded, and counts each exactly once."""

from __future__ import annotations

from kajitori.control.runtime import Runtime
from kajitori.laptop.controllers.jobs import controller, orphans, time_to_live


def register(runtime: Runtime) -> None:
    """Jobs, pods that lost theirs, and jobs that shall go some time after their end."""
    for module in (controller, orphans, time_to_live):
        module.register(runtime)


__all__ = ["register"]
