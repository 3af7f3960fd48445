"""What users may ask of a set beyond upstream's fields: annotations, which survive a foreign definition of the kind.

A value that makes no sense has the effect of the default and is named aloud (see `unsupported`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar, cast

import msgspec

from kajitori.base.reason import quoted
from kajitori.base.whole_numbers import whole_number

PREFIX = "groups.kajitori.dev/"
MAX_RESTARTS = PREFIX + "max-restarts"
RESTART = PREFIX + "restart"
IN_PLACE_COMMAND = PREFIX + "in-place-command"
GROUP_READY = PREFIX + "group-ready"
DRAIN_SECONDS = PREFIX + "drain-seconds"
PAUSED = PREFIX + "paused"
GANG = PREFIX + "gang"
GANG_DEADLINE_SECONDS = PREFIX + "gang-deadline-seconds"
PREFERRED_TOPOLOGY = PREFIX + "preferred-topology"
COMPATIBILITY = PREFIX + "compatibility"

RestartMethod = Literal["Recreate", "InPlace"]
GangDefault = Literal["Binder", "Gate", "None"]
GangMethod = Literal["Auto", "None", "Gate", "Volcano", "KAI", "Coscheduling", "Kueue", "Native"]
Compatibility = Literal["Pods", "StatefulSet"]

_RESTARTS: tuple[RestartMethod, ...] = ("Recreate", "InPlace")
_GANGS: tuple[GangMethod, ...] = ("Auto", "None", "Gate", "Volcano", "KAI", "Coscheduling", "Kueue", "Native")
_COMPATIBILITIES: tuple[Compatibility, ...] = ("Pods", "StatefulSet")

T = TypeVar("T")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The choices of one set.

    max_restarts: of one group in a row, before it is marked failed and left as it is; None for no limit. in_place_command:
    run in every container that shall restart. group_ready: the leader is ready only when its whole group is.
    drain_seconds: how long a group that was taken out of the endpoints may go on before it is deleted. paused: a rollout
    stays where it is. preferred_topology: node labels, the closest first. refused: per annotation what is wrong with it.
    """

    max_restarts: int | None = None
    restart: RestartMethod = "Recreate"
    in_place_command: tuple[str, ...] = ("kill", "1")
    group_ready: bool = False
    drain_seconds: int = 0
    paused: bool = False
    gang: GangMethod = "Auto"
    gang_deadline_seconds: int | None = None
    preferred_topology: tuple[str, ...] = ()
    compatibility: Compatibility = "Pods"
    refused: dict[str, str] = {}


def options_of(annotations: Mapping[str, str]) -> Options:
    """Decode the annotations of a set."""
    refused: dict[str, str] = {}

    def read(key: str, default: T, decode: Callable[[str], T], expected: str) -> T:
        text = annotations.get(key)
        if text is None:
            return default
        try:
            return decode(text.strip())
        except ValueError:
            refused[key] = f"{quoted(text)} is not {expected}"
            return default

    return Options(
        max_restarts=read(MAX_RESTARTS, None, _count, "a whole number, 0 or more"),
        restart=read(RESTART, _RESTARTS[0], _one_of(_RESTARTS), _choice(_RESTARTS)),
        in_place_command=read(
            IN_PLACE_COMMAND,
            Options().in_place_command,
            _command,
            'a JSON list of words, such as ["kill", "1"]',
        ),
        group_ready=read(GROUP_READY, False, _flag, "true or false"),
        drain_seconds=read(DRAIN_SECONDS, 0, _count, "a whole number of seconds, 0 or more"),
        paused=read(PAUSED, False, _flag, "true or false"),
        gang=read(GANG, _GANGS[0], _one_of(_GANGS), _choice(_GANGS)),
        gang_deadline_seconds=read(GANG_DEADLINE_SECONDS, None, _count, "a whole number of seconds"),
        preferred_topology=read(PREFERRED_TOPOLOGY, (), _labels, "node labels with commas between them"),
        compatibility=read(
            COMPATIBILITY, _COMPATIBILITIES[0], _one_of(_COMPATIBILITIES), _choice(_COMPATIBILITIES)
        ),
        refused=refused,
    )


def _count(text: str) -> int:
    number = whole_number(text)
    if number is None:
        raise ValueError(text)
    return number


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _one_of(allowed: tuple[T, ...]) -> Callable[[str], T]:
    def decode(text: str) -> T:
        if text not in allowed:
            raise ValueError(text)
        return cast("T", text)

    return decode


def _choice(allowed: tuple[str, ...]) -> str:
    return f"one of {', '.join(allowed)}"


def _labels(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(","))
    if not all(keys):
        raise ValueError(text)
    return keys


def _command(text: str) -> tuple[str, ...]:
    try:
        words = json.loads(text)
    except RecursionError as error:
        raise ValueError(text) from error
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError(text)
    return tuple(cast("list[str]", words))
