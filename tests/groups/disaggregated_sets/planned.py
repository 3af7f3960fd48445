"""A cluster in a dict, for plans: it does what a plan asks, and its groups become ready when a test says so."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from kajitori.api.leaderworkerset.v1 import LeaderWorkerSet
from kajitori.base.clock import rfc3339
from kajitori.groups.disaggregated_sets.actions import (
    Action,
    ChangeSet,
    CreateScaler,
    CreateService,
    CreateSet,
    DeleteScaler,
    DeleteService,
    DeleteSet,
    Event,
    MendService,
    Plan,
    TellScaler,
)
from kajitori.groups.disaggregated_sets.observed import (
    Child,
    Scaler,
    Service,
    SetView,
    World,
    child_of,
)
from kajitori.groups.disaggregated_sets.plan import plan_set

START = 1_700_000_000.0
Object = dict[str, Any]


def merged(value: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    base = value if isinstance(value, dict) else {}
    changed = {key: merged(base.get(key), part) for key, part in patch.items() if part is not None}
    return {key: part for key, part in base.items() if key not in patch} | changed


class PlannedSet:
    """One set and what was made for it. requests: actions done so far. events: said so far."""

    def __init__(self, manifest: Object) -> None:
        self.manifest: Object = {}
        self.sets: dict[str, Object] = {}
        self.services: dict[str, Object] = {}
        self.scalers: dict[str, Object] = {}
        self.foreign: dict[str, str] = {}
        self.foreign_scalers: dict[str, str] = {}
        self.paused = False
        self.status: Object = {}
        self.requests: list[Action] = []
        self.events: list[Event] = []
        self.always: Callable[[], None] = lambda: None
        self._now = START
        self._ids = itertools.count(1)
        self.generation = 0
        self.write(manifest)

    def write(self, manifest: Object) -> None:
        """As its author does."""
        self.generation += 1
        metadata = {
            **manifest["metadata"],
            "namespace": "default",
            "uid": "set-1",
            "generation": self.generation,
        }
        self.manifest = {**copy.deepcopy(manifest), "metadata": metadata}

    def world(self) -> World:
        children = [child_of(lws) for lws in self.decoded().values()]
        return World(
            set=msgspec.convert({**self.manifest, "status": self.status}, SetView),
            children=[child for child in children if child is not None],
            services=[msgspec.convert(service, Service) for service in self.services.values()],
            scalers={name: msgspec.convert(one, Scaler) for name, one in self.scalers.items()},
            foreign=self.foreign,
            foreign_scalers=self.foreign_scalers,
            now=self._now,
            paused=self.paused,
        )

    def decoded(self) -> dict[str, LeaderWorkerSet]:
        return {name: msgspec.convert(body, LeaderWorkerSet) for name, body in self.sets.items()}

    def children(self) -> list[Child]:
        return [child for child in map(child_of, self.decoded().values()) if child is not None]

    def look(self, requests: int | None = None) -> Plan:
        """One reconcile. requests: the process dies after so many."""
        self._now += 1
        plan = plan_set(self.world())
        for action in plan.actions[:requests]:
            self.requests.append(action)
            self._do(action)
            self.always()
        if requests is None:
            self.events += [*plan.events, *plan.warnings]
            self.status = msgspec.to_builtins(plan.status)
        return plan

    def _do(self, action: Action) -> None:
        match action:
            case CreateSet(body):
                assert body["metadata"]["name"] not in self.sets, "made twice"
                assert body["metadata"]["name"] not in self.foreign
                self.sets[body["metadata"]["name"]] = self._made(body)
            case ChangeSet(child, patch):
                body = merged(self.sets[child.name], patch)
                if "spec" in patch:
                    body["metadata"]["generation"] += 1
                self.sets[child.name] = body
            case DeleteSet(child):
                del self.sets[child.name]
            case CreateService(body):
                assert body["metadata"]["name"] not in self.services, "made twice"
                self.services[body["metadata"]["name"]] = self._made(body)
            case MendService(service, selector):
                self.services[service.metadata.name]["spec"]["selector"] = selector
            case DeleteService(service):
                del self.services[service.metadata.name]
            case CreateScaler(_, body):
                self.scalers[body["metadata"]["name"]] = self._made(body)
            case DeleteScaler(_, scaler):
                del self.scalers[scaler.metadata.name or ""]
            case TellScaler(scaler, status):
                self.scalers[scaler.metadata.name or ""]["status"] = msgspec.to_builtins(status)

    def _made(self, body: Object) -> Object:
        metadata = {
            **body["metadata"],
            "uid": f"uid-{next(self._ids)}",
            "generation": 1,
            "creationTimestamp": rfc3339(self._now),
        }
        return {**copy.deepcopy(body), "metadata": metadata}

    def serve(self, name: str, ready: bool = True) -> None:
        """The LeaderWorkerSet's controller sees what is wanted; its groups become ready, or not."""
        lws = self.sets[name]
        replicas = lws["spec"]["replicas"]
        had = lws.get("status", {}).get("readyReplicas", 0)
        lws["status"] = {
            "replicas": replicas,
            "readyReplicas": replicas if ready else min(had, replicas),
            "observedGeneration": lws["metadata"]["generation"],
        }
        self.always()

    def converge(self, limit: int = 400) -> None:
        """Look and serve in turn until there is nothing left to do."""
        for _ in range(limit):
            before = copy.deepcopy(self.sets)
            plan = self.look()
            for name in list(self.sets):
                self.serve(name)
            if not plan.actions and self.sets == before:
                return
        raise AssertionError(f"it does not end: {self.look().actions}")

    def replicas(self) -> dict[str, int]:
        """Groups of each LeaderWorkerSet by `slice/revision/role`, the revision by its place in time."""
        return {child.name: child.replicas for child in self.children()}

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = [one for one in self.status.get("conditions", ()) if one["type"] == kind]
        return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else ("", "", "")

    def said(self, reason: str) -> list[str]:
        return [event.message for event in self.events if event.reason == reason]
