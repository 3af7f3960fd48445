"""What a pod asks of a node, worked out once for each pod. Pure.

Amounts are whole numbers: thousandths of a core for cpu, bytes for memory, pieces for the rest, rounded up as the
scheduler of Kubernetes does. Selectors of other pods become `Selection`s, which compare and hash by what they choose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import msgspec

from kajitori.api.kubernetes.core_v1 import (
    Affinity,
    NodeAffinity,
    NodeSelectorTerm,
    PodAffinity,
    PodAffinityTerm,
    PodAntiAffinity,
    PreferredSchedulingTerm,
    Toleration,
    TopologySpreadConstraint,
)
from kajitori.api.kubernetes.meta_v1 import LabelSelector, LabelSelectorRequirement
from kajitori.api.leaderworkerset.v1 import GROUP_KEY_LABEL, SIZE_ANNOTATION
from kajitori.base.quantity import parse_quantity
from kajitori.base.whole_numbers import whole_number
from kajitori.model.gang import Gang, gang_of
from kajitori.model.selection import matches
from kajitori.scheduling.label_counts import OneLabel, one_label
from kajitori.scheduling.views import ContainerView, PodView

Amounts = dict[str, int]
HostPort = tuple[str, str, int]

EXTENDED_MARK = "/"


def amount(resource: str, quantity: str) -> int:
    """A quantity in the resource's smallest unit, rounded up; 0 for what is no quantity."""
    try:
        value = parse_quantity(quantity)
    except ValueError:
        return 0
    return _ceiling(value * 1000 if resource == "cpu" else value)


def amounts(quantities: Mapping[str, str]) -> Amounts:
    return {resource: amount(resource, quantity) for resource, quantity in quantities.items()}


def _ceiling(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


class Selection(msgspec.Struct, frozen=True):
    """Pods chosen by namespace and labels.

    namespaces: by name. namespace_selector: further ones by their labels, None for none, empty for all. key: equal
    exactly for selections that choose alike. one_label: all that it says, where that is about one label in one namespace.
    """

    namespaces: frozenset[str]
    namespace_selector: LabelSelector | None
    selector: LabelSelector | None
    key: bytes
    one_label: OneLabel | None = None

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and self.key == other.key

    def chooses(
        self, namespace: str, labels: Mapping[str, str], namespace_labels: Mapping[str, Mapping[str, str]]
    ) -> bool:
        """Whether a pod belongs to it. No selector chooses nothing."""
        if self.selector is None or not matches(self.selector, labels):
            return False
        if namespace in self.namespaces:
            return True
        return self.namespace_selector is not None and matches(
            self.namespace_selector, namespace_labels.get(namespace, {})
        )


class Term(msgspec.Struct, frozen=True):
    """Pods in the same domain: the selection, the node label whose values are the domains, and a weight."""

    selection: Selection
    topology_key: str
    weight: int = 0


class Spread(msgspec.Struct, frozen=True):
    """One topology spread constraint. counts_itself: whether the pod is among those that are counted."""

    selection: Selection
    topology_key: str
    max_skew: int
    min_domains: int
    honor_affinity: bool
    honor_taints: bool
    counts_itself: bool


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """One pod.

    key: namespace/name. owner: uid of its controller, empty for none. gang: pods that it must be placed with. group,
    group_size: whom it wants to be near to, its gang or else its LeaderWorkerSet group, and how many pods that has; empty
    and 0 for none. kin: its LeaderWorkerSet group where that is more than its gang. spread, soft_spread: constraints that must hold, and that should. node_shape: equal for pods that
    ask the same of a node. shape: also equal in what other pods may ask of them; empty where they ask something of others.
    preempts: whether less important pods may have to go for it. nominated_node: the node that is being cleared for it.
    created: when, as text that sorts. leaving: it is being deleted.
    """

    key: str
    uid: str
    namespace: str
    name: str
    labels: dict[str, str]
    owner: str
    group: str
    group_size: int
    priority: int
    requests: Amounts
    host_ports: frozenset[HostPort]
    node_selector: dict[str, str]
    node_terms: list[NodeSelectorTerm] | None
    preferred_nodes: list[PreferredSchedulingTerm]
    tolerations: list[Toleration]
    affinity: list[Term]
    anti_affinity: list[Term]
    preferred: list[Term]
    spread: list[Spread]
    soft_spread: list[Spread]
    node_shape: bytes
    shape: bytes
    gang: Gang | None = None
    kin: str = ""
    preempts: bool = True
    nominated_node: str = ""
    created: str = ""
    leaving: bool = False

    @property
    def extended(self) -> list[str]:
        """Device-like resources that it asks for, such as nvidia.com/gpu."""
        return [name for name, count in self.requests.items() if EXTENDED_MARK in name and count]


def demand_of(pod: PodView) -> Demand:
    """What a pod asks for."""
    spec, metadata = pod.spec, pod.metadata
    affinity = spec.affinity or Affinity()
    nodes = affinity.node_affinity or NodeAffinity()
    required = nodes.required_during_scheduling_ignored_during_execution
    together, apart = affinity.pod_affinity, affinity.pod_anti_affinity
    terms, anti_terms = _required(pod, together), _required(pod, apart)
    preferred = _preferred(pod, together, 1) + _preferred(pod, apart, -1)
    requests = requests_of(pod)
    ports = _host_ports(
        [*spec.containers, *(c for c in spec.init_containers if c.restart_policy == "Always")]
    )
    owner = metadata.controller
    gang = gang_of(metadata.labels, metadata.annotations)
    group, group_size = _group_of(pod, gang)
    lonely = not (terms or anti_terms or preferred or spec.topology_spread_constraints)
    node_shape = msgspec.json.encode((requests, sorted(ports), spec.node_selector, nodes, spec.tolerations))
    others_see = msgspec.json.encode((metadata.namespace, metadata.labels))
    return Demand(
        key=pod.key,
        uid=metadata.uid,
        namespace=metadata.namespace,
        name=metadata.name,
        labels=metadata.labels,
        owner=owner.uid if owner is not None else "",
        gang=gang,
        kin=metadata.labels.get(GROUP_KEY_LABEL, "") if gang is not None else "",
        group=group,
        group_size=group_size,
        priority=spec.priority,
        requests=requests,
        host_ports=ports,
        node_selector=spec.node_selector,
        node_terms=required.node_selector_terms if required is not None else None,
        preferred_nodes=nodes.preferred_during_scheduling_ignored_during_execution,
        tolerations=spec.tolerations,
        affinity=terms,
        anti_affinity=anti_terms,
        preferred=preferred,
        spread=_spreads(pod, soft=False),
        soft_spread=_spreads(pod, soft=True),
        node_shape=node_shape,
        shape=node_shape + others_see if lonely else b"",
        preempts=spec.preemption_policy != "Never",
        nominated_node="" if spec.node_name else pod.status.nominated_node_name,
        created=metadata.creation_timestamp,
        leaving=metadata.deletion_timestamp is not None,
    )


def _required(pod: PodView, side: PodAffinity | PodAntiAffinity | None) -> list[Term]:
    found = side.required_during_scheduling_ignored_during_execution if side else []
    return [_term(pod, term) for term in found]


def _preferred(pod: PodView, side: PodAffinity | PodAntiAffinity | None, sign: int) -> list[Term]:
    """sign: of the weights; what a pod wants to be away from counts against a place."""
    found = side.preferred_during_scheduling_ignored_during_execution if side else []
    return [
        _term(pod, weighted.pod_affinity_term, sign * weighted.weight)
        for weighted in found
        if weighted.pod_affinity_term is not None
    ]


def _spreads(pod: PodView, *, soft: bool) -> list[Spread]:
    """soft: those that only say what is better."""
    return [
        _spread(pod, constraint)
        for constraint in pod.spec.topology_spread_constraints
        if (constraint.when_unsatisfiable == "ScheduleAnyway") == soft
    ]


def _group_of(pod: PodView, gang: Gang | None) -> tuple[str, int]:
    """Its gang or, for pods that only want to be near each other, its LeaderWorkerSet group; and the size."""
    metadata = pod.metadata
    if gang is not None:
        return f"{metadata.namespace}/{gang.name}", gang.size
    group = metadata.labels.get(GROUP_KEY_LABEL, "")
    size = metadata.annotations.get(SIZE_ANNOTATION, "")
    return group, (whole_number(size) or 0) if group else 0


def requests_of(pod: PodView) -> Amounts:
    """What a pod holds of a node: the sum of its containers and sidecars, or what its init phase needs at most.

    Init containers run one after the other, each beside the sidecars that were started before it. Amounts for the pod as
    a whole replace what its containers add up to. Source: KEP-753, KEP-2837.
    """
    spec = pod.spec
    running: Amounts = {}
    for container in spec.containers:
        _add(running, _requested(container))
    started: Amounts = {}
    most: Amounts = {}
    for container in spec.init_containers:
        wanted = _requested(container)
        if container.restart_policy == "Always":
            _add(running, wanted)
            _add(started, wanted)
            _raise_to(most, started)
        else:
            _raise_to(
                most,
                {name: wanted.get(name, 0) + started.get(name, 0) for name in wanted.keys() | started.keys()},
            )
    _raise_to(running, most)
    if spec.resources is not None:
        running |= amounts(spec.resources.limits | spec.resources.requests)
    _add(running, amounts(spec.overhead))
    running["pods"] = 1
    return running


def _requested(container: ContainerView) -> Amounts:
    """Limits stand in for requests that are not given; the API server has filled them in for most pods."""
    return amounts(container.resources.limits | container.resources.requests)


def _add(total: Amounts, more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def _raise_to(total: Amounts, least: Mapping[str, int]) -> None:
    for name, count in least.items():
        total[name] = max(total.get(name, 0), count)


def _host_ports(containers: Sequence[ContainerView]) -> frozenset[HostPort]:
    return frozenset(
        (port.host_ip or "0.0.0.0", port.protocol, port.host_port)
        for container in containers
        for port in container.ports
        if port.host_port
    )


def _term(pod: PodView, term: PodAffinityTerm, weight: int = 0) -> Term:
    named = frozenset(term.namespaces)
    if not named and term.namespace_selector is None:
        named = frozenset((pod.metadata.namespace,))
    selector = _with_own_labels(pod, term.label_selector, term.match_label_keys, term.mismatch_label_keys)
    return Term(_selection(named, term.namespace_selector, selector), term.topology_key, weight)


def _spread(pod: PodView, constraint: TopologySpreadConstraint) -> Spread:
    selector = _with_own_labels(pod, constraint.label_selector, constraint.match_label_keys, ())
    return Spread(
        selection=_selection(frozenset((pod.metadata.namespace,)), None, selector),
        topology_key=constraint.topology_key,
        max_skew=max(1, constraint.max_skew),
        min_domains=constraint.min_domains or 1,
        honor_affinity=constraint.node_affinity_policy != "Ignore",
        honor_taints=constraint.node_taints_policy == "Honor",
        counts_itself=selector is not None and matches(selector, pod.metadata.labels),
    )


def _with_own_labels(
    pod: PodView, selector: LabelSelector | None, same: Sequence[str], different: Sequence[str]
) -> LabelSelector | None:
    """The selector with the pod's own values of some labels added. Source: KEP-3633, KEP-3243."""
    labels = pod.metadata.labels
    added = [
        LabelSelectorRequirement(key=key, operator=operator, values=[labels[key]])
        for keys, operator in ((same, "In"), (different, "NotIn"))
        for key in keys
        if key in labels
    ]
    if selector is None or not added:
        return selector
    return msgspec.structs.replace(selector, match_expressions=[*selector.match_expressions, *added])


def _selection(
    namespaces: frozenset[str], namespace_selector: LabelSelector | None, selector: LabelSelector | None
) -> Selection:
    key = msgspec.json.encode((sorted(namespaces), namespace_selector, selector), order="deterministic")
    alone = len(namespaces) == 1 and namespace_selector is None
    return Selection(namespaces, namespace_selector, selector, key, one_label(selector) if alone else None)
