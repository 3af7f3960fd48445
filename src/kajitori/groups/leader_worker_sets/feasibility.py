"""Whether a group could ever be placed: its pods against nodes as if those were empty. Pure.

Asked only while pods of a set find no node. What other pods hold, cordons and nodes that are not ready do not count:
they pass. What remains is a group that waits in vain, and that is said with the numbers. Where this cannot tell
(affinity between pods, device claims, volumes) it says nothing, and the scheduler's own words stand alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import msgspec

from kajitori.api.kubernetes.core_v1 import NodeSelector, Taint, Toleration
from kajitori.api.leaderworkerset import v1
from kajitori.base.quantity import parse_quantity
from kajitori.base.reason import Reason
from kajitori.groups.leader_worker_sets.observed import Pod
from kajitori.groups.leader_worker_sets.revisions import Templates
from kajitori.model.pod_resources import Amount, Amounts, pod_requests
from kajitori.model.selection import node_term_holds
from kajitori.model.taints import first_untolerated

DOES_NOT_FIT = "kajitori.dev/DoesNotFit"
# A node gets them and loses them again by itself.
_PASSING_TAINTS = "node.kubernetes.io/"


def is_unplaced(pod: Pod) -> bool:
    """Whether somebody looked for a node for it and found none."""
    return (
        not pod.spec.node_name
        and not pod.dying
        and any(one.type == "PodScheduled" and one.status == "False" for one in pod.status.conditions)
    )


class NodeMetadata(msgspec.Struct, frozen=True):
    name: str = ""
    labels: dict[str, str] = {}


class NodeSpec(msgspec.Struct, frozen=True):
    taints: tuple[Taint, ...] = ()


class NodeStatus(msgspec.Struct, frozen=True):
    allocatable: dict[str, str] = {}


class Node(msgspec.Struct, frozen=True):
    """What a node offers when nothing runs on it."""

    metadata: NodeMetadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    def has(self, resource: str) -> Fraction:
        text = self.status.allocatable.get(resource)
        return _quantity(text) if text is not None else Fraction(0)


@lru_cache(maxsize=4096)
def _quantity(text: str) -> Fraction:
    try:
        return Fraction(parse_quantity(text))
    except ValueError:
        return Fraction(0)


class Nodes:
    """The nodes of a cluster at one look, and what was found out about them."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = tuple(nodes)
        self._known: dict[tuple[Any, ...], Reason | None] = {}

    def cannot_fit(self, lws: v1.LeaderWorkerSet, templates: Templates) -> Reason | None:
        """Why a group of these templates can never be placed, or not as many as are wanted; None if it may be."""
        exclusive = lws.metadata.annotations.get(v1.EXCLUSIVE_TOPOLOGY_ANNOTATION, "")
        parts = lws.metadata.annotations.get(v1.SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION, "")
        key = (templates.hash, exclusive, parts, lws.spec.replicas)
        if key not in self._known:
            self._known[key] = _look(self._nodes, templates, exclusive, parts, lws.spec.replicas)
        return self._known[key]


class _Shape(msgspec.Struct, frozen=True):
    """One of the two kinds of pods in a group.

    title: what it is called. taken: what one such pod takes of a node. rooms: of nodes, as far as they were looked at;
    most nodes of a cluster are alike.
    """

    title: str
    requests: Amounts
    node_selector: dict[str, str]
    affinity: NodeSelector | None
    tolerations: tuple[Toleration, ...]
    taken: dict[str, Amount]
    rooms: dict[tuple[Any, ...], int | None] = {}


def _look(
    nodes: Sequence[Node], templates: Templates, exclusive: str, parts: str, replicas: int
) -> Reason | None:
    if not nodes:
        return _reason("the cluster has no nodes", "add one")
    group = templates.group
    worker = _shape("a worker", group.worker_template)
    leader = _shape("a leader", group.leader_template or group.worker_template)
    shapes = [leader] if templates.size == 1 else [leader, worker]
    able: dict[str, list[Node]] = {}
    for shape in shapes:
        found, why = _able_nodes(shape, nodes)
        if why is not None:
            return why
        able[shape.title] = found
    workers = able.get(worker.title, able[leader.title])
    policy = group.sub_group_policy
    return (
        (_exclusive_groups(exclusive, leader, able[leader.title], worker, workers, templates.size, replicas))
        or (_exclusive_parts(parts, worker, workers, policy.sub_group_size) if policy else None)
        or _whole_cluster(leader, able[leader.title], worker, workers, templates.size)
    )


def _reason(message: str, hint: str) -> Reason:
    return Reason("DoesNotFit", message, hint)


def _shape(title: str, template: Mapping[str, Any]) -> _Shape:
    spec: dict[str, Any] = template.get("spec") or {}
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    filled = {
        **spec,
        "containers": [_with_limits_asked(one) for one in spec.get("containers") or ()],
        "initContainers": [_with_limits_asked(one) for one in spec.get("initContainers") or ()],
    }
    requests = {name: amount for name, amount in pod_requests({"spec": filled}).items() if amount.value > 0}
    return _Shape(
        title,
        requests,
        spec.get("nodeSelector") or {},
        msgspec.convert(affinity, NodeSelector) if affinity else None,
        tuple(msgspec.convert(spec.get("tolerations") or [], list[Toleration])),
        {"pods": Amount(Fraction(1)), **requests},
    )


def _with_limits_asked(container: dict[str, Any]) -> dict[str, Any]:
    """As a pod is completed: what is limited and not asked for is asked for."""
    resources: dict[str, Any] = container.get("resources") or {}
    requests = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {**container, "resources": {"requests": requests}}


def _able_nodes(shape: _Shape, nodes: Sequence[Node]) -> tuple[list[Node], Reason | None]:
    """Nodes that could hold one such pod if they were empty; if there are none, why."""
    chosen = [node for node in nodes if _chosen(shape, node)]
    if not chosen:
        return [], _nowhere_chosen(shape, nodes)
    tolerated = [node for node in chosen if (_lasting_taint(shape, node)) is None]
    if not tolerated:
        taint = _lasting_taint(shape, chosen[0])
        what = f"{taint.key}={taint.value or ''}:{taint.effect}" if taint else ""
        return [], _reason(
            f"{shape.title} tolerates no taint of the {_count(chosen, 'node')} that it may go to ({what})",
            "add a toleration to its template",
        )
    able = [node for node in tolerated if _room(shape, node) != 0]
    return able, None if able else _too_large(shape, tolerated)


def _chosen(shape: _Shape, node: Node) -> bool:
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in shape.node_selector.items()):
        return False
    if shape.affinity is None:
        return True
    return any(
        node_term_holds(term, labels, node.metadata.name) for term in shape.affinity.node_selector_terms
    )


def _lasting_taint(shape: _Shape, node: Node) -> Taint | None:
    lasting = [taint for taint in node.spec.taints if not taint.key.startswith(_PASSING_TAINTS)]
    return first_untolerated(lasting, shape.tolerations)


def _nowhere_chosen(shape: _Shape, nodes: Sequence[Node]) -> Reason:
    for key, value in shape.node_selector.items():
        values = sorted({node.metadata.labels[key] for node in nodes if key in node.metadata.labels})
        if value not in values:
            have = f"; nodes have {', '.join(values[:5])}" if values else ""
            return _reason(
                f"{shape.title} wants a node with the label {key}={value} and none of {_count(nodes, 'node')} has it{have}",
                "change its nodeSelector, or label a node",
            )
    return _reason(
        f"none of {_count(nodes, 'node')} matches the node selector and node affinity of {shape.title}",
        "change them, or label a node",
    )


def _too_large(shape: _Shape, nodes: Sequence[Node]) -> Reason:
    parts: list[str] = []
    for name, wanted in shape.requests.items():
        most = max(node.has(name) for node in nodes)
        if most == 0:
            parts.append(f"{wanted} {name} and no node has any")
        elif wanted.value > most:
            parts.append(f"{wanted} {name} and no node has more than {Amount(most, wanted.binary)}")
    if not parts:
        asked = " and ".join(f"{wanted} {name}" for name, wanted in shape.requests.items())
        parts = [f"{asked}, and no single node has all of that"]
    return _reason(
        f"{shape.title} asks for {'; for '.join(parts)} ({_count(nodes, 'node')} looked at)",
        "ask for less for each pod and take more pods, or add larger nodes",
    )


def _room(shape: _Shape, node: Node, taken: Mapping[str, Amount] | None = None) -> int | None:
    """How many such pods an empty node holds beside what is taken; None for any number."""
    offered = tuple(node.status.allocatable.get(name) for name in ("pods", *shape.requests))
    key = (offered, id(taken))
    if key not in shape.rooms:
        shape.rooms[key] = _work_out_room(shape, node, taken)
    return shape.rooms[key]


def _work_out_room(shape: _Shape, node: Node, taken: Mapping[str, Amount] | None) -> int | None:
    counts = [
        (node.has(name) - (taken[name].value if taken and name in taken else 0)) // wanted.value
        for name, wanted in {"pods": Amount(Fraction(1)), **shape.requests}.items()
        if name != "pods" or "pods" in node.status.allocatable
    ]
    return max(0, int(min(counts))) if counts else None


def _holds_group(
    leader: _Shape, leader_nodes: Sequence[Node], worker: _Shape, worker_nodes: Sequence[Node], size: int
) -> tuple[bool, int]:
    """Whether a leader and its workers fit on these nodes together, and how many workers fit without the leader."""
    rooms = {node.metadata.name: _room(worker, node) for node in worker_nodes}
    if any(room is None for room in rooms.values()):
        return bool(leader_nodes), size
    total = sum(room or 0 for room in rooms.values())
    # The leader goes where it costs the fewest workers.
    losses = [
        (rooms[node.metadata.name] or 0) - (_room(worker, node, leader.taken) or 0)
        if node.metadata.name in rooms
        else 0
        for node in leader_nodes
    ]
    return bool(losses) and total - min(losses) >= size - 1, total


def _whole_cluster(
    leader: _Shape, leader_nodes: Sequence[Node], worker: _Shape, worker_nodes: Sequence[Node], size: int
) -> Reason | None:
    fits, total = _holds_group(leader, leader_nodes, worker, worker_nodes, size)
    if fits:
        return None
    return _reason(
        f"a group has {size} pods{_asked(worker)}, and all {_count(worker_nodes, 'node')} that could take them hold"
        f" {total} such pods when they are empty",
        "make the group smaller, or add nodes",
    )


def _asked(shape: _Shape) -> str:
    """What stands out in what a pod asks for, in brackets."""
    named = [f"{amount} {name}" for name, amount in shape.requests.items()]
    return f" of {', '.join(named)}" if named else ""


def _domains(key: str, nodes: Iterable[Node]) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        if key in node.metadata.labels:
            found[node.metadata.labels[key]].append(node)
    return found


def _exclusive_groups(
    key: str,
    leader: _Shape,
    leader_nodes: Sequence[Node],
    worker: _Shape,
    worker_nodes: Sequence[Node],
    size: int,
    replicas: int,
) -> Reason | None:
    """A group must be within one domain, and alone there."""
    if not key:
        return None
    leaders, workers = _domains(key, leader_nodes), _domains(key, worker_nodes)
    if not leaders or not workers:
        return _no_such_label(key, v1.EXCLUSIVE_TOPOLOGY_ANNOTATION)
    looks = [
        _holds_group(leader, leaders.get(value, []), worker, workers.get(value, []), size)
        for value in leaders.keys() | workers.keys()
    ]
    holding = sum(fits for fits, _ in looks)
    if not holding:
        most = max(total for _, total in looks)
        return _reason(
            f"a group has {size} pods{_asked(worker)} that must share one value of {key}, and the largest of"
            f" {_count(looks, 'such domain')} holds {most} such pods when it is empty",
            f"make the group smaller, or take the annotation {v1.EXCLUSIVE_TOPOLOGY_ANNOTATION} away",
        )
    if holding < replicas:
        return _reason(
            f"{replicas} groups want a value of {key} for each alone, and {holding} of {_count(looks, 'domain')} can"
            " hold one",
            f"ask for no more than {holding} replicas, or add nodes with other values of the label",
        )
    return None


def _exclusive_parts(key: str, worker: _Shape, nodes: Sequence[Node], size: int) -> Reason | None:
    """A subgroup must be within one domain. The leader's own needs are left out: what fits without it may not with it."""
    if not key:
        return None
    domains = _domains(key, nodes)
    if not domains:
        return _no_such_label(key, v1.SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION)
    totals = [[_room(worker, node) for node in members] for members in domains.values()]
    if any(None in rooms or sum(room or 0 for room in rooms) >= size - 1 for rooms in totals):
        return None
    most = max(sum(room or 0 for room in rooms) for rooms in totals)
    return _reason(
        f"a subgroup has {size} pods{_asked(worker)} that must share one value of {key}, and the largest of"
        f" {_count(totals, 'such domain')} holds {most} such pods when it is empty",
        "make subgroups smaller, or take the annotation away",
    )


def _no_such_label(key: str, annotation: str) -> Reason:
    return _reason(
        f"no node that could take the pods has the label {key}, by which the annotation {annotation} keeps them apart",
        "label the nodes, or change the annotation",
    )


def _count(things: Sequence[Any], word: str) -> str:
    return f"{len(things)} {word}" + ("" if len(things) == 1 else "s")
