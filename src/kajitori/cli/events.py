"""Events of an object by its name, so that those of an earlier incarnation (same name, other uid) show too."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from kajitori.api.resource import EVENTS
from kajitori.base.clock import parse_rfc3339
from kajitori.base.duration import format_age
from kajitori.cli.connection import Cluster
from kajitori.cli.output import paint


@dataclass(frozen=True)
class Event:
    """What happened: seconds since 1970, who says so, why, in words, how often."""

    at_seconds: float
    source: str
    type: str
    reason: str
    message: str
    count: int = 1
    regarding: str = ""


def events_of(cluster: Cluster, kind: str, name: str, namespace: str | None) -> list[Event]:
    """The object's events, oldest first."""
    items = cluster.objects(
        EVENTS,
        namespace or "default",
        fieldSelector=f"regarding.kind={kind},regarding.name={name}",
    )
    return sorted((to_event(item) for item in items), key=lambda event: event.at_seconds)


def to_event(item: dict[str, Any]) -> Event:
    """An Event of events.k8s.io/v1; a series counts as one with its last time."""
    series = item.get("series") or {}
    text = (
        series.get("lastObservedTime")
        or item.get("deprecatedLastTimestamp")
        or item.get("eventTime")
        or item["metadata"].get("creationTimestamp")
    )
    source = item.get("reportingController") or (item.get("deprecatedSource") or {}).get("component") or ""
    regarding = item.get("regarding") or {}
    return Event(
        parse_rfc3339(text) if text else 0.0,
        source,
        item.get("type") or "Normal",
        item.get("reason") or "",
        item.get("note") or "",
        int(series.get("count") or item.get("deprecatedCount") or 1),
        f"{regarding.get('kind', '')} {regarding.get('name', '')}",
    )


def print_events(events: list[Event]) -> None:
    """A line each: age, type, reason, source, message."""
    if not events:
        return
    print("  events:")
    now = time.time()
    for event in events:
        age = format_age(max(0.0, now - event.at_seconds))
        times = f" (x{event.count})" if event.count > 1 else ""
        reason = paint(event.reason, "33") if event.type == "Warning" else event.reason
        print(f"    {age:>6} ago{times}  {reason}  {event.source}: {event.message}")
