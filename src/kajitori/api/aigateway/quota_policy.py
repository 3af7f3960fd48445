"""QuotaPolicy: how much may be asked of a backend. Served as v1alpha1 alone, as upstream does.

Fields and rules follow envoyproxy/ai-gateway. Unlike there, `serviceQuota` is enforced, and a quota speaks of a model as
the backend calls it, whether a route overrides the name or not.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.aigateway.v1beta1 import GROUP, AIStatus, PolicyTargetReference
from kajitori.api.conditions import STATUS
from kajitori.api.crd import AGE, Definition, Int64, Version, rule
from kajitori.api.crd import rules as cel_rules
from kajitori.api.envoygateway.rate_limit import RateLimitSelectCondition
from kajitori.api.kubernetes.meta_v1 import ObjectMeta

DURATION_SECONDS: dict[str, int] = {"1s": 1, "1m": 60, "1h": 3600, "1d": 86_400}


class QuotaValue(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """So many units in the last `duration`."""

    limit: Annotated[Int64, Meta(ge=0)]
    duration: Literal["1s", "1m", "1h", "1d"]


class ServiceQuota(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """For all models of a backend that have no quota of their own. costExpression: CEL, `total_tokens` if not given."""

    cost_expression: Annotated[str, Meta(max_length=4096)] | None = None
    quota: QuotaValue


class QuotaRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A bucket for the requests that all selectors choose. shadowMode: counted and never refused."""

    client_selectors: Annotated[list[RateLimitSelectCondition], Meta(max_length=8)] = field(
        default_factory=list
    )
    quota: QuotaValue
    shadow_mode: bool = False


class QuotaDefinition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Buckets. Shared: each bucket that fits is charged, and a request passes if any of them has something left."""

    cost_expression: Annotated[str, Meta(max_length=4096)] | None = None
    mode: Literal["Shared"] = "Shared"
    default_bucket: QuotaValue
    bucket_rules: list[QuotaRule] = field(default_factory=list)


class PerModelQuota(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """For one model, by the name that the backend knows."""

    model_name: Annotated[str, Meta(min_length=1)]
    quota: QuotaDefinition


class QuotaPolicySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Backends and what may be asked of each."""

    target_refs: Annotated[
        list[PolicyTargetReference],
        Meta(max_length=16),
        cel_rules(
            rule(
                "self.all(t, t.group == 'aigateway.envoyproxy.io' && t.kind == 'AIServiceBackend')",
                "every target is an AIServiceBackend",
            )
        ),
    ] = field(default_factory=list)
    service_quota: ServiceQuota | None = None
    per_model_quotas: Annotated[list[PerModelQuota], Meta(max_length=128)] = field(default_factory=list)


class QuotaPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Quotas of backends."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: QuotaPolicySpec
    status: AIStatus | None = None


DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        group=GROUP,
        kind="QuotaPolicy",
        plural="quotapolicies",
        categories=("ai-gateway",),
        versions=(
            Version(
                name="v1alpha1",
                root=QuotaPolicy,
                columns=(STATUS, AGE),
            ),
        ),
    ),
)
