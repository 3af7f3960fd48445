"""`retry` of a policy: what is tried again, and in which order backends have their turn. Pure.

With `numAttemptsPerPriority` N the first N attempts go to the first priority, the next N to the second, and after the
last priority the first has its turn again. Without it every attempt goes to the first priority. Within a priority the
attempts go round its backends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.base.duration import parse_duration_seconds, protobuf_duration
from kajitori.gateway.resilience.order import priority_groups
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.envoygateway.cluster_settings import Retry
    from kajitori.gateway.resilience.order import Tier

# Envoy Gateway's own, for a policy that does not say what counts as failed.
_DEFAULT_TRIGGERS = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
_DEFAULT_STATUSES = (503,)
_DEFAULT_BASE_SECONDS = 0.025
# More attempts than this go round the priorities in an order that is written out once.
_LONGEST_ORDER = 64


def retry_policy(retry: Retry, own: dict[str, Any]) -> dict[str, Any]:
    """Envoy's `RetryPolicy`. own: what the route had, of which the timeout of an attempt is kept."""
    on = retry.retry_on
    made: dict[str, Any] = {
        "retry_on": ",".join(on.triggers) if on and on.triggers else _DEFAULT_TRIGGERS,
        "retriable_status_codes": list(on.http_status_codes) if on else list(_DEFAULT_STATUSES),
        "num_retries": retry.num_retries,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": TYPE + "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }
    if "per_try_timeout" in own:
        made["per_try_timeout"] = own["per_try_timeout"]
    each = retry.per_retry
    if each and each.timeout:
        made["per_try_timeout"] = protobuf_duration(each.timeout)
    if each and each.back_off and (each.back_off.base_interval or each.back_off.max_interval):
        longest = parse_duration_seconds(each.back_off.max_interval) if each.back_off.max_interval else None
        base = (
            parse_duration_seconds(each.back_off.base_interval)
            if each.back_off.base_interval
            else min(_DEFAULT_BASE_SECONDS, longest or _DEFAULT_BASE_SECONDS)
        )
        made["retry_back_off"] = {"base_interval": protobuf_duration(base)}
        if longest is not None:
            made["retry_back_off"]["max_interval"] = protobuf_duration(longest)
    return made


def retry_problems(retry: Retry) -> list[str]:
    """What Envoy would not take."""
    back_off = retry.per_retry.back_off if retry.per_retry else None
    if back_off is None:
        return []
    base = parse_duration_seconds(back_off.base_interval) if back_off.base_interval else None
    longest = parse_duration_seconds(back_off.max_interval) if back_off.max_interval else None
    where = "spec.retry.perRetry.backOff"
    if base == 0:
        return [f"{where}.baseInterval: must be more than 0"]
    if longest == 0:
        return [f"{where}.maxInterval: must be more than 0"]
    if base is not None and longest is not None and longest < base:
        return [f"{where}.maxInterval: must not be less than baseInterval"]
    return []


def by_priority(action: dict[str, Any], tiers: Sequence[Tier], retry: Retry) -> None:
    """Writes out the order of attempts, for a route that chooses among priorities."""
    plugin = action.get("inline_cluster_specifier_plugin")
    if not plugin or not tiers:
        return
    extension = plugin["extension"]
    each = min(max(retry.num_attempts_per_priority or 0, 0), _LONGEST_ORDER)
    # Attempt n finds its backend in the n-th group, and begins anew after the last one.
    attempts = min(retry.num_retries + 1, _LONGEST_ORDER)
    groups = priority_groups(tiers, each) if each else priority_groups(tiers[:1], attempts)
    config = {**extension["typed_config"], "priority_groups": groups[:_LONGEST_ORDER]}
    action["inline_cluster_specifier_plugin"] = {"extension": {**extension, "typed_config": config}}
    action["retry_policy"] = {**action["retry_policy"], "refresh_cluster_on_retry": True}
