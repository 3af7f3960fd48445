"""The headless Services of a set: the one that all groups share, or one for each group. Pure.

Which are wanted follows the groups through a rollout: one that keeps its revision keeps the names that it was made with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kajitori.groups.leader_worker_sets.actions import Action, CreateService, DeleteService, MendService
from kajitori.groups.leader_worker_sets.observed import Pod, World
from kajitori.groups.leader_worker_sets.pods import leader_name, service_body
from kajitori.groups.leader_worker_sets.revision_plan import RevisionPlan


def plan_services(
    world: World,
    revision: RevisionPlan,
    pods: Mapping[int, Sequence[Pod]],
    groups: Iterable[int] | None = None,
) -> tuple[list[Action], list[str]]:
    """Actions, and the names that are in use by Services of others. groups: that are wanted."""
    if groups is None:
        groups = range(revision.position.groups)
    wanted = _wanted_services(world, revision, pods, groups)
    there = {service.metadata.name: service for service in world.services}
    actions: list[Action] = []
    blocked: list[str] = []
    for name, group in wanted.items():
        service = there.get(name)
        body = service_body(world.namespace, world.name, world.owner_entry(), group)
        if service is None:
            if f"Service {name}" in world.taken:
                blocked.append(f"Service {name}")
            else:
                actions.append(CreateService(body))
        elif not service.metadata.controlled_by(world.uid):
            blocked.append(f"Service {name}")
        elif (
            service.spec.selector != body["spec"]["selector"] or not service.spec.publish_not_ready_addresses
        ):
            actions.append(MendService(service, body["spec"]))
    actions += [
        DeleteService(service)
        for name, service in there.items()
        if name not in wanted and service.metadata.controlled_by(world.uid)
    ]
    return actions, blocked


def _wanted_services(
    world: World, revision: RevisionPlan, pods: Mapping[int, Sequence[Pod]], groups: Iterable[int]
) -> dict[str, int | None]:
    """Names of Services; the value is the group that it stands for, None for the one that all share."""
    wanted: dict[str, int | None] = {}
    policies: dict[int, set[str]] = {}
    for index in {*groups, *pods}:
        hashes = {pod.revision for pod in pods.get(index, ())}
        found = [revision.older(hash) for hash in hashes if hash != revision.target.hash]
        policies[index] = {templates.subdomain_policy for templates in found if templates}
        if index >= revision.position.partition or not hashes:
            policies[index].add(revision.target.subdomain_policy)
    if revision.target.subdomain_policy == "Shared" or any("Shared" in found for found in policies.values()):
        wanted[world.name] = None
    for index in sorted(policies):
        if "UniquePerReplica" in policies[index]:
            wanted[leader_name(world.name, index)] = index
    return wanted
