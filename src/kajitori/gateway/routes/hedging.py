"""Requests that are sent to a second backend beside a slow first one, and later perhaps to a third.

Envoy sends further attempts to the same cluster only, and all attempts of a request share one set of headers, so that a
credential for one provider might go to another. So attempts of a hedged request go through Envoy's inner listener: each is a
request of its own there, a leg, with its own line in the log and its own order of backends, which lua/order.lua makes
begin with another one for each leg. What answers first is the answer; the others are reset, and so are their backends.
But a further leg that fails is no answer while the first one is under way: it was asked for nothing but to be faster.

What a provider keeps, such as files, is asked for as without hedging: another provider has something else, or soon has it too.
"""

from __future__ import annotations

from typing import Any

from kajitori.base.duration import protobuf_duration
from kajitori.gateway.backends.clusters import plain_cluster
from kajitori.gateway.backends.targets import Target
from kajitori.gateway.rescue import legs
from kajitori.gateway.resources import TYPE

# Of a request that concerns what a provider keeps, see lua/request.lua.
ONCE_HEADER = "x-kajitori-once"
_HEADER_MUTATION = TYPE + "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
# As `telling_filter` says it of an answer: number of the leg and status.
_FURTHER_AND_FAILED = "[2-9] [45][0-9][0-9]"
Resource = dict[str, Any]


def hedged_action(action: Resource, after_seconds: float, extra: int) -> Resource:
    """The action of a route whose requests are hedged. extra: further legs at most.

    A leg that has failed has tried all backends, so nothing is sent again after the first. Failures of the others are called
    retriable all the same: so Envoy waits for the first when no more may follow.
    """
    kept = {
        key: action[key] for key in ("timeout", "upgrade_configs", "max_stream_duration") if key in action
    }
    return {
        **kept,
        "cluster": legs.HEDGE_CLUSTER,
        # How long an answer may be silent is known on the other side.
        "idle_timeout": "0s",
        "hedge_policy": {"hedge_on_per_try_timeout": True},
        "retry_policy": {
            "retry_on": "connect-failure,reset-before-request,retriable-headers",
            "retriable_headers": [
                {"name": legs.HEDGE, "string_match": {"safe_regex": {"regex": _FURTHER_AND_FAILED}}}
            ],
            "num_retries": extra,
            "per_try_timeout": protobuf_duration(after_seconds),
        },
    }


def hedge_cluster(inner_socket: str) -> Resource:
    """The way to the inner listener; it says which leg this is."""
    numbering = _telling("kajitori.hedge", "request_mutations", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%")
    target = Target("STATIC", ((inner_socket, 0, ""),))
    return plain_cluster(legs.HEDGE_CLUSTER, target, [numbering])


def telling_filter() -> Resource:
    """Of the inner listener: says which leg an answer is of and what its status is, whoever made it."""
    told = "%DYNAMIC_METADATA(io.kajitori:hedge)% %RESP(:status)%"
    return _telling("kajitori.hedged-answer", "response_mutations", told)


def _telling(name: str, side: str, value: str) -> Resource:
    header = {"key": legs.HEDGE, "value": value}
    mutation = {"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
    return {"name": name, "typed_config": {"@type": _HEADER_MUTATION, "mutations": {side: [mutation]}}}
