"""How long an attempt may take to begin its answer, and how long a request may stand still."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.api.aigateway.v1beta1 import AIGatewayRouteRule
from kajitori.api.gateway.http_route import HTTPRouteTimeouts
from kajitori.base.duration import parse_duration_seconds
from kajitori.gateway.resilience.retries import default_retries, leave_time
from kajitori.gateway.resilience.settings import DEFAULTS, Resilience


def bounds(action: dict[str, Any]) -> tuple[str, str]:
    """Of an attempt until its answer begins, and of a standstill."""
    return action["retry_policy"].get("per_try_timeout", ""), action["idle_timeout"]


@pytest.mark.parametrize(
    ("rule", "resilience", "attempts", "expected"),
    [
        ({}, {}, 1, ("60s", "300s")),
        ({}, {}, 3, ("60s", "300s")),
        # No standstill ends a request whose backends have not had their time.
        ({}, {}, 8, ("60s", "505s")),
        ({"stream_idle_timeout": "20s"}, {}, 1, ("20s", "24s")),
        ({"stream_idle_timeout": "20s"}, {}, 2, ("20s", "47s")),
        ({"stream_idle_timeout": "20s"}, {"idle_seconds": 5.0}, 1, ("20s", "24s")),
        ({}, {"idle_seconds": 60.0, "first_byte_seconds": 5.0}, 3, ("5s", "60s")),
        ({"timeouts": HTTPRouteTimeouts(request="10m")}, {}, 2, ("300s", "607s")),
        ({"timeouts": HTTPRouteTimeouts(backend_request="7s")}, {}, 2, ("7s", "300s")),
        ({"stream_idle_timeout": "0s"}, {}, 2, ("", "0s")),
    ],
)
def test_silence_counts_until_an_answer_begins_and_a_standstill_in_all(
    rule: dict[str, Any], resilience: dict[str, Any], attempts: int, expected: tuple[str, str]
) -> None:
    made = default_retries(AIGatewayRouteRule(**rule), Resilience(**resilience), attempts)
    assert bounds(made) == expected
    assert "per_try_idle_timeout" not in made["retry_policy"]


@given(st.integers(0, 20), st.integers(1, 600), st.integers(1, 8))
def test_a_policy_with_more_attempts_leaves_them_their_time(
    retries: int, seconds: int, attempts: int
) -> None:
    action = default_retries(AIGatewayRouteRule(), DEFAULTS, attempts)
    before = parse_duration_seconds(action["idle_timeout"])
    action["retry_policy"] = {"num_retries": retries, "per_try_timeout": f"{seconds}s"}
    leave_time(action)
    after = parse_duration_seconds(action["idle_timeout"])
    assert after >= before
    assert after > (retries + 1) * seconds
