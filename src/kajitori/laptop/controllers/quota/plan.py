"""What a quota's status says after a recount. Pure; what an object counts is in `kajitori.model.quota_usage`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from kajitori.laptop.controllers.views import View
from kajitori.model.pod_resources import Amounts, add
from kajitori.model.quota_usage import NONE, OLD_NAMES, in_scopes, tracked_names, usage_of

Object = dict[str, Any]
# The kinds of which more than the number counts.
WEIGHED = ("pods", "services", "persistentvolumeclaims")


class QuotaStatusView(msgspec.Struct, frozen=True, kw_only=True):
    hard: dict[str, str] | None = None
    used: dict[str, str] | None = None


class QuotaSpecView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    hard: dict[str, str] = {}
    scopes: list[str] = []
    scope_selector: Object | None = None


class QuotaView(View, frozen=True, kw_only=True):
    kind: str = "ResourceQuota"
    api_version: str = "v1"
    spec: QuotaSpecView = QuotaSpecView()
    status: QuotaStatusView = QuotaStatusView()


def tracked_resources(names: Iterable[str]) -> list[str]:
    """Qualified names (`pods`, `deployments.apps`) of what has to be counted for these names of a quota."""
    found = [resource for resource in WEIGHED if tracked_names(resource, names)]
    for name in names:
        resource = name.removeprefix("count/") if name.startswith("count/") else name
        counted = name.startswith("count/") or name in OLD_NAMES
        if counted and resource not in found:
            found.append(resource)
    return found


def recount(
    spec: QuotaSpecView, objects: Mapping[str, Sequence[Object]], status: QuotaStatusView, now: float
) -> QuotaStatusView:
    """objects: those of the namespace, by qualified name of their resource. Names nobody counts stay as they were."""
    used: dict[str, str] = {name: value for name, value in (status.used or {}).items() if name in spec.hard}
    quota_spec: Object = msgspec.to_builtins(spec)
    for resource, found in objects.items():
        names = tracked_names(resource, spec.hard)
        total: Amounts = dict.fromkeys(names, NONE)
        for obj in found:
            if in_scopes(resource, obj, quota_spec):
                usage = usage_of(resource, obj, now)
                add(total, {name: usage[name] for name in names if name in usage})
        used |= {name: str(value) for name, value in total.items()}
    return QuotaStatusView(hard=spec.hard, used=used)


def is_counted(quota: QuotaView, resource: str) -> bool:
    """Whether a change of such an object may change the usage."""
    return resource in tracked_resources(quota.spec.hard)
