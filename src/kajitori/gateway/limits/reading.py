"""How limits stand now: for people, read from the store without disturbing who counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kajitori.base.errors import UserError
from kajitori.gateway.limits.limit import Limit
from kajitori.gateway.limits.matching import CompiledLimit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.gateway.limits.store import Store


class Stand(msgspec.Struct, frozen=True):
    """One counter of a limit. values: of the facts that are counted apart, between bars; empty if there are none.

    capacity, used: in the units of `amounts`; used has what requests under way have reserved. frees: when the first that was
    taken counts no longer, in seconds since 1970.
    """

    limit: Limit
    values: str
    capacity: int
    used: int
    frees: float


async def read_stands(store: Store, limits: Sequence[Limit], now: float) -> list[Stand]:
    """Every limit, with each of its counters that holds something. Raises StoreLost."""
    names = await store.names()
    found: list[Stand] = []
    for limit in limits:
        try:
            compiled = CompiledLimit(limit)
        except UserError:
            continue  # its object says why
        span = compiled.window.at(now)
        own = [name for name in names if name == limit.name or name.startswith(f"{limit.name}|")]
        amounts = await store.amounts(own)
        stands = [
            Stand(limit, name[len(limit.name) + 1 :], compiled.capacity, used, span.frees(span.first(slots)))
            for name, slots in zip(own, amounts, strict=True)
            if (used := span.used(slots))
        ]
        found += stands or [Stand(limit, "", compiled.capacity, 0, span.frees(span.oldest))]
    return found
