"""How budgets, quotas and rate limits stand: what is used, what is left, and when it frees.

  kaji budgets              all limits
  kaji budgets NAME         those whose name has this in it, such as `team/` or QuotaPolicy

What is used has what requests under way have reserved. Where gateways share a Redis ($KAJITORI_LIMITS_STORE) it is asked. On a
cluster whose Envoys share none each of them counts for itself, and each is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path

import msgspec

from kajitori.base.errors import NotFound
from kajitori.cli.connection import cluster_arguments, cluster_config, is_local, local_home
from kajitori.cli.output import print_rows, warn
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.accounting.policy_delivery import FILE_NAME
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.opening import JOURNAL, STORE_VARIABLE, open_store
from kajitori.gateway.limits.reading import Stand, read_stands
from kajitori.gateway.limits.wording import amount_text, unit_text

_HEADER = ("LIMIT", "APART", "USED", "LEFT", "OF", "FREES IN")


class _Counted(msgspec.Struct, frozen=True):
    """What one gateway knows. shared: by all that use the same store."""

    shared: bool
    stands: list[Stand]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="", help="only limits with this in their name")
    parser.add_argument("-o", dest="form", choices=("json",), help="instead of a table")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    if is_local(options):
        counted, missing = {"": asyncio.run(_read(local_home(options)))}, 0
    else:
        counted, missing = _of_cluster(options)
    shown = {
        gateway: [each for each in known.stands if options.name in each.limit.name]
        for gateway, known in counted.items()
    }
    if options.form == "json":
        shared = any(known.shared for known in counted.values())
        every = [stand for stands in shown.values() for stand in stands]
        print(msgspec.json.format(msgspec.json.encode(_Counted(shared, every))).decode())
    elif any(shown.values()):
        _print_table(shown)
    elif not missing:
        raise NotFound(
            f"no limit has {options.name!r} in its name"
            if options.name
            else "no limit holds at this gateway",
            hint="`kaji get budgets -A` lists those that are written; so for quotapolicies, backendtrafficpolicies",
        )
    return 1 if missing else 0


def _of_cluster(options: argparse.Namespace) -> tuple[dict[str, _Counted], int]:
    """What each Envoy's accountant counts, by its pod, and how many could not be asked. One for all that share a store."""
    from kajitori.cli.ledgers import ask_accountants, output_of

    counted: dict[str, _Counted] = {}
    missing = 0
    for pod, answer in ask_accountants(cluster_config(options), ["budgets", "-o", "json"]).items():
        output, why = output_of(answer)
        if why:
            missing += 1
            warn(f"{pod} is not shown: {why}")
            continue
        known = msgspec.json.decode(output, type=_Counted)
        counted["" if known.shared else pod] = known
    return counted, missing


def _print_table(shown: dict[str, list[Stand]]) -> None:
    if list(shown) == [""]:
        print_rows(_HEADER, [_row(each) for each in shown[""]])
        return
    rows = [(*_row(each), gateway) for gateway, stands in shown.items() for each in stands]
    print_rows((*_HEADER, "ENVOY"), sorted(rows))


async def _read(home: Path) -> _Counted:
    path = home / FILE_NAME
    try:
        policy = msgspec.msgpack.decode(path.read_bytes(), type=AccountantPolicy)
    except FileNotFoundError:
        raise NotFound(
            f"no gateway has kept a policy in {home}", hint="`kaji up` or `kaji gateway run` starts one"
        ) from None
    url = os.environ.get(STORE_VARIABLE, "")
    store = open_store(home, url) if url else MemoryStore.read(home / JOURNAL)
    try:
        return _Counted(bool(url), await read_stands(store, policy.limits, time.time()))
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
