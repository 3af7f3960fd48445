"""Gangs: pods that are of use only together, so that they are placed together or not at all.

Whoever makes the pods writes down here what belongs together, and whoever places them reads it; neither imports the
other. A label names the gang in its namespace, annotations say how many pods it has and how close they want to be. On
a cluster whose scheduler is not ours, pods may also carry `GATE`: then they wait with us until the whole gang fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kajitori.base.whole_numbers import whole_number

PREFIX = "scheduling.kajitori.dev/"
GANG_LABEL = PREFIX + "gang"
SIZE_ANNOTATION = PREFIX + "gang-size"
REQUIRED_TOPOLOGY_ANNOTATION = PREFIX + "required-topology"
PREFERRED_TOPOLOGY_ANNOTATION = PREFIX + "preferred-topology"
DEADLINE_ANNOTATION = PREFIX + "gang-deadline-seconds"
GATE = PREFIX + "gang"
# On any pod of a gang, by whoever places it: why the gang was given up. Whoever made the pods takes all of them back.
RELEASED_ANNOTATION = PREFIX + "gang-released"


class Gang(msgspec.Struct, frozen=True, kw_only=True):
    """What pods say of their gang.

    name: unique in the namespace among gangs that live at a time, at most 63 characters, valid as a label. size:
    pods that must be placed together. required_topology: node label whose value all pods must share, empty for none.
    preferred_topology: node labels, the closest first, one of which they should share. deadline_seconds: how
    long a gang may hold a part of what it needs before it lets go; None for as long as it takes.
    """

    name: str
    size: int
    required_topology: str = ""
    preferred_topology: tuple[str, ...] = ()
    deadline_seconds: float | None = None


def gang_of(labels: Mapping[str, str], annotations: Mapping[str, str]) -> Gang | None:
    """The gang of a pod; None for a pod of its own, and where the size says nothing sensible."""
    name = labels.get(GANG_LABEL, "")
    size = whole_number(annotations.get(SIZE_ANNOTATION, ""))
    if not name or not size:
        return None
    deadline = whole_number(annotations.get(DEADLINE_ANNOTATION, ""))
    preferred = annotations.get(PREFERRED_TOPOLOGY_ANNOTATION, "")
    return Gang(
        name=name,
        size=size,
        required_topology=annotations.get(REQUIRED_TOPOLOGY_ANNOTATION, ""),
        preferred_topology=tuple(key.strip() for key in preferred.split(",") if key.strip()),
        deadline_seconds=None if deadline is None else float(deadline),
    )


def gang_labels(gang: Gang) -> dict[str, str]:
    """The labels of each of its pods."""
    return {GANG_LABEL: gang.name}


def gang_annotations(gang: Gang) -> dict[str, str]:
    """The annotations of each of its pods."""
    annotations = {SIZE_ANNOTATION: str(gang.size)}
    if gang.required_topology:
        annotations[REQUIRED_TOPOLOGY_ANNOTATION] = gang.required_topology
    if gang.preferred_topology:
        annotations[PREFERRED_TOPOLOGY_ANNOTATION] = ",".join(gang.preferred_topology)
    if gang.deadline_seconds is not None:
        annotations[DEADLINE_ANNOTATION] = str(round(gang.deadline_seconds))
    return annotations


def gated(pod_spec: dict[str, Any]) -> bool:
    """Whether the pod waits with us."""
    gates: Sequence[dict[str, Any]] = pod_spec.get("schedulingGates") or ()
    return any(gate.get("name") == GATE for gate in gates)
