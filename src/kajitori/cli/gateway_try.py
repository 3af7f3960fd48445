"""`kaji gateway try`: a configuration, and what it would have done to requests of the past."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kajitori.app.standalone.trial import Tried, try_records, unseen_headers
from kajitori.base.errors import UsageError
from kajitori.cli.gateway_lint import plan_of
from kajitori.cli.manifests import Manifest
from kajitori.cli.output import paint, print_rows, warn
from kajitori.gateway.accounting.record_reading import read_recent
from kajitori.gateway.accounting.records import FILE_NAME, RequestRecord
from kajitori.gateway.resources import ROUTES

_MOST_RECORDS = 1_000_000


def try_requests(manifests: list[Manifest], recorded: str, show: int) -> int:
    """Print what would have been otherwise; 1 if the configuration is refused. Raises UsageError without records."""
    records = read_records(Path(recorded).expanduser())
    plan = plan_of(manifests)
    if plan is None:
        return 1
    unseen = unseen_headers(list(plan.resources.by_type[ROUTES].values()))
    if unseen:
        warn(f"records do not have the headers {', '.join(unseen)}: routes that match them are passed over")
    tried = asyncio.run(try_records(plan, records))
    _tell(tried, show)
    return 0


def read_records(path: Path) -> list[RequestRecord]:
    """Requests to models, of a home, a ledger.db or a file with a record as JSON on each line, oldest first."""
    if path.is_dir() or path.name == FILE_NAME:
        home = path if path.is_dir() else path.parent
        if not (home / FILE_NAME).exists():
            raise UsageError(
                f"there is no {FILE_NAME} in {home}", hint="name the home of a cluster or of a gateway"
            )
        found = read_recent(home, _MOST_RECORDS)[::-1]
    else:
        found = _lines(path)
    records = [record for record in found if record.model]
    if not records:
        raise UsageError(f"{path} has no record of a request for a model")
    return records


def _lines(path: Path) -> list[RequestRecord]:
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    decoder = msgspec.json.Decoder(RequestRecord)
    found: list[RequestRecord] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            found.append(decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"{path}:{number}: not a record of a request: {error}") from None
    return found


def _tell(tried: Sequence[Tried], show: int) -> None:
    first, last = tried[0].record.time, tried[-1].record.time
    print(f"{len(tried)} request{'s' if len(tried) > 1 else ''} from {_clock(first)} to {_clock(last)}:")
    nowhere = [each for each in tried if not each.route]
    refused = [each for each in tried if each.refused_by]
    idle = [each for each in tried if each.route and not each.backends]
    moved = [each for each in tried if each.moved and not each.refused_by]
    rows = [["same as before", str(len(tried) - len(nowhere) - len(refused) - len(idle) - len(moved))]]
    for model, count in Counter(each.record.model for each in nowhere).most_common():
        rows.append([f"no route for model {model!r}", str(count)])
    for route, count in Counter(each.route for each in idle).most_common():
        rows.append([f"no usable backend on {route}", str(count)])
    for limit, count in Counter(each.refused_by for each in refused).most_common():
        rows.append([f"refused by {limit}", str(count)])
    for (was, now), count in Counter(
        (_was(each), " or ".join(each.backends)) for each in moved
    ).most_common():
        rows.append([f"to {now} rather than {was}", str(count)])
    print_rows((), [[f"  {name}", count] for name, count in rows])
    _tell_money(tried)
    changed = sorted([*nowhere, *refused, *idle, *moved], key=lambda each: each.record.time)
    for each in changed[:show]:
        print(f"  {_clock(each.record.time)}  {each.record.id}  {each.record.model}: {_why(each)}")
    if len(changed) > show:
        print(paint(f"  ... and {len(changed) - show} more (--show COUNT)", "2"))


def _tell_money(tried: Sequence[Tried]) -> None:
    would = sum(each.cost_usd or 0.0 for each in tried)
    unpriced = sum(1 for each in tried if each.cost_usd is None and each.record.usage and not each.refused_by)
    note = f" (of {unpriced} no price is known)" if unpriced else ""
    print(f"  cost      {would:.6f} USD{note}")


def _was(each: Tried) -> str:
    return each.record.attempts[0].backend if each.record.attempts else each.record.backend


def _why(each: Tried) -> str:
    if not each.route:
        return "no route matches"
    if each.refused_by:
        return each.message
    if not each.backends:
        return f"{each.route}: {each.message}"
    return f"{' or '.join(each.backends)} rather than {_was(each)}"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
