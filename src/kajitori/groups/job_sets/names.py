"""What Jobs of a set are called, and what labels and annotations say of their place in it. Pure.

Source: the API of kubernetes-sigs/jobset; every label is an annotation of the same name too.
"""

from __future__ import annotations

import hashlib

import msgspec

from kajitori.api.jobset import v1alpha2 as v1


class Place(msgspec.Struct, frozen=True):
    """Of a replicated job: how many Jobs come before it, in the set and in its group, and how many its group has."""

    before: int
    before_in_group: int
    group_replicas: int


class Layout(msgspec.Struct, frozen=True):
    """How the Jobs of a set are numbered. total: of all its Jobs."""

    total: int
    places: dict[str, Place]


def layout_of(spec: v1.JobSetSpec) -> Layout:
    """Number the Jobs through, in the order of the manifest."""
    groups: dict[str, int] = {}
    starts: list[tuple[str, str, int, int]] = []
    total = 0
    for replicated in spec.replicated_jobs:
        in_group = groups.get(replicated.group_name, 0)
        starts.append((replicated.name, replicated.group_name, total, in_group))
        groups[replicated.group_name] = in_group + replicated.replicas
        total += replicated.replicas
    return Layout(
        total, {name: Place(before, inside, groups[group]) for name, group, before, inside in starts}
    )


def job_name(set_name: str, replicated: str, index: int) -> str:
    return f"{set_name}-{replicated}-{index}"


def subdomain(job_set: v1.JobSet) -> str:
    """The headless Service under which the pods are found."""
    return job_set.spec.network.subdomain or job_set.metadata.name or ""


def coordinator_address(job_set: v1.JobSet) -> str:
    """Of the pod that all others are told of; empty if none is named."""
    chosen = job_set.spec.coordinator
    if chosen is None:
        return ""
    job = job_name(job_set.metadata.name or "", chosen.replicated_job, chosen.job_index)
    return f"{job}-{chosen.pod_index}.{subdomain(job_set)}"


def job_key(namespace: str, name: str) -> str:
    """A label value of one length that no other Job of the cluster has."""
    return hashlib.sha1(f"{namespace}/{name}".encode(), usedforsecurity=False).hexdigest()


def claim_name(claim: str, set_name: str) -> str:
    return f"{claim}-{set_name}"


def job_restarts(status: v1.JobSetStatus, replicated: str, index: int) -> int:
    """How often this Job was restarted alone."""
    for one in status.replicated_jobs_status:
        if one.name == replicated:
            return one.job_restarts[index] if index < len(one.job_restarts) else 0
    return 0


def labels_of(job_set: v1.JobSet, layout: Layout, replicated: v1.ReplicatedJob, index: int) -> dict[str, str]:
    """Labels of a Job and of its pods, and annotations as well."""
    place, metadata = layout.places[replicated.name], job_set.metadata
    name = job_name(metadata.name or "", replicated.name, index)
    labels = {
        v1.JOB_SET_NAME: metadata.name or "",
        v1.JOB_SET_UID: metadata.uid or "",
        v1.REPLICATED_JOB_NAME: replicated.name,
        v1.REPLICATED_JOB_REPLICAS: str(replicated.replicas),
        v1.GLOBAL_REPLICAS: str(layout.total),
        v1.JOB_INDEX: str(index),
        v1.JOB_GLOBAL_INDEX: str(place.before + index),
        v1.JOB_KEY: job_key(metadata.namespace or "", name),
        v1.GROUP_NAME: replicated.group_name,
        v1.GROUP_REPLICAS: str(place.group_replicas),
        v1.JOB_GROUP_INDEX: str(place.before_in_group + index),
        v1.RESTART_ATTEMPT: str(job_set.status.restarts),
        v1.JOB_RESTART_ATTEMPT: str(job_restarts(job_set.status, replicated.name, index)),
    }
    if coordinator := coordinator_address(job_set):
        labels[v1.COORDINATOR] = coordinator
    return labels
