"""Events about what does not work, told once it is sure: several objects that are applied together refer to each
other, and for a moment the first ones lack the last.

Statuses say at once what is so now. An event stays, so it waits until the verdict on its object has not changed
for a while; one more is told when all is well again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.control.controller import After, Key, Result

if TYPE_CHECKING:
    from kajitori.api.resource import Resource
    from kajitori.control.runtime import Runtime
    from kajitori.kube.events import EventRecorder

QUIET_SECONDS = 0.3
_TOLD_OF = ("Accepted", "NotAccepted", "ResolvedRefs", "PartiallyInvalid", "Warning")
_BAD_IF_TRUE = ("NotAccepted", "PartiallyInvalid", "Warning")
# Why something is not programmed; other reasons are over when an Envoy or an address has come.
_REFUSED = "Invalid"

Problems = frozenset[tuple[str, str]]


class _Verdict(msgspec.Struct, frozen=True):
    """problems: reason and message of each. since: seconds of the loop's clock."""

    item: Any
    resource: Resource
    problems: Problems
    accepted: str
    since: float


class ProblemEvents:
    """Remembers what was told of each object, and tells what is new."""

    def __init__(self, runtime: Runtime, recorder: EventRecorder) -> None:
        self._recorder = recorder
        self._told: dict[Key, tuple[str, Problems]] = {}
        self._pending: dict[Key, _Verdict] = {}
        self._events = runtime.controller("gateway-events", self._tell)

    def judge(self, key: Key, resource: Resource, item: Any, wanted: dict[str, Any]) -> None:
        """Takes in the status that an object shall have; item: the object with the status that it had."""
        uid = item.metadata.uid or ""
        if self._told.get(key, ("",))[0] != uid:
            # What an earlier process found is in the status; it has told of it.
            before = msgspec.to_builtins(item.status) if item.status is not None else {}
            self._told[key] = (uid, _problems(before))
        problems = _problems(wanted)
        pending = self._pending.get(key)
        if (pending.problems if pending else self._told[key][1]) == problems:
            return
        accepted = next((each["message"] for each in _conditions(wanted) if each["type"] == "Accepted"), "")
        now = asyncio.get_running_loop().time()
        self._pending[key] = _Verdict(item, resource, problems, accepted, now)
        self._events.enqueue(key)

    def keep(self, keys: set[Key]) -> None:
        """Forgets all objects but these."""
        for known in (self._told, self._pending):
            for key in known.keys() - keys:
                del known[key]

    async def _tell(self, key: Key) -> Result:
        verdict = self._pending.get(key)
        if verdict is None:
            return None
        wait_seconds = verdict.since + QUIET_SECONDS - asyncio.get_running_loop().time()
        if wait_seconds > 0:
            return After(wait_seconds)
        del self._pending[key]
        uid, told = self._told[key]
        self._told[key] = (uid, verdict.problems)
        item, resource = verdict.item, verdict.resource
        for reason, message in sorted(verdict.problems - told):
            await self._recorder.record(item, reason, message, type="Warning", resource=resource)
        if told and not verdict.problems:
            await self._recorder.record(item, "Accepted", verdict.accepted, resource=resource)
        return None


def _problems(status: dict[str, Any]) -> Problems:
    found = {
        (each["reason"], each["message"])
        for each in _conditions(status)
        if each["type"] in _TOLD_OF
        and each["status"] == ("True" if each["type"] in _BAD_IF_TRUE else "False")
    }
    return frozenset(found | _refused_listeners(status, {message for _, message in found}))


def _refused_listeners(status: dict[str, Any], told: set[str]) -> set[tuple[str, str]]:
    """What Envoy refuses of a Gateway, which is accepted all the same. told: messages that say it already."""
    of_listeners = [each for entry in status.get("listeners") or () for each in entry.get("conditions") or ()]
    for states in (of_listeners, status.get("conditions") or ()):
        found = {
            (each["reason"], each["message"])
            for each in states
            if each["type"] == "Programmed"
            and each["status"] == "False"
            and each["reason"] == _REFUSED
            and each["message"] not in told
        }
        if found:
            return found
    return set()


def _conditions(status: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = list(status.get("conditions") or ())
    for part in ("parents", "listeners", "ancestors"):
        for entry in status.get(part) or ():
            found += entry.get("conditions") or ()
    return found
