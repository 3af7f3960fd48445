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
_TO_ANOTHER = "5xx,reset,connect-failure,refused-stream,retriable-status-codes"
_TO_THE_SAME = "connect-failure,refused-stream,reset-before-request"
_PREVIOUS_HOSTS = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    },
}


def default_retries(rule: AIGatewayRouteRule, resilience: Resilience, attempts: int) -> dict[str, Any]:
    """Timeouts and retries of a route action. attempts: backends of the rule, as many as are tried.

    Without a request timeout an answer may last; what ends it is silence: `streamIdleTimeout`, or the policy's
    idleTimeout, or the request timeout shared by the attempts, or a minute.
    """
    timeouts = rule.timeouts
    whole = parse_duration_seconds(timeouts.request) if timeouts and timeouts.request else 0.0
    attempt = (
        parse_duration_seconds(timeouts.backend_request) if timeouts and timeouts.backend_request else 0.0
    )
    # Envoy's bound for an attempt holds until the answer begins, so it is no bound for a stream that flows.
    attempt = min(filter(None, (attempt, resilience.first_byte_seconds)), default=0.0)
    if rule.stream_idle_timeout:
        idle = parse_duration_seconds(rule.stream_idle_timeout)
    elif resilience.idle_seconds:
        idle = resilience.idle_seconds
    elif whole:
        idle = whole / attempts
    else:
        idle = IDLE_SECONDS
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
    if idle:
        retry["per_try_idle_timeout"] = protobuf_duration(idle)
    found: dict[str, Any] = {"timeout": protobuf_duration(whole), "idle_timeout": "0s", "retry_policy": retry}
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
