"""What a Job of a set looks like: the template, its place in the set, its network, its volumes, its placement. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.groups.job_sets.names import Layout, claim_name, job_name, labels_of, subdomain
from kajitori.groups.job_sets.options import Options
from kajitori.groups.job_sets.placement import (
    exclusive_affinity,
    exclusive_topology,
    gang_of,
    placement_annotations,
    selected_nodes,
)
from kajitori.model import gang as gangs

Object = dict[str, Any]


def job_body(
    job_set: v1.JobSet, layout: Layout, replicated: v1.ReplicatedJob, index: int, options: Options
) -> Object:
    """The Job as it is created, but for its owner."""
    name = job_name(job_set.metadata.name or "", replicated.name, index)
    labels = labels_of(job_set, layout, replicated, index)
    annotations = labels | placement_annotations(job_set, replicated)
    template = replicated.template
    spec: Object = msgspec.to_builtins(template.spec)
    spec["completionMode"] = template.spec.completion_mode
    spec["suspend"] = job_set.spec.suspend or False
    pod = _marked(template.spec.template, labels, annotations)
    spec["template"] = pod | {"spec": _pod_spec(job_set, replicated, pod.get("spec") or {}, name, labels)}
    gang = gang_of(job_set, replicated, index, options)
    if gang is not None:
        spec["template"] = _in_gang(spec["template"], gang, gated=options.gang == "Gate")
    marked = _marked({"metadata": template.metadata}, labels, annotations)["metadata"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**marked, "name": name, "namespace": job_set.metadata.namespace},
        "spec": spec,
    }


def _marked(obj: Object, labels: dict[str, str], annotations: dict[str, str]) -> Object:
    """The object with these labels and annotations over its own."""
    metadata: Object = obj.get("metadata") or {}
    return {
        **obj,
        "metadata": {
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": {**(metadata.get("annotations") or {}), **annotations},
        },
    }


def _pod_spec(
    job_set: v1.JobSet, replicated: v1.ReplicatedJob, spec: Object, job: str, labels: dict[str, str]
) -> Object:
    spec = {"restartPolicy": "OnFailure", **spec}
    if job_set.spec.network.enable_dns_hostnames:
        spec["subdomain"] = subdomain(job_set)
    topology, by_selector = exclusive_topology(job_set, replicated)
    if topology and by_selector:
        spec |= selected_nodes(spec, job_set.metadata.namespace or "", job)
    elif topology:
        spec["affinity"] = exclusive_affinity(spec.get("affinity") or {}, topology, labels[v1.JOB_KEY])
    if volumes := list(_volumes(job_set, spec)):
        spec["volumes"] = [*(spec.get("volumes") or []), *volumes]
    return spec


def mounted(spec: Object) -> set[str]:
    """Names of the volumes that containers of a pod mount."""
    containers: list[Object] = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    return {mount.get("name", "") for one in containers for mount in one.get("volumeMounts") or []}


def own_volumes(spec: Object) -> set[str]:
    """Names of the volumes that a pod template has itself."""
    return {volume.get("name", "") for volume in spec.get("volumes") or []}


def _volumes(job_set: v1.JobSet, spec: Object) -> Iterator[Object]:
    wanted, known = mounted(spec), own_volumes(spec)
    for policy in job_set.spec.volume_claim_policies:
        for template in policy.templates:
            name = template.metadata.name
            if name in wanted and name not in known:
                known.add(name)
                claim = claim_name(name, job_set.metadata.name or "")
                yield {"name": name, "persistentVolumeClaim": {"claimName": claim}}


def _in_gang(template: Object, gang: gangs.Gang, *, gated: bool) -> Object:
    template = _marked(template, gangs.gang_labels(gang), gangs.gang_annotations(gang))
    if gated:
        gates = template["spec"].get("schedulingGates") or []
        template["spec"] = {**template["spec"], "schedulingGates": [*gates, {"name": gangs.GATE}]}
    return template


def service_body(job_set: v1.JobSet) -> Object:
    """The headless Service of the pods' names."""
    name = job_set.metadata.name or ""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": subdomain(job_set),
            "namespace": job_set.metadata.namespace,
            "labels": {v1.JOB_SET_NAME: name},
        },
        "spec": {
            "clusterIP": "None",
            "selector": {v1.JOB_SET_NAME: name},
            "publishNotReadyAddresses": job_set.spec.network.publish_not_ready_addresses,
        },
    }


def claim_bodies(job_set: v1.JobSet) -> Iterator[tuple[Object, bool]]:
    """Each claim once, and whether it goes with the set."""
    seen: set[str] = set()
    for policy in job_set.spec.volume_claim_policies:
        for template in policy.templates:
            if template.metadata.name in seen:
                continue
            seen.add(template.metadata.name)
            yield _claim_body(job_set, template), policy.retention_policy.when_deleted == "Delete"


def _claim_body(job_set: v1.JobSet, template: v1.ClaimTemplate) -> Object:
    set_name = job_set.metadata.name or ""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim_name(template.metadata.name, set_name),
            "namespace": job_set.metadata.namespace,
            "labels": {**template.metadata.labels, v1.JOB_SET_NAME: set_name},
            "annotations": template.metadata.annotations,
        },
        "spec": template.spec,
    }
