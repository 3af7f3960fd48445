"""What an AITrafficPolicy says as the plan uses it, with defaults where no policy holds. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kajitori.base.duration import parse_duration_seconds

if TYPE_CHECKING:
    from kajitori.api.kajitori_gateway.ai_traffic_policy import AITrafficPolicy, Cooldown


class Cooling(msgspec.Struct, frozen=True):
    """How long a backend that answered 429 is left alone.

    default_seconds: where it does not say. most_seconds: whatever it says.
    """

    default_seconds: float = 5.0
    most_seconds: float = 300.0


class Resilience(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the requests of a rule.

    policy: AITrafficPolicy as namespace/name; empty where none holds. chain_header: by which clients name backends;
    allowed: those they may name, all if empty. cooling: None for no cool-down. limit, limits: concurrent requests of
    every backend, and of single ones by name; 0 for no bound. hedge_after_seconds: 0 for no hedging.
    first_byte_seconds, idle_seconds: 0 for the defaults. decision_headers: Always, OnRequest or Never.
    """

    policy: str = ""
    chain_header: str = ""
    allowed: tuple[str, ...] = ()
    cooling: Cooling | None = Cooling()
    refuse_cooled: bool = False
    limit: int = 0
    limits: tuple[tuple[str, int], ...] = ()
    refuse_saturated: bool = False
    hedge_after_seconds: float = 0.0
    hedge_extra: int = 1
    first_byte_seconds: float = 0.0
    idle_seconds: float = 0.0
    stream_ending: str = "Cut"
    decision_headers: str = "Never"

    def limit_of(self, *names: str) -> int:
        """The bound of a backend that goes by these names."""
        return next((bound for name, bound in self.limits if name in names), self.limit)


DEFAULTS = Resilience()


def read_policy(policy: AITrafficPolicy, problems: list[str]) -> Resilience:
    """What a policy says. problems: gets what cannot be: such a policy must not hold at all."""
    spec = policy.spec
    fallback, saturation = spec.fallback, spec.fallback.on_saturation
    cooling = _read_cooldown(fallback.cooldown, problems)
    first, idle = _seconds(spec.streams.first_byte_timeout), _seconds(spec.streams.idle_timeout)
    if first and idle and first > idle:
        problems.append("spec.streams.firstByteTimeout: at most idleTimeout, which counts from the beginning")
    return Resilience(
        policy=f"{policy.metadata.namespace}/{policy.metadata.name}",
        chain_header=(fallback.chain_header or "").lower(),
        allowed=tuple(fallback.allowed_backends),
        cooling=cooling,
        refuse_cooled=fallback.cooldown.when_all_cooled == "Refuse",
        limit=(saturation.max_concurrent_requests or 0) if saturation else 0,
        limits=tuple((item.name, item.max_concurrent_requests) for item in saturation.backends)
        if saturation
        else (),
        refuse_saturated=saturation is not None and saturation.when_all_saturated == "Refuse",
        hedge_after_seconds=_seconds(spec.hedging.after) if spec.hedging else 0.0,
        hedge_extra=spec.hedging.max_extra if spec.hedging else 1,
        first_byte_seconds=first,
        idle_seconds=idle,
        stream_ending=spec.streams.on_failure,
        decision_headers=spec.decision_headers,
    )


def _read_cooldown(cooldown: Cooldown, problems: list[str]) -> Cooling | None:
    if not cooldown.enabled:
        return None
    default, most = _seconds(cooldown.default), _seconds(cooldown.max)
    if not 0 < default <= most:
        problems.append("spec.fallback.cooldown: default is above zero and at most max")
    return Cooling(default, most)


def _seconds(text: str | None) -> float:
    return parse_duration_seconds(text) if text else 0.0
