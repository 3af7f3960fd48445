"""AIGatewayRoute, AIServiceBackend and BackendSecurityPolicy; v1alpha1 and v1beta1 share these structs.

v1beta1 is stored; v1alpha1 is served for older manifests. Fields and rules follow envoyproxy/ai-gateway, with
one refusal lifted: a backend may be a Service as well.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.aigateway.credentials import (
    APIKeyPolicy,
    AWSCredentials,
    AzureCredentials,
    CredentialOverride,
    GCPCredentials,
)
from kajitori.api.conditions import STATUS, ConditionsStatus
from kajitori.api.crd import AGE, Definition, Int32, Version, exactly_when_type, map_list, rule
from kajitori.api.crd import rules as cel_rules
from kajitori.api.gateway.http_route import HTTPHeader, HTTPHeaderMatch, HTTPRouteTimeouts
from kajitori.api.gateway.shared import (
    BackendObjectReference,
    Duration,
    Group,
    HeaderName,
    Hostname,
    Kind,
    Namespace,
    ObjectName,
    ParentReference,
    SectionName,
)
from kajitori.api.kubernetes.meta_v1 import ObjectMeta

GROUP = "aigateway.envoyproxy.io"
MODEL_HEADER = "x-ai-eg-model"

SchemaName = Literal[
    "OpenAI",
    "Cohere",
    "AWSBedrock",
    "AzureOpenAI",
    "GCPVertexAI",
    "GCPAnthropic",
    "Anthropic",
    "AWSAnthropic",
]
CostType = Literal[
    "OutputToken",
    "InputToken",
    "CachedInputToken",
    "CacheCreationInputToken",
    "TotalToken",
    "ReasoningToken",
    "CEL",
]
PolicyType = Literal[
    "APIKey",
    "AnthropicAPIKey",
    "AzureAPIKey",
    "AzureCredentials",
    "AWSCredentials",
    "GCPCredentials",
]


class HeaderMutation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Headers to set and to remove towards a backend."""

    set: Annotated[list[HTTPHeader], Meta(max_length=16), map_list("name")] = field(default_factory=list)
    remove: Annotated[list[HeaderName], Meta(max_length=16)] = field(default_factory=list)


class BodyField(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A top-level member of the JSON body; `value` is JSON text."""

    path: Annotated[str, Meta(min_length=1)]
    value: str


class BodyMutation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Top-level members to set and to remove towards a backend."""

    set: Annotated[list[BodyField], Meta(max_length=16), map_list("path")] = field(default_factory=list)
    remove: Annotated[list[str], Meta(max_length=16)] = field(default_factory=list)


class AIGatewayRouteBackendRef(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An AIServiceBackend, or an InferencePool."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(!has(self.group) && !has(self.kind)) || (has(self.group) && has(self.kind))",
                "group and kind are given together or not at all",
            ),
            rule(
                "!has(self.group) || (self.group == 'inference.networking.k8s.io'"
                " && self.kind == 'InferencePool')",
                "the only other kind that can be referred to is an InferencePool",
            ),
        ]
    }
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    namespace: Namespace | None = None
    group: Group | None = None
    kind: Kind | None = None
    model_name_override: str | None = None
    header_mutation: HeaderMutation | None = None
    body_mutation: BodyMutation | None = None
    weight: Annotated[Int32, Meta(ge=0)] = 1
    priority: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class AIGatewayRouteRuleMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Headers, the model's name among them."""

    headers: Annotated[list[HTTPHeaderMatch], Meta(max_length=16), map_list("name")] = field(
        default_factory=list
    )


class AIGatewayRouteRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Requests that match go to the backends, lower priorities first."""

    name: (
        Annotated[
            SectionName,
            cel_rules(rule("self != 'route-not-found'", "the rule name route-not-found is taken")),
        ]
        | None
    ) = None
    matches: Annotated[list[AIGatewayRouteRuleMatch], Meta(max_length=128)] = field(default_factory=list)
    backend_refs: Annotated[
        list[AIGatewayRouteBackendRef],
        Meta(max_length=128),
        cel_rules(
            rule(
                "self.all(r, !has(r.group)) || (self.size() == 1 && has(self[0].group))",
                "a rule refers to AIServiceBackends, or to exactly one InferencePool",
            )
        ),
    ] = field(default_factory=list)
    timeouts: HTTPRouteTimeouts | None = None
    stream_idle_timeout: Duration | None = None
    models_owned_by: str = "Envoy AI Gateway"
    models_created_at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None = None


class LLMRequestCost(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A number that is computed from the usage of each request."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("self.type != 'CEL' || has(self.cel)", "type CEL needs an expression in cel"),
            rule("self.type == 'CEL' || !has(self.cel)", "cel goes with type CEL only"),
        ]
    }
    metadata_key: str
    type: CostType
    cel: Annotated[str, Meta(max_length=4096)] | None = None


class AIGatewayRouteSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Parents, hostnames, rules and costs."""

    parent_refs: Annotated[
        list[ParentReference],
        Meta(max_length=16),
        cel_rules(rule("self.all(p, p.kind == 'Gateway')", "every parent is a Gateway")),
    ] = field(default_factory=list)
    hostnames: Annotated[list[Hostname], Meta(max_length=16)] = field(default_factory=list)
    rules: Annotated[
        list[AIGatewayRouteRule],
        Meta(max_length=15),
        cel_rules(
            rule(
                "self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && a.name == b.name))",
                "each rule of a route has a name of its own",
            )
        ),
    ]
    llm_request_costs: Annotated[list[LLMRequestCost], Meta(max_length=36), map_list("metadataKey")] = field(
        default_factory=list, name="llmRequestCosts"
    )


class AIStatus(ConditionsStatus, frozen=True, kw_only=True, rename="camel"):
    """At most one condition, of type Accepted or NotAccepted."""


class AIGatewayRoute(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where requests for models go."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: AIGatewayRouteSpec
    status: AIStatus | None = None


class VersionedAPISchema(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The dialect that a backend speaks."""

    name: SchemaName
    version: str | None = None
    prefix: str | None = None


class AIServiceBackendSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A dialect and where it is spoken."""

    schema: VersionedAPISchema
    backend_ref: Annotated[
        BackendObjectReference,
        cel_rules(
            rule(
                "(self.group == 'gateway.envoyproxy.io' && self.kind == 'Backend')"
                " || (self.group == '' && self.kind == 'Service' && has(self.port))",
                "the reference must be to a Backend of gateway.envoyproxy.io, or to a port of a Service",
            )
        ),
    ]
    header_mutation: HeaderMutation | None = None
    body_mutation: BodyMutation | None = None


class AIServiceBackend(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A provider of models."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: AIServiceBackendSpec
    status: AIStatus | None = None


class PolicyTargetReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a policy is for, in the policy's own namespace."""

    group: Group
    kind: Kind
    name: ObjectName


class BackendSecurityPolicySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whom it is for, and how to prove who we are."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            exactly_when_type("APIKey", "apiKey"),
            exactly_when_type("AnthropicAPIKey", "anthropicAPIKey"),
            exactly_when_type("AzureAPIKey", "azureAPIKey"),
            exactly_when_type("AzureCredentials", "azureCredentials"),
            exactly_when_type("AWSCredentials", "awsCredentials"),
            exactly_when_type("GCPCredentials", "gcpCredentials"),
        ]
    }
    target_refs: Annotated[
        list[PolicyTargetReference],
        Meta(max_length=16),
        cel_rules(
            rule(
                "self.all(t, (t.group == 'aigateway.envoyproxy.io' && t.kind == 'AIServiceBackend')"
                " || (t.group == 'inference.networking.k8s.io' && t.kind == 'InferencePool'))",
                "a target is an AIServiceBackend or an InferencePool",
            )
        ),
    ] = field(default_factory=list)
    type: PolicyType
    api_key: APIKeyPolicy | None = None
    anthropic_api_key: APIKeyPolicy | None = field(default=None, name="anthropicAPIKey")
    azure_api_key: APIKeyPolicy | None = field(default=None, name="azureAPIKey")
    azure_credentials: AzureCredentials | None = None
    aws_credentials: AWSCredentials | None = None
    gcp_credentials: GCPCredentials | None = None
    credential_override: CredentialOverride | None = None


class BackendSecurityPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Credentials for backends."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: BackendSecurityPolicySpec
    status: AIStatus | None = None


_COLUMNS = (STATUS, AGE)
_OLD_VERSION = "aigateway.envoyproxy.io/v1alpha1 is deprecated; write v1beta1, the fields are the same"


def _definition(kind: str, plural: str, root: type[msgspec.Struct], *short_names: str) -> Definition:
    return Definition(
        group=GROUP,
        kind=kind,
        plural=plural,
        short_names=short_names,
        categories=("ai-gateway",),
        versions=(
            Version(name="v1beta1", root=root, columns=_COLUMNS),
            Version(
                name="v1alpha1",
                root=root,
                columns=_COLUMNS,
                storage=False,
                deprecated=True,
                deprecation_warning=_OLD_VERSION,
            ),
        ),
    )


DEFINITIONS: tuple[Definition, ...] = (
    _definition("AIGatewayRoute", "aigatewayroutes", AIGatewayRoute),
    _definition("AIServiceBackend", "aiservicebackends", AIServiceBackend),
    _definition("BackendSecurityPolicy", "backendsecuritypolicies", BackendSecurityPolicy, "bsp"),
)
