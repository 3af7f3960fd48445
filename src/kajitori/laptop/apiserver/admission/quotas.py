"""ResourceQuotas: whether what a write adds fits, and what their status says then. Pure.

The charge of a write is committed together with it (`store.Charged`), so no two writes are let in on the same
room, and the usage is to be seen when the write is. The quota controller counts again what is really there.
Source: behaviour of kube-apiserver 1.36, whose texts these are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.model.pod_resources import Amounts, amounts
from kajitori.model.quota_usage import (
    applies,
    in_scopes,
    is_terminating,
    missing_values,
    tracked_names,
    usage_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Object = dict[str, Any]


class OverQuota(Exception):
    """What a 403 says."""


def counts(resource: str, subresource: str, new: Object, old: Object | None) -> bool:
    """Whether a write of this kind can change what is used."""
    if resource == "pods":
        if subresource:
            return subresource == "resize" and old is not None
        return old is None or is_terminating(old) != is_terminating(new)
    if resource == "persistentvolumeclaims":
        if subresource:
            return subresource == "status" and old is not None and _allocated(old) != _allocated(new)
        return True
    if subresource:
        return False
    return old is None or resource == "services"


def _allocated(claim: Object) -> Any:
    return (claim.get("status") or {}).get("allocatedResources")


def charged(
    quotas: Iterable[Object],
    resource: str,
    new: Object,
    old: Object | None,
    now: float,
    *,
    checked: bool = True,
) -> list[Object]:
    """The quotas that a write counts in, as they are after it. Raises OverQuota.

    quotas: stored objects, left alone. checked: false for what must not be refused, a status.
    """
    usage = usage_of(resource, new, now)
    negative = sorted(name for name, value in usage.items() if value.value < 0)
    changed: list[Object] = []
    before = usage_of(resource, old, now) if old is not None else None
    for quota in quotas:
        spec, status = quota.get("spec") or {}, quota.get("status") or {}
        hard = amounts(status.get("hard"))
        if not applies(resource, new, spec, hard):
            continue
        name = quota["metadata"]["name"]
        used = amounts(status.get("used"))
        names = tracked_names(resource, hard)
        if resource == "pods":
            missing = missing_values(new, names)
            if missing:
                raise OverQuota(f"failed quota: {name}: {missing}")
        if any(tracked not in used for tracked in names):
            raise OverQuota(f"status unknown for quota: {name}, resources: {','.join(sorted(names))}")
        if negative:
            raise OverQuota(f"quota usage is negative for resource(s): {','.join(negative)}")
        added = dict(usage)
        if before is not None and old is not None and in_scopes(resource, old, spec):
            added = {n: value.minus(before[n]) if n in before else value for n, value in usage.items()}
        added = {n: value for n, value in added.items() if value.value > 0 and n in hard}
        if not added:
            continue
        after = {n: used[n].plus(value) if n in used else value for n, value in added.items()}
        if checked:
            _check_sums(name, added, used, after, hard)
        used_after = {**(status.get("used") or {}), **{n: str(value) for n, value in after.items()}}
        changed.append(
            {**quota, "status": {**status, "used": used_after}, "metadata": dict(quota["metadata"])}
        )
    return changed


def _check_sums(name: str, added: Amounts, used: Amounts, after: Amounts, hard: Amounts) -> None:
    """Raises OverQuota where a quota holds less than is used after a write."""
    exceeded = sorted(n for n, value in after.items() if value.value > hard[n].value)
    if exceeded:
        raise OverQuota(
            f"exceeded quota: {name}, requested: {_shown(added, exceeded)}, "
            f"used: {_shown(used, exceeded)}, limited: {_shown(hard, exceeded)}"
        )


def _shown(values: Mapping[str, Any] | Amounts, names: list[str]) -> str:
    return ",".join(f"{name}={values.get(name, '0')}" for name in names)
