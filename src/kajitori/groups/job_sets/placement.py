"""Where the pods of a Job may run: one topology domain for one Job, and what makes them a gang. Pure.

Upstream steers pods by a webhook: the first one by affinity, the others by a node selector once it is placed. We
make no pods and have no webhook, so the pod template of each Job carries affinity terms that all its pods share: the
first one placed chooses the domain, the others follow it there, and pods of other Jobs stay out.
"""

from __future__ import annotations

from typing import Any

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.groups.job_sets.names import job_name
from kajitori.groups.job_sets.options import Options
from kajitori.model import gang as gangs

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_LONGEST_LABEL = 63


def placement_annotations(job_set: v1.JobSet, replicated: v1.ReplicatedJob) -> dict[str, str]:
    """What Jobs and pods say of their exclusive placement: the replicated job's own words before those of the set."""
    own: dict[str, str] = replicated.template.metadata.get("annotations") or {}
    for said in (own, job_set.metadata.annotations):
        if said.get(v1.EXCLUSIVE_TOPOLOGY):
            return {key: said[key] for key in (v1.EXCLUSIVE_TOPOLOGY, v1.NODE_SELECTOR) if key in said}
    return {}


def exclusive_topology(job_set: v1.JobSet, replicated: v1.ReplicatedJob) -> tuple[str, bool]:
    """The node label of the domains, empty for none, and whether nodes are chosen by a label that users put there."""
    said = placement_annotations(job_set, replicated)
    return said.get(v1.EXCLUSIVE_TOPOLOGY, ""), v1.NODE_SELECTOR in said


def exclusive_affinity(affinity: dict[str, Any], topology: str, key: str) -> dict[str, Any]:
    """The affinity with terms that keep the pods of a Job together and others out. key: the Job's label value."""
    ours = [{"key": v1.JOB_KEY, "operator": "In", "values": [key]}]
    others = [
        {"key": v1.JOB_KEY, "operator": "Exists"},
        {"key": v1.JOB_KEY, "operator": "NotIn", "values": [key]},
    ]
    return {
        **affinity,
        "podAffinity": _with_term(affinity.get("podAffinity") or {}, topology, ours),
        "podAntiAffinity": _with_term(affinity.get("podAntiAffinity") or {}, topology, others),
    }


def _with_term(kind: dict[str, Any], topology: str, expressions: list[dict[str, Any]]) -> dict[str, Any]:
    # A domain is exclusive in the whole cluster, so Jobs of all namespaces count.
    term = {
        "labelSelector": {"matchExpressions": expressions},
        "topologyKey": topology,
        "namespaceSelector": {},
    }
    terms: list[dict[str, Any]] = kind.get(_REQUIRED) or []
    return kind if term in terms else {**kind, _REQUIRED: [*terms, term]}


def selected_nodes(spec: dict[str, Any], namespace: str, job: str) -> dict[str, Any]:
    """Node selector and tolerations for nodes that were labelled with the Job's name beforehand."""
    toleration = {"key": v1.NO_SCHEDULE_TAINT, "operator": "Exists", "effect": "NoSchedule"}
    return {
        "nodeSelector": {**(spec.get("nodeSelector") or {}), v1.NAMESPACED_JOB: f"{namespace}_{job}"},
        "tolerations": [*(spec.get("tolerations") or []), toleration],
    }


def pods_of(replicated: v1.ReplicatedJob) -> int:
    """How many pods of one of its Jobs run at a time."""
    spec = replicated.template.spec
    parallelism = 1 if spec.parallelism is None else spec.parallelism
    return parallelism if spec.completions is None else min(parallelism, spec.completions)


def starts_at_once(spec: v1.JobSetSpec) -> bool:
    """Whether all Jobs are made without waiting for each other."""
    in_order = spec.startup_policy.startup_policy_order == "InOrder"
    return not in_order and not any(replicated.depends_on for replicated in spec.replicated_jobs)


def gang_of(
    job_set: v1.JobSet, replicated: v1.ReplicatedJob, index: int, options: Options
) -> gangs.Gang | None:
    """The gang of a Job's pods; None unless the set asks for gangs.

    A gang of the whole set is named after the attempt: pods of the one before may still be on their way out.
    """
    if options.gang == "None":
        return None
    name, size = job_name(job_set.metadata.name or "", replicated.name, index), pods_of(replicated)
    topology, by_selector = exclusive_topology(job_set, replicated)
    if options.unit == "JobSet" and starts_at_once(job_set.spec):
        uid = (job_set.metadata.uid or "").partition("-")[0]
        suffix = f"-{uid}-{job_set.status.restarts}"
        name = f"{(job_set.metadata.name or '')[: _LONGEST_LABEL - len(suffix)]}{suffix}"
        size = sum(one.replicas * pods_of(one) for one in job_set.spec.replicated_jobs)
        # Each Job has a domain of its own then; the affinity terms see to it.
        topology = ""
    return gangs.Gang(
        name=name,
        size=max(1, size),
        required_topology="" if by_selector else topology,
        preferred_topology=options.preferred_topology,
        deadline_seconds=options.deadline_seconds,
    )
