"""Requests that are sent to a second backend beside a slow first one, and later perhaps to a third.

Envoy sends further attempts to the same cluster only, and all attempts of a request share one set of headers, so that a
credential for one provider might go to another. So attempts of a hedged request go through Envoy's inner listener: each is a
request of its own there, a leg, with its own line in the log and its own order of backends, which lua/order.lua makes
begin with another one for each leg. What answers first is the answer; the others are reset, and so are their backends.
"""

from __future__ import annotations

from typing import Any

from kajitori.base.duration import protobuf_duration
from kajitori.gateway.backends.clusters import plain_cluster
from kajitori.gateway.backends.targets import Target
from kajitori.gateway.rescue import legs
from kajitori.gateway.resources import TYPE

Resource = dict[str, Any]


def hedged_action(action: Resource, after_seconds: float, extra: int) -> Resource:
    """The action of a route whose requests are hedged. extra: further legs at most.

    A leg that has failed has tried all backends, so nothing is sent again here.
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
            "retry_on": "connect-failure,reset-before-request",
            "num_retries": extra,
            "per_try_timeout": protobuf_duration(after_seconds),
        },
    }


def hedge_cluster(inner_socket: str) -> Resource:
    """The way to the inner listener; it says which leg this is."""
    number = {"key": legs.HEDGE, "value": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"}
    mutation = {"append": {"header": number, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
    numbering = {
        "name": "kajitori.hedge",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": [mutation]},
        },
    }
    target = Target("STATIC", ((inner_socket, 0, ""),))
    return plain_cluster(legs.HEDGE_CLUSTER, target, [numbering])
