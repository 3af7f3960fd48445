"""When a set has succeeded, and what follows when one of its Jobs failed. Pure.

Of several Jobs that failed, one decides: the first to fail of those that the first matching rule matches. Restarts
are counted here and nowhere else, in the status that is written before anything is deleted. Source: the API of
kubernetes-sigs/jobset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.regular import compile_pattern
from kajitori.base.clock import parse_rfc3339
from kajitori.groups.job_sets.actions import Event, Failure
from kajitori.groups.job_sets.observed import Job
from kajitori.groups.job_sets.status import Conditions

LONGEST_BACKOFF_SECONDS = 600.0
DEFAULT_ACTION: v1.FailureAction = "RestartJobSet"
_COUNTED = frozenset({"RestartJobSet", "RestartJob"})
_OF_ONE_JOB = frozenset({"RestartJob", "RestartJobAndIgnoreMaxRestarts"})


def has_succeeded(spec: v1.JobSetSpec, succeeded: Sequence[Job]) -> bool:
    """Whether enough Jobs have. Never before one has."""
    targets = spec.success_policy.target_replicated_jobs
    done = sum(not targets or job.replicated in targets for job in succeeded)
    if spec.success_policy.operator == "Any":
        return done >= 1
    wanted = sum(one.replicas for one in spec.replicated_jobs if not targets or one.name in targets)
    return bool(succeeded) and done >= wanted


def first_failed(jobs: Sequence[Job], fits: Callable[[Job], bool] = lambda _: True) -> Job | None:
    """The Job that failed first; of several in the same second, the first by name."""
    failed = [(job.end.last_transition_time, job.name, job) for job in jobs if job.end and fits(job)]
    return min(failed, key=lambda one: one[:2])[2] if failed else None


def rule_name(rule: v1.FailureRule, index: int) -> str:
    """Its own, or what upstream's webhook would call it."""
    return rule.name or f"failurePolicyRule{index}"


def matches(rule: v1.FailureRule, job: Job) -> bool:
    """Whether the rule is about this failure. A pattern that is none matches nothing."""
    if job.end is None or (rule.on_job_failure_reasons and job.end.reason not in rule.on_job_failure_reasons):
        return False
    if rule.target_replicated_jobs and job.replicated not in rule.target_replicated_jobs:
        return False
    patterns = rule.on_job_failure_message_patterns
    return not patterns or any(_finds(pattern, job.end.message) for pattern in patterns)


def _finds(pattern: str, message: str) -> bool:
    try:
        return compile_pattern(pattern).search(message) is not None
    except EvaluationError:
        return False


def invalid_patterns(policy: v1.FailurePolicy | None) -> dict[str, str]:
    """Patterns that are no regular expressions, and why: a foreign definition lets them through."""
    found: dict[str, str] = {}
    for rule in policy.rules if policy else ():
        for pattern in rule.on_job_failure_message_patterns:
            try:
                compile_pattern(pattern)
            except EvaluationError as error:
                found[pattern] = str(error)
    return found


def decide(policy: v1.FailurePolicy, failed: Sequence[Job]) -> Failure | None:
    """Which action the policy wants for these Jobs."""
    for index, rule in enumerate(policy.rules):
        job = first_failed(failed, lambda job, rule=rule: matches(rule, job))
        if job is not None:
            return Failure(job=job, action=rule.action, rule=rule_name(rule, index))
    job = first_failed(failed)
    return Failure(job=job, action=DEFAULT_ACTION) if job else None


def restarts_towards_max(status: v1.JobSetStatus) -> int:
    """Of the set and of single Jobs, as far as they are counted."""
    alone = (sum(one.job_restarts_count_towards_max) for one in status.replicated_jobs_status)
    return status.restarts_count_towards_max + sum(alone)


def backoff_left_seconds(status: v1.JobSetStatus, first_seconds: int, now: float) -> float:
    """How long nothing shall be made yet after the latest restart: each time twice as long, ten minutes at most."""
    if not first_seconds or not status.restart_history:
        return 0.0
    alone = (sum(one.job_restarts) for one in status.replicated_jobs_status)
    number = status.restarts + sum(alone)
    delay = min(LONGEST_BACKOFF_SECONDS, first_seconds * 2.0 ** min(number - 1, 20))
    return parse_rfc3339(status.restart_history[-1].time) + delay - now


def apply_failure(
    spec: v1.JobSetSpec, status: v1.JobSetStatus, failed: Sequence[Job], conditions: Conditions
) -> tuple[v1.JobSetStatus, Failure | None]:
    """The status after the decision about Jobs that failed, and the decision."""
    policy = spec.failure_policy
    if policy is None:
        job = first_failed(failed)
        if job is None:
            return status, None
        fail(conditions, "FailedJobs", "jobset failed due to one or more job failures", job)
        return _ended(status), Failure(job=job, action="FailJobSet")
    failure = decide(policy, failed)
    if failure is None:
        return status, None
    if failure.action == "FailJobSet":
        fail(
            conditions,
            "FailJobSetFailurePolicyAction",
            "applying FailJobSet failure policy action",
            failure.job,
        )
        return _ended(status), failure
    if failure.action in _COUNTED and restarts_towards_max(status) >= policy.max_restarts:
        exhausted(conditions, failure.job)
        return _ended(status), msgspec.structs.replace(failure, action="FailJobSet")
    return _restart(spec, status, failure, conditions), msgspec.structs.replace(failure, restarts=True)


def _with_job(message: str, job: Job | None) -> str:
    return f"{message} (first failed job: {job.name})" if job else message


def fail(conditions: Conditions, reason: str, message: str, job: Job | None) -> None:
    """The set has failed; it does not restart any more."""
    conditions.set_true(v1.FAILED, reason, _with_job(message, job), type="Warning", blamed=job is not None)
    conditions.set_false(v1.RESTARTING, "JobSetFailed", "jobset failed")


def exhausted(conditions: Conditions, job: Job | None) -> None:
    """The set has failed since it may not restart any more."""
    fail(conditions, "ReachedMaxRestarts", "jobset failed due to reaching max number of restarts", job)


def _ended(status: v1.JobSetStatus) -> v1.JobSetStatus:
    return msgspec.structs.replace(status, terminal_state=v1.FAILED)


def _restart(
    spec: v1.JobSetSpec, status: v1.JobSetStatus, failure: Failure, conditions: Conditions
) -> v1.JobSetStatus:
    counted = failure.action in _COUNTED
    message = _with_job(f"applying {failure.action} failure policy action", failure.job)
    conditions.events.append(
        Event(
            reason=f"{failure.action}FailurePolicyAction",
            message=message,
            type="Warning",
            blamed=True,
        )
    )
    if failure.action in _OF_ONE_JOB:
        return _count_job(spec, status, failure.job, counted=counted)
    reason = f"FailurePolicy_{failure.rule}" if failure.rule else "DefaultFailurePolicy"
    conditions.set_true(v1.RESTARTING, reason, message, type="Warning")
    return msgspec.structs.replace(
        status,
        restarts=status.restarts + 1,
        restarts_count_towards_max=status.restarts_count_towards_max + counted,
    )


def _count_job(spec: v1.JobSetSpec, status: v1.JobSetStatus, job: Job, *, counted: bool) -> v1.JobSetStatus:
    replicas = {one.name: one.replicas for one in spec.replicated_jobs}

    def one_more(counts: list[int]) -> list[int]:
        counts = [*counts, *[0] * (replicas[job.replicated] - len(counts))]
        counts[job.index] += 1
        return counts

    return msgspec.structs.replace(
        status,
        replicated_jobs_status=[
            msgspec.structs.replace(
                one,
                job_restarts=one_more(one.job_restarts),
                job_restarts_count_towards_max=one_more(one.job_restarts_count_towards_max)
                if counted
                else one.job_restarts_count_towards_max,
            )
            if one.name == job.replicated
            else one
            for one in status.replicated_jobs_status
        ],
    )
