"""Caches that are filled only when the first set needs them: most clusters have none, and then nothing is watched."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from kajitori.base.errors import Forbidden
from kajitori.control.cache import HasMetadata, Informer

T = TypeVar("T", bound=HasMetadata)

# A worker that waited for good would be lost to all other sets.
LONGEST_WAIT_SECONDS = 10.0


async def filled(informer: Informer[T]) -> Informer[T]:
    """The informer once its first list is there. Raises Forbidden if that takes too long.

    Without the list a plan would make anew what is there already.
    """
    try:
        async with asyncio.timeout(LONGEST_WAIT_SECONDS):
            await informer.synced()
    except TimeoutError:
        name = informer.resource.qualified_name
        raise Forbidden(
            f"{name} cannot be listed",
            reason="Forbidden",
            hint=f"grant the controller of groups list and watch on {name}",
        ) from None
    return informer
