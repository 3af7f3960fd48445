"""How the pods of a group are marked as a gang, for whichever scheduler places them. Pure.

The choice is made once a group's life, when its leader is made, and is written down on every pod: pods that are made
later follow their leader, whatever the set says by then. Marks are added to pods alone, never to templates, so that
another choice rolls nothing: new groups have it.

With `startupPolicy: LeaderReady` the leader is placed alone and is no part of the gang: its workers do not exist yet.
They are a gang among themselves, near their leader.

Sources: the API documents of Kueue (plain pod groups), Volcano, KAI, scheduler-plugins (coscheduling), KEP-4671 (Native).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any, Literal, cast

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.groups.leader_worker_sets.identity import group_word
from kajitori.groups.leader_worker_sets.observed import Pod, World
from kajitori.groups.leader_worker_sets.options import (
    GANG,
    GangDefault,
    Options,
    options_of,
)
from kajitori.groups.leader_worker_sets.revisions import Templates
from kajitori.model.gang import GATE, Gang, gang_annotations, gang_labels
from kajitori.model.pod_resources import pod_requests

Method = Literal["None", "Binder", "Gate", "Volcano", "KAI", "Coscheduling", "Kueue", "Native"]

METHOD_ANNOTATION = GANG
LEADER_APART_ANNOTATION = "groups.kajitori.dev/gang-without-leader"
OUR_SCHEDULERS = ("", "default-scheduler", "kajitori")
SCHEDULERS: dict[str, Method] = {"volcano": "Volcano", "kai-scheduler": "KAI"}

VOLCANO_GROUP_ANNOTATION = "scheduling.k8s.io/group-name"
VOLCANO_PREFIXES = ("volcano.sh/", "scheduling.volcano.sh/")
KAI_PREFIX = "kai.scheduler/"
COSCHEDULING_LABEL = "scheduling.x-k8s.io/pod-group"
KUEUE_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
KUEUE_PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
KUEUE_GROUP_LABEL = "kueue.x-k8s.io/pod-group-name"
KUEUE_COUNT_ANNOTATION = "kueue.x-k8s.io/pod-group-total-count"
KUEUE_SERVING_ANNOTATION = "kueue.x-k8s.io/pod-group-serving"
KUEUE_REQUIRED_ANNOTATION = "kueue.x-k8s.io/podset-required-topology"
KUEUE_PREFERRED_ANNOTATION = "kueue.x-k8s.io/podset-preferred-topology"

_LONGEST_LABEL = 63


class GangChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What the pods of one life of a group are marked with.

    gang: name, number of members and wishes. leader_apart: the leader is no member. object_name: of the other
    scheduler's object, where it has one. labels, annotations: of the set, that the other scheduler reads on pods.
    """

    method: Method = "None"
    gang: Gang = Gang(name="", size=0)
    leader_apart: bool = False
    object_name: str = ""
    templates: Templates | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


def resolve_method(
    lws: v1.LeaderWorkerSet,
    templates: Templates,
    options: Options,
    default: GangDefault,
    absent: Collection[str] = (),
) -> Method:
    """Which way a group that begins now is placed. default: what `Auto` means on this cluster.

    absent: methods whose scheduler is known not to be here.
    """
    asked = options.gang
    if asked == "Auto":
        return _automatic(lws, templates, default, absent)
    if asked == "Gate" and (templates.size < 2 or default == "None"):
        # Nobody would open the gates.
        return "None"
    return asked


def _automatic(
    lws: v1.LeaderWorkerSet, templates: Templates, default: GangDefault, absent: Collection[str]
) -> Method:
    if KUEUE_QUEUE_LABEL in lws.metadata.labels and "Kueue" not in absent:
        return "Kueue"
    scheduler = scheduler_of(templates)
    if scheduler not in OUR_SCHEDULERS:
        return SCHEDULERS.get(scheduler, "None")
    if templates.size < 2 or default == "None":
        return "None"
    if default == "Gate" and not (
        v1.EXCLUSIVE_TOPOLOGY_ANNOTATION in lws.metadata.annotations or _asks_for_devices(templates)
    ):
        # Each gate costs a request; pods that fit anywhere need none.
        return "None"
    return default


def unheard_marks(world: World) -> list[str]:
    """Labels and annotations of the set for a scheduler that its groups are not placed by, one line each."""
    lws = world.set
    marks = [*lws.metadata.annotations, *lws.metadata.labels]
    theirs = {
        "Volcano": sorted(mark for mark in marks if mark.startswith(VOLCANO_PREFIXES)),
        "KAI": sorted(mark for mark in marks if mark.startswith(KAI_PREFIX)),
        "Kueue": [mark for mark in lws.metadata.labels if mark == KUEUE_QUEUE_LABEL],
    }
    closed = world.gang_default == "None" and lws.metadata.annotations.get(GANG) == "Gate"
    found = (
        [f"annotation {GANG}: Gate: this installation opens no gates (groups.gangGates)"] if closed else []
    )
    if not any(theirs.values()):
        return found
    current = Templates("", lws.spec.leader_worker_template, "Shared")
    options = options_of(lws.metadata.annotations)
    method = resolve_method(lws, current, options, world.gang_default, world.schedulers.absent)
    for other, marked in theirs.items():
        if marked and other != method:
            why = "is not installed" if other in world.schedulers.absent else "does not place these groups"
            found.append(f"{', '.join(marked)}: {other} {why} (annotation {GANG}: {options.gang})")
    return found


def scheduler_of(templates: Templates) -> str:
    """The scheduler that the pods name; empty for the cluster's own."""
    return str((templates.group.worker_template.get("spec") or {}).get("schedulerName") or "")


def _asks_for_devices(templates: Templates) -> bool:
    pods = (templates.group.worker_template, templates.group.leader_template or {})
    return any(
        "/" in name and "kubernetes.io/" not in name and amount.value > 0
        for pod in pods
        for name, amount in pod_requests(pod).items()
    )


def choose_gang(
    world: World, index: int, templates: Templates, incarnation: str, leader: Pod | None
) -> GangChoice:
    """The marks for pods that are made now. leader: of the group that they join; None for a group that begins."""
    lws = world.set
    options = options_of(lws.metadata.annotations)
    if leader is None:
        method = resolve_method(lws, templates, options, world.gang_default, world.schedulers.absent)
        apart = lws.spec.startup_policy == "LeaderReady"
    else:
        method = method_of(leader)
        apart = LEADER_APART_ANNOTATION in leader.metadata.annotations
    if method == "None":
        return GangChoice()
    gang = Gang(
        name=fitting_name(f"{world.name}-{group_word(index)}", incarnation),
        size=templates.size - 1 if apart else templates.size,
        required_topology=lws.metadata.annotations.get(v1.EXCLUSIVE_TOPOLOGY_ANNOTATION, ""),
        preferred_topology=options.preferred_topology,
        deadline_seconds=options.gang_deadline_seconds,
    )
    return GangChoice(
        method=method,
        gang=gang,
        leader_apart=apart,
        object_name=object_name(world.name, index, templates.hash),
        templates=templates,
        labels=_inherited(method, lws.metadata.labels),
        annotations=_inherited(method, lws.metadata.annotations),
    )


def method_of(leader: Pod) -> Method:
    """As the leader of a group says."""
    return cast("Method", leader.metadata.annotations.get(METHOD_ANNOTATION, "None"))


def waits_for_workers(leader: Pod) -> bool:
    """Whether the leader has no place before its workers are there too."""
    return method_of(leader) != "None" and LEADER_APART_ANNOTATION not in leader.metadata.annotations


def object_name(set_name: str, index: int, revision: str) -> str:
    """Of the object that another scheduler wants for a group, as upstream names it."""
    return fitting_name(f"{set_name}-{group_word(index)}", revision)


def fitting_name(first: str, last: str) -> str:
    """Both with a dash between them, in at most 63 characters, and different for different ones."""
    name = f"{first}-{last}"
    if len(name) <= _LONGEST_LABEL:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{first[: _LONGEST_LABEL - 11]}-{digest}"


_INHERITED: dict[Method, tuple[str, ...]] = {
    "Volcano": VOLCANO_PREFIXES,
    "KAI": (KAI_PREFIX,),
    "Kueue": (KUEUE_QUEUE_LABEL, KUEUE_PRIORITY_LABEL, "kueue.x-k8s.io/podset-"),
}


def _inherited(method: Method, marks: Mapping[str, str]) -> dict[str, str]:
    prefixes = _INHERITED.get(method, ())
    return {key: value for key, value in marks.items() if prefixes and key.startswith(prefixes)}


def mark(choice: GangChoice, worker: int, body: dict[str, Any]) -> dict[str, Any]:
    """The pod with the marks of its gang; the parts that change are copied."""
    if choice.method == "None":
        return body
    labels, annotations, spec = _marks(choice, worker, body["spec"])
    if choice.leader_apart and worker == 0:
        annotations[LEADER_APART_ANNOTATION] = "true"
    metadata = body["metadata"]
    return {
        **body,
        "metadata": {
            **metadata,
            # What a template says itself counts more than what the set passes on.
            "labels": {**choice.labels, **metadata["labels"], **labels},
            "annotations": {
                **choice.annotations,
                **metadata["annotations"],
                METHOD_ANNOTATION: choice.method,
                **annotations,
            },
        },
        "spec": {**body["spec"], **spec},
    }


def _marks(
    choice: GangChoice, worker: int, spec: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, str], dict[str, Any]]:
    """Labels, annotations and fields of the spec."""
    gang, member = choice.gang, not (choice.leader_apart and worker == 0)
    match choice.method:
        case "Volcano":
            return {}, {VOLCANO_GROUP_ANNOTATION: choice.object_name}, _scheduler(spec, "volcano")
        case "KAI":
            # Its pod grouper knows the labels of LeaderWorkerSets, and would put its own name over one of ours.
            return {}, {}, _scheduler(spec, "kai-scheduler")
        case _ if not member:
            return {}, {}, {}
        case "Binder":
            return gang_labels(gang), gang_annotations(gang), {}
        case "Gate":
            gates = [*(spec.get("schedulingGates") or ()), {"name": GATE}]
            return gang_labels(gang), gang_annotations(gang), {"schedulingGates": gates}
        case "Coscheduling":
            return {COSCHEDULING_LABEL: choice.object_name}, {}, {}
        case "Native":
            return {}, {}, {"schedulingGroup": {"podGroupName": choice.object_name}}
        case _:
            return {KUEUE_GROUP_LABEL: gang.name}, _kueue(gang), {}


def _scheduler(spec: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Only its own scheduler reads such marks; one that the template names is the user's word."""
    return {} if spec.get("schedulerName") else {"schedulerName": name}


def _kueue(gang: Gang) -> dict[str, str]:
    annotations = {KUEUE_COUNT_ANNOTATION: str(gang.size), KUEUE_SERVING_ANNOTATION: "true"}
    if gang.required_topology:
        annotations[KUEUE_REQUIRED_ANNOTATION] = gang.required_topology
    elif gang.preferred_topology:
        annotations[KUEUE_PREFERRED_ANNOTATION] = gang.preferred_topology[0]
    return annotations
