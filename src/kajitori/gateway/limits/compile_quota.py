"""QuotaPolicies to limits of backends. Pure.

Each backend has its own count. Where a quota is used up the backend is left out, and the request goes to another one of
its route that has some left; without one it is refused. All windows slide, as the API's text has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kajitori.api.aigateway.quota_policy import DURATION_SECONDS
from kajitori.base.errors import KajitoriError
from kajitori.gateway.accounting.costs import check_expression
from kajitori.gateway.limits.compile_selectors import client_selectors
from kajitori.gateway.limits.limit import CEL_PREFIX, TOKENS, Limit, Selector, Window
from kajitori.gateway.limits.strictness import is_strict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.aigateway.quota_policy import PerModelQuota, QuotaPolicy, QuotaValue

_TOTAL = ("", "total_tokens")


class QuotaBook:
    """Limits by backend (namespace/name), as policies are added by namespace and name."""

    def __init__(self) -> None:
        self.limits: dict[str, list[Limit]] = {}
        self._services: dict[str, str] = {}
        self._models: dict[tuple[str, str], str] = {}

    def add(self, policy: QuotaPolicy, problems: list[str]) -> None:
        """Adds what a policy says; problems: gets what cannot be honoured, with its place."""
        namespace = policy.metadata.namespace or ""
        name = f"QuotaPolicy {namespace}/{policy.metadata.name}"
        for reference in policy.spec.target_refs:
            self._add(policy, name, f"{namespace}/{reference.name}", problems)

    def _add(self, policy: QuotaPolicy, name: str, backend: str, problems: list[str]) -> None:
        limits = self.limits.setdefault(backend, [])
        for number, quota in enumerate(policy.spec.per_model_quotas):
            where = f"spec.perModelQuotas[{number}]"
            first = self._models.setdefault((backend, quota.model_name), name)
            if first != name:
                problems.append(
                    f"{where}: {first} speaks of {quota.model_name} at {backend} already and holds"
                )
                continue
            found = _model_limits(name, backend, quota, where, problems)
            limits += [msgspec.structs.replace(limit, strict=is_strict(policy.metadata)) for limit in found]
        service = policy.spec.service_quota
        if service is None:
            return
        first = self._services.setdefault(backend, name)
        if first != name:
            problems.append(f"spec.serviceQuota: {first} has one for {backend} already and holds")
            return
        counts = _counts(service.cost_expression, "spec.serviceQuota.costExpression", problems)
        if counts is None:
            return
        own = ",".join(quota.model_name for quota in policy.spec.per_model_quotas)
        selectors = [Selector("backend", "Exact", backend)]
        if own:
            selectors.append(Selector("backend_model", "OneOf", own, invert=True))
        limit = _limit(f"{name} for {_short(backend)}", counts, service.quota, selectors)
        limits.append(msgspec.structs.replace(limit, strict=is_strict(policy.metadata)))


def _model_limits(
    name: str, backend: str, quota: PerModelQuota, where: str, problems: list[str]
) -> list[Limit]:
    definition, model = quota.quota, quota.model_name
    counts = _counts(definition.cost_expression, f"{where}.quota.costExpression", problems)
    if counts is None:
        return []
    group = f"{name} {backend} {model}"
    of_model = [Selector("backend", "Exact", backend), Selector("backend_model", "Exact", model)]
    title = f"{name} for {model} at {_short(backend)}"
    found = [_limit(title, counts, definition.default_bucket, of_model, group=group)]
    for number, rule in enumerate(definition.bucket_rules):
        place = f"{where}.quota.bucketRules[{number}]"
        selectors = client_selectors(rule.client_selectors, f"{place}.clientSelectors", problems)
        if selectors is None:
            problems.append(f"{place}: the rule is left out")
            continue
        found.append(
            _limit(
                f"{title}, bucket rule {number}",
                counts,
                rule.quota,
                [*of_model, *selectors],
                group=group,
                shadow=rule.shadow_mode,
            )
        )
    return found


def _counts(expression: str | None, where: str, problems: list[str]) -> str | None:
    if (expression or "").strip() in _TOTAL:
        return TOKENS
    assert expression is not None
    try:
        check_expression(expression)
    except KajitoriError as error:
        problems.append(f"{where}: {error}; the quota is left out")
        return None
    return f"{CEL_PREFIX}{expression}"


def _limit(
    name: str,
    counts: str,
    value: QuotaValue,
    selectors: Sequence[Selector],
    *,
    group: str = "",
    shadow: bool = False,
) -> Limit:
    return Limit(
        name=name,
        counts=counts,
        amount=float(value.limit),
        window=Window("Sliding", float(DURATION_SECONDS[value.duration])),
        selectors=tuple(selectors),
        shadow=shadow,
        clip=True,
        group=group,
    )


def _short(backend: str) -> str:
    return backend.rpartition("/")[2]
