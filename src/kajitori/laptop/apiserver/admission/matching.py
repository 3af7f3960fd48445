"""Which requests a webhook or policy is for: rules and selectors. Pure.

Rules depend on the resource and the operation alone, so whether any may fit is told once a resource (`Rules.match`).
Source: behaviour of kube-apiserver 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kajitori.laptop.apiserver.label_selectors import selects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kajitori.api.resource import Resource
    from kajitori.laptop.apiserver.admission.review import Review

Object = dict[str, Any]
GROUP = "admissionregistration.k8s.io"
# Nobody may keep himself from being removed.
EXEMPT = frozenset(
    {
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    }
)


def is_exempt(resource: Resource) -> bool:
    return resource.group == GROUP and resource.plural in EXEMPT


def _has(items: Sequence[str] | None, wanted: str) -> bool:
    return items is not None and ("*" in items or wanted in items)


def _fits(rule: Object, resource: Resource, subresource: str, operation: str) -> bool:
    scope = rule.get("scope") or "*"
    cluster_wide = not resource.namespaced
    if scope != "*" and (scope == "Cluster") is not cluster_wide:
        return False
    if not (
        _has(rule.get("operations"), operation)
        and _has(rule.get("apiGroups"), resource.group)
        and _has(rule.get("apiVersions"), resource.version)
    ):
        return False
    for named in rule.get("resources") or ():
        plural, _, sub = named.partition("/")
        if plural in ("*", resource.plural) and sub in ("*", subresource):
            return True
    return False


class Match(NamedTuple):
    """How rules fit: the resource that they mean (an equivalent of the asked one), and the names they are for."""

    resource: Resource
    names: frozenset[str] | None


class Rules:
    """Rules with their match policy. equivalents: gives other resources under which an object can be seen."""

    def __init__(self, rules: Iterable[Object], *, equivalent: bool) -> None:
        self._rules = list(rules)
        self._equivalent = equivalent

    def matches(
        self,
        resource: Resource,
        subresource: str,
        operation: str,
        equivalents: Callable[[Resource], Sequence[Resource]],
    ) -> list[Match]:
        """All ways in which a rule may fit, in their order; one without names ends them."""
        found: list[Match] = []
        others = equivalents(resource) if self._equivalent else ()
        for candidate in (resource, *others):
            for rule in self._rules:
                if _fits(rule, candidate, subresource, operation):
                    names = rule.get("resourceNames")
                    found.append(Match(candidate, frozenset(names) if names else None))
                    if not names:
                        return found
        return found


def match_of(matches: Sequence[Match], name: str) -> Match | None:
    for match in matches:
        if match.names is None or name in match.names:
            return match
    return None


class Selectors(NamedTuple):
    """namespaceSelector and objectSelector; empty ones choose everything."""

    namespace: Object
    object: Object

    @staticmethod
    def of(declared: Object) -> Selectors:
        return Selectors(declared.get("namespaceSelector") or {}, declared.get("objectSelector") or {})

    def choose(self, review: Review, namespace_labels: Callable[[Review], dict[str, str]]) -> bool:
        if _chooses_some(self.namespace):
            cluster_wide = not review.namespace and not review.names_a_namespace
            if not cluster_wide and not selects(self.namespace, namespace_labels(review)):
                return False
        if not _chooses_some(self.object):
            return True
        return any(selects(self.object, labels) for labels in review.labels())


def _chooses_some(selector: Object) -> bool:
    return bool(selector.get("matchLabels") or selector.get("matchExpressions"))
