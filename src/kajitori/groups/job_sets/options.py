"""What users may ask of a set beyond upstream's fields: annotations, which survive a foreign definition of the kind.

A value that makes no sense has the effect of the default and is named aloud (see `unsupported`). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

from kajitori.base.reason import quoted
from kajitori.base.whole_numbers import whole_number

PREFIX = "groups.kajitori.dev/"
GANG = PREFIX + "gang"
GANG_UNIT = PREFIX + "gang-unit"
GANG_DEADLINE_SECONDS = PREFIX + "gang-deadline-seconds"
PREFERRED_TOPOLOGY = PREFIX + "preferred-topology"
RESTART_BACKOFF_SECONDS = PREFIX + "restart-backoff-seconds"

GangMethod = Literal["None", "Auto", "Gate"]
GangUnit = Literal["Job", "JobSet"]
_METHODS: tuple[GangMethod, ...] = ("None", "Auto", "Gate")
_UNITS: tuple[GangUnit, ...] = ("Job", "JobSet")

T = TypeVar("T", bound=str)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The choices of one set.

    gang: whether pods say that they are of use only together (`Auto`), and wait for it at a gate (`Gate`). unit: the
    pods of one Job, or all of the set. preferred_topology: node labels, the closest first. restart_backoff_seconds: how
    long nothing is made after the first restart, twice as long after the next, and so on. refused: per annotation
    what is wrong with it.
    """

    gang: GangMethod = "None"
    unit: GangUnit = "Job"
    deadline_seconds: int | None = None
    preferred_topology: tuple[str, ...] = ()
    restart_backoff_seconds: int = 0
    refused: dict[str, str] = {}


def options_of(annotations: Mapping[str, str]) -> Options:
    """Decode the annotations of a set."""
    refused: dict[str, str] = {}

    def choice(key: str, allowed: tuple[T, ...]) -> T:
        text = annotations.get(key, allowed[0]).strip()
        for one in allowed:
            if text == one:
                return one
        refused[key] = f"{quoted(text)} is not one of {', '.join(allowed)}"
        return allowed[0]

    def seconds(key: str) -> int | None:
        text = annotations.get(key, "").strip()
        number = whole_number(text)
        if text and number is None:
            refused[key] = f"{quoted(text)} is not a whole number of seconds"
        return number

    preferred = annotations.get(PREFERRED_TOPOLOGY, "")
    return Options(
        gang=choice(GANG, _METHODS),
        unit=choice(GANG_UNIT, _UNITS),
        deadline_seconds=seconds(GANG_DEADLINE_SECONDS),
        preferred_topology=tuple(key.strip() for key in preferred.split(",") if key.strip()),
        restart_backoff_seconds=seconds(RESTART_BACKOFF_SECONDS) or 0,
        refused=refused,
    )
