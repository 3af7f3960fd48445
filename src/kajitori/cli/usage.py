"""What was used: requests, tokens and money, by model, key, tenant, route, backend, day or month.

  kaji usage                                  the last 30 days, by model
  kaji usage --by tenant,month --since 2026-01
  kaji usage --by key --tenant team --since 7d -o csv
  kaji usage --records --since today          the requests themselves, a record as JSON on each line

The gateway adds up as it books (days are UTC), so a year answers at once. Sums are kept for ten years by month, for 400 days by
day; records for two weeks. On a cluster the accountant beside each Envoy is asked, and what they know is added up.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec

from kajitori.base.errors import KajitoriError, NotFound, UsageError
from kajitori.cli.connection import cluster_arguments, cluster_config, is_local, local_home
from kajitori.cli.output import print_rows, warn
from kajitori.cli.usage_time import first_day, last_day
from kajitori.gateway.accounting.record_reading import each_record
from kajitori.gateway.accounting.records import FILE_NAME, RequestRecord
from kajitori.gateway.accounting.usage_tables import BY, Answer, UsageQuestion, read_usage_totals
from kajitori.gateway.accounting.usage_totals import COUNTS, SUBJECT_FIELDS, Totals
from kajitori.gateway.routes.built_in_routes import meaning_of_own

_TIMES = ("day", "month")
_DAY_SECONDS = 86_400.0
# All records of two weeks are more than an answer of totals.
_RECORDS_TIMEOUT_SECONDS = 600.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by", default="model", help=f"what to add up by, parted by commas: {', '.join(BY)} (model)"
    )
    parser.add_argument(
        "--since",
        default="30d",
        help="first day: 30d (days back), 4w, today, yesterday, 2026-11-01, 2026-11 (30d)",
    )
    parser.add_argument("--until", default="today", help="last day, counted in; written likewise (today)")
    for name in SUBJECT_FIELDS:
        parser.add_argument(f"--{name}", default="", metavar="NAME", help=f"only this {name}")
    parser.add_argument("--records", action="store_true", help="print the records of the requests instead")
    parser.add_argument("-o", dest="form", choices=("json", "csv"), help="instead of a table")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    question = _question(options)
    if options.records:
        return _print_records(options, question)
    if is_local(options):
        path = local_home(options) / FILE_NAME
        if not path.exists():
            raise NotFound(
                f"there is no {FILE_NAME} in {path.parent}",
                hint="`--home` names the folder of a cluster, or of `kaji gateway run` (~/.kaji-gateway)",
            )
        answer, missing = read_usage_totals(path, question), 0
    else:
        answer, missing = _of_cluster(options, question)
    rows = _sorted(question, answer)
    if options.form == "json":
        print(json.dumps(_document(question, rows), indent=2, ensure_ascii=False))
    elif options.form == "csv":
        _print_csv(question, rows)
    else:
        _print_table(question, rows)
    return 1 if missing else 0


def _question(options: argparse.Namespace) -> UsageQuestion:
    today = datetime.now(UTC).date()
    by = tuple(dict.fromkeys(word for word in str(options.by).split(",") if word))
    for word in by:
        if word not in BY:
            raise UsageError(f"--by {word}: usage is not added up by that", hint=f"there are {', '.join(BY)}")
    since, until = first_day(options.since, today), last_day(options.until, today)
    if until < since:
        raise UsageError(f"--until {until} is before --since {since}")
    named = {name: getattr(options, name) for name in SUBJECT_FIELDS}
    return UsageQuestion(
        since.isoformat(), until.isoformat(), today.isoformat(), by, options.form is not None, **named
    )


def _of_cluster(options: argparse.Namespace, question: UsageQuestion) -> tuple[Answer, int]:
    """The sum of what all accountants know, and how many of them could not be asked."""
    from kajitori.cli.ledgers import ask_accountants, output_of

    command = ["usage", "--by", ",".join(question.by), "-o", "json", *_filters(question)]
    total: Answer = {}
    missing = 0
    for pod, answer in ask_accountants(cluster_config(options), command).items():
        output, why = output_of(answer)
        if FILE_NAME in why:
            continue  # it has booked nothing
        if why:
            missing += 1
            warn(f"{pod} is not counted in: {why}")
            continue
        for row in json.loads(output)["rows"]:
            key = tuple(str(row[name]) for name in question.by)
            total.setdefault(key, Totals()).merge(
                Totals(*(row[name] for name in COUNTS), costs=row.get("costs", {}))
            )
    return total, missing


def _filters(question: UsageQuestion) -> list[str]:
    words = ["--since", question.since, "--until", question.until]
    for name in SUBJECT_FIELDS:
        if value := getattr(question, name):
            words += [f"--{name}", value]
    return words


_Rows = list[tuple[tuple[str, ...], Totals]]


def _sorted(question: UsageQuestion, answer: Answer) -> _Rows:
    """By time where that is asked for; what costs most first. Who was answered by the gateway itself had no route."""
    times = [index for index, name in enumerate(question.by) if name in _TIMES]

    def order(item: tuple[tuple[str, ...], Totals]) -> tuple[Any, ...]:
        names, totals = item
        tokens = totals.input_tokens + totals.output_tokens
        return ([names[index] for index in times], -totals.nano_usd, -tokens, -totals.requests, names)

    if "route" in question.by:
        place = question.by.index("route")
        own: Answer = {}
        for names in [names for names in answer if meaning_of_own(names[place])]:
            key = (*names[:place], "", *names[place + 1 :])
            own.setdefault(key, Totals()).merge(answer.pop(names))
        for key, totals in own.items():
            answer.setdefault(key, Totals()).merge(totals)
    return sorted(answer.items(), key=order)


def _sum(rows: _Rows) -> Totals:
    total = Totals()
    for _, totals in rows:
        total.merge(totals)
    return total


def _document(question: UsageQuestion, rows: _Rows) -> dict[str, Any]:
    def shown(totals: Totals) -> dict[str, Any]:
        return {**msgspec.to_builtins(totals), "cost_usd": totals.cost_usd}

    return {
        "since": question.since,
        "until": question.until,
        "by": list(question.by),
        "rows": [{**dict(zip(question.by, names, strict=True)), **shown(totals)} for names, totals in rows],
        "total": shown(_sum(rows)),
    }


def _print_csv(question: UsageQuestion, rows: _Rows) -> None:
    costs = sorted(_sum(rows).costs)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*question.by, *COUNTS, "cost_usd", *(f"cost:{key}" for key in costs)])
    for names, totals in rows:
        counts = [getattr(totals, name) for name in COUNTS]
        writer.writerow(
            [*names, *counts, f"{totals.cost_usd:.9f}", *(totals.costs.get(key, 0) for key in costs)]
        )


def _print_table(question: UsageQuestion, rows: _Rows) -> None:
    if not rows:
        only = "".join(
            f", with {name} {value}" for name in SUBJECT_FIELDS if (value := getattr(question, name))
        )
        print(f"nothing was used from {question.since} to {question.until} (UTC){only}")
        return
    header = [*(name.upper() for name in question.by), "REQUESTS", "ERRORS", "INPUT", "CACHED", "OUTPUT", "REASONING", "USD"]  # fmt: skip
    total = _sum(rows)
    table = [_cells(names, totals) for names, totals in rows]
    if len(rows) > 1 and question.by:
        table.append(_cells(("total", *[""] * (len(question.by) - 1)), total))
    print_rows(header, table)
    if total.unpriced:
        print(f"Of {_requests(total.unpriced)} no price is known; a PriceList can say it.")
    if total.estimated:
        print(
            f"Of {_requests(total.estimated)} the tokens are an estimate: the backends did not tell, or the streams were cut."
        )
    if {"model", "route"} & set(question.by) and any(not _is_served(question, names) for names, _ in rows):
        print(
            "A row `-` has requests to no model that is served: other paths, unknown models, lists of models."
        )


def _requests(count: int) -> str:
    return f"{count} request{'' if count == 1 else 's'}"


def _is_served(question: UsageQuestion, names: tuple[str, ...]) -> bool:
    return all(value for name, value in zip(question.by, names, strict=True) if name in ("model", "route"))


def _cells(names: Sequence[str], totals: Totals) -> list[str]:
    counts = (
        totals.requests,
        totals.errors,
        totals.input_tokens,
        totals.cached_input_tokens,
        totals.output_tokens,
        totals.reasoning_tokens,
    )
    return [*(name or "-" for name in names), *map(str, counts), f"{totals.cost_usd:.6f}"]


def _print_records(options: argparse.Namespace, question: UsageQuestion) -> int:
    """As JSON lines, which `kaji gateway try --requests` reads."""
    if not is_local(options):
        return _print_records_of_cluster(options, question)
    home: Path = local_home(options)
    since, until = (
        datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC).timestamp()
        for day in (question.since, question.until)
    )
    write = sys.stdout.write
    for record in each_record(home, since, min(until + _DAY_SECONDS, time.time() + _DAY_SECONDS)):
        if _is_wanted(record, question):
            write(msgspec.json.encode(record).decode() + "\n")
    return 0


def _print_records_of_cluster(options: argparse.Namespace, question: UsageQuestion) -> int:
    from kajitori.cli.ledgers import ask_accountants, output_of

    missing = 0
    command = ["usage", "--records", *_filters(question)]
    answers = ask_accountants(cluster_config(options), command, timeout_seconds=_RECORDS_TIMEOUT_SECONDS)
    for pod, answer in answers.items():
        output, why = output_of(answer)
        sys.stdout.write(output)
        if why:
            missing += 1
            warn(f"records of {pod} are missing: {why}")
    if missing == len(answers):
        raise KajitoriError("no accountant could be asked")
    return 1 if missing else 0


def _is_wanted(record: RequestRecord, question: UsageQuestion) -> bool:
    fields = (
        (question.route, record.route),
        (question.backend, record.backend),
        (question.tenant, record.tenant),
        (question.key, record.key_name or record.key),
    )
    named = all(not wanted or found == wanted or found.endswith(f"/{wanted}") for wanted, found in fields)
    return named and question.model in ("", record.model)
