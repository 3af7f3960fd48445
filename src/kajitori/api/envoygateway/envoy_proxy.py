"""EnvoyProxy v1alpha1: settings of the Envoys behind a GatewayClass or a Gateway.

The struct has what is honoured. Most of the kind describes how Envoy Gateway runs Envoys of its own; here that is
part of the installation, so those fields are kept and named in the status. Fields and rules follow envoyproxy/gateway.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.conditions import Conditions
from kajitori.api.crd import AGE, OF_FIRST_ANCESTOR, Definition, exactly_when_type, rule
from kajitori.api.envoygateway.policy import GROUP
from kajitori.api.gateway.shared import ParentReference
from kajitori.api.kubernetes.meta_v1 import ObjectMeta
from kajitori.api.open_schema import OpenVersion


class AccessLogFormat(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A line of text, or members of JSON, with Envoy's command operators."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("has(self.type) && self.type == 'Text' ? has(self.text) && !has(self.json) : true",
                 "type Text goes with text, not with json"),
            rule("has(self.type) && self.type == 'JSON' ? has(self.json) && !has(self.text) : true",
                 "type JSON goes with json, not with text"),
            rule("!has(self.type) ? (has(self.text) || has(self.json)) : true", "give text or json"),
        ]
    }  # fmt: skip
    type: Literal["Text", "JSON"] | None = None
    text: str | None = None
    json: dict[str, str] | None = None


class AccessLogFile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where lines go, such as `/dev/stdout`."""

    path: Annotated[str, Meta(min_length=1)]


class AccessLogSink(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A file; the other types are kept and named as not honoured."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            exactly_when_type("ALS", "als"),
            exactly_when_type("File", "file"),
            exactly_when_type("OpenTelemetry", "openTelemetry"),
        ]
    }
    type: Literal["ALS", "File", "OpenTelemetry"]
    file: AccessLogFile | None = None
    als: dict[str, Any] | None = None
    open_telemetry: dict[str, Any] | None = None


class AccessLogSetting(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One form of lines. matches: expressions in CEL, all of which hold for a request that is told of."""

    format: AccessLogFormat | None = None
    matches: Annotated[list[str], Meta(max_length=10)] = field(default_factory=list)
    sinks: Annotated[list[AccessLogSink], Meta(min_length=1, max_length=50)]
    type: Literal["Listener", "Route", "Upstream"] | None = None


class ProxyAccessLog(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Logs beside the gateway's own."""

    disable: bool = False
    settings: Annotated[list[AccessLogSetting], Meta(max_length=50)] = field(default_factory=list)


class ProxyTelemetry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What Envoy tells."""

    access_log: ProxyAccessLog | None = None


class ProxyProvider(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where Envoy runs is settled by the installation."""

    type: Literal["Kubernetes", "Host"]


class EnvoyProxySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The settings."""

    provider: ProxyProvider | None = None
    telemetry: ProxyTelemetry | None = None
    merge_gateways: bool | None = None
    routing_type: Literal["Service", "Endpoint"] | None = None


class EnvoyProxyAncestor(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is said of the settings at one Gateway or GatewayClass."""

    ancestor_ref: ParentReference
    conditions: Conditions = field(default_factory=list)


class EnvoyProxyStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One entry a Gateway or GatewayClass."""

    ancestors: Annotated[list[EnvoyProxyAncestor], Meta(max_length=16)] = field(default_factory=list)


class EnvoyProxy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Settings of Envoys."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: EnvoyProxySpec = field(default_factory=EnvoyProxySpec)
    status: EnvoyProxyStatus | None = None


class RawEnvoyProxy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The same as it was written."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: dict[str, Any] = field(default_factory=dict)
    status: EnvoyProxyStatus | None = None


DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        group=GROUP,
        kind="EnvoyProxy",
        plural="envoyproxies",
        list_kind="EnvoyProxyList",
        short_names=("eproxy",),
        categories=("envoy-gateway",),
        versions=(OpenVersion(name="v1alpha1", root=EnvoyProxy, columns=(OF_FIRST_ANCESTOR, AGE)),),
    ),
)
"""Open: fields that are not honoured are kept, so that the status can name them."""
