"""Sums of usage in the ledger's database: written in the transaction of the records that they are made of, so that each
counts once, and read by time and by whose they are.

Days are kept for 400 days, months for ten years. A question about a year takes whole months where it can, so it is
answered by few rows.
"""

from __future__ import annotations

import calendar
import contextlib
import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kajitori.gateway.accounting.usage_totals import (
    COUNTS,
    DAY_LENGTH,
    DAY_SECONDS,
    MONTH_LENGTH,
    SUBJECT_FIELDS,
    Period,
    Subject,
    Totals,
    day_of,
    subject_of,
)

if TYPE_CHECKING:
    from kajitori.gateway.accounting.records import RequestRecord

_COLUMNS = (*SUBJECT_FIELDS, *COUNTS)
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS usage (
  period TEXT NOT NULL,
  {", ".join(f"{name} TEXT NOT NULL" for name in SUBJECT_FIELDS)},
  {", ".join(f"{name} INTEGER NOT NULL" for name in COUNTS)},
  costs TEXT NOT NULL,
  PRIMARY KEY (period, {", ".join(SUBJECT_FIELDS)})
) WITHOUT ROWID;
"""
_REPLACE = f"INSERT OR REPLACE INTO usage VALUES ({','.join('?' * (len(_COLUMNS) + 2))})"
_MOST_PERIODS = 6
DAYS_KEPT, _MONTHS_KEPT_DAYS = 400, 3660
_LARGEST = 2**63 - 1
_decode_costs = msgspec.json.Decoder(dict[str, int]).decode
_encode_costs = msgspec.json.Encoder().encode
BY = ("key", "tenant", "model", "route", "backend", "day", "month")
"""What sums may be taken by."""
_EXPRESSIONS = {"day": "period", "month": f"substr(period, 1, {MONTH_LENGTH})"}

# A row of the table: period, subject, counts, costs.
Row = tuple[str | int, ...]


class UsageWriter:
    """Knows the periods that are being written, as they will be on disk."""

    def __init__(self) -> None:
        self._periods: OrderedDict[str, Period] = OrderedDict()

    def take(self, database: sqlite3.Connection, records: Sequence[RequestRecord]) -> list[Row]:
        """Counts records in; the rows that are to be written. Raises sqlite3.Error, and has counted nothing then."""
        sums: dict[tuple[str, Subject], Totals] = {}
        # Of a plain tuple the hash is made in a moment; a subject for each record would cost as much as its sums.
        found: dict[tuple[int, str, str, str, str, str, bool], Totals] = {}
        for record in records:
            place = (
                int(record.time // DAY_SECONDS), record.route, record.model, record.backend,
                record.key_name or record.key, record.tenant, bool(record.limit),
            )  # fmt: skip
            totals = found.get(place)
            if totals is None:
                key = day_of(record.time), subject_of(record)
                totals = found[place] = sums.setdefault(key, Totals())
            totals.add(record)
        days = {day for day, _ in sums}
        for name in days | {day[:MONTH_LENGTH] for day in days}:
            if name not in self._periods:
                self._periods[name] = Period(name, _stored(database, name))
            self._periods.move_to_end(name)
        touched: dict[tuple[str, Subject], Totals] = {}
        for (day, subject), more in sums.items():
            for name in (day, day[:MONTH_LENGTH]):
                row, totals = self._periods[name].add(subject, more)
                touched[name, row] = totals
        while len(self._periods) > _MOST_PERIODS:
            self._periods.popitem(last=False)
        return [_row(name, subject, totals) for (name, subject), totals in touched.items()]


def write_rows(database: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Puts rows in the place of former ones. Raises sqlite3.Error."""
    if rows:
        database.executemany(_REPLACE, rows)


def prune_usage(database: sqlite3.Connection, today: str) -> None:
    """Takes away what is older than is kept. today: as YYYY-MM-DD."""
    now = date.fromisoformat(today)
    for length, days in ((DAY_LENGTH, DAYS_KEPT), (MONTH_LENGTH, _MONTHS_KEPT_DAYS)):
        oldest = (now - timedelta(days=days)).isoformat()[:length]
        database.execute("DELETE FROM usage WHERE length(period) = ? AND period < ?", (length, oldest))


def _stored(database: sqlite3.Connection, period: str) -> dict[Subject, Totals]:
    rows = database.execute(f"SELECT {', '.join(_COLUMNS)}, costs FROM usage WHERE period = ?", (period,))
    width = len(SUBJECT_FIELDS)
    return {Subject(*row[:width]): Totals(*row[width:-1], costs=_costs(row[-1])) for row in rows}


def _row(period: str, subject: Subject, totals: Totals) -> Row:
    counts = [min(getattr(totals, name), _LARGEST) for name in COUNTS]
    costs = _encode_costs(totals.costs).decode() if totals.costs else ""
    return (period, *msgspec.structs.astuple(subject), *counts, costs)


def _costs(text: str) -> dict[str, int]:
    return _decode_costs(text) if text else {}


class UsageQuestion(msgspec.Struct, frozen=True):
    """since, until: days as YYYY-MM-DD, both counted in. today: the day that is not over. by: see `BY`.

    costs: whether they are asked for; they take the longest.
    The others: namespace/name, or a name alone for that of any namespace; empty for all. model: its whole name.
    """

    since: str
    until: str
    today: str
    by: tuple[str, ...] = ()
    costs: bool = True
    route: str = ""
    model: str = ""
    backend: str = ""
    key: str = ""
    tenant: str = ""


Answer = dict[tuple[str, ...], Totals]


def read_usage_totals(path: Path, question: UsageQuestion) -> Answer:
    """Sums by the values of `question.by`, in that order. Empty where the database has none yet."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            return answer(database, question)
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return {}


def answer(database: sqlite3.Connection, question: UsageQuestion) -> Answer:
    """As `read_usage_totals`. Raises sqlite3.Error."""
    where, values = _conditions(question)
    groups = [_EXPRESSIONS.get(name, f'"{name}"') for name in question.by]
    sums = [f"sum({name})" for name in COUNTS]
    grouped = f" GROUP BY {', '.join(groups)}" if groups else ""
    statement = f"SELECT {', '.join((*groups, *sums))} FROM usage WHERE {where}{grouped}"
    found: Answer = {
        row[: len(groups)]: Totals(*row[len(groups) :])
        for row in database.execute(statement, values)
        if row[-1] is not None  # of no rows at all
    }
    if question.costs:
        statement = f"SELECT {', '.join((*groups, 'costs'))} FROM usage WHERE costs != '' AND {where}"
        for row in database.execute(statement, values):
            found[row[:-1]].merge(Totals(costs=_costs(row[-1])))
    return found


def _conditions(question: UsageQuestion) -> tuple[str, list[str]]:
    months, days = _spans(question)
    periods = " OR ".join(
        [f"period IN ({','.join('?' * len(months))})", *["period BETWEEN ? AND ?"] * len(days)]
    )
    values = [*months, *(text for span in days for text in span)]
    conditions = [f"({periods})"]
    if days:
        # A month sorts between the days that are around it.
        conditions.append(f"(length(period) = {DAY_LENGTH} OR period IN ({','.join('?' * len(months))}))")
        values += months
    for name in SUBJECT_FIELDS:
        wanted: str = getattr(question, name)
        if not wanted:
            continue
        if name == "model" or "/" in wanted:
            conditions.append(f'"{name}" = ?')
            values.append(wanted)
        else:
            conditions.append(f'("{name}" = ? OR substr("{name}", -length(?) - 1) = ?)')
            values += [wanted, wanted, f"/{wanted}"]
    return " AND ".join(conditions), values


def _spans(question: UsageQuestion) -> tuple[list[str], list[tuple[str, str]]]:
    """Whole months, and spans of days around them, that make up the time of a question."""
    if "day" in question.by:
        return [], [(question.since, question.until)]
    since, until = date.fromisoformat(question.since), date.fromisoformat(question.until)
    months: list[str] = []
    spans: list[tuple[str, str]] = []
    start = since
    while start <= until:
        last = start.replace(day=calendar.monthrange(start.year, start.month)[1])
        end = min(last, until)
        # Of a month that is not over, what is there is all there is.
        if start.day == 1 and (end == last or question.until >= question.today):
            months.append(start.isoformat()[:MONTH_LENGTH])
        elif spans and date.fromisoformat(spans[-1][1]) + timedelta(days=1) == start:
            spans[-1] = (spans[-1][0], end.isoformat())
        else:
            spans.append((start.isoformat(), end.isoformat()))
        start = last + timedelta(days=1)
    return months, spans
