"""Timeouts, retries and sessions of a rule, as Envoy has them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from kajitori.base.duration import protobuf_duration
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from kajitori.api.gateway.http_route import HTTPRouteRule
    from kajitori.api.gateway.shared import SessionPersistence

SESSION_FILTER = "envoy.filters.http.stateful_session"
_SESSION = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession"
_STATES = "envoy.extensions.http.stateful_session"


def timeouts(rule: HTTPRouteRule) -> dict[str, Any]:
    """Members of a route's action. Without a timeout a stream may last."""
    given, retry = rule.timeouts, rule.retry
    found: dict[str, Any] = {"timeout": "0s"}
    if given and given.request:
        found["timeout"] = protobuf_duration(given.request)
    policy: dict[str, Any] = {}
    if retry and retry.attempts != 0:
        # A connection that broke is tried again too, says the Gateway API, whatever the codes.
        policy = {
            "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
            "num_retries": retry.attempts or 1,
        }
        if retry.codes:
            policy["retriable_status_codes"] = list(retry.codes)
        if retry.backoff:
            policy["retry_back_off"] = {"base_interval": protobuf_duration(retry.backoff)}
    if given and given.backend_request:
        policy["per_try_timeout"] = protobuf_duration(given.backend_request)
    if policy:
        found["retry_policy"] = policy
    return found


def session_persistence(
    session: SessionPersistence, route: str, rule_number: int
) -> tuple[dict[str, Any], list[str]]:
    """What the session filter is told at a route, and what is not honoured. route: namespace/name."""
    digest = hashlib.sha256(f"{route}/{rule_number}".encode()).hexdigest()[:8]
    name = session.session_name or f"kajitori-session-{digest}"
    told = ["idleTimeout is not honoured"] if session.idle_timeout else []
    if session.type == "Header":
        if session.absolute_timeout:
            told.append("absoluteTimeout is not honoured with type Header")
        state = {"@type": f"{TYPE}{_STATES}.header.v3.HeaderBasedSessionState", "name": name}
    else:
        cookie: dict[str, Any] = {"name": name, "path": "/"}
        permanent = session.cookie_config is not None and session.cookie_config.lifetime_type == "Permanent"
        if permanent and session.absolute_timeout:
            cookie["ttl"] = protobuf_duration(session.absolute_timeout)
        elif session.absolute_timeout:
            told.append("absoluteTimeout is not honoured with a cookie of lifetimeType Session")
        state = {"@type": f"{TYPE}{_STATES}.cookie.v3.CookieBasedSessionState", "cookie": cookie}
    kind = session.type.lower()
    config = {
        "@type": f"{TYPE}{_SESSION}PerRoute",
        "stateful_session": {
            "session_state": {"name": f"envoy.http.stateful_session.{kind}", "typed_config": state}
        },
    }
    return config, told
