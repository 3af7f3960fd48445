"""What a server does beside answering, so that a burst of changes does not cost memory for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kajitori.base.memory import give_back

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.store import Store

LOOK_SECONDS = 60.0
# So many changes between two looks leave something worth giving back.
MANY_CHANGES = 1_000


async def keep_memory_small(store: Store, look_seconds: float = LOOK_SECONDS) -> None:
    """Forever: forget changes that nobody may ask for any more, and give back what that and bursts leave free."""
    version = store.version
    while True:
        await asyncio.sleep(look_seconds)
        if store.expire_history() >= MANY_CHANGES or store.version - version >= MANY_CHANGES:
            give_back()
        version = store.version
