"""Whatever stands in a policy: the plan is made, Envoy can read it, and what is wrong is told."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.gateway.envoy.encode import encoder
from kajitori.gateway.plan import make_plan

from ..workbench import ai_route, backend, gateway, observe
from .test_client_traffic import policy as client_policy
from .traffic import policy

TRAFFIC: dict[str, Any] = {
    "retry": {
        "numRetries": 2,
        "numAttemptsPerPriority": 1,
        "retryOn": {"triggers": ["5xx"], "httpStatusCodes": [503]},
        "perRetry": {"timeout": "1s", "backOff": {"baseInterval": "10ms", "maxInterval": "1s"}},
    },
    "timeout": {"tcp": {"connectTimeout": "1s"}, "http": {"requestTimeout": "9s"}},
    "circuitBreaker": {"maxConnections": 5, "retryBudget": {"percent": {"numerator": 20}}},
    "healthCheck": {
        "active": {"type": "HTTP", "http": {"path": "/", "expectedStatuses": [200]}},
        "passive": {"interval": "1s", "maxEjectionPercent": 50},
    },
    "loadBalancer": {"type": "ConsistentHash", "consistentHash": {"type": "Header", "header": {"name": "a"}}},
    "rateLimit": {
        "local": {
            "rules": [
                {
                    "clientSelectors": [
                        {"headers": [{"name": "a", "value": "b"}], "sourceCIDR": {"value": "10.0.0.0/8"}}
                    ],
                    "limit": {"requests": 5, "unit": "Minute"},
                }
            ]
        }
    },
    "responseOverride": [{"match": {"statusCodes": [{"value": 404}]}, "response": {"body": {"inline": "x"}}}],
    "faultInjection": {"delay": {"fixedDelay": "1s", "percentage": 50}},
    "compressor": [{"type": "Gzip"}],
}
CLIENTS: dict[str, Any] = {
    "timeout": {"http": {"idleTimeout": "1h"}},
    "clientIPDetection": {"xForwardedFor": {"trustedCIDRs": ["10.0.0.0/8"]}},
    "headers": {"earlyRequestHeaders": {"set": [{"name": "a", "value": "%x"}], "remove": ["b"]}},
    "connection": {"bufferLimit": "1Mi", "connectionLimit": {"value": 9}},
    "http1": {"http10": {"useDefaultHost": True}},
}
_junk = st.one_of(
    st.none(),
    st.integers(-5, 2**40),
    st.booleans(),
    st.sampled_from(["", "1s", "0s", "-1s", "x", "%", "Gzip", "10.0.0.0/99", "99999999Gi"]),
    st.just([]),
    st.just({}),
    st.just([{}]),
)


def _changed(value: Any, draw: st.DrawFn) -> Any:
    """A copy in which something was exchanged, taken away or left as it is."""
    match draw(st.integers(0, 11)):
        case 0:
            return draw(_junk)
        case 1 if isinstance(value, dict) and value:
            gone = draw(st.sampled_from(sorted(value)))
            return {key: item for key, item in value.items() if key != gone}
        case _:
            pass
    if isinstance(value, dict):
        return {key: _changed(item, draw) for key, item in value.items()}
    if isinstance(value, list):
        return [_changed(item, draw) for item in value]
    return value


@st.composite
def specs(draw: st.DrawFn, spec: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, value in spec.items() if (item := _changed(value, draw)) is not None}


@settings(max_examples=100, deadline=None)
@given(specs(TRAFFIC), specs(CLIENTS))
def test_any_spec_gives_a_plan_that_envoy_can_read(traffic: dict[str, Any], clients: dict[str, Any]) -> None:
    plan = make_plan(
        observe(
            gateway(8080),
            *backend("a", 1),
            *backend("b", 2),
            ai_route("route", "m", {"name": "a"}, {"name": "b", "priority": 1}),
            policy(**traffic),
            client_policy(**clients),
        )
    )
    assert "a defect of the gateway" not in json.dumps([update.status for update in plan.statuses])
    encode = encoder().encode
    for kind, resources in plan.resources.by_type.items():
        for resource in resources.values():
            encode(kind, resource)
