"""Hostnames of listeners and routes: which fit which, where `*` is any host and `*.example.com` any below one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ANY_HOST = "*"


def intersect(listener: str, hostnames: Sequence[str]) -> list[str]:
    """The hostnames that a route with `hostnames` serves at a listener for `listener`."""
    if not hostnames:
        return [listener]
    return [shared for hostname in hostnames if (shared := _narrower(listener, hostname))]


def _narrower(one: str, other: str) -> str | None:
    if one in (ANY_HOST, other):
        return other
    if other == ANY_HOST:
        return one
    if covers(one, other):
        return other
    if covers(other, one):
        return one
    return None


def covers(pattern: str, hostname: str) -> bool:
    """Whether every host of `hostname` (itself perhaps a wildcard) fits `pattern`."""
    if pattern in (ANY_HOST, hostname):
        return True
    return (
        pattern.startswith("*.") and hostname.removeprefix("*").endswith(pattern[1:]) and hostname != pattern
    )


def narrower(hostnames: Iterable[str]) -> dict[str, list[str]]:
    """Of those hostnames that cover others of them, which; the work grows with their number, not with that of pairs."""
    there = dict.fromkeys(hostnames)
    found: dict[str, list[str]] = {}
    for hostname in there:
        for pattern in covering(hostname):
            if pattern != hostname and pattern in there:
                found.setdefault(pattern, []).append(hostname)
    return found


def covering(hostname: str) -> list[str]:
    """Every pattern that covers a hostname, from itself to `*`: so many look-ups, however many hosts there are."""
    ends = hostname.removeprefix("*")
    wider = [f"*{ends[at:]}" for at, letter in enumerate(ends) if letter == "."]
    return list(dict.fromkeys((hostname, *wider, ANY_HOST)))
