"""Records of requests: what Envoy's lines become, and what stays on disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from kajitori.gateway.accounting import record_store
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy, BackendFacts, CostRule, RouteFacts
from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.ledger import Ledger
from kajitori.gateway.accounting.log_format import (
    ATTEMPT_FORMAT,
    FIELD_SEPARATOR,
    REQUEST_FORMAT,
    AttemptLine,
    RequestLine,
    Who,
)
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.record_reading import read_position, read_recent, read_request
from kajitori.gateway.accounting.record_store import RecordStore
from kajitori.gateway.accounting.records import FILE_NAME, LogPosition, RequestRecord
from tests.waiting import eventually_blocking

POLICY = AccountantPolicy(
    backends={"one": BackendFacts("default/one"), "two": BackendFacts("default/two", "other-model")},
    routes={"default/route": RouteFacts(costs=(CostRule("sum", "CEL", "input_tokens + output_tokens"),))},
)
ROUTE = "ai/default/route/rule/2/match/0"


def request(**fields: str) -> str:
    """A line as Envoy writes it of a request; what is not given is what a plain answer has."""
    usual = {
        "version": "\x1er2", "time": "1764170000.25", "route": ROUTE, "method": "POST", "status": "200", "cluster": "one",
        "attempts": "1", "duration_milliseconds": "500", "path": "/v1/chat/completions", "model": "m",
    }  # fmt: skip
    who = [fields.pop(name, "") for name in Who._fields]
    usual["who"] = "|".join(who) if any(who) else ""
    return FIELD_SEPARATOR.join({**dict.fromkeys(REQUEST_FORMAT, ""), **usual, **fields}.values())


def attempt(**fields: str) -> str:
    """A line as Envoy writes it of an attempt that failed."""
    usual = {"version": "\x1ea1", "status": "503", "cluster": "one", "duration_milliseconds": "2"}
    return FIELD_SEPARATOR.join({**dict.fromkeys(ATTEMPT_FORMAT, ""), **usual, **fields}.values())


class Book:
    """Collects what a ledger writes."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self.position: LogPosition | None = None
        self.metrics = GatewayMetrics()
        self.ledger = Ledger(self, self.metrics)  # type: ignore[arg-type]
        self.ledger.configure(POLICY)

    def write(self, records: list[RequestRecord], position: LogPosition | None = None) -> None:
        self.records += records
        self.position = position


def test_the_fields_of_a_line_are_written_in_the_order_in_which_they_are_read() -> None:
    assert tuple(REQUEST_FORMAT) == RequestLine.__struct_fields__
    assert tuple(ATTEMPT_FORMAT) == AttemptLine.__struct_fields__


def test_failed_attempts_join_their_request() -> None:
    book = Book()
    book.ledger.take(
        [
            attempt(id="a", status="503", retry_after="7"),
            attempt(id="b", status="0", flags="UF"),
            request(id="a", cluster="two", attempts="2"),
            request(id="b", status="503", flags="UF,URX"),
        ]
    )
    found = {record.id: record for record in book.records}
    assert [(item.backend, item.outcome, item.retry_after) for item in found["a"].attempts] == [
        ("default/one", "answered 503", "7"),
        ("default/two", "answered", ""),
    ]
    assert (found["a"].route, found["a"].rule, found["a"].effective_model) == (
        "default/route",
        2,
        "other-model",
    )
    assert [item.outcome for item in found["b"].attempts] == ["connection failure"]
    assert found["b"].outcome == "connection failure, retries exhausted"
    assert len(book.records) == 2


def test_a_request_whose_attempts_are_not_told_is_booked_all_the_same() -> None:
    book = Book()
    book.ledger.take([request(id="a", attempts="3", cluster="two")])
    assert [item.number for item in book.records[0].attempts] == [3]


def test_attempts_without_an_end_go_with_the_position_and_are_taken_up_again() -> None:
    book, later = Book(), Book()
    book.ledger.take([attempt(id="a"), attempt(id="b"), request(id="b", status="503")], LogPosition(1, 500))
    assert book.position is not None and len(book.position.unfinished) == 1
    later.ledger.take(book.position.unfinished)
    later.ledger.take([request(id="a", attempts="2")], LogPosition(1, 900))
    assert [item.status for item in later.records[0].attempts] == [503, 200]
    assert later.position == LogPosition(1, 900)


def test_an_attempt_told_after_its_request_waits_for_nothing() -> None:
    book = Book()
    book.ledger.take([request(id="a", attempts="2"), attempt(id="a")], LogPosition(1, 900))
    assert book.position is not None and not book.position.unfinished


def test_attempts_of_requests_that_never_end_are_bounded() -> None:
    book = Book()
    book.ledger.take([attempt(id=str(number)) for number in range(10_100)], LogPosition(1, 900))
    assert book.position is not None and len(book.position.unfinished) == 10_000


def test_requests_that_share_an_id_are_all_booked() -> None:
    book = Book()
    for cluster in ("one", "two"):
        book.ledger.take([request(id="r", attempts="2", status="503", cluster=cluster)])
    assert [record.backend for record in book.records] == ["default/one", "default/two"]


def test_a_line_that_cannot_be_read_costs_no_other_its_record() -> None:
    book = Book()
    whole = request(id="whole")
    book.ledger.take(
        [
            "garbage",
            "",
            request(id="odd", usage="many"),
            whole.replace("r2", "r9"),
            whole[:40],
            request(id="cut")[:40] + whole,
        ]
    )
    assert [record.id for record in book.records] == ["whole"]
    assert book.ledger.unreadable_lines == 4


@given(st.text(), st.integers(0, 300), st.integers(0, 300))
def test_no_text_breaks_the_parser(text: str, start: int, end: int) -> None:
    for line in (text, request(id=text), request(id="a")[start:end], attempt(detail=text)[start:]):
        Book().ledger.take(line.split("\n"), LogPosition())


def test_usage_and_times_are_read_from_a_line() -> None:
    book = Book()
    book.ledger.take(
        [
            request(
                id="a",
                usage="250,51,301,100,3,7",
                operation="chat",
                first_byte_microseconds="100000",
                stream="true",
                model="odd | name",
                key="k1",
                tenant="default/team",
                dialect="openai",
                decision="chain",
            )
        ]
    )
    (record,) = book.records
    assert record.usage == Usage(250, 51, 301, 100, 3, 7)
    assert record.costs == {"sum": 301}
    assert record.model == "odd | name"
    assert (record.key, record.tenant, record.dialect) == ("k1", "default/team", "openai")
    assert (record.time, record.duration_seconds, record.decision) == (1764170000.25, 0.5, "chain")
    assert record.time_to_first_token_seconds == pytest.approx(0.1)
    assert record.tokens_per_second == pytest.approx(125.0)
    registry = CollectorRegistry()
    registry.register(book.metrics)
    text = generate_latest(registry).decode()
    assert (
        'kaji_gateway_requests_total{backend="default/one",code="200",model="odd | name",route="default/route"} 1.0'
        in text
    )
    assert 'gen_ai_token_type="output",kajitori_backend="default/one",le="64.0"} 1.0' in text
    assert "gen_ai_server_time_to_first_token_sum" in text


def test_a_stream_that_was_cut_is_booked_by_what_was_seen_of_it() -> None:
    book = Book()
    book.ledger.take(
        [
            request(id="nothing"),
            request(id="seen", usage="~9", input_estimate="40"),
            request(id="told", usage="~9,12,1,13,5,2,0", input_estimate="40"),
        ]
    )
    assert [(record.usage, record.usage_estimated) for record in book.records] == [
        (None, False),
        (Usage(40, 9, 49), True),
        (Usage(12, 9, 21, 5, 2), True),
    ]


def test_only_a_stream_has_a_speed() -> None:
    book = Book()
    for stream in ("true", ""):
        book.ledger.take(
            [request(id="a", usage="250,51,301,0,0,0", first_byte_microseconds="499000", stream=stream)]
        )
    assert [record.tokens_per_second is None for record in book.records] == [False, True]


def test_a_request_that_went_nowhere_has_no_attempts() -> None:
    book = Book()
    book.ledger.take(
        [request(id="a", flags="DPE", status="400", cluster="", attempts="0", path="", sent_path="/x")]
    )
    (record,) = book.records
    assert (record.outcome, record.usage, record.attempts, record.path) == (
        "malformed request",
        None,
        [],
        "/x",
    )


def test_clients_cannot_make_any_number_of_series() -> None:
    metrics = GatewayMetrics()
    metrics.observe(
        msgspec.structs.replace(record(number), model=f"model-{number}", backend="default/one")
        for number in range(6000)
    )
    (requests, *_) = metrics.collect()
    assert len(requests.samples) == 5001
    assert max(sample.value for sample in requests.samples) == 1000


def record(number: int, age_seconds: float = 0.0) -> RequestRecord:
    return RequestRecord(
        id=f"{number:08x}-0000-4000-8000-000000000000", time=time.time() - age_seconds, route="default/route",
        rule=0, method="POST", path="/v1/chat/completions", status=200, outcome="answered",
    )  # fmt: skip


def test_the_newest_records_stay_and_the_file_is_its_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_store, "_MOST_IN_A_BATCH", 1)  # what goes goes by the batch
    store = RecordStore(tmp_path / FILE_NAME, newest_rows=10, age_seconds=3600)
    store.write([record(0, 7200), *(record(number) for number in range(1, 31))])
    store.close()
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0
    assert read_request(tmp_path, record(0).id) is not None
    store = RecordStore(tmp_path / FILE_NAME, newest_rows=10, age_seconds=3600)
    store.prune()
    store.write([record(31)])
    store.close()
    assert [item.id for item in read_recent(tmp_path, 100)] == [record(n).id for n in range(31, 20, -1)]
    assert read_request(tmp_path, record(0).id) is None


def test_a_record_that_cannot_be_written_holds_up_no_other(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / FILE_NAME)
    odd, good = (RequestRecord(name, 1.0, "r", 0, "POST", "/", 200, "answered") for name in ("odd", "good"))
    store.write([msgspec.structs.replace(odd, costs={"k": 2**70}), good])
    store.close()
    assert [record.id for record in read_recent(tmp_path)] == ["good"]


def test_a_disk_that_is_full_when_a_store_begins_costs_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []

    def full_at_first(path: Path) -> sqlite3.Connection:
        tries.append(path)
        if len(tries) == 1:
            raise sqlite3.OperationalError("database or disk is full")
        return real(path)

    real = record_store._open
    monkeypatch.setattr(record_store, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(record_store, "_open", full_at_first)
    store = RecordStore(tmp_path / FILE_NAME)
    eventually_blocking(lambda: len(tries) == 2, what="another try")
    ledger = Ledger(store, GatewayMetrics())
    ledger.take([request(id="a")])
    store.close()
    assert read_request(tmp_path, "a") is not None


def test_what_is_no_database_is_put_aside_and_costs_no_record(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"no database" * 1000)
    assert read_position(path) == LogPosition()
    store = RecordStore(path)
    Ledger(store, GatewayMetrics()).take([request(id="a")])
    store.close()
    assert read_request(tmp_path, "a") is not None
    assert path.with_name(FILE_NAME + ".unreadable").exists()


def test_sums_that_cannot_be_made_cost_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> list[object]:
        raise RuntimeError("a defect")

    store = RecordStore(tmp_path / FILE_NAME)
    monkeypatch.setattr(store._usage, "take", defect)
    Ledger(store, GatewayMetrics()).take([request(id="a")])
    store.close()
    assert read_request(tmp_path, "a") is not None


def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys, time\n"
        "from tests.gateway.test_ledger import record\n"
        "from kajitori.gateway.accounting.record_reading import read_request\n"
        "from kajitori.gateway.accounting.record_store import RecordStore\n"
        f"home = pathlib.Path({str(tmp_path)!r})\n"
        "store = RecordStore(home / 'ledger.db')\n"
        "for number in range(1000):\n"
        "    store.write([record(number)])\n"
        "while read_request(home, record(999).id) is None:\n"
        "    time.sleep(0.01)\n"
        "store.write([record(1000)])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == -9
    assert all(read_request(tmp_path, record(number).id) for number in (0, 500, 999))
    RecordStore(tmp_path / FILE_NAME).close()
    assert msgspec.json.encode(read_request(tmp_path, record(3).id))


LINES = st.builds(
    request,
    id=st.sampled_from(["a", "b"]),
    route=st.sampled_from([ROUTE, "ai/default/route/rule/1/match/0", "odd"]),
    status=st.sampled_from(["200", "503", ""]),
    flags=st.sampled_from(["", "-", "UF", "UF,URX"]),
    cluster=st.sampled_from(["", "one", "two", "gone"]),
    address=st.sampled_from(["", "10.0.0.1:80", "10.0.0.2:80"]),
    attempts=st.sampled_from(["", "0", "1", "2"]),
    usage=st.sampled_from(["", "1,2,3,0,0,0;m", "1,2,3,0,0,0;n", "9,8,17,7,0,3", "~3", "~3,5,0,5,1,0,0"]),
    model=st.sampled_from(["", "m", "n"]),
    path=st.sampled_from(["", "/x"]),
    sent_path=st.sampled_from(["", "/y"]),
    key=st.sampled_from(["", "k1", "k2"]),
    tenant=st.sampled_from(["", "t"]),
    stream=st.sampled_from(["", "true"]),
    operation=st.sampled_from(["", "chat"]),
    input_estimate=st.sampled_from(["", "40"]),
    first_byte_microseconds=st.sampled_from(["", "0", "100000"]),
    duration_microseconds=st.sampled_from(["", "100000", "400000"]),
)


@given(st.lists(LINES, max_size=8))
def test_what_is_looked_up_once_is_what_each_line_would_have_found(lines: list[str]) -> None:
    together = Book()
    together.ledger.take(lines)
    apart: list[RequestRecord] = []
    for line in lines:
        book = Book()
        book.ledger.take([line])
        apart += book.records
    assert together.records == apart


def test_a_record_is_found_in_whichever_batch_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_store, "_MOST_IN_A_BATCH", 7)
    store = RecordStore(tmp_path / FILE_NAME)
    store.write([record(number) for number in range(20)])
    store.close()
    assert all(read_request(tmp_path, record(number).id) for number in range(20))
    assert read_request(tmp_path, record(20).id) is None
    assert [each.id for each in read_recent(tmp_path, 9)] == [record(n).id for n in range(19, 10, -1)]


@pytest.mark.parametrize(
    "usage", ["-1,2,3,0,0,0", f"{10**14},2,3,0,0,0", "1,2,3,0,0,-1", "x,2,3,0,0,0", "1,,3,0,0,0"]
)
def test_counts_that_no_request_has_are_not_booked(usage: str) -> None:
    book = Book()
    book.ledger.take([request(id="a", usage=usage), request(id="b", usage="1,2,3,0,0,0")])
    assert [record.id for record in book.records] == ["b"] and book.ledger.unreadable_lines == 1
