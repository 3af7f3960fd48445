"""What a job's policies say about pods that failed and indexes that succeeded. Pure.

Source: Kubernetes' documentation of pod failure policy and success policy; the first rule that matches decides.
"""

from __future__ import annotations

from typing import NamedTuple

from kajitori.laptop.controllers.jobs.indexes import Intervals, count, overlap, parse_indexes
from kajitori.laptop.controllers.jobs.views import JobView, Object
from kajitori.laptop.controllers.views import ContainerStatusView, PodView


class Verdict(NamedTuple):
    """action: of the rule that matched, empty for none. message: why the job fails, where it does."""

    action: str = ""
    message: str = ""

    @property
    def counts(self) -> bool:
        """Whether the failure goes against the back-off limit."""
        return self.action != "Ignore"


def judge_failure(policy: Object | None, pod: PodView) -> Verdict:
    """What the policy makes of a failed pod."""
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        where = f"{pod.metadata.namespace}/{pod.metadata.name}"
        action = str(rule.get("action", ""))
        ending = f"matching {action} rule at index {number}"
        if rule.get("onExitCodes") is not None:
            container = _container_with_exit_code(pod, rule["onExitCodes"])
            if container is None or container.terminated is None:
                continue
            code = container.terminated.exit_code
            message = f"Container {container.name} for pod {where} failed with exit code {code} {ending}"
        elif condition := _matching_condition(pod, rule.get("onPodConditions") or ()):
            message = f"Pod {where} has condition {condition} {ending}"
        else:
            continue
        return Verdict(action, message if action == "FailJob" else "")
    return Verdict()


def _container_with_exit_code(pod: PodView, requirement: Object) -> ContainerStatusView | None:
    wanted, values = requirement.get("containerName"), requirement.get("values") or ()
    for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        ended = status.terminated
        if ended is None or ended.exit_code == 0 or wanted not in (None, status.name):
            continue
        if (ended.exit_code in values) == (requirement.get("operator") == "In"):
            return status
    return None


def _matching_condition(pod: PodView, patterns: list[Object] | tuple[()]) -> str:
    for condition in pod.status.conditions:
        for pattern in patterns:
            if (condition.type, condition.status) == (pattern.get("type"), pattern.get("status", "True")):
                return condition.type
    return ""


def success_message(job: JobView, succeeded: Intervals) -> str:
    """Which rule of the success policy is met; empty if none is."""
    if not succeeded:
        return ""
    completions = job.spec.completions or 0
    for number, rule in enumerate((job.spec.success_policy or {}).get("rules") or ()):
        wanted_count: int | None = rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            wanted = parse_indexes(rule["succeededIndexes"], completions)
            both = overlap(wanted, succeeded)
            met = bool(wanted) and (
                both == count(wanted) or (wanted_count is not None and both >= wanted_count)
            )
        else:
            met = wanted_count is not None and count(succeeded) >= wanted_count
        if met:
            return f"Matched rules at index {number}"
    return ""
