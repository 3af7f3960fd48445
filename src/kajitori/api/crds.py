"""Every CustomResourceDefinition of ours, in one list: what `kaji up` applies at start and `kaji install` prints.

They are made from the structs on demand. A module of `MODULES` is imported only then.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kajitori.api.crd import Definition

MODULES: tuple[str, ...] = (
    "kajitori.api.leaderworkerset.v1",
    "kajitori.api.disaggregatedset.v1",
    "kajitori.api.jobset.v1alpha2",
    "kajitori.api.gateway.v1",
    "kajitori.api.envoygateway.v1alpha1",
    "kajitori.api.envoygateway.backend_traffic_policy",
    "kajitori.api.envoygateway.client_traffic_policy",
    "kajitori.api.envoygateway.envoy_proxy",
    "kajitori.api.envoygateway.security_policy",
    "kajitori.api.envoygateway.http_route_filter",
    "kajitori.api.aigateway.v1beta1",
    "kajitori.api.aigateway.gateway_config",
    "kajitori.api.aigateway.quota_policy",
    "kajitori.api.kajitori_gateway.api_key",
    "kajitori.api.kajitori_gateway.budget",
    "kajitori.api.kajitori_gateway.price_list",
    "kajitori.api.kajitori_gateway.tenant",
    "kajitori.api.kajitori_gateway.ai_traffic_policy",
)
"""Modules with a `DEFINITIONS: tuple[Definition, ...]`, in the order in which they are applied."""


def all_definitions() -> list[Definition]:
    found: list[Definition] = []
    for name in MODULES:
        definitions: Sequence[Definition] = import_module(name).DEFINITIONS
        found.extend(definitions)
    return found


@cache
def all_crds_json() -> tuple[bytes, ...]:
    """Each definition as compact JSON, ready to be sent; the same bytes for the same source."""
    return tuple(
        msgspec.json.encode(definition.to_crd(), order="deterministic") for definition in all_definitions()
    )


def all_crds() -> list[dict[str, Any]]:
    """Each definition as a dict of its own."""
    return [msgspec.json.decode(text) for text in all_crds_json()]
