"""What policies of Envoy Gateway have in common: whom they are for, and how their status looks.

Fields and rules follow envoyproxy/gateway and the Gateway API's PolicyStatus. An informer decodes every kind as a
`Policy`, whose spec stays as it was written, so that what nobody honours can be named.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import AGE, OF_FIRST_ANCESTOR, Definition, map_list, rule
from kajitori.api.crd import rules as cel_rules
from kajitori.api.gateway.shared import GROUP as GATEWAY_GROUP
from kajitori.api.gateway.shared import (
    GatewayController,
    Group,
    Kind,
    ObjectName,
    ParentReference,
    SectionName,
)
from kajitori.api.kubernetes.meta_v1 import Condition, LabelSelector, LabelSelectorRequirement, ObjectMeta
from kajitori.api.open_schema import OpenVersion

GROUP = "gateway.envoyproxy.io"
MergeType = Annotated[
    Literal["StrategicMerge", "JSONMerge", "Replace"],
    cel_rules(rule("self != 'Replace'", "Replace is what happens without mergeType")),
]
"""How a policy of a route goes together with the one of its Gateway."""
ROUTE_KINDS = ("HTTPRoute", "GRPCRoute", "UDPRoute", "TCPRoute", "TLSRoute")


class PolicyTargetRef(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An object in the policy's namespace. sectionName: a listener of a Gateway, or a rule of a route."""

    group: Group
    kind: Kind
    name: ObjectName
    section_name: SectionName | None = None


class TargetNamespaces(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The namespaces in which a selector looks for targets."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("self.from != 'Selector' || has(self.selector)", "from: Selector needs a selector")
        ]
    }
    from_: Literal["Same", "All", "Selector"] = field(default="Same", name="from")
    selector: LabelSelector | None = None


class TargetSelector(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Objects of a kind, chosen by their labels."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "has(self.group) ? self.group == 'gateway.networking.k8s.io' : true",
                "the group of a target is gateway.networking.k8s.io",
            )
        ]
    }
    group: Group = GATEWAY_GROUP
    kind: Kind
    namespaces: TargetNamespaces | None = None
    match_labels: dict[str, str] = field(default_factory=dict)
    match_expressions: list[LabelSelectorRequirement] = field(default_factory=list)


class PolicyTargets(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of a policy's spec that says whom it is for."""

    target_ref: PolicyTargetRef | None = None
    target_refs: list[PolicyTargetRef] = field(default_factory=list)
    target_selectors: list[TargetSelector] = field(default_factory=list)


class PolicyAncestorStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one controller says of a policy at one Gateway."""

    ancestor_ref: ParentReference
    controller_name: GatewayController
    conditions: Annotated[list[Condition], Meta(min_length=1, max_length=8), map_list("type")] = field(
        default_factory=list
    )


class PolicyStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One entry a Gateway that the policy bears upon, and controller."""

    ancestors: Annotated[list[PolicyAncestorStatus], Meta(max_length=16)] = field(default_factory=list)


class Policy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A policy of any kind as it was written."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: dict[str, Any] = field(default_factory=dict)
    status: PolicyStatus | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.metadata.namespace or "", self.metadata.name or ""


def policy_definition(root: type[msgspec.Struct], plural: str, *short_names: str) -> Definition:
    """The definition of the kind that `root` is named after.

    Open: fields that are not honoured are kept, so that the status can name them.
    """
    return Definition(
        group=GROUP,
        kind=root.__name__,
        plural=plural,
        short_names=short_names,
        categories=("envoy-gateway",),
        versions=(OpenVersion(name="v1alpha1", root=root, columns=(OF_FIRST_ANCESTOR, AGE)),),
    )


def target_rules(*kinds: str) -> list[dict[str, Any]]:
    """The CEL rules of a spec whose targets are of these kinds of the Gateway API."""
    names = "[" + ", ".join(f"'{kind}'" for kind in kinds) + "]"
    said = ", ".join(kinds)
    if "HTTPRoute" in kinds:
        said += " (an AIGatewayRoute counts as the HTTPRoute of its name)"
    return [
        rule(
            "(has(self.targetRef) && !has(self.targetRefs)) || (!has(self.targetRef) && has(self.targetRefs))"
            " || (has(self.targetSelectors) && self.targetSelectors.size() > 0)",
            "say whom the policy is for: targetRef, targetRefs or targetSelectors",
        ),
        rule(
            f"!has(self.targetRef) || (self.targetRef.group == '{GATEWAY_GROUP}' && self.targetRef.kind in {names})",
            f"targetRef is of group {GATEWAY_GROUP} and of kind {said}",
        ),
        rule(
            f"!has(self.targetRefs) || self.targetRefs.all(t, t.group == '{GATEWAY_GROUP}' && t.kind in {names})",
            f"each of targetRefs is of group {GATEWAY_GROUP} and of kind {said}",
        ),
    ]


def merge_rule(*kinds: str) -> dict[str, Any]:
    """The CEL rule that only policies for these kinds of routes merge with others."""
    names = "[" + ", ".join(f"'{kind}'" for kind in kinds) + "]"
    return rule(
        f"!has(self.mergeType) || ((!has(self.targetRef) || self.targetRef.kind in {names})"
        f" && (!has(self.targetRefs) || self.targetRefs.all(t, t.kind in {names}))"
        f" && (!has(self.targetSelectors) || self.targetSelectors.all(s, s.kind in {names})))",
        "mergeType is for policies of routes",
    )
