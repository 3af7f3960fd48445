"""Conditions as the plan makes them: without times, which the controller adds when it writes a status."""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.api.resource import Resource


def condition(kind: str, status: bool, reason: str, message: str) -> dict[str, Any]:
    """One entry of `status.conditions`."""
    return {"type": kind, "status": "True" if status else "False", "reason": reason, "message": message}


class StatusUpdate(msgspec.Struct, frozen=True):
    """The status that an object shall have.

    status: as the API spells it; conditions without `lastTransitionTime` and `observedGeneration`.
    """

    resource: Resource
    namespace: str
    name: str
    generation: int
    status: dict[str, Any]


def ai_status(problems: list[str], notes: list[str], accepted: str) -> dict[str, Any]:
    """The single condition of the AI gateway's kinds.

    problems: what keeps the object, or a part of it, from working. notes: what is honoured less than fully.
    """
    if problems:
        return {"conditions": [condition("NotAccepted", True, "NotAccepted", "; ".join(problems + notes))]}
    message = "; ".join([accepted, *notes])
    return {"conditions": [condition("Accepted", True, "Accepted", message)]}
