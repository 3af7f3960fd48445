"""What statuses of Budgets, QuotaPolicies and Tenants say of limits that are used up. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kajitori.base.clock import rfc3339
from kajitori.gateway.conditions import StatusUpdate, condition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kajitori.api.kajitori_gateway.tenant import Tenant
    from kajitori.gateway.accounting.exhaustion_reports import Exhaustion

_KINDS = ("Budget", "QuotaPolicy", "Tenant")


def with_exhaustion(
    statuses: list[StatusUpdate], exhausted: Sequence[Exhaustion], tenants: Iterable[Tenant]
) -> list[StatusUpdate]:
    """The statuses, with a condition `Exhausted` on objects of which a limit is used up."""
    if not exhausted:
        return statuses
    found: dict[str, list[Exhaustion]] = {}
    for each in exhausted:
        # `Budget namespace/name`, `QuotaPolicy namespace/name for ...`
        kind, _, rest = each.limit.partition(" ")
        found.setdefault(f"{kind} {rest.split(' ')[0]}", []).append(each)
    for tenant in tenants:
        namespace, name = tenant.metadata.namespace, tenant.metadata.name
        budgets = [
            each for budget in tenant.spec.budgets for each in found.get(f"Budget {namespace}/{budget}", ())
        ]
        if budgets:
            found[f"Tenant {namespace}/{name}"] = budgets
    return [_told(update, found) for update in statuses]


def _told(update: StatusUpdate, found: dict[str, list[Exhaustion]]) -> StatusUpdate:
    kind = update.resource.kind
    own = found.get(f"{kind} {update.namespace}/{update.name}") if kind in _KINDS else None
    if not own:
        return update
    message = "; ".join(_sentence(each) for each in own)
    conditions = [*update.status.get("conditions", ()), condition("Exhausted", True, "UsedUp", message)]
    return msgspec.structs.replace(update, status={**update.status, "conditions": conditions})


def _sentence(each: Exhaustion) -> str:
    whom = f" for {each.counts} of those that it counts apart" if each.counts > 1 else ""
    return f"{each.limit} is used up{whom} since {rfc3339(each.since)}; it frees at {rfc3339(each.until)}"
