"""When a token is fetched again. Pure; `spread` is a random number from 0 to 1, so that replicas do not ask at once."""

from __future__ import annotations

ROTATE_BEFORE_SECONDS = 300.0
# What does not say when it expires is looked at again this often.
_LOOK_AGAIN_SECONDS = 300.0
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 300.0
_SHORTEST_SECONDS = 1.0


def seconds_to_rotation(expires_at: float | None, now: float, spread: float) -> float:
    """Five minutes before expiry, up to a minute earlier by chance; of a short life the last half is left."""
    if expires_at is None:
        return _LOOK_AGAIN_SECONDS * (1 - 0.1 * spread)
    left = expires_at - now
    margin = min(ROTATE_BEFORE_SECONDS, left / 2)
    return max(_SHORTEST_SECONDS, left - margin - spread * min(60.0, margin / 5))


def seconds_to_retry(failures: int, spread: float, asked_for: float | None = None) -> float:
    """After so many failures in a row: 1 s, doubled each time up to 5 minutes, less up to a quarter by chance.

    asked_for: what the endpoint's Retry-After said.
    """
    backoff = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 10))
    return max(backoff * (1 - spread / 4), min(asked_for or 0.0, _LONGEST_RETRY_SECONDS))
