"""Objects that other schedulers want for a gang: one for each group, there before its pods are. Pure.

They are named as upstream names them, owned by the set, made before the first pod of a group, made anew under another
name with a new revision, and deleted when no group needs them. A kind that the cluster does not serve keeps groups from
being begun, and the set says so: half a gang would hold what others could use.

Sources: the definitions of scheduling.volcano.sh/v1beta1, scheduling.x-k8s.io/v1alpha1 and scheduling.k8s.io (KEP-4671;
the fields used here are the same in v1alpha2 and v1beta1). KAI and Kueue make their objects themselves, from the pods.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import Resource
from kajitori.base.reason import Reason
from kajitori.groups.leader_worker_sets.actions import (
    Action,
    CreateGangObject,
    DeleteGangObject,
    Plan,
    ReleaseWorkload,
)
from kajitori.groups.leader_worker_sets.gang import (
    KUEUE_GROUP_LABEL,
    KUEUE_QUEUE_LABEL,
    METHOD_ANNOTATION,
    SCHEDULERS,
    GangChoice,
    Method,
    choose_gang,
    method_of,
    object_name,
    resolve_method,
    scheduler_of,
)
from kajitori.groups.leader_worker_sets.observed import GangObject, OtherSchedulers, Pod, World
from kajitori.groups.leader_worker_sets.options import COMPATIBILITY, GANG, options_of
from kajitori.groups.leader_worker_sets.revisions import Templates, templates
from kajitori.model.pod_resources import Amounts, add, pod_requests

CONTENT_ANNOTATION = "groups.kajitori.dev/gang-object"
ABSENT_RETRY_SECONDS = 6.0


class Kind(msgspec.Struct, frozen=True):
    """What another scheduler needs to be there. versions: those we can write, the newest first.

    made: we make one for each group. install: what brings the kind, in words.
    """

    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str
    made: bool
    install: str

    def resource(self, version: str) -> Resource:
        return Resource(self.group, version, self.plural, self.kind)


KINDS: dict[Method, Kind] = {
    "Volcano": Kind("scheduling.volcano.sh", ("v1beta1",), "podgroups", "PodGroup", True, "install Volcano"),
    "Coscheduling": Kind(
        "scheduling.x-k8s.io",
        ("v1alpha1",),
        "podgroups",
        "PodGroup",
        True,
        "install the coscheduling plugin of kubernetes-sigs/scheduler-plugins",
    ),
    "Native": Kind(
        "scheduling.k8s.io",
        ("v1", "v1beta1", "v1alpha3", "v1alpha2"),
        "podgroups",
        "PodGroup",
        True,
        "turn on the feature gates GenericWorkload and GangScheduling, and the API version in --runtime-config",
    ),
    "KAI": Kind("scheduling.run.ai", ("v2alpha2",), "podgroups", "PodGroup", False, "install KAI Scheduler"),
    "Kueue": Kind("kueue.x-k8s.io", ("v1beta2", "v1beta1"), "workloads", "Workload", False, "install Kueue"),
}


def methods_in_play(world: World) -> list[Method]:
    """Whose kinds matter to this set: that of its next group, and those of the groups that live."""
    found = {method_of(pod) for pod in world.pods if METHOD_ANNOTATION in pod.metadata.annotations}
    found.add(_next_method(world))
    return [method for method in KINDS if method in found]


def _next_method(world: World) -> Method:
    lws = world.set
    current = Templates("", lws.spec.leader_worker_template, "Shared")
    named = GANG in lws.metadata.annotations or KUEUE_QUEUE_LABEL in lws.metadata.labels
    if not named and scheduler_of(current) not in SCHEDULERS:
        # As most sets are: whatever it is, it needs no kind of others.
        return "None"
    if world.stateful_sets or lws.metadata.annotations.get(COMPATIBILITY) == "StatefulSet":
        # Their pods are made from templates alone, and carry no marks.
        return "None"
    options = options_of(lws.metadata.annotations)
    return resolve_method(lws, current, options, world.gang_default, world.schedulers.absent)


def absent_kind(world: World) -> Reason | None:
    """Why no group can be begun as the set asks for it."""
    method = _next_method(world)
    if method not in world.schedulers.absent:
        return None
    kind = KINDS[method]
    return Reason(
        "GangKindAbsent",
        f"groups are to be placed by {method}, and this cluster serves no {kind.kind} of {kind.group}"
        f" ({', '.join(kind.versions)})",
        f"{kind.install}, or set the annotation {GANG} to another method; no group is begun",
    )


def with_schedulers(world: World, schedulers: OtherSchedulers) -> World:
    """The world with what is known of other schedulers, and with the trouble if a group can't be begun for it."""
    world = msgspec.structs.replace(world, schedulers=schedulers)
    held = [what for what in world.taken if what.startswith("PodGroup ")]
    trouble = absent_kind(world)
    if held and trouble is None:
        trouble = Reason("NameTaken", f"{held[0]} is {world.taken[held[0]]}", "delete or rename it")
    return msgspec.structs.replace(world, trouble=trouble) if trouble is not None else world


def with_gang_objects(world: World, plan: Plan) -> Plan:
    """The plan with what other schedulers need before its pods, and without pods that must wait for it."""
    if not (world.schedulers.kinds or world.schedulers.absent):
        return plan
    releases = [ReleaseWorkload(name) for name in ended_workloads(world.pods)]
    if world.set.metadata.deletion_timestamp:
        # The garbage collector takes the objects; one that was made anew would only be in its way.
        return msgspec.structs.replace(plan, after=[*plan.after, *releases])
    begun = {
        create.group: create.gang for create in plan.creates if create.gang is not None and create.worker == 0
    }
    groups_of: dict[str, set[int]] = defaultdict(set)
    for group, choice in begun.items():
        groups_of[choice.object_name].add(group)
    there = _by_name(world)
    waiting = {group for group, choice in begun.items() if choice.method in world.schedulers.absent}
    going = {delete.pod.metadata.uid for delete in plan.deletes}
    wanted = _of_living(world, there, going)
    for group, choice in begun.items():
        if group not in waiting:
            wanted[choice.method, choice.object_name] = choice
    before: list[Action] = []
    after: list[Action] = [*releases]
    for (method, name), choice in wanted.items():
        resource = world.schedulers.kinds.get(method)
        if resource is None or not KINDS[method].made or choice is None:
            continue
        fresh = groups_of[name]
        make, remove, ready = _settle(world, resource, choice, there.get((method, name)), begins=bool(fresh))
        before += make
        after += remove
        waiting |= set() if ready else fresh
    again = [plan.again_after_seconds] if plan.again_after_seconds is not None else []
    if world.schedulers.absent:
        again.append(ABSENT_RETRY_SECONDS)
    return msgspec.structs.replace(
        plan,
        before=[*plan.before, *before],
        creates=[create for create in plan.creates if create.group not in waiting],
        after=[*plan.after, *after, *_unwanted(world, set(wanted))],
        again_after_seconds=min(again, default=None),
    )


def _by_name(world: World) -> dict[tuple[str, str], GangObject]:
    """The objects that there are, by the way of placing and their name."""
    return {
        (method, each.metadata.name): each
        for method, found in world.schedulers.objects.items()
        for each in found
    }


def _settle(
    world: World, resource: Resource, choice: GangChoice, there: GangObject | None, *, begins: bool
) -> tuple[list[Action], list[Action], bool]:
    """What to make, what to delete, and whether the pods of the group may be made. begins: none of them is there."""
    name = choice.object_name
    if f"{resource.kind} {name}" in world.taken:
        return [], [], False
    body = object_body(world, resource, choice)
    if there is None:
        return [CreateGangObject(resource, body)], [], True
    if not begins or _content(there.metadata.annotations) == _content(body["metadata"]["annotations"]):
        return [], [], True
    # What it says is fixed: the group waits until the old one is gone.
    return [], [DeleteGangObject(resource, there)] if there.metadata.controlled_by(world.uid) else [], False


def ended_workloads(pods: Sequence[Pod]) -> list[str]:
    """Kueue's Workloads of groups that end: as long as one stands, the pods of a serving group hold their names."""
    named = [(pod.metadata.labels.get(KUEUE_GROUP_LABEL, ""), pod) for pod in pods]
    alive = {name for name, pod in named if not pod.dying}
    return sorted({name for name, pod in named if name and pod.dying} - alive)


def _of_living(
    world: World, there: Mapping[tuple[str, str], GangObject], going: Collection[str]
) -> dict[tuple[Method, str], GangChoice | None]:
    """Objects of groups with pods; without their content where they are there or the templates are lost."""
    found: dict[tuple[Method, str], GangChoice | None] = {}
    for pod in world.pods:
        method = method_of(pod)
        if method not in KINDS or not KINDS[method].made or pod.owner_uid != world.uid:
            continue
        name = object_name(world.name, pod.group, pod.revision)
        key = (method, name)
        if pod.worker != 0 or pod.dying or pod.metadata.uid in going:
            found.setdefault(key, None)
            continue
        known = _stored(world, pod.revision) if key not in there else None
        found[key] = choose_gang(world, pod.group, known, pod.incarnation, pod) if known else None
    return found


def _stored(world: World, hash: str) -> Templates | None:
    return next((templates(hash, one.data) for one in world.revisions if one.hash == hash), None)


def _unwanted(world: World, wanted: Collection[tuple[str, str]]) -> list[Action]:
    return [
        DeleteGangObject(resource, there)
        for method, resource in world.schedulers.kinds.items()
        for there in world.schedulers.objects.get(method, ())
        if (method, there.metadata.name) not in wanted
        and there.metadata.controlled_by(world.uid)
        and there.metadata.deletion_timestamp is None
    ]


def _content(annotations: Mapping[str, str]) -> str:
    return annotations.get(CONTENT_ANNOTATION, "")


def object_body(world: World, resource: Resource, choice: GangChoice) -> dict[str, Any]:
    """The object of a group."""
    specs = {"Volcano": _volcano, "Coscheduling": _coscheduling, "Native": _native}
    spec = specs[choice.method](choice)
    digest = hashlib.sha256(msgspec.json.encode(spec, order="deterministic")).hexdigest()[:16]
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": choice.object_name,
            "namespace": world.namespace,
            "labels": {v1.SET_NAME_LABEL: world.name},
            "annotations": {**choice.annotations, CONTENT_ANNOTATION: digest},
            "ownerReferences": [world.owner_entry()],
        },
        "spec": spec,
    }


def _volcano(choice: GangChoice) -> dict[str, Any]:
    # Of a leader that goes first, Volcano knows that its workers will follow: they count in the resources.
    spec: dict[str, Any] = {
        "minMember": 1 if choice.leader_apart else choice.gang.size,
        "minResources": _resources(choice, with_leader=True),
    }
    if queue := choice.annotations.get("scheduling.volcano.sh/queue-name"):
        spec["queue"] = queue
    return spec | _priority(choice)


def _coscheduling(choice: GangChoice) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "minMember": choice.gang.size,
        "minResources": _resources(choice, with_leader=not choice.leader_apart),
    }
    if choice.gang.deadline_seconds is not None:
        spec["scheduleTimeoutSeconds"] = round(choice.gang.deadline_seconds)
    return spec


def _native(choice: GangChoice) -> dict[str, Any]:
    spec: dict[str, Any] = {"schedulingPolicy": {"gang": {"minCount": choice.gang.size}}}
    if choice.gang.required_topology:
        spec["schedulingConstraints"] = {"topology": [{"key": choice.gang.required_topology}]}
    return spec | _priority(choice)


def _priority(choice: GangChoice) -> dict[str, Any]:
    assert choice.templates is not None
    name = (choice.templates.group.worker_template.get("spec") or {}).get("priorityClassName")
    return {"priorityClassName": name} if name else {}


def _resources(choice: GangChoice, *, with_leader: bool) -> dict[str, str]:
    """What the pods ask for together."""
    assert choice.templates is not None
    group = choice.templates.group
    total: Amounts = {}
    if with_leader:
        add(total, pod_requests(group.leader_template or group.worker_template))
    worker = pod_requests(group.worker_template)
    for _ in range(group.size - 1):
        add(total, worker)
    return {name: str(amount) for name, amount in total.items()}
