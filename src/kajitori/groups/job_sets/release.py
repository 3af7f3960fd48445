"""Gangs that were given up: whoever places pods says so on one of them, and we take all of them back. Pure.

A Job is suspended and let go on again: its controller deletes the pods without counting them as failures, and makes
them anew, behind their gate.
"""

from __future__ import annotations

from kajitori.groups.job_sets.observed import Job, World
from kajitori.groups.job_sets.options import Options
from kajitori.groups.job_sets.placement import starts_at_once
from kajitori.model.gang import RELEASED_ANNOTATION

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"


def given_up(world: World, options: Options) -> dict[str, str]:
    """Names of the Jobs whose pods are to be taken back, and why. With one gang for the whole set, all of them."""
    marked = {
        pod.metadata.labels.get(JOB_NAME_LABEL, ""): pod.metadata.annotations[RELEASED_ANNOTATION]
        for pod in world.pods
        if RELEASED_ANNOTATION in pod.metadata.annotations
    }
    if marked and options.unit == "JobSet" and starts_at_once(world.set.spec):
        why = next(iter(marked.values()))
        return {job.name: why for job in world.jobs}
    return marked


def is_empty(job: Job) -> bool:
    """Its controller has taken its pods back."""
    return job.status.active == 0
