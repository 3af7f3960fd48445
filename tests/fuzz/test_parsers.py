"""What others send, changed at random: whoever reads it says that it is wrong, and nothing worse happens.

More of it by hand: `KAJI_FUZZ_RUNS=100000 pytest -n0 tests/fuzz`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kajitori.api.aigateway.v1beta1 import LLMRequestCost
from kajitori.gateway.accounting.accountant_policy import AccountantPolicy
from kajitori.gateway.accounting.costs import CostExpression, Usage, check_costs
from kajitori.gateway.accounting.ledger import Ledger
from kajitori.gateway.accounting.log_format import FIELD_SEPARATOR, LINE_START, REQUEST_FORMAT, parse_line
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.policy_delivery import FILE_NAME, PolicyFollower
from kajitori.gateway.accounting.record_store import RecordStore
from kajitori.gateway.rescue.dialects import story_of
from kajitori.gateway.rescue.events import Splitter

RUNS = int(os.environ.get("KAJI_FUZZ_RUNS", "150"))
often = settings(
    max_examples=RUNS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.sampled_from([0, -0.0, 1.5, 1e300]), st.booleans(), st.none()
)
ANYTHING = st.recursive(
    st.one_of(NUMBERS, st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["text", "index", "type", "content", "delta", "role"]), inner, max_size=3
        ),
    ),
    max_leaves=8,
)
TYPES = st.sampled_from(
    ["content_block_start", "content_block_delta", "message_start", "message_delta", "response.completed"]
)
EVENTS = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.one_of(TYPES, ANYTHING),
            "id": ANYTHING,
            "choices": st.one_of(st.lists(ANYTHING, max_size=2), ANYTHING),
            "delta": ANYTHING,
            "content_block": ANYTHING,
            "sequence_number": ANYTHING,
        },
    ).map(lambda value: b"data: " + json.dumps(value).encode()),
    st.binary(max_size=40),
    st.just(b'data: {"a":' + b"[" * 5000),
)
BODIES = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("messages", "prompt", "max_tokens", "max_completion_tokens"), ANYTHING)
)


@often
@given(
    st.sampled_from(["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"]),
    st.lists(EVENTS, max_size=6),
    BODIES,
    st.booleans(),
)
def test_no_event_of_a_provider_breaks_the_relay(
    path: str, events: list[bytes], body: dict[str, Any], engine_fields: bool
) -> None:
    story = story_of(path, engine_fields=engine_fields)
    _, whole = Splitter().feed(b"\n\n".join(events) + b"\n\n")
    for event in whole:
        story.adapted(event)
        story.read(event)
    msgspec.json.encode(story.continuation(body))
    assert story.error("why").endswith(b"\n\n")


ODD_FIELDS = st.one_of(
    st.text(max_size=12),
    NUMBERS.map(str),
    st.sampled_from(["~", "~1", "1,2", "1,2,3,4,5,6;m", "9" * 5000, "-", "\x1e", "\x1f"]),
)


@often
@given(
    fields=st.lists(ODD_FIELDS, min_size=len(REQUEST_FORMAT) - 1, max_size=len(REQUEST_FORMAT) - 1),
    cut=st.integers(0, 60),
)
def test_no_line_of_the_log_stops_the_ledger(tmp_path: Path, fields: list[str], cut: int) -> None:
    line = FIELD_SEPARATOR.join([f"{LINE_START}r1", *fields])
    store = RecordStore(tmp_path / "requests.db")
    try:
        ledger = Ledger(store, GatewayMetrics())
        ledger.take([line, line[:cut], line[cut:], line[cut:] + line])
    finally:
        store.close()
    parse_line(line[cut:])


CEL_WORDS = st.sampled_from(
    ["input_tokens", "output_tokens", "model", "cost_usd", "1", "0u", "1.5", "'a'", "+", "*", "/", "%", "(", ")", "?", ":",
     "==", "[", "]", ".map(", "{", "}", ",", "size(", "uint(", "int(", "double(", "-", "9223372036854775807", "&&", "in"]
)  # fmt: skip


@often
@given(st.one_of(st.text(max_size=40), st.lists(CEL_WORDS, max_size=14).map(" ".join)))
def test_an_expression_of_a_cost_gives_a_number_or_is_refused_with_its_place(text: str) -> None:
    problems: list[str] = []
    costs = check_costs([LLMRequestCost(metadata_key="c", type="CEL", cel=text)], problems)
    assert len(costs) + len(problems) == 1
    assert all(problem.startswith("llmRequestCosts[c].cel: ") for problem in problems)
    for cost in costs:
        assert CostExpression(cost.cel or "").compute(Usage(), "m", "b", "r") >= 0


@often
@given(st.one_of(st.binary(max_size=60), st.integers(0, 400)))
def test_no_policy_on_disk_keeps_an_accountant_from_starting(tmp_path: Path, damage: bytes | int) -> None:
    good = msgspec.msgpack.encode(AccountantPolicy())
    content = (
        damage
        if isinstance(damage, bytes)
        else good[: damage % len(good)] + b"\xc1" + good[damage % len(good) :]
    )
    (tmp_path / FILE_NAME).write_bytes(content)
    taken: list[AccountantPolicy] = []
    PolicyFollower(lambda: pytest.fail("asked"), tmp_path, taken.append).restore()
    assert all(isinstance(policy, AccountantPolicy) for policy in taken)
