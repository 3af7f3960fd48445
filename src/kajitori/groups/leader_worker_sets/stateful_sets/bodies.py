"""The StatefulSets of a set, and what their pods get afterwards. Pure.

A template is the body that a pod would have without StatefulSets, less what differs from pod to pod. Of that the
environment is replaced by references to what a StatefulSet gives each pod (its name, its index); labels are patched.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.groups.leader_worker_sets import options
from kajitori.groups.leader_worker_sets.observed import INCARNATION_ANNOTATION, Pod, World
from kajitori.groups.leader_worker_sets.pods import GroupIdentity, leader_name, pod_body, subgroup_labels
from kajitori.groups.leader_worker_sets.revisions import Templates, data_hash
from kajitori.groups.leader_worker_sets.rollout import Limits, Position
from kajitori.groups.leader_worker_sets.tpu import TPU_RESOURCE, requests_tpus

APPLIED_ANNOTATION = "groups.kajitori.dev/applied"
REPLICAS_ANNOTATION = v1.PREFIX + "replicas"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"
POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
_OPTIONS_OF_OWN_PODS = (
    options.MAX_RESTARTS,
    options.RESTART,
    options.GROUP_READY,
    options.DRAIN_SECONDS,
    options.GANG,
    options.GANG_DEADLINE_SECONDS,
    options.PREFERRED_TOPOLOGY,
)
_POD_NAME_VARIABLE = "LWS_POD_NAME"


def leader_set_body(world: World, target: Templates, position: Position, limits: Limits) -> dict[str, Any]:
    """The StatefulSet of all leaders; its ordinals are the groups."""
    group = _identity(world, target, 0)
    template = _template(
        pod_body(group, 0),
        without=(v1.GROUP_INDEX_LABEL, v1.GROUP_KEY_LABEL, v1.SUBGROUP_KEY_LABEL),
        environment=[
            {"name": _POD_NAME_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {
                "name": v1.LEADER_ADDRESS_VARIABLE,
                "value": f"$({_POD_NAME_VARIABLE}).{world.name}.{world.namespace}",
            },
        ],
    )
    selector = {v1.SET_NAME_LABEL: world.name, v1.WORKER_INDEX_LABEL: "0"}
    rolling = {
        "partition": position.partition,
        "maxUnavailable": max(1, limits.max_unavailable + limits.max_surge),
    }
    body = _stateful_set(world, world.name, world.owner_entry(), target, template, selector, position.groups)
    body["metadata"]["annotations"][REPLICAS_ANNOTATION] = str(position.replicas)
    body["spec"]["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
    body["metadata"]["annotations"][APPLIED_ANNOTATION] = data_hash(body)
    return body


def worker_set_body(world: World, templates: Templates, leader: Pod) -> dict[str, Any]:
    """The StatefulSet of the workers of one leader, which owns it."""
    group = _identity(world, templates, leader.group)
    template = _template(
        pod_body(group, 1),
        without=(v1.WORKER_INDEX_LABEL, v1.SUBGROUP_INDEX_LABEL, v1.SUBGROUP_KEY_LABEL),
        environment=[
            {
                "name": v1.WORKER_INDEX_VARIABLE,
                "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{POD_INDEX_LABEL}']"}},
            }
        ],
    )
    selector = {
        v1.SET_NAME_LABEL: world.name,
        v1.GROUP_INDEX_LABEL: str(leader.group),
        v1.GROUP_KEY_LABEL: group.key,
    }
    owner = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": leader.name,
        "uid": leader.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    body = _stateful_set(world, leader.name, owner, templates, template, selector, templates.size - 1)
    body["metadata"]["labels"] |= {v1.GROUP_INDEX_LABEL: str(leader.group), v1.GROUP_KEY_LABEL: group.key}
    body["spec"]["serviceName"] = group.subdomain
    body["spec"]["ordinals"] = {"start": 1}
    return body


def late_labels(world: World, templates: Templates, pod: Pod) -> dict[str, str]:
    """Labels that cannot stand in the pod's template. pod: with its indexes known."""
    group = _identity(world, templates, pod.group)
    return {
        v1.GROUP_INDEX_LABEL: str(pod.group),
        v1.GROUP_KEY_LABEL: group.key,
        v1.WORKER_INDEX_LABEL: str(pod.worker),
        **subgroup_labels(group, pod.worker),
    }


def unsupported_here(world: World) -> list[str]:
    """What a set asks for and cannot have through StatefulSets, with what happens instead."""
    spec, annotations = world.set.spec, world.set.metadata.annotations
    found: list[str] = []
    network = spec.network_config
    if network is not None and network.subdomain_policy == "UniquePerReplica":
        found.append(
            "spec.networkConfig.subdomainPolicy: a StatefulSet gives all leaders one subdomain, so all pods keep the shared one"
        )
    found += [
        f"annotation {key}: leaders of one template cannot be told apart, so nothing keeps groups apart"
        for key in (v1.EXCLUSIVE_TOPOLOGY_ANNOTATION, v1.SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION)
        if key in annotations
    ]
    group = spec.leader_worker_template
    if any(
        requests_tpus(each.get("spec") or {}) for each in (group.leader_template or {}, group.worker_template)
    ):
        found.append(f"{TPU_RESOURCE}: the TPU_* variables differ from pod to pod and are not set")
    found += [
        f"annotation {key}: it needs pods that we make ourselves"
        for key in _OPTIONS_OF_OWN_PODS
        if key in annotations
    ]
    return found


def _identity(world: World, templates: Templates, index: int) -> GroupIdentity:
    # Claims are the StatefulSets' own business.
    bare = msgspec.structs.replace(templates.group, volume_claim_templates=[])
    return GroupIdentity(
        namespace=world.namespace,
        set_name=world.name,
        owner=world.owner_entry(),
        index=index,
        templates=msgspec.structs.replace(templates, group=bare),
        incarnation="",
        one_template=True,
    )


def _template(
    body: dict[str, Any], without: tuple[str, ...], environment: list[dict[str, Any]]
) -> dict[str, Any]:
    """A pod's body as a template of many pods."""
    dropped = (*without, POD_INDEX_LABEL, POD_NAME_LABEL)
    labels = {key: value for key, value in body["metadata"]["labels"].items() if key not in dropped}
    annotations = {
        key: value for key, value in body["metadata"]["annotations"].items() if key != INCARNATION_ANNOTATION
    }
    spec = {key: value for key, value in body["spec"].items() if key not in ("hostname", "subdomain")}
    for kind in ("containers", "initContainers"):
        if kind in spec:
            spec[kind] = [_with_environment(container, environment) for container in spec[kind]]
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def _with_environment(container: dict[str, Any], environment: list[dict[str, Any]]) -> dict[str, Any]:
    replaced = {variable["name"] for variable in environment}
    rest = [variable for variable in container["env"] if variable["name"] not in replaced]
    return {**container, "env": [*environment, *rest]}


def _stateful_set(
    world: World,
    name: str,
    owner: dict[str, Any],
    templates: Templates,
    template: dict[str, Any],
    selector: dict[str, str],
    replicas: int,
) -> dict[str, Any]:
    group = templates.group
    spec: dict[str, Any] = {
        "serviceName": world.name,
        "podManagementPolicy": "Parallel",
        "replicas": replicas,
        "selector": {"matchLabels": selector},
        "template": template,
    }
    if group.volume_claim_templates:
        spec["volumeClaimTemplates"] = group.volume_claim_templates
    if group.persistent_volume_claim_retention_policy:
        spec["persistentVolumeClaimRetentionPolicy"] = group.persistent_volume_claim_retention_policy
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": name,
            "namespace": world.namespace,
            "labels": {
                **world.set.metadata.labels,
                v1.SET_NAME_LABEL: world.name,
                v1.REVISION_LABEL: templates.hash,
            },
            "annotations": {},
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def worker_set_name(world: World, index: int) -> str:
    """The StatefulSet of a group's workers is named like its leader."""
    return leader_name(world.name, index)
