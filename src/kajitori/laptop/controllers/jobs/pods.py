"""The pods that a job makes of its template. Pure."""

from __future__ import annotations

from kajitori.laptop.controllers.jobs.backoff import (
    FAILURE_COUNT,
    IGNORED_FAILURE_COUNT,
    failure_count,
    ignored_failure_count,
)
from kajitori.laptop.controllers.jobs.policies import judge_failure
from kajitori.laptop.controllers.jobs.situation import COMPLETION_INDEX, FINALIZER
from kajitori.laptop.controllers.jobs.views import JobView, Object
from kajitori.laptop.controllers.pods import pod_of_template
from kajitori.laptop.controllers.views import PodView

_INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
# A generated name has five more letters than its prefix, and fits a label.
_LONGEST_PREFIX = 58


def new_pod(job: JobView, index: int | None, replaced: PodView | None) -> Object:
    """A pod for the index. replaced: the failed pod of the index whose counts it goes on from."""
    pod = pod_of_template(job, job.spec.template)
    metadata: Object = pod["metadata"]
    metadata["finalizers"] = [*(one for one in metadata.get("finalizers", ()) if one != FINALIZER), FINALIZER]
    if index is None:
        metadata["generateName"] = f"{job.metadata.name}-"
        return pod
    ending = f"-{index}-"
    metadata["generateName"] = job.metadata.name[: _LONGEST_PREFIX - len(ending)] + ending
    metadata["labels"] = {**metadata.get("labels", {}), COMPLETION_INDEX: str(index)}
    annotations = {**metadata.get("annotations", {}), COMPLETION_INDEX: str(index)}
    if job.spec.backoff_limit_per_index is not None:
        annotations |= _failure_counts(job, replaced)
    metadata["annotations"] = annotations
    spec: Object = {**pod["spec"], "hostname": f"{job.metadata.name}-{index}"}
    for field in ("initContainers", "containers"):
        if spec.get(field):
            spec[field] = [_with_index_variable(container) for container in spec[field]]
    pod["spec"] = spec
    return pod


def _with_index_variable(container: Object) -> Object:
    variables: list[Object] = container.get("env") or []
    if any(variable.get("name") == _INDEX_VARIABLE for variable in variables):
        return container
    path = f"metadata.labels['{COMPLETION_INDEX}']"
    added = {"name": _INDEX_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}}
    return {**container, "env": [*variables, added]}


def _failure_counts(job: JobView, replaced: PodView | None) -> dict[str, str]:
    if replaced is None:
        return {FAILURE_COUNT: "0"}
    counts = judge_failure(job.spec.pod_failure_policy, replaced).counts
    ignored = ignored_failure_count(replaced) + (not counts)
    found = {FAILURE_COUNT: str(failure_count(replaced) + counts)}
    return found | ({IGNORED_FAILURE_COUNT: str(ignored)} if ignored else {})
