"""Persistent volumes: claims find or get theirs, what is in use is kept, what is released is reclaimed."""

from __future__ import annotations

from kajitori.control.runtime import Runtime
from kajitori.laptop.controllers.storage import claims, volumes


def register(runtime: Runtime) -> None:
    """The side of the claims and that of the volumes."""
    for module in (claims, volumes):
        module.register(runtime)


__all__ = ["register"]
