"""What is tried again, and how long an attempt may take, where no BackendTrafficPolicy says so. Pure.

A request to a model may be sent again as long as no byte of an answer has gone to the client; Envoy holds to that.
With several backends any sign that one cannot answer leads to the next: no connection, a reset, silence, 429, 5xx.
Other 4xx never do: the next provider would find the same request as wrong as the first one did. 408 and 409 are told
to the client, whose library knows what they mean. With a single backend only what it cannot have begun to answer is
sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.base.duration import parse_duration_seconds, protobuf_duration

if TYPE_CHECKING:
    from kajitori.api.aigateway.v1beta1 import AIGatewayRouteRule
    from kajitori.gateway.resilience.settings import Resilience

IDLE_SECONDS = 60.0
# Where nobody says how long silence may last: also a session over a WebSocket ends by it.
STANDSTILL_SECONDS = 300.0
# What an attempt may take to connect, and so much later than the last one has had its time, so that it is an attempt that
# fails, and its backend is told.
_CONNECT_SECONDS, _LATER_SECONDS = 3.0, 1.0
_TO_ANOTHER = "5xx,reset,connect-failure,refused-stream,retriable-status-codes"
_TO_THE_SAME = "connect-failure,refused-stream,reset-before-request"
_PREVIOUS_HOSTS = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    },
}


def silence_seconds(rule: AIGatewayRouteRule, resilience: Resilience, attempts: int) -> float:
    """For how long a backend may be silent: `streamIdleTimeout`, or the policy's idleTimeout, or the request timeout shared by
    the attempts, or a minute. 0 for no bound.
    """
    if rule.stream_idle_timeout:
        return parse_duration_seconds(rule.stream_idle_timeout)
    if resilience.idle_seconds:
        return resilience.idle_seconds
    return _request_seconds(rule) / max(attempts, 1) or IDLE_SECONDS


def standstill_timeout(silence: float, attempt: float, attempts: int, *, given: bool) -> str:
    """Envoy's bound for a request that makes no progress, whoever is to blame.

    It is the one that ends an answer which stands still: its backend may be silent, or its client may take nothing, and
    no backend is to be left out for a client. But its clock runs from the beginning, so it leaves each attempt the
    time that it has. silence: see `silence_seconds`. attempt: seconds that one has until its answer begins. given: whether
    somebody said how long silence may last.
    """
    if not silence:
        return "0s"
    least = silence if given else max(silence, STANDSTILL_SECONDS)
    return protobuf_duration(max(least, _together(attempts, attempt)))


def default_retries(rule: AIGatewayRouteRule, resilience: Resilience, attempts: int) -> dict[str, Any]:
    """Timeouts and retries of a route action. attempts: backends of the rule, as many as are tried.

    Without a request timeout an answer may last; what ends it is silence. Envoy's bound for an attempt holds until its answer
    begins, and counts against the backend; from then on `standstill_timeout` holds, which counts against nobody.
    """
    timeouts = rule.timeouts
    attempt = (
        parse_duration_seconds(timeouts.backend_request) if timeouts and timeouts.backend_request else 0.0
    )
    silence = silence_seconds(rule, resilience, attempts)
    attempt = min(filter(None, (attempt, resilience.first_byte_seconds, silence)), default=0.0)
    hedging = bool(resilience.hedge_after_seconds) and attempts == 1
    retry: dict[str, Any] = {
        "retry_on": _TO_ANOTHER if attempts > 1 or hedging else _TO_THE_SAME,
        "num_retries": max(attempts - 1, 1),
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
        # Of a backend with several endpoints another one, if there is.
        "retry_host_predicate": [_PREVIOUS_HOSTS],
        "host_selection_retry_max_attempts": 20,
    }
    if attempts > 1:
        retry["retriable_status_codes"] = [429]
    given = bool(rule.stream_idle_timeout or resilience.idle_seconds)
    found: dict[str, Any] = {
        "timeout": protobuf_duration(_request_seconds(rule)),
        "idle_timeout": standstill_timeout(silence, attempt, attempts, given=given),
        "retry_policy": retry,
    }
    if hedging:
        # The bound of an attempt ends none then: it sends a further one, and the first answer wins.
        attempt = resilience.hedge_after_seconds
        retry["num_retries"] = resilience.hedge_extra
        found["hedge_policy"] = {"hedge_on_per_try_timeout": True}
    else:
        retry["refresh_cluster_on_retry"] = True
    if attempt:
        retry["per_try_timeout"] = protobuf_duration(attempt)
    return found


def leave_time(action: dict[str, Any]) -> None:
    """Puts off the bound for a standstill where a policy gives a route more attempts, or gives each of them more time."""
    retry = action["retry_policy"]
    bound = parse_duration_seconds(action.get("idle_timeout", "0s"))
    if bound and "per_try_timeout" in retry:
        attempt = parse_duration_seconds(retry["per_try_timeout"])
        action["idle_timeout"] = protobuf_duration(max(bound, _together(retry["num_retries"] + 1, attempt)))


def _together(attempts: int, attempt: float) -> float:
    """Seconds until so many attempts, of so many seconds each, have failed one after the other."""
    return attempts * (_CONNECT_SECONDS + attempt) + _LATER_SECONDS


def _request_seconds(rule: AIGatewayRouteRule) -> float:
    timeouts = rule.timeouts
    return parse_duration_seconds(timeouts.request) if timeouts and timeouts.request else 0.0
