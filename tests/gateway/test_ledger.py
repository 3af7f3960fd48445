"""Records of requests: what Envoy's entries become, and what stays on disk."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.ledger import Facts, Ledger
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.records import (
    FILE_NAME,
    RecordStore,
    RequestRecord,
    read_recent,
    read_request,
)
from kajitori.gateway.envoy.schema import schema

FACTS = Facts({"one": ("default/one", ""), "two": ("default/two", "other-model")})
ROUTE = "ai/default/route/rule/2/match/0"


def message(*entries: dict[str, Any]) -> Any:
    """A batch as Envoy sends it; entries: id, status, tries, cluster, flag, facts."""
    made = schema().message("envoy.service.accesslog.v3.StreamAccessLogsMessage")()
    for item in entries:
        entry = made.http_logs.log_entry.add()
        common = entry.common_properties
        entry.request.request_id = item["id"]
        entry.response.response_code.value = item.get("status", 200)
        common.upstream_cluster = item.get("cluster", "one")
        common.route_name = ROUTE
        common.upstream_request_attempt_count = item.get("tries", 1)
        common.duration.nanos = 500_000_000
        common.custom_tags["f"] = item.get("facts", "|||||/v1/chat/completions|m")
        if flag := item.get("flag"):
            setattr(common.response_flags, flag, True)
    return made


class Book:
    """Collects what a ledger writes."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self.metrics = GatewayMetrics()
        self.ledger = Ledger(self, self.metrics)  # type: ignore[arg-type]
        self.ledger.configure(FACTS)

    def write(self, records: list[RequestRecord]) -> None:
        self.records += records


@pytest.mark.parametrize("attempts_first", [True, False])
async def test_failed_attempts_join_their_request_in_either_order(attempts_first: bool) -> None:
    book = Book()
    batches = [
        ("attempt", message({"id": "a", "status": 503}, {"id": "b", "status": 0, "flag": "upstream_connection_failure"})),
        ("request", message({"id": "a", "cluster": "two", "tries": 2}, {"id": "b", "status": 503, "tries": 1,
                                                                        "flag": "upstream_connection_failure"})),
    ]  # fmt: skip
    for name, batch in batches if attempts_first else batches[::-1]:
        book.ledger.take(name, batch)
    found = {record.id: record for record in book.records}
    assert [(item.backend, item.outcome) for item in found["a"].attempts] == [
        ("default/one", "answered 503"),
        ("default/two", "answered"),
    ]
    assert (found["a"].route, found["a"].rule, found["a"].effective_model) == (
        "default/route",
        2,
        "other-model",
    )
    assert [item.outcome for item in found["b"].attempts] == ["connection failure"]
    assert len(book.records) == 2


async def test_a_request_whose_attempts_never_arrive_is_booked_all_the_same() -> None:
    book = Book()
    book.ledger.take("request", message({"id": "a", "tries": 3, "cluster": "two"}))
    assert not book.records
    book.ledger.settle(asyncio.get_running_loop().time() + 5)
    assert [record.id for record in book.records] == ["a"]


async def test_requests_that_share_an_id_are_all_booked() -> None:
    book = Book()
    for cluster in ("one", "two"):
        book.ledger.take("requests", message({"id": "r", "tries": 2, "status": 503, "cluster": cluster}))
    book.ledger.settle(asyncio.get_running_loop().time() + 60)
    assert [record.backend for record in book.records] == ["default/one", "default/two"]


async def test_an_entry_that_cannot_be_read_costs_no_other_its_record() -> None:
    book = Book()
    book.ledger.take("requests", message({"id": "odd", "facts": "many|||||/|m"}, {"id": "r"}))
    assert [record.id for record in book.records] == ["r"]


async def test_usage_and_times_are_read_from_the_facts() -> None:
    book = Book()
    tokens, details = 250 << 32 | 51, 100 << 32 | 7
    facts = f"{tokens}|{details}|{3 << 32 | 301}|100000|true|/v1/chat/completions|odd | name"
    book.ledger.take("request", message({"id": "a", "facts": facts}))
    (record,) = book.records
    assert record.usage == Usage(250, 51, 301, 100, 3, 7)
    assert record.model == "odd | name"
    assert record.time_to_first_token_seconds == pytest.approx(0.1)
    assert record.tokens_per_second == pytest.approx(125.0)
    registry = CollectorRegistry()
    registry.register(book.metrics)
    text = generate_latest(registry).decode()
    assert (
        'kaji_gateway_requests_total{backend="default/one",code="200",model="odd | name",route="default/route"} 1.0'
        in text
    )
    assert 'gen_ai_token_type="output",le="64.0"} 1.0' in text
    assert "gen_ai_server_time_to_first_token_sum" in text


async def test_only_a_stream_has_a_speed() -> None:
    book = Book()
    for stream in ("true", ""):
        facts = f"{250 << 32 | 51}|0|0|499000|{stream}|/v1/chat/completions|m"
        book.ledger.take("request", message({"id": stream or "whole", "facts": facts}))
    assert [record.tokens_per_second is None for record in book.records] == [False, True]


async def test_an_entry_without_any_facts_is_booked_as_far_as_known() -> None:
    book = Book()
    book.ledger.take(
        "request",
        message({"id": "a", "facts": "", "flag": "downstream_protocol_error", "status": 400, "cluster": ""}),
    )
    (record,) = book.records
    assert (record.outcome, record.usage, record.attempts) == ("malformed request", None, [])


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


def test_the_newest_records_stay_and_the_file_is_its_owners_alone(tmp_path: Path) -> None:
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


def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys, time\n"
        "from tests.gateway.test_ledger import record\n"
        "from kajitori.gateway.accounting.records import RecordStore, read_request\n"
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
