"""What a manifest asks for and does not get, each in a sentence for its author. Pure.

CEL cannot look into containers of unknown number, and a foreign definition of the kind lets more through than ours.
"""

from __future__ import annotations

from collections.abc import Iterator

from kajitori.api.jobset import v1alpha2 as v1
from kajitori.base.reason import Reason
from kajitori.groups.job_sets.jobs import Object, mounted, own_volumes
from kajitori.groups.job_sets.names import claim_name
from kajitori.groups.job_sets.observed import World
from kajitori.groups.job_sets.options import GANG_UNIT, RESTART_BACKOFF_SECONDS, Options
from kajitori.groups.job_sets.placement import starts_at_once
from kajitori.groups.job_sets.policies import invalid_patterns


def fields_not_honoured(world: World, options: Options) -> Reason | None:
    """All of them in one reason; None if everything is honoured."""
    found = [
        *(f"annotation {key}: {problem}" for key, problem in options.refused.items()),
        *_gangs(world.set.spec, options),
        *_backoff(world.set.status, options),
        *_dependencies(world.set.spec),
        *(
            f"spec.failurePolicy.rules: pattern {pattern!r} matches nothing: {problem}"
            for pattern, problem in invalid_patterns(world.set.spec.failure_policy).items()
        ),
        *_claims(world),
    ]
    return Reason("FieldsNotHonoured", "; ".join(found)) if found else None


def _gangs(spec: v1.JobSetSpec, options: Options) -> Iterator[str]:
    if options.gang != "None" and options.unit == "JobSet" and not starts_at_once(spec):
        yield (
            f"annotation {GANG_UNIT}: replicated jobs that wait for others cannot be placed with them at once;"
            " each Job is a gang of its own"
        )


def _backoff(status: v1.JobSetStatus, options: Options) -> Iterator[str]:
    if options.restart_backoff_seconds and status.restarts and not status.restart_history:
        yield (
            f"annotation {RESTART_BACKOFF_SECONDS}: the definition of JobSet that is installed keeps no"
            " status.restartHistory, so nobody knows when the last restart was"
        )


def _dependencies(spec: v1.JobSetSpec) -> Iterator[str]:
    before: set[str] = set()
    for index, replicated in enumerate(spec.replicated_jobs):
        for dependency in replicated.depends_on:
            if dependency.name not in before:
                yield (
                    f"spec.replicatedJobs[{index}].dependsOn: {dependency.name} does not stand before"
                    f" {replicated.name}, which is never started"
                )
        before.add(replicated.name)


def _claims(world: World) -> Iterator[str]:
    spec, seen = world.set.spec, set[str]()
    pods: list[tuple[str, Object]] = [
        (one.name, one.template.spec.template.get("spec") or {}) for one in spec.replicated_jobs
    ]
    known = {claim.metadata.name: claim for claim in world.claims}
    for number, policy in enumerate(spec.volume_claim_policies):
        for template in policy.templates:
            name, where = template.metadata.name, f"spec.volumeClaimPolicies[{number}]"
            if name in seen:
                yield f"{where}: there is another claim named {name}, which is the one that is made"
                continue
            seen.add(name)
            if not any(name in mounted(pod) for _, pod in pods):
                yield f"{where}: no container has a volumeMount named {name}"
            for replicated, pod in pods:
                if name in own_volumes(pod):
                    yield f"{where}: pods of {replicated} have a volume {name} of their own, which they mount"
            claim = known.get(claim_name(name, world.name))
            owner = claim.metadata.controller if claim else None
            if (
                policy.retention_policy.when_deleted == "Delete"
                and claim
                and (owner is None or owner.uid != world.uid)
            ):
                yield f"{where}: the claim {claim.metadata.name} was there before, so it is used and stays"
