"""A plan though one object meets a defect of the gateway. Pure, but for what it remembers and the log.

What a plan raises on is nothing that anybody foresaw. Then it is found out which object it is, those first that are other than
in the last plan, and the plan is made without it; it is looked at again when it changes. A SecurityPolicy is not left out but
taken for one that cannot be honoured, so nobody is let in by it. Where something must not be left out (a Gateway, what
connections are secured by), the plan is not made, and what was before stays in force.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.gateway.conditions import StatusUpdate, condition
from kajitori.gateway.envoy.search import Search
from kajitori.gateway.envoy.words import shown
from kajitori.gateway.observed import OUR_CONTROLLER
from kajitori.gateway.plan import make_plan
from kajitori.gateway.refusal_status import refused_status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from kajitori.api.resource import Resource
    from kajitori.gateway.observed import Observed
    from kajitori.gateway.plan import Plan
    from kajitori.gateway.plan_memory import PlanMemory

_log = logging.getLogger(__name__)

_SECURITY = "security_policies"
# Fields of `Observed` whose objects a plan may do without, what others refer to first.
_DISPENSABLE = (
    "backends",
    "ai_backends",
    "policies",
    "route_filters",
    "ai_routes",
    "http_routes",
    "grpc_routes",
    "api_keys",
    "tenants",
    "price_lists",
    "budgets",
    "quota_policies",
    "ai_traffic_policies",
    "gateway_configs",
    "envoy_proxies",
    "backend_traffic_policies",
    _SECURITY,
)


class _Place(NamedTuple):
    field: str
    namespace: str
    name: str


class _Defect(NamedTuple):
    item: Any
    words: str


class DefectIsolation:
    """Of one line of plans. resources: of the fields of `Observed`."""

    def __init__(self, resources: Mapping[str, Resource]) -> None:
        self._resources = resources
        self._known: dict[_Place, _Defect] = {}
        # Of the last plan that was made, by identity, which the objects themselves keep from being others'.
        self._planned: dict[int, Any] = {}

    def plan(self, observed: Observed, rejected: dict[str, str], *, envoys: int, memory: PlanMemory) -> Plan:
        """The plan. Raises what the plan raises if that is due to no object that it can do without."""
        there = dict(_dispensable(observed))
        self._known = {
            place: _Defect(item, defect.words)
            for place, defect in self._known.items()
            if (item := there.get(place)) is not None and _same(item, defect.item)
        }
        try:
            plan = make_plan(_without(observed, self._known), rejected, envoys=envoys, memory=memory)
        except Exception:
            _log.exception("an object meets a defect of the gateway; it is found out which")
            if not self._find(observed, rejected, there):
                if not rejected:
                    raise
                # Better that statuses do not tell what Envoy refuses than that nothing goes out.
                rejected = {}
            plan = make_plan(_without(observed, self._known), rejected, envoys=envoys, memory=memory)
        self._planned = {id(item): item for item in there.values()}
        if not self._known:
            return plan
        own = [
            self._status(place, defect, observed)
            for place, defect in self._known.items()
            if self._resources[place.field].kind not in observed.foreign
        ]
        keys = {(update.resource.kind, update.namespace, update.name) for update in own}
        others = [
            each for each in plan.statuses if (each.resource.kind, each.namespace, each.name) not in keys
        ]
        return msgspec.structs.replace(plan, statuses=[*others, *own])

    def _find(self, observed: Observed, rejected: dict[str, str], there: dict[_Place, Any]) -> bool:
        """Adds to the known ones. False: it is none of the objects."""
        free = [place for place in there if place not in self._known]
        fresh = [place for place in free if id(there[place]) not in self._planned]
        for suspects in (fresh, free):
            if suspects and self._words(observed, rejected, there, suspects) is None:
                break
        else:
            return False
        search = Search(tuple(suspects))
        while asked := search.asked():
            missing = set(suspects) - search.good - set(asked)
            search.answer(self._words(observed, rejected, there, missing))
        for place, words in search.found.items():
            _log.error("%s %s/%s meets a defect of the gateway: %s", *place, words)
            self._known[place] = _Defect(there[place], words)
        return True

    def _words(
        self,
        observed: Observed,
        rejected: dict[str, str],
        there: dict[_Place, Any],
        missing: Iterable[_Place],
    ) -> str | None:
        """What a plan without these raises, if anything."""
        left_out = self._known | {place: _Defect(there[place], "") for place in missing}
        try:
            make_plan(_without(observed, left_out), rejected)
        except Exception as error:
            return shown(f"{type(error).__name__}: {error}")
        return None

    def _status(self, place: _Place, defect: _Defect, observed: Observed) -> StatusUpdate:
        kept = "nobody is let in by it" if place.field == _SECURITY else "it is left out"
        message = f"this object meets a defect of the gateway, and {kept}: {defect.words}"
        resource, metadata = self._resources[place.field], defect.item.metadata
        accepted = _accepted(resource.kind, defect.item, observed.controllers)
        status = refused_status(resource.kind, accepted, message)
        return StatusUpdate(resource, place.namespace, place.name, metadata.generation or 0, status)


def _same(item: Any, before: Any) -> bool:
    """Whether nothing but the status is another one, which tells of the defect itself."""
    mine, theirs = item.metadata, before.metadata
    return item is before or (
        mine.uid == theirs.uid
        and mine.generation == theirs.generation
        and mine.annotations == theirs.annotations
        and mine.labels == theirs.labels
        and item.spec == before.spec
    )


def _dispensable(observed: Observed) -> list[tuple[_Place, Any]]:
    return [
        (_Place(field, item.metadata.namespace or "", item.metadata.name or ""), item)
        for field in _DISPENSABLE
        for item in getattr(observed, field)
    ]


def _without(observed: Observed, left_out: Mapping[_Place, _Defect]) -> Observed:
    if not left_out:
        return observed
    changed: dict[str, tuple[Any, ...]] = {}
    for field in dict.fromkeys(place.field for place in left_out):
        gone = {id(defect.item) for place, defect in left_out.items() if place.field == field}
        kept: list[Any] = []
        for item in getattr(observed, field):
            if id(item) not in gone:
                kept.append(item)
            elif field == _SECURITY:
                kept.append(_closed(item))
        changed[field] = tuple(kept)
    return msgspec.structs.replace(observed, **changed)


def _closed(policy: Any) -> Any:
    """A SecurityPolicy for the same targets that cannot be honoured."""
    targets = {key: item for key, item in policy.spec.items() if key.startswith("target")}
    return msgspec.structs.replace(policy, spec={**targets, "kajitoriCannotReadThis": True})


def _accepted(kind: str, item: Any, controllers: Collection[str]) -> dict[str, Any]:
    """What is turned into a refusal: a status of the form that the object has, or else is to get, of our entries alone."""
    conditions = [condition("Accepted", True, "Accepted", "")]
    before: dict[str, Any] = msgspec.to_builtins(getattr(item, "status", None)) or {}
    for part, member in (("parents", "parentRef"), ("ancestors", "ancestorRef")):
        entries = [
            {
                **{key: _given(entry[key]) for key in (member, "controllerName") if entry.get(key)},
                "conditions": conditions,
            }
            for entry in before.get(part) or ()
            if (entry.get("controllerName") or OUR_CONTROLLER) in controllers
        ]
        if entries:
            return {part: entries}
    if before.get("conditions"):
        return {"conditions": conditions}
    return _first_status(kind, item, conditions)


def _given(value: Any) -> Any:
    """A reference without members that nobody wrote."""
    return (
        {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value
    )  # pyright: ignore[reportUnknownVariableType]


def _first_status(kind: str, item: Any, accepted: list[dict[str, Any]]) -> dict[str, Any]:
    """Of an object that has no status yet."""
    spec: Any = item.spec
    if kind.endswith("Route") and kind != "AIGatewayRoute":
        refs = msgspec.to_builtins(spec.parent_refs)
        entries = [{key: each for key, each in ref.items() if each is not None} for ref in refs]
        return {
            "parents": [
                {"parentRef": ref, "controllerName": OUR_CONTROLLER, "conditions": accepted}
                for ref in entries
            ]
        }
    if isinstance(spec, dict) and "Policy" in kind:
        refs = spec.get("targetRefs") or [spec.get("targetRef")]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return {
            "ancestors": [
                {"ancestorRef": ref, "controllerName": OUR_CONTROLLER, "conditions": accepted}
                for ref in refs  # pyright: ignore[reportUnknownVariableType]
            ]
        }
    return {"conditions": accepted}
