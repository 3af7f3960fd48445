"""How budgets, quotas and rate limits stand: what is used, what is left, and when it frees.

  kaji budgets              all limits of the local gateway
  kaji budgets NAME         those whose name has this in it, such as `team/` or QuotaPolicy

What is used has what requests under way have reserved. Where gateways share a Redis ($KAJITORI_LIMITS_STORE) it is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path

import msgspec

from kajitori.base.errors import NotFound
from kajitori.cli.connection import cluster_arguments, local_home
from kajitori.cli.output import print_rows
from kajitori.gateway.accounting.policy import Policy
from kajitori.gateway.accounting.policy_delivery import FILE_NAME
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.opening import JOURNAL, STORE_VARIABLE, open_store
from kajitori.gateway.limits.reading import Stand, read_stands
from kajitori.gateway.limits.verdicts import amount_text, unit_text


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="", help="only limits with this in their name")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    home = local_home(options)
    stands = [each for each in asyncio.run(_read(home)) if options.name in each.limit.name]
    if not stands:
        raise NotFound(
            f"no limit has {options.name!r} in its name"
            if options.name
            else "no limit holds at this gateway",
            hint="`kubectl get budgets,quotapolicies,backendtrafficpolicies -A` lists what is written",
        )
    print_rows(("LIMIT", "APART", "USED", "LEFT", "OF", "FREES IN"), [_row(each) for each in stands])
    return 0


async def _read(home: Path) -> list[Stand]:
    path = home / FILE_NAME
    try:
        policy = msgspec.msgpack.decode(path.read_bytes(), type=Policy)
    except FileNotFoundError:
        raise NotFound(f"no gateway has kept a policy in {home}", hint="`kaji up` starts one") from None
    url = os.environ.get(STORE_VARIABLE, "")
    store = open_store(home, url) if url else MemoryStore.read(home / JOURNAL)
    try:
        return await read_stands(store, policy.limits, time.time())
    finally:
        await store.close()


def _row(stand: Stand) -> tuple[str, ...]:
    limit = stand.limit
    left = max(stand.capacity - stand.used, 0)
    seconds = max(0, round(stand.frees - time.time()))
    hours, rest = divmod(seconds, 3600)
    frees = f"{hours}h{rest // 60:02}m" if hours else f"{rest // 60}m{rest % 60:02}s"
    return (
        limit.name,
        stand.values or "-",
        amount_text(limit, stand.used),
        amount_text(limit, left),
        amount_text(limit, stand.capacity) + unit_text(limit),
        frees if stand.used else "-",
    )
