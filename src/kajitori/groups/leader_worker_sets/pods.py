"""The pods, Services and names of a group, as kubernetes-sigs/lws shapes them through StatefulSets and a webhook.

We make the pods ourselves: one owner (the set), one burst a group, no object between. Names, labels, annotations,
environment and host names are the same, so that programs and tools that read them find what they know. Bodies
share the unchanged parts of their templates; nobody may change them.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.groups.leader_worker_sets.claims import claim_volumes
from kajitori.groups.leader_worker_sets.gang import GangChoice, mark
from kajitori.groups.leader_worker_sets.identity import group_key, group_label, group_word, is_hash
from kajitori.groups.leader_worker_sets.observed import COMPLETE_ANNOTATION, INCARNATION_ANNOTATION
from kajitori.groups.leader_worker_sets.options import PREFIX
from kajitori.groups.leader_worker_sets.placement import exclusive_affinity
from kajitori.groups.leader_worker_sets.revisions import Templates
from kajitori.groups.leader_worker_sets.tpu import requests_tpus, tpu_variables
from kajitori.model.gang import RELEASED_ANNOTATION


class GroupIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which group is being made. owner: the entry for `ownerReferences`. incarnation: names this making of it.

    annotations: more of them, for every pod. exclusive topologies: node labels of the domains that a group, or a
    subgroup, has for itself. gang: how its pods are placed together. readiness_gate: of the leader, empty for none.
    one_template: many pods come of this body, so that it can say nothing of the place of one among its peers.
    """

    namespace: str
    set_name: str
    owner: dict[str, Any]
    index: int
    templates: Templates
    incarnation: str
    annotations: dict[str, str] = {}
    exclusive_topology: str = ""
    subgroup_exclusive_topology: str = ""
    gang: GangChoice = GangChoice()
    readiness_gate: str = ""
    one_template: bool = False

    @property
    def leader_name(self) -> str:
        return leader_name(self.set_name, self.index)

    @property
    def subdomain(self) -> str:
        return self.set_name if self.templates.subdomain_policy == "Shared" else self.leader_name

    @property
    def leader_address(self) -> str:
        return f"{self.leader_name}.{self.subdomain}.{self.namespace}"

    @property
    def key(self) -> str:
        return group_key(self.namespace, self.leader_name, self.index)


def leader_name(set_name: str, group: int) -> str:
    return f"{set_name}-{group_word(group)}"


def pod_name(set_name: str, group: int, worker: int) -> str:
    leader = leader_name(set_name, group)
    return f"{leader}-{worker}" if worker else leader


def pod_body(group: GroupIdentity, worker: int) -> dict[str, Any]:
    """The pod with this index in its group, 0 for the leader."""
    template = _template(group, worker)
    metadata: dict[str, Any] = template.get("metadata") or {}
    name = pod_name(group.set_name, group.index, worker)
    body: dict[str, Any] = {
        "name": name,
        "namespace": group.namespace,
        "labels": {**(metadata.get("labels") or {}), **_labels(group, worker, name)},
        "annotations": {**_template_annotations(metadata), **_annotations(group, worker)},
        "ownerReferences": [group.owner],
    }
    if finalizers := metadata.get("finalizers"):
        body["finalizers"] = finalizers
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": body,
        "spec": _spec(group, worker, name, template.get("spec") or {}),
    }
    return mark(group.gang, worker, pod)


def _template(group: GroupIdentity, worker: int) -> dict[str, Any]:
    template = group.templates.group
    if worker == 0 and template.leader_template is not None:
        return template.leader_template
    return template.worker_template


def _template_annotations(metadata: dict[str, Any]) -> dict[str, str]:
    """Those that users gave their pods. What the life of a group is written down in is no template's to say:

    copied along from a pod, it would tell of a group that failed, was whole or is being drained before it has begun.
    """
    annotations: dict[str, str] = metadata.get("annotations") or {}
    return {
        key: value
        for key, value in annotations.items()
        if not key.startswith(PREFIX) and key != RELEASED_ANNOTATION
    }


def _labels(group: GroupIdentity, worker: int, name: str) -> dict[str, str]:
    labels = {
        v1.SET_NAME_LABEL: group.set_name,
        v1.GROUP_INDEX_LABEL: group_label(group.namespace, group.set_name, group.index),
        v1.WORKER_INDEX_LABEL: str(worker),
        v1.GROUP_KEY_LABEL: group.key,
        v1.REVISION_LABEL: group.templates.hash,
    }
    if worker or not is_hash(group.index):
        # Where upstream has a StatefulSet.
        labels["apps.kubernetes.io/pod-index"] = str(worker or group.index)
        labels["statefulset.kubernetes.io/pod-name"] = name
    return labels | subgroup_labels(group, worker)


def subgroup_labels(group: GroupIdentity, worker: int) -> dict[str, str]:
    """Labels of the pod's subgroup; none without one."""
    subgroup = subgroup_index(group.templates.group, worker)
    if subgroup is None:
        return {}
    return {v1.SUBGROUP_INDEX_LABEL: str(subgroup), v1.SUBGROUP_KEY_LABEL: _subgroup_key(group, subgroup)}


def _subgroup_key(group: GroupIdentity, subgroup: int) -> str:
    return hashlib.sha1(f"{group.leader_name}/{subgroup}".encode()).hexdigest()


def subgroup_index(template: v1.LeaderWorkerTemplate, worker: int) -> int | None:
    """The subgroup of a pod; None without subgroups, and for a leader that is excluded from them."""
    policy = template.sub_group_policy
    if policy is None:
        return None
    size, part = template.size, policy.sub_group_size
    if worker == 0:
        return None if policy.sub_group_policy_type == "LeaderExcluded" else 0
    if (size - 1) % part == 0 and size % part != 0:
        # One pod is over: the leader joins the first subgroup as an extra one.
        return (worker - 1) // part
    return worker // part


def _annotations(group: GroupIdentity, worker: int) -> dict[str, str]:
    template = group.templates.group
    annotations = {
        **group.annotations,
        v1.SIZE_ANNOTATION: str(template.size),
        INCARNATION_ANNOTATION: group.incarnation,
    }
    if worker:
        annotations[v1.LEADER_NAME_ANNOTATION] = group.leader_name
        if is_hash(group.index):
            annotations[v1.LEADER_ADDRESS_ANNOTATION] = group.leader_address
        if requests_tpus(_template(group, 0).get("spec") or {}):
            annotations[v1.LEADER_REQUESTS_TPUS_ANNOTATION] = "true"
    elif group.templates.subdomain_policy == "UniquePerReplica":
        annotations[v1.SUBDOMAIN_POLICY_ANNOTATION] = "UniquePerReplica"
    if worker == 0 and template.size == 1:
        # A leader alone is a whole group from its first moment.
        annotations[COMPLETE_ANNOTATION] = "true"
    if group.exclusive_topology:
        annotations[v1.EXCLUSIVE_TOPOLOGY_ANNOTATION] = group.exclusive_topology
    if policy := template.sub_group_policy:
        if group.subgroup_exclusive_topology:
            annotations[v1.SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION] = group.subgroup_exclusive_topology
        annotations[v1.SUBGROUP_SIZE_ANNOTATION] = str(policy.sub_group_size)
        annotations[v1.SUBGROUP_POLICY_TYPE_ANNOTATION] = policy.sub_group_policy_type
    return annotations


def _spec(group: GroupIdentity, worker: int, name: str, template: dict[str, Any]) -> dict[str, Any]:
    variables = [
        {"name": v1.LEADER_ADDRESS_VARIABLE, "value": group.leader_address},
        {"name": v1.GROUP_SIZE_VARIABLE, "value": str(group.templates.size)},
        {"name": v1.WORKER_INDEX_VARIABLE, "value": str(worker)},
    ]
    tpu = _tpu_variables(group, worker, template)
    spec = {
        **template,
        "hostname": name,
        "subdomain": group.subdomain,
        "containers": [
            _with_variables(container, variables, tpu.get(index, []))
            for index, container in enumerate(template.get("containers") or ())
        ],
    }
    if claims := group.templates.group.volume_claim_templates:
        spec["volumes"] = claim_volumes(claims, name, template.get("volumes") or [])
    if affinity := _affinity(group, worker, template.get("affinity") or {}):
        spec["affinity"] = affinity
    if worker == 0 and group.readiness_gate:
        gate = {"conditionType": group.readiness_gate}
        gates = template.get("readinessGates") or []
        spec["readinessGates"] = gates if gate in gates else [*gates, gate]
    if init_containers := template.get("initContainers"):
        spec["initContainers"] = [_with_variables(container, variables, []) for container in init_containers]
    return spec


def _affinity(group: GroupIdentity, worker: int, affinity: dict[str, Any]) -> dict[str, Any]:
    if topology := group.exclusive_topology:
        affinity = exclusive_affinity(affinity, topology, v1.GROUP_KEY_LABEL, group.key)
    subgroup = subgroup_index(group.templates.group, worker)
    if (topology := group.subgroup_exclusive_topology) and subgroup is not None:
        key = _subgroup_key(group, subgroup)
        affinity = exclusive_affinity(affinity, topology, v1.SUBGROUP_KEY_LABEL, key)
    return affinity


def _with_variables(
    container: dict[str, Any], first: list[dict[str, str]], last: list[dict[str, str]]
) -> dict[str, Any]:
    """Ours come first, so that the user's own may refer to them; of one name, ours counts."""
    taken = {variable["name"] for variable in (*first, *last)}
    own = [variable for variable in container.get("env") or () if variable.get("name") not in taken]
    return {**container, "env": [*first, *own, *last]}


def _tpu_variables(
    group: GroupIdentity, worker: int, pod_spec: dict[str, Any]
) -> dict[int, list[dict[str, str]]]:
    if group.one_template or not requests_tpus(pod_spec):
        return {}
    template = group.templates.group
    own = subgroup_index(template, worker)
    first = 0 if requests_tpus(_template(group, 0).get("spec") or {}) else 1
    # Without subgroups every index is None, so that all are peers.
    peers = [index for index in range(first, template.size) if subgroup_index(template, index) == own]
    if worker not in peers:
        return {}
    members = [f"{pod_name(group.set_name, group.index, index)}.{group.subdomain}" for index in peers]
    return tpu_variables(pod_spec, members, peers.index(worker), group.leader_name)


def service_body(namespace: str, set_name: str, owner: dict[str, Any], group: int | None) -> dict[str, Any]:
    """The headless Service of the set, or of one group, under which pods are found before they are ready."""
    selector = {v1.SET_NAME_LABEL: set_name}
    if group is not None:
        selector[v1.GROUP_INDEX_LABEL] = group_label(namespace, set_name, group)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": set_name if group is None else leader_name(set_name, group),
            "namespace": namespace,
            "labels": dict(selector),
            "ownerReferences": [owner],
        },
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector},
    }
