"""`kaji explain request`: why, for how long, at what cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.cli import main
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy, KeyFacts, RouteFacts
from kajitori.gateway.accounting.policy_delivery import FILE_NAME as POLICY_FILE
from kajitori.gateway.accounting.records import Attempt, RequestRecord
from kajitori.gateway.accounting.time_spent import time_spent
from kajitori.gateway.accounting.verdict_notes import NOTHING, VerdictNotes
from kajitori.gateway.limits.limit import Limit, Window
from kajitori.gateway.limits.request import ALLOWED, Request, Verdict
from tests.gateway.insight.test_usage import book, record

ATTEMPTS = [
    Attempt(1, "default/one", "one", "10.0.0.1:80", 429, "answered 429", "", 0.2, "7"),
    Attempt(2, "default/two", "two", "10.0.0.2:80", 200, "answered"),
]


def explained(home: Path, request_id: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["explain", "request", request_id, "--home", str(home), *more]) == 0
    return capsys.readouterr().out


def test_every_attempt_is_told_with_its_reason_its_answer_its_time_and_its_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = (Limit("Budget default/team", "usd", 5.0, Window("Calendar", unit="Month")),)
    keys = {"k1": KeyFacts("default/anna", "default/team", ("default/team",))}
    policy = AccountantPolicy(
        routes={"default/route": RouteFacts()}, limits=limits, keys=keys, budgets={"default/team": 0}
    )
    policy = msgspec.structs.replace(policy, limits=(msgspec.structs.replace(limits[0], counts="requests"),))
    (tmp_path / POLICY_FILE).write_bytes(msgspec.msgpack.encode(policy))
    one = record(
        1, key="k1", attempts=ATTEMPTS, decision="default/one, default/two: chain header x", headers={"agent-session-id": "s1"},
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01", duration_seconds=1.0, received_seconds=0.1,
        admission_seconds=0.05, sent_seconds=0.4, time_to_first_token_seconds=0.6, effective_model="big",
    )  # fmt: skip
    book(tmp_path, one)
    text = explained(tmp_path, one.id, capsys)
    for line in (
        "  model       m, sent as big",
        "  key         default/anna",
        "  tenant      default/team",
        "  header      agent-session-id: s1",
        "  limits      Budget default/team",
        "  attempt 1   ✗ default/one at 10.0.0.1:80: answered 429 after 200 ms, retry-after 7",
        "              why: the order default/one, default/two (chain header x)",
        "  attempt 2   ✓ default/two at 10.0.0.2:80: answered 200",
        "              why: default/one: answered 429; next in the order default/one, default/two (chain header x)",
        "  time        1000 ms in all, first byte after 600 ms",
        "              receiving the request 100.0 ms, waiting for admission 50.0 ms, failed attempts 200.0 ms, "
        "in the gateway 50.0 ms, waiting for the first byte 200.0 ms, the answer's body 400.0 ms",
        "  tokens      input 10, output 5, total 15, cached input 2, reasoning 1 (as the backend reported)",
        "  cost        0.0000015 USD",
        "  cost        sum = 15",
    ):
        assert line in text.splitlines()
    document = json.loads(explained(tmp_path, one.id, capsys, "-o", "json"))
    assert document["limits"] == ["Budget default/team"]
    assert [each["status"] for each in document["attempts"]] == [429, 200]
    assert sum(document["time_spent_seconds"].values()) == pytest.approx(1.0)


def test_the_legs_of_a_rescued_stream_stand_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = record(1, outcome="connection reset by the backend", usage_estimated=True)
    book(tmp_path, first, record(1, id=f"{first.id}~2", cost_usd=None, effective_model="m"))
    text = explained(tmp_path, first.id, capsys)
    assert "(a lower bound: the answer ended before it told)" in text
    assert "leg 2: goes on where the one before broke off" in text
    assert "no price is known of m" in text
    second = explained(tmp_path, f"{first.id}~2", capsys)
    assert "the stream's beginning" in second and "leg 3" not in second


def test_a_refusal_names_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book(
        tmp_path,
        record(
            1, status=429, backend="", usage=None, limit="Budget default/team", refusal="5 USD are used up"
        ),
    )
    text = explained(tmp_path, record(1).id, capsys)
    assert "  refused     Budget default/team: 5 USD are used up" in text.splitlines()
    assert main(["explain", "pod/web", "-o", "json", "--home", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": 401}, "by itself: the key, token or password"),
        (
            {"status": 500},
            "by itself: the route or a policy of it cannot be honoured; `kaji doctor` names it",
        ),
        ({"status": 503}, "by itself: no backend of the route is usable for this model"),
        ({"status": 400, "decision": "no such backend"}, "by itself\n              why: no such backend\n"),
        ({"status": 429, "limit": "Budget default/team"}, "by itself\n  time"),
        ({"status": 0, "outcome": "client left"}, "POST /v1/chat/completions got no answer (client left)\n"),
        ({"status": 0, "outcome": "overtaken"}, "overtaken: another request for it was answered first\n"),
    ],
)
def test_what_came_from_no_backend_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, Any], said: str
) -> None:
    one = record(1, backend="", usage=None, cost_usd=None, **fields)
    book(tmp_path, one)
    assert said in explained(tmp_path, one.id, capsys)


def test_a_whole_stream_without_usage_did_not_end_too_early(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = record(1, stream=True, usage_estimated=True)
    book(tmp_path, one)
    assert "(an estimate: the backend did not tell)" in explained(tmp_path, one.id, capsys)


async def test_what_admission_did_is_noted_where_it_did_anything() -> None:
    class Engine:
        def admit_at_once(self, request: Request) -> Verdict | None:
            return None

        async def admit(self, request: Request) -> Verdict:
            return ALLOWED if request.id == "a" else Verdict(allowed=False, limit="L", message="no")

    notes = VerdictNotes(Engine())
    assert (await notes.admit(Request(id="a", route="r"))).allowed
    assert not (await notes.admit(Request(id="b", route="r"))).allowed
    assert (notes.take("b").limit, notes.take("b")) == ("L", NOTHING)


@given(st.builds(dict, **{
    name: st.none() | st.floats(0, 10)
    for name in ("received_seconds", "sent_seconds", "time_to_first_token_seconds")
}), st.floats(0, 10), st.floats(0, 10))  # fmt: skip
def test_the_phases_of_a_request_add_up_to_its_time(
    times: dict[str, float | None], admission: float, whole: float
) -> None:
    plain = record(attempts=ATTEMPTS, duration_seconds=whole, admission_seconds=admission)
    one: RequestRecord = msgspec.structs.replace(plain, **times)
    spent = time_spent(one)
    assert sum(spent.values()) == pytest.approx(whole)
    assert all(seconds > 0 for seconds in spent.values())
