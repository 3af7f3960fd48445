"""Which policy, and which field of it, made what Envoy refuses of a rule. Pure.

Envoy's words name the part of its own configuration that they speak of. Each such part is written by one field of one kind of
policy; a policy of that kind which bears upon the rule and has the field is the one that is meant.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from kajitori.gateway.policies.attachment import GATEWAY, Scope
from kajitori.gateway.policies.subjects import RouteKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kajitori.api.envoygateway.policy import Policy
    from kajitori.gateway.observed import Observed
    from kajitori.gateway.policies.attachment import PolicyAttachment
    from kajitori.gateway.policies.subjects import Subjects

_ROUTES = {"AIGatewayRoute": "ai_routes", "HTTPRoute": "http_routes", "GRPCRoute": "grpc_routes"}
# Kind and field of policies, and how Envoy names what they become.
_WORDS = (
    ("BackendTrafficPolicy", "retry", r"retry_?policy|retry_?back_?off|retriable"),
    ("BackendTrafficPolicy", "rateLimit", r"local_?rate_?limit|token_?bucket"),
    ("BackendTrafficPolicy", "faultInjection", r"\bfault|http_?fault"),
    ("BackendTrafficPolicy", "loadBalancer", r"hash_?policy"),
    ("BackendTrafficPolicy", "timeout", r"action\w*\.(idle_?)?timeout|max_?stream_?duration"),
    ("BackendTrafficPolicy", "requestBuffer", r"\bbuffer"),
    ("BackendTrafficPolicy", "compression", r"compress"),
    ("BackendTrafficPolicy", "responseOverride", r"custom_?response"),
    ("SecurityPolicy", "cors", r"\bcors"),
    ("SecurityPolicy", "authorization", r"rbac|\bcel\b"),
    ("SecurityPolicy", "extAuth", r"ext_?authz"),
    ("SecurityPolicy", "oidc", r"oauth2"),
    ("SecurityPolicy", "basicAuth", r"basic_?auth"),
    ("SecurityPolicy", "apiKeyAuth", r"api_?key_?auth"),
    ("SecurityPolicy", "jwt", r"jwt"),
)
_PATTERNS = tuple((kind, field, re.compile(words, re.IGNORECASE)) for kind, field, words in _WORDS)


class RefusedField(NamedTuple):
    """field: of the policy's spec."""

    kind: str
    namespace: str
    name: str
    field: str


class RefusedFields:
    """Of one plan. attachments: of all policies that shape routes."""

    def __init__(
        self, observed: Observed, subjects: Subjects, attachments: Iterable[PolicyAttachment]
    ) -> None:
        self._observed = observed
        self._subjects = subjects
        self._attachments = [attachment for attachment in attachments if attachment]

    def of(self, kind: str, namespace: str, name: str, rule: int, words: str) -> list[RefusedField]:
        """What Envoy may mean by its words about a rule of a route."""
        meant = [(of, field) for of, field, pattern in _PATTERNS if pattern.search(words)]
        if not meant or not self._attachments:
            return []
        scopes = list(self._scopes(kind, RouteKey(_as_target(kind), namespace, name), rule))
        found: list[RefusedField] = []
        for attachment in self._attachments:
            held = [policy for scope in scopes if (policy := attachment.at(scope)) is not None]
            for field in (field for of, field in meant if of == attachment.kind):
                policy = next((each for each in held if _has(each, field)), None)
                if policy is not None:
                    found.append(RefusedField(attachment.kind, *policy.key, field))
        return found

    def _scopes(self, kind: str, route: RouteKey, rule: int) -> Iterator[Scope]:
        """What may be a target of policies for a rule, the most specific first."""
        items: Iterable[Any] = getattr(self._observed, _ROUTES[kind])
        rules = next(
            (
                item.spec.rules
                for item in items
                if (item.metadata.namespace or "", item.metadata.name) == route[1:]
            ),
            (),
        )
        if rule < len(rules) and rules[rule].name:
            yield Scope(*route, rules[rule].name)
        yield Scope(*route)
        subject = self._subjects.routes.get(route)
        for gateway, section in subject.parents if subject is not None else ():
            if section:
                yield Scope(GATEWAY, *gateway, section)
            yield Scope(GATEWAY, *gateway)


def _as_target(kind: str) -> str:
    return "HTTPRoute" if kind == "AIGatewayRoute" else kind


def _has(policy: Policy, field: str) -> bool:
    return policy.spec.get(field) is not None
