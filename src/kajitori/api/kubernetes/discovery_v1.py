"""discovery/v1 as structs; made by tools/generate_kubernetes_schemas.py from Kubernetes v1.36.3, not edited by hand."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from kajitori.api.kubernetes import core_v1
from kajitori.api.kubernetes import meta_v1


class EndpointSlice(Struct, frozen=True, kw_only=True, rename='camel'):
    address_type: str = ''
    api_version: str = "discovery.k8s.io/v1"
    endpoints: list[Endpoint] = []
    kind: str = "EndpointSlice"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    ports: list[EndpointPort] = []


class Endpoint(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    addresses: list[str] = []
    conditions: EndpointConditions | None = None
    deprecated_topology: dict[str, str] = {}
    hints: EndpointHints | None = None
    hostname: str | None = None
    node_name: str | None = None
    target_ref: core_v1.ObjectReference | None = None
    zone: str | None = None


class EndpointConditions(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class EndpointHints(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    for_nodes: list[ForNode] = []
    for_zones: list[ForZone] = []


class ForNode(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''


class ForZone(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''


class EndpointPort(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    app_protocol: str | None = None
    name: str | None = None
    port: int | None = None
    protocol: str | None = None
