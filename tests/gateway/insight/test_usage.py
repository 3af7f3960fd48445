"""What requests add up to, and `kaji usage`."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.errors import UsageError
from kajitori.cli import ledgers, main
from kajitori.cli.gateway_try import read_records
from kajitori.cli.usage_time import first_day, last_day
from kajitori.gateway.accounting import record_reading, record_store, usage_tables
from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.record_reading import read_position
from kajitori.gateway.accounting.record_store import RecordStore
from kajitori.gateway.accounting.records import FILE_NAME, Attempt, LogPosition, RequestRecord
from kajitori.gateway.accounting.usage_tables import UsageQuestion, read_usage_totals
from kajitori.gateway.accounting.usage_totals import MOST_OF_A_DAY, OTHER, Period, Subject, Totals
from kajitori.kube.exec import Executed
from tests.waiting import eventually_blocking

ROOT = Path(__file__).parents[3]


def record(number: int = 0, day: str = "2026-11-26", **fields: object) -> RequestRecord:
    begun = datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp()
    plain = RequestRecord(
        id=f"{number:08x}-0000-4000-8000-000000000000", time=begun, route="default/route", rule=0, method="POST",
        path="/v1/chat/completions", status=200, outcome="answered", model="m", backend="default/one",
        usage=Usage(10, 5, 15, 2, 0, 1), cost_usd=0.000_001_5, key_name="default/anna", tenant="default/team",
        costs={"sum": 15},
    )  # fmt: skip
    return msgspec.structs.replace(plain, **fields)


def book(home: Path, *records: RequestRecord) -> None:
    store = RecordStore(home / FILE_NAME)
    store.write(list(records))
    store.close()


def totals(home: Path, *by: str, since: str = "2026-11-26", **only: str) -> usage_tables.Answer:
    plain = UsageQuestion(since, "2026-11-26", "2026-11-26", by)
    question = msgspec.structs.replace(plain, **only)
    return read_usage_totals(home / FILE_NAME, question)


def test_requests_add_up_by_whose_they_are(tmp_path: Path) -> None:
    book(
        tmp_path,
        record(1),
        record(2, status=503, usage=None, cost_usd=None, costs={}),
        record(3, tenant="default/other", key_name="", key="k7", usage_estimated=True, cost_usd=None),
    )
    book(tmp_path, record(4, model="n"))  # another process goes on from what is on disk
    assert totals(tmp_path, "tenant") == {
        ("default/team",): Totals(3, 1, 0, 0, 20, 10, 4, 0, 2, 3_000, {"sum": 30}),
        ("default/other",): Totals(1, 0, 1, 1, 10, 5, 2, 0, 1, 0, {"sum": 15}),
    }
    assert totals(tmp_path, "key", tenant="other") == {("k7",): totals(tmp_path, tenant="default/other")[()]}
    assert set(totals(tmp_path, "model", "backend")) == {("m", "default/one"), ("n", "default/one")}
    assert totals(tmp_path, model="n")[()].cost_usd == 0.000_001_5
    assert not totals(tmp_path, tenant="eam")


def test_the_legs_of_a_rescued_stream_are_one_request_and_all_of_their_tokens(tmp_path: Path) -> None:
    first = record(1, outcome="connection reset by the backend")
    book(tmp_path, first, record(1, id=f"{first.id}~2", backend="default/two"))
    (whole,) = totals(tmp_path).values()
    assert (whole.requests, whole.errors, whole.input_tokens) == (1, 1, 20)


@given(st.lists(st.dates(date(2025, 10, 1), date(2026, 11, 26)), max_size=30), st.data())
def test_months_and_days_together_answer_as_days_alone_would(days: list[date], data: st.DataObject) -> None:
    since = data.draw(st.dates(date(2025, 10, 1), date(2026, 11, 26)))
    until = data.draw(st.dates(since, date(2026, 11, 30)))
    wanted = sum(since <= day <= until for day in days)
    database = sqlite3.connect(":memory:")
    database.executescript(usage_tables.SCHEMA)
    rows = usage_tables.UsageWriter().take(database, [record(day=day.isoformat()) for day in days])
    usage_tables.write_rows(database, rows)
    for by in ((), ("day",), ("month",)):
        question = UsageQuestion(since.isoformat(), until.isoformat(), "2026-11-26", by)
        found = usage_tables.answer(database, question)
        assert sum(each.requests for each in found.values()) == wanted
    database.close()


def test_clients_cannot_make_any_number_of_rows() -> None:
    period = Period("2026-11-26", {})
    for number in range(MOST_OF_A_DAY + 500):
        period.add(Subject("r", f"model-{number}", "b", f"key-{number % 10}", "t"), Totals(1))
    assert len(period.rows) <= MOST_OF_A_DAY + 1
    assert period.rows[Subject("r", OTHER, "b", OTHER, "t")].requests == 500
    assert sum(each.requests for each in period.rows.values()) == MOST_OF_A_DAY + 500


def test_a_model_whose_route_went_right_after_the_request_keeps_its_name(tmp_path: Path) -> None:
    attempt = Attempt(1, "", "ai/default/one", "10.0.0.1:80", 200, "answered")
    book(tmp_path, record(1, backend="", attempts=[attempt]), record(2, backend="", model="a word"))
    assert set(totals(tmp_path, "model")) == {("m",), ("",)}


def test_each_request_counts_once_after_kill_9(tmp_path: Path) -> None:
    program = (
        "import pathlib, time\n"
        "from tests.gateway.insight.test_usage import record, totals\n"
        "from kajitori.gateway.accounting.record_reading import read_position\n"
        "from kajitori.gateway.accounting.record_store import RecordStore\n"
        "from kajitori.gateway.accounting.records import LogPosition\n"
        f"home = pathlib.Path({str(tmp_path)!r})\n"
        "store = RecordStore(home / 'ledger.db')\n"
        "start = read_position(home / 'ledger.db').offset\n"
        "for number in range(start, 200_000):\n"
        "    store.write([record(number)], LogPosition(1, number + 1))\n"
        "    if number % 20 == 0: time.sleep(0.002)\n"
        "    if number == start: print('go', flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", program], env=environment, cwd=ROOT, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None and process.stdout.readline()
            before = read_offset(tmp_path)
            eventually_blocking(lambda before=before: read_offset(tmp_path) > before, "more is written")
            process.send_signal(signal.SIGKILL)
    assert totals(tmp_path)[()].requests == read_offset(tmp_path) > 0


def test_a_batch_that_could_not_be_written_at_once_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [sqlite3.OperationalError("database or disk is full")]

    def write(database: sqlite3.Connection, rows: list[usage_tables.Row]) -> None:
        usage_tables.write_rows(database, rows)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(record_store, "write_rows", write)
    monkeypatch.setattr(record_store, "_RETRY_SECONDS", 0.01)
    store = RecordStore(tmp_path / FILE_NAME)
    store.write([record(1)], LogPosition(1, 1))
    eventually_blocking(lambda: store.saved is not None, "the batch is written")
    store.close()
    assert totals(tmp_path)[()].requests == len(record_reading.read_recent(tmp_path)) == 1
    assert not failures


def read_offset(home: Path) -> int:
    return read_position(home / FILE_NAME).offset


def test_old_days_go_and_their_months_stay(tmp_path: Path) -> None:
    book(tmp_path, record(1, "2024-01-10"), record(2))
    store = RecordStore(tmp_path / FILE_NAME)
    store.prune()
    store.write([record(3)], LogPosition())
    store.close()
    assert totals(tmp_path, "day", since="2024-01-01").keys() == {("2026-11-26",)}
    assert totals(tmp_path, "month", since="2024-01-01").keys() == {("2024-01",), ("2026-11",)}


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("today", "2026-11-26", "2026-11-26"),
        ("yesterday", "2026-11-25", "2026-11-25"),
        ("30d", "2026-10-27", "2026-10-27"),
        ("2w", "2026-11-12", "2026-11-12"),
        ("2026-02", "2026-02-01", "2026-02-28"),
        ("2026-11-01", "2026-11-01", "2026-11-01"),
    ],
)
def test_days_are_read_as_people_write_them(text: str, first: str, last: str) -> None:
    today = date(2026, 11, 26)
    assert (first_day(text, today).isoformat(), last_day(text, today).isoformat()) == (first, last)


@pytest.mark.parametrize("text", ["", "soon", "2026-13", "2026-02-30", "999999d", "3", "-1d"])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no day"):
        first_day(text, date(2026, 11, 26))


def test_kaji_usage_prints_tables_json_and_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    today = datetime.now(UTC).date().isoformat()
    book(tmp_path, record(1, today), record(2, today, model="n", cost_usd=None), record(3, "2026-01-01"))
    home = ["--home", str(tmp_path)]
    assert main(["usage", *home]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == "MODEL REQUESTS ERRORS INPUT CACHED OUTPUT REASONING USD"
    assert [line.split()[:2] for line in lines[1:4]] == [["m", "1"], ["n", "1"], ["total", "2"]]
    assert "Of 1 request no price is known" in lines[4]
    assert main(["usage", *home, "--by", "key,day", "--model", "m", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == [{"key": "default/anna", "day": today, **document["total"]}]
    assert (document["total"]["cost_usd"], document["total"]["costs"]) == (0.000_001_5, {"sum": 15})
    assert main(["usage", *home, "--since", "2026-01", "--by", "month", "-o", "csv"]) == 0
    assert (
        capsys.readouterr().out.splitlines()[1].startswith("2026-01,1,0,0,0,10,5,2,0,1,1500,0.000001500,15")
    )
    assert main(["usage", *home, "--by", "colour"]) == 2
    assert "usage is not added up by that" in capsys.readouterr().err
    assert main(["usage", "--home", str(tmp_path / "none")]) == 1


def test_what_the_gateway_answers_by_itself_is_one_row_without_a_route(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    today = datetime.now(UTC).date().isoformat()
    own = ("unknown-path", "ai-unknown-model", "ai-entry/v1/chat/completions", "ai-method/post0", "ai-models")
    lost = [record(number, today, route=name, backend="") for number, name in enumerate(own, 2)]
    book(tmp_path, record(1, today), *lost)
    assert main(["usage", "--by", "route", "--home", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[:2] for line in lines[1:3]) == [["-", "5"], ["default/route", "1"]]
    assert "requests to no model that is served" in lines[-1]
    assert main(["usage", "--model", "typo", "--home", str(tmp_path)]) == 0
    assert "with model typo" in capsys.readouterr().out


def test_records_are_written_as_gateway_try_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    today = datetime.now(UTC).date().isoformat()
    mine = record(1, today)
    book(tmp_path, mine, record(2, today, tenant="default/other"), record(3, "2026-01-01"))
    assert main(["usage", "--records", "--tenant", "team", "--since", "today", "--home", str(tmp_path)]) == 0
    written = tmp_path / "records.jsonl"
    written.write_text(capsys.readouterr().out)
    assert read_records(written) == [mine]


def test_the_ledgers_of_a_cluster_are_added_up_and_one_that_is_missing_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.now(UTC).date().isoformat()
    book(tmp_path, record(1, today), record(2, today, model="n"))

    def ask(config: object, words: list[str], **_: object) -> dict[str, Executed | BaseException]:
        assert main([*words, "--home", str(tmp_path)]) == 0
        output = capsys.readouterr().out
        return {
            "s/one": Executed(0, output, ""),
            "s/two": Executed(0, output, ""),
            "s/new": Executed(1, "", "kaji: there is no ledger.db in /var/lib/kajitori"),
            "s/gone": ConnectionError("it is away"),
        }

    monkeypatch.setattr(ledgers, "ask_accountants", ask)
    monkeypatch.setattr("kajitori.cli.usage.cluster_config", lambda options: None)
    assert main(["usage", "--kubeconfig", "elsewhere", "--by", "model", "-o", "json"]) == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert {row["model"]: row["requests"] for row in document["rows"]} == {"m": 2, "n": 2}
    assert document["total"]["nano_usd"] == 6_000
    assert "s/gone is not counted in: it is away" in err and "s/new" not in err
