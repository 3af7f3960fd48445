"""What users may ask of a set beyond upstream's fields: annotations, which survive a foreign definition of the kind.

A value that makes no sense has the effect of the default and is named aloud (see `unsupported`). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

PREFIX = "groups.kajitori.dev/"
GANG = PREFIX + "gang"
GANG_UNIT = PREFIX + "gang-unit"
GANG_DEADLINE_SECONDS = PREFIX + "gang-deadline-seconds"
PREFERRED_TOPOLOGY = PREFIX + "preferred-topology"

GangMethod = Literal["None", "Auto", "Gate"]
GangUnit = Literal["Job", "JobSet"]
_METHODS: tuple[GangMethod, ...] = ("None", "Auto", "Gate")
_UNITS: tuple[GangUnit, ...] = ("Job", "JobSet")

T = TypeVar("T", bound=str)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The choices of one set.

    gang: whether pods say that they are of use only together (`Auto`), and wait for it at a gate (`Gate`). unit: the
    pods of one Job, or all of the set. preferred_topology: node labels, the closest first. refused: per annotation what
    is wrong with it.
    """

    gang: GangMethod = "None"
    unit: GangUnit = "Job"
    deadline_seconds: int | None = None
    preferred_topology: tuple[str, ...] = ()
    refused: dict[str, str] = {}


def options_of(annotations: Mapping[str, str]) -> Options:
    """Decode the annotations of a set."""
    refused: dict[str, str] = {}

    def choice(key: str, allowed: tuple[T, ...]) -> T:
        text = annotations.get(key, allowed[0]).strip()
        for one in allowed:
            if text == one:
                return one
        refused[key] = f"{text!r} is not one of {', '.join(allowed)}"
        return allowed[0]

    deadline = annotations.get(GANG_DEADLINE_SECONDS, "").strip()
    if deadline and not deadline.isdecimal():
        refused[GANG_DEADLINE_SECONDS] = f"{deadline!r} is not a whole number of seconds"
    preferred = annotations.get(PREFERRED_TOPOLOGY, "")
    return Options(
        gang=choice(GANG, _METHODS),
        unit=choice(GANG_UNIT, _UNITS),
        deadline_seconds=int(deadline) if deadline.isdecimal() else None,
        preferred_topology=tuple(key.strip() for key in preferred.split(",") if key.strip()),
        refused=refused,
    )
