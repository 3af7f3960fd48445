"""On which nodes a DaemonSet's pods belong, and how a pod is bound to one of them. Pure.

The scheduler binds the pods: each carries the name of its node as a required node affinity. Tolerations for the
taints of a node in trouble are added, so that such a node keeps its daemons.
Source: Kubernetes' documentation of DaemonSet, "How Daemon Pods are scheduled".
"""

from __future__ import annotations

import msgspec

from kajitori.api.kubernetes.core_v1 import Toleration
from kajitori.kube.objects import Object
from kajitori.laptop.controllers.daemon_sets.views import DaemonSetView
from kajitori.laptop.controllers.pods import pod_of_template
from kajitori.laptop.controllers.views import AffinityView, NodeView, PodView
from kajitori.model.selection import node_term_holds
from kajitori.model.taints import first_untolerated

HASH_LABEL = "controller-revision-hash"
GENERATION_LABEL = "pod-template-generation"
GENERATION_ANNOTATION = "deprecated.daemonset.template.generation"
_PREFIX = "node.kubernetes.io/"
_TOLERATED = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)


class _TemplateView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    node_name: str = ""
    node_selector: dict[str, str] = {}
    affinity: AffinityView | None = None
    tolerations: list[Toleration] = []
    host_network: bool = False


class Placement(msgspec.Struct, frozen=True):
    """run: a pod shall be there. stay: one that is there may stay."""

    run: bool
    stay: bool


class Rules:
    """What a DaemonSet asks of nodes, read once from its template."""

    def __init__(self, daemon_set: DaemonSetView) -> None:
        spec: Object = daemon_set.spec.template.get("spec") or {}
        self._template = msgspec.convert(spec, _TemplateView)
        self._tolerations = msgspec.convert(with_tolerations(spec)["tolerations"], list[Toleration])

    def place(self, node: NodeView) -> Placement:
        """Whether the node is one of the set's."""
        template = self._template
        if template.node_name not in ("", node.metadata.name) or not self._suits(node):
            return Placement(run=False, stay=False)
        if first_untolerated(node.spec.taints, self._tolerations) is None:
            return Placement(run=True, stay=True)
        driven_out = first_untolerated(node.spec.taints, self._tolerations, ("NoExecute",))
        return Placement(run=False, stay=driven_out is None)

    def _suits(self, node: NodeView) -> bool:
        labels, affinity = node.metadata.labels, self._template.affinity
        if any(labels.get(key) != value for key, value in self._template.node_selector.items()):
            return False
        required = (
            affinity.node_affinity.required_during_scheduling_ignored_during_execution
            if affinity is not None and affinity.node_affinity is not None
            else None
        )
        return required is None or any(
            node_term_holds(term, labels, node.metadata.name) for term in required.node_selector_terms
        )


def with_tolerations(spec: Object) -> Object:
    """The pod spec with the tolerations that every daemon has."""
    wanted = [{"key": _PREFIX + key, "operator": "Exists", "effect": effect} for key, effect in _TOLERATED]
    if spec.get("hostNetwork"):
        wanted.append({"key": f"{_PREFIX}network-unavailable", "operator": "Exists", "effect": "NoSchedule"})
    tolerations: list[Object] = list(spec.get("tolerations") or [])
    for fresh in wanted:
        for index, given in enumerate(tolerations):
            if {key: value for key, value in given.items() if key != "tolerationSeconds" and value} == fresh:
                tolerations[index] = fresh
                break
        else:
            tolerations.append(fresh)
    return {**spec, "tolerations": tolerations}


def target_node(pod: PodView) -> str:
    """The node that the pod is on or is meant for; empty if it says none."""
    if pod.spec.node_name:
        return pod.spec.node_name
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity is not None else None
    for term in required.node_selector_terms if required is not None else ():
        for field in term.match_fields:
            if field.key == "metadata.name" and field.operator == "In":
                return field.values[0] if len(field.values) == 1 else ""
    return ""


def template_generation(daemon_set: DaemonSetView) -> str:
    """The number of the template in the set's annotation, or empty."""
    return daemon_set.metadata.annotations.get(GENERATION_ANNOTATION, "")


def is_updated(daemon_set: DaemonSetView, pod: PodView, hash: str) -> bool:
    """Whether the pod is of the present template."""
    labels, generation = pod.metadata.labels, template_generation(daemon_set)
    return labels.get(HASH_LABEL) == hash or bool(generation and labels.get(GENERATION_LABEL) == generation)


def pod_body(daemon_set: DaemonSetView, hash: str, node_name: str) -> Object:
    """A new pod for the node."""
    pod = pod_of_template(daemon_set, daemon_set.spec.template)
    metadata: Object = pod["metadata"]
    metadata["generateName"] = f"{daemon_set.metadata.name}-"
    labels = {**metadata.get("labels", {}), HASH_LABEL: hash}
    if generation := template_generation(daemon_set):
        labels[GENERATION_LABEL] = generation
    metadata["labels"] = labels
    spec = with_tolerations(pod["spec"])
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node_name]}]}
    affinity: Object = spec.get("affinity") or {}
    node_affinity: Object = {
        **(affinity.get("nodeAffinity") or {}),
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
    }
    return {**pod, "spec": {**spec, "affinity": {**affinity, "nodeAffinity": node_affinity}}}
