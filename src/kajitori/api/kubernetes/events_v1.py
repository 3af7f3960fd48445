"""events/v1 as structs; made by tools/generate_kubernetes_schemas.py from Kubernetes v1.36.3, not edited by hand."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from kajitori.api.kubernetes import core_v1
from kajitori.api.kubernetes import meta_v1


class Event(Struct, frozen=True, kw_only=True, rename='camel'):
    action: str | None = None
    api_version: str = "events.k8s.io/v1"
    deprecated_count: int | None = None
    deprecated_first_timestamp: str | None = None
    deprecated_last_timestamp: str | None = None
    deprecated_source: core_v1.EventSource | None = None
    event_time: str | None = None
    kind: str = "Event"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    note: str | None = None
    reason: str | None = None
    regarding: core_v1.ObjectReference | None = None
    related: core_v1.ObjectReference | None = None
    reporting_controller: str | None = None
    reporting_instance: str | None = None
    series: EventSeries | None = None
    type: str | None = None


class EventSeries(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    count: int = 0
    last_observed_time: str | None = None
