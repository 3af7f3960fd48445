"""What the scheduler knows of the cluster, kept up to date one pod or node at a time.

Nothing is counted anew for each pod that is placed: a node knows what its pods hold, and for each selection of pods
that some constraint asks about there is a running count for each node. A pod costs work in proportion to the nodes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kajitori.api.kubernetes.core_v1 import Taint
from kajitori.scheduling.demand import Amounts, Demand, HostPort, Selection, amounts
from kajitori.scheduling.keep_away import KeepAway
from kajitori.scheduling.label_counts import MOST_LABELS, LabelCounts, step
from kajitori.scheduling.views import NodeView

if TYPE_CHECKING:
    from kajitori.scheduling.gangs.table import NodeTable

# Selections whose counts are kept; the one that was not asked for longest is forgotten, and counted anew when needed.
_KEPT_SELECTIONS = 256


class NodeState:
    """One node: what it offers, and what its pods hold."""

    __slots__ = (
        "allocatable",
        "host_ports",
        "labels",
        "name",
        "owners",
        "pods",
        "taints",
        "unschedulable",
        "used",
    )

    def __init__(self, view: NodeView) -> None:
        self.name = view.metadata.name
        self.pods: dict[str, Demand] = {}
        self.used: Amounts = {}
        self.host_ports: dict[HostPort, int] = {}
        self.owners: dict[str, int] = {}
        self.labels: dict[str, str] = {}
        self.taints: list[Taint] = []
        self.allocatable: Amounts = {}
        self.unschedulable = False
        self.set_view(view)

    def set_view(self, view: NodeView) -> None:
        self.labels = view.metadata.labels
        self.taints = view.spec.taints
        self.unschedulable = view.spec.unschedulable
        self.allocatable = amounts(view.status.allocatable)

    def free(self, resource: str) -> int:
        return self.allocatable.get(resource, 0) - self.used.get(resource, 0)

    def add(self, demand: Demand) -> None:
        self.pods[demand.uid] = demand
        self._count(demand, 1)

    def remove(self, uid: str) -> None:
        self._count(self.pods.pop(uid), -1)

    def _count(self, demand: Demand, sign: int) -> None:
        for resource, count in demand.requests.items():
            self.used[resource] = self.used.get(resource, 0) + sign * count
        for port in demand.host_ports:
            self.host_ports[port] = self.host_ports.get(port, 0) + sign
            if not self.host_ports[port]:
                del self.host_ports[port]
        if demand.owner:
            self.owners[demand.owner] = self.owners.get(demand.owner, 0) + sign
            if not self.owners[demand.owner]:
                del self.owners[demand.owner]


class GroupState:
    """A group of pods that belong together, as far as it is placed.

    size: pods that it has when it is whole. requests: of its first pod. members: how many are on each node. pods: by uid.
    """

    __slots__ = ("members", "pods", "requests", "size")

    def __init__(self, demand: Demand) -> None:
        self.size = demand.group_size
        self.requests = demand.requests
        self.members: dict[str, int] = {}
        self.pods: dict[str, Demand] = {}

    @property
    def missing(self) -> int:
        return max(0, self.size - sum(self.members.values()))

    @property
    def home(self) -> str:
        """The node with most of it."""
        return max(self.members, key=lambda name: self.members[name])


class ClusterState:
    """Nodes with the pods that run on them or are about to.

    namespace_labels: for selections of namespaces. For tables that follow it: touched_nodes are those whose pods have
    changed, changed_nodes those that came, went or offer something else; whoever follows takes names out. table: that of
    gangs, which one makes that needs it.
    """

    def __init__(self) -> None:
        self.touched_nodes: dict[str, None] = {}
        self.changed_nodes: dict[str, None] = {}
        self.table: NodeTable | None = None
        self.nodes: dict[str, NodeState] = {}
        self.namespace_labels: dict[str, Mapping[str, str]] = {}
        # Pods on nodes that are not known (yet): kept so that they count when the node comes.
        self._strays: dict[str, dict[str, Demand]] = {}
        self._place: dict[str, str] = {}
        self._counts: OrderedDict[Selection, dict[str, int]] = OrderedDict()
        self._label_counts: dict[str, LabelCounts] = {}
        self._priorities: dict[int, int] = {}
        self.keep_away = KeepAway(self.chooses)
        self._groups: dict[str, GroupState] = {}

    # Changes.

    def set_node(self, view: NodeView) -> None:
        name = view.metadata.name
        self.changed_nodes[name] = None
        known = self.nodes.get(name)
        if known is not None:
            known.set_view(view)
            return
        node = self.nodes[name] = NodeState(view)
        for demand in self._strays.pop(name, {}).values():
            del self._place[demand.uid]
            self.place(demand, node.name)

    def remove_node(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is None:
            return
        self.changed_nodes[name] = None
        pods = list(node.pods.values())
        for demand in pods:
            self.remove(demand.uid)
        del self.nodes[name]
        for demand in pods:
            self.place(demand, name)

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """Labels of a namespace; None when it is gone."""
        if labels is None:
            self.namespace_labels.pop(name, None)
        else:
            self.namespace_labels[name] = labels
        for selection in [s for s in self._counts if s.namespace_selector is not None]:
            del self._counts[selection]

    def place(self, demand: Demand, node_name: str) -> None:
        """A pod is on a node, or will be. A pod is on one node only: the last word counts."""
        if demand.uid in self._place:
            self.remove(demand.uid)
        self._place[demand.uid] = node_name
        node = self.nodes.get(node_name)
        if node is None:
            self._strays.setdefault(node_name, {})[demand.uid] = demand
            return
        node.add(demand)
        self.touched_nodes[node_name] = None
        self._recount(demand, node_name, 1)

    def remove(self, uid: str) -> bool:
        """A pod holds nothing any more. False where it was not known."""
        node_name = self._place.pop(uid, None)
        if node_name is None:
            return False
        node = self.nodes.get(node_name)
        if node is None:
            strays = self._strays[node_name]
            del strays[uid]
            if not strays:
                del self._strays[node_name]
            return True
        demand = node.pods[uid]
        node.remove(uid)
        self.touched_nodes[node_name] = None
        self._recount(demand, node_name, -1)
        return True

    def node_of(self, uid: str) -> str:
        """Where a pod is; empty for nowhere."""
        return self._place.get(uid, "")

    # Questions.

    def has_less_important(self, priority: int) -> bool:
        """Whether any pod on a node is less important than that."""
        return any(known < priority for known in self._priorities)

    def count(self, selection: Selection) -> Mapping[str, int]:
        """How many chosen pods each node has; nodes without any are left out."""
        if selection.one_label is not None:
            counts = self._counts_of(selection.one_label.label)
            if counts is not None:
                (namespace,) = selection.namespaces
                return counts.count(namespace, selection.one_label)
        known = self._counts.get(selection)
        if known is None:
            known = {}
            for node in self.nodes.values():
                chosen = sum(self.chooses(selection, demand) for demand in node.pods.values())
                if chosen:
                    known[node.name] = chosen
            self._counts[selection] = known
            if len(self._counts) > _KEPT_SELECTIONS:
                self._counts.popitem(last=False)
        else:
            self._counts.move_to_end(selection)
        return known

    def _counts_of(self, label: str) -> LabelCounts | None:
        """Counts by the values of a label; None where too many labels are counted already."""
        known = self._label_counts.get(label)
        if known is None and len(self._label_counts) < MOST_LABELS:
            known = self._label_counts[label] = LabelCounts(label)
            for node in self.nodes.values():
                for demand in node.pods.values():
                    known.step(demand, node.name, 1)
        return known

    def by_domain(self, counts: Mapping[str, int], topology_key: str) -> dict[str, int]:
        """Counts of nodes added up by the value of a label; nodes without the label are left out."""
        domains: dict[str, int] = {}
        for name, count in counts.items():
            value = self.nodes[name].labels.get(topology_key)
            if value is not None:
                domains[value] = domains.get(value, 0) + count
        return domains

    def group_members(self, group: str) -> Mapping[str, int]:
        """How many pods of a group each node has."""
        known = self._groups.get(group)
        return known.members if known is not None else {}

    def group_pods(self, group: str) -> Mapping[str, Demand]:
        """The pods of a group that are placed, by uid."""
        known = self._groups.get(group)
        return known.pods if known is not None else {}

    def claims(self, resource: str) -> Mapping[str, int]:
        """What groups that are not whole yet will want on the nodes where most of them is."""
        claimed: dict[str, int] = {}
        for group in self._groups.values():
            wanted = group.missing * group.requests.get(resource, 0)
            if wanted:
                claimed[group.home] = claimed.get(group.home, 0) + wanted
        return claimed

    def chooses(self, selection: Selection, demand: Demand) -> bool:
        """Whether the selection includes this pod."""
        return selection.chooses(demand.namespace, demand.labels, self.namespace_labels)

    def _recount(self, demand: Demand, node_name: str, sign: int) -> None:
        for selection, counts in self._counts.items():
            if self.chooses(selection, demand):
                step(counts, node_name, sign)
        for key in (demand.group, demand.kin):
            if key:
                self._recount_group(key, demand, node_name, sign)
        self._priorities[demand.priority] = self._priorities.get(demand.priority, 0) + sign
        if not self._priorities[demand.priority]:
            del self._priorities[demand.priority]
        for counts in self._label_counts.values():
            counts.step(demand, node_name, sign)
        self.keep_away.step(demand, node_name, sign)

    def _recount_group(self, key: str, demand: Demand, node_name: str, sign: int) -> None:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = GroupState(demand)
        step(group.members, node_name, sign)
        if sign > 0:
            group.pods[demand.uid] = demand
        else:
            del group.pods[demand.uid]
        if not group.members:
            del self._groups[key]
