"""AITrafficPolicy: how requests fall back, wait and are told of, where no upstream API has a field for it.

What Envoy Gateway's BackendTrafficPolicy has (retries, timeouts, breakers) is said there. A policy for a rule beats one
for its route, and that one beats the Gateway's; what the more specific one leaves out is not taken from the other.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import SET_LIST, Column, Int32, map_list, rule
from kajitori.api.crd import rules as cel_rules
from kajitori.api.envoygateway.policy import PolicyStatus
from kajitori.api.gateway.shared import Duration, Group, HeaderName, Kind, ObjectName, SectionName
from kajitori.api.kajitori_gateway.definition import definition
from kajitori.api.kajitori_gateway.names import NamespacedName
from kajitori.api.kubernetes.meta_v1 import ObjectMeta

KIND = "AITrafficPolicy"


class TrafficTarget(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An AIGatewayRoute, or one rule of it by name, or a Gateway, in the policy's namespace."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(self.group == 'aigateway.envoyproxy.io' && self.kind == 'AIGatewayRoute')"
                " || (self.group == 'gateway.networking.k8s.io' && self.kind == 'Gateway')",
                "a target is an AIGatewayRoute of aigateway.envoyproxy.io or a Gateway of gateway.networking.k8s.io",
            )
        ]
    }
    group: Group
    kind: Kind
    name: ObjectName
    section_name: SectionName | None = None


class Cooldown(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a 429 does to the requests that follow.

    A 429, or a 503 with Retry-After, puts the backend behind the others until the time that it asked for. enabled: whether
    at all. default: how long, where a 429 has no Retry-After; twice as long for each further one in a row. max: the
    longest, whatever was asked for. whenAllCooled: TrySoonest asks the one that is soonest ready; Refuse answers 429 with that
    time as Retry-After.
    """

    enabled: bool = True
    default: Duration = "5s"
    max: Duration = "5m"
    when_all_cooled: Literal["TrySoonest", "Refuse"] = "TrySoonest"


class BackendConcurrency(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A bound for one backend. name: of an AIServiceBackend, with its namespace where that is not the route's."""

    name: NamespacedName
    max_concurrent_requests: Annotated[Int32, Meta(ge=1)]


class Saturation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """When a backend has enough to do, so that requests go to the next one at once.

    maxConcurrentRequests: for each backend that is not listed; none means no bound. backends: bounds of their own. Requests
    are counted in each worker of each Envoy, by the backend that they were sent to first. whenAllSaturated: Overrun sends them
    in the usual order nevertheless; Refuse answers 503 with Retry-After.
    """

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "has(self.maxConcurrentRequests) || (has(self.backends) && self.backends.size() > 0)",
                "give maxConcurrentRequests, or bounds of backends",
            )
        ]
    }
    max_concurrent_requests: Annotated[Int32, Meta(ge=1)] | None = None
    backends: Annotated[list[BackendConcurrency], Meta(max_length=128), map_list("name")] = field(
        default_factory=list
    )
    when_all_saturated: Literal["Overrun", "Refuse"] = "Overrun"


class Fallback(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The order in which backends are tried.

    chainHeader: by this header a client may name the backends to try for its request, in order, parted by commas; nothing
    else is tried then. allowedBackends: which it may name; all of the rule if none is listed.
    """

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!has(self.allowedBackends) || self.allowedBackends.size() == 0 || has(self.chainHeader)",
                "allowedBackends goes with chainHeader",
            )
        ]
    }
    chain_header: (
        Annotated[
            HeaderName,
            cel_rules(
                rule(
                    "!self.lowerAscii().matches('^(x-kajitori-.*|x-envoy-.*|x-ai-eg-.*|host|authorization|cookie|te"
                    "|connection|content-.*|transfer-encoding|x-request-id|api-key|x-api-key)$')",
                    "chainHeader is a header with no other meaning",
                )
            ),
        ]
        | None
    ) = None
    allowed_backends: Annotated[list[NamespacedName], Meta(max_length=128), SET_LIST] = field(
        default_factory=list
    )
    cooldown: Cooldown = Cooldown()
    on_saturation: Saturation | None = None


class Hedging(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A further request beside one that is slow, to the next backend; the first answer wins, and both are booked.

    after: how long an answer may be due. maxExtra: further requests at most. In a rule with a single backend they go to other
    endpoints of it. A stream that is rescued is not hedged.
    """

    after: Duration
    max_extra: Annotated[Int32, Meta(ge=1, le=3)] = 1


class Streams(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How long an answer may be silent, and what follows a stream that dies.

    firstByteTimeout: until the answer begins; then the next backend is tried. idleTimeout: at any time; before the answer
    begins the next backend is tried, afterwards the stream ends by `onFailure`, with Cut not before each backend of the rule would have
    had its time to begin. The route's own streamIdleTimeout beats it. onFailure: Cut closes the connection, so that no client takes the text for whole. Error puts an error event into
    the stream, in the client's dialect. Continue asks another backend to go on from the text so far, as an assistant's message that
    is not at its end; ContinueFinalMessage says that in the words of vLLM and SGLang. Both end with an error event where nobody can go on, after a
    tool call that was cut for instance. All but Cut lead streams through a relay, which costs about as much again as the gateway.
    """

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!has(self.firstByteTimeout) || !has(self.idleTimeout)"
                " || duration(self.firstByteTimeout) <= duration(self.idleTimeout)",
                "firstByteTimeout is at most idleTimeout, which counts from the beginning as well",
            )
        ]
    }
    first_byte_timeout: Duration | None = None
    idle_timeout: Duration | None = None
    on_failure: Literal["Cut", "Error", "Continue", "ContinueFinalMessage"] = "Cut"


class AITrafficPolicySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whom it is for, and what holds there.

    decisionHeaders: whether answers tell which backend served and why it was tried in that order: Always, Never, or
    OnRequest, to a client that sends `x-gateway-decision: show`.
    """

    target_refs: Annotated[list[TrafficTarget], Meta(min_length=1, max_length=16)]
    fallback: Fallback = Fallback()
    hedging: Hedging | None = None
    streams: Streams = Streams()
    decision_headers: Literal["Always", "OnRequest", "Never"] = "Never"


class AITrafficPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How requests for models fall back from one backend to the next."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: AITrafficPolicySpec
    status: PolicyStatus | None = None


DEFINITIONS = (
    definition(
        AITrafficPolicy,
        "aitrafficpolicies",
        Column("Accepted", '.status.ancestors[0].conditions[?(@.type=="Accepted")].status'),
        short_names=("aitp",),
    ),
)
