"""SecurityPolicy v1alpha1: who may use a Gateway or a route.

The struct has what is honoured. Objects may have more (their schema keeps unknown fields); what that is stands in
their status, and where it would have kept somebody out, nobody is let in.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import rule
from kajitori.api.envoygateway.authentication import JWT, OIDC, APIKeyAuth, BasicAuth
from kajitori.api.envoygateway.authorization import Authorization, ExtAuth
from kajitori.api.envoygateway.policy import (
    MergeType,
    PolicyStatus,
    PolicyTargets,
    merge_rule,
    policy_definition,
    target_rules,
)
from kajitori.api.gateway.shared import Duration, Fraction
from kajitori.api.kubernetes.meta_v1 import ObjectMeta

_ROUTES = ("HTTPRoute", "GRPCRoute", "TCPRoute")
Origin = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/]+)$")]


class CORS(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which pages of other origins may ask. `*` in an origin stands for any text, alone for any origin."""

    allow_origins: list[Origin] = field(default_factory=list)
    allow_methods: list[str] = field(default_factory=list)
    allow_headers: list[str] = field(default_factory=list)
    expose_headers: list[str] = field(default_factory=list)
    max_age: Duration | None = None
    allow_credentials: bool | None = None


class CSRF(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Requests that change something must come from pages of this host, or of additionalOrigins.

    shadowFraction: of requests that are only counted.
    """

    shadow_fraction: Fraction | None = None
    additional_origins: Annotated[list[Origin], Meta(max_length=16)] = field(default_factory=list)


class SecurityPolicySpec(PolicyTargets, frozen=True, kw_only=True, rename="camel"):
    """Whom it is for, and what it asks of them."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            *target_rules("Gateway", "ListenerSet", *_ROUTES),
            merge_rule(*_ROUTES),
            rule(
                "(has(self.authorization) && has(self.authorization.rules) && self.authorization.rules.exists(r,"
                " has(r.principal) ? has(r.principal.jwt) : false)) ? has(self.jwt) : true",
                "authorization by tokens needs jwt",
            ),
        ]
    }
    merge_type: MergeType | None = None
    api_key_auth: APIKeyAuth | None = field(default=None, name="apiKeyAuth")
    basic_auth: BasicAuth | None = None
    jwt: JWT | None = None
    oidc: OIDC | None = None
    cors: CORS | None = None
    csrf: CSRF | None = None
    authorization: Authorization | None = None
    ext_auth: ExtAuth | None = None


class SecurityPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who may use something."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: SecurityPolicySpec
    status: PolicyStatus | None = None


DEFINITIONS = (policy_definition(SecurityPolicy, "securitypolicies", "sp"),)
