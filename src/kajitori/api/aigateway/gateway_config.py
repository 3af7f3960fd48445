"""GatewayConfig: costs and a proxy for all AI routes of Gateways that name it by an annotation.

v1beta1 is stored; v1alpha1 is served for older manifests. Fields follow envoyproxy/ai-gateway.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, field

from kajitori.api.aigateway.v1beta1 import GROUP, LLMRequestCost
from kajitori.api.conditions import STATUS, ConditionsStatus
from kajitori.api.crd import AGE, Definition, map_list
from kajitori.api.kubernetes.meta_v1 import ObjectMeta
from kajitori.api.open_schema import OpenVersion

ANNOTATION = "aigateway.envoyproxy.io/gateway-config"


class ForwardProxy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A proxy through which providers are reached by CONNECT. address: host and port."""

    address: Annotated[str, Meta(min_length=3, max_length=261, pattern=r"^.+:[0-9]{1,5}$")]


class GatewayConfigSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """globalLLMRequestCosts: for every route that has none of the same key itself."""

    global_llm_request_costs: Annotated[list[LLMRequestCost], map_list("metadataKey")] = field(
        default_factory=list, name="globalLLMRequestCosts"
    )
    forward_proxy: ForwardProxy | None = None


class GatewayConfigStatus(ConditionsStatus, frozen=True, kw_only=True, rename="camel"):
    """At most one condition, of type Accepted or NotAccepted."""


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Settings of Gateways."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: GatewayConfigSpec = field(default_factory=GatewayConfigSpec)
    status: GatewayConfigStatus | None = None


class RawGatewayConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The same as it was written."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: dict[str, object] = field(default_factory=dict)
    status: GatewayConfigStatus | None = None


_COLUMNS = (STATUS, AGE)

DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        group=GROUP,
        kind="GatewayConfig",
        plural="gatewayconfigs",
        short_names=("gwconfig",),
        categories=("ai-gateway",),
        versions=(
            OpenVersion(name="v1beta1", root=GatewayConfig, columns=_COLUMNS),
            OpenVersion(
                name="v1alpha1",
                root=GatewayConfig,
                columns=_COLUMNS,
                storage=False,
                deprecated=True,
                deprecation_warning="aigateway.envoyproxy.io/v1alpha1 is deprecated; write v1beta1, the fields are the same",
            ),
        ),
    ),
)
"""Open: fields that are not honoured are kept, so that the status can name them."""
