"""Opens the engine of a process with the store that its environment names."""

from __future__ import annotations

import os
from pathlib import Path

from kajitori.base.clock import Clock, SystemClock
from kajitori.base.errors import UsageError
from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.store import Store

JOURNAL = "limits.journal"
STORE_VARIABLE = "KAJITORI_LIMITS_STORE"
"""`redis://` or `rediss://` of what all gateways share. In the environment, since it may hold a password."""
_SCHEMES = ("redis://", "rediss://", "unix://")


def open_engine(
    folder: Path,
    *,
    name: str = "local",
    store: str | None = None,
    clock: Clock | None = None,
    used_up: Path | None = None,
) -> Engine:
    """folder: of the journal, used where no store is shared. name: stays the same when this process begins anew, and is
    no other gateway's. store: the URL; None takes it from the environment. used_up: see `Engine`. Raises
    UsageError for one of an unknown kind, OSError.
    """
    url = os.environ.get(STORE_VARIABLE, "") if store is None else store
    return Engine(open_store(folder, url), clock or SystemClock(), name=name, used_up=used_up)


def open_store(folder: Path, url: str) -> Store:
    """The shared store, or one of this machine if the URL is empty."""
    if not url:
        return MemoryStore(folder / JOURNAL)
    if not url.startswith(_SCHEMES):
        raise UsageError(
            f"{STORE_VARIABLE} names no store that limits can be kept in", hint="write redis://HOST:6379/0"
        )
    from kajitori.gateway.limits.redis_store import RedisStore  # loaded only where a store is named

    return RedisStore(url)
