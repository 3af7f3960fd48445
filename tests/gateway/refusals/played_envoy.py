"""A stand-in for Envoy on a stream of discovery, as decision 81 has what the real one does; test_under_way.py compares them.

Resources are JSON to it (`encode`), and it refuses what has a member `broken` that is true in it.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from kajitori.gateway.envoy import stream as stream_module
from kajitori.gateway.envoy.ads import AdsServer
from kajitori.gateway.envoy.schema import schema
from kajitori.gateway.envoy.stream import Stream
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.gateway.resources import (
    CLUSTER,
    EXTENSION,
    LISTENER,
    ROUTES,
    SCOPES,
    SECRET,
    TYPE,
    TYPES,
    Resources,
)

# What Envoy looks at once: the same bytes again are acknowledged, and are not in force.
_LOOKED_AT_ONCE = (EXTENSION, SECRET)
_NAMED = (CLUSTER, LISTENER)


def encode(kind: str, value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


class _Encoder:
    encode = staticmethod(encode)


class Clock:
    """Of the streams, in place of that of an event loop."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def patched(self) -> Any:
        """What `stream.asyncio` is to be meanwhile."""
        return SimpleNamespace(get_running_loop=lambda: self, Event=lambda: SimpleNamespace(set=lambda: None))


def broken(value: Any, marks: tuple[str, ...] = ("broken",)) -> bool:
    if isinstance(value, dict):
        own = any(value.get(mark) is True for mark in marks)
        return own or any(broken(item, marks) for item in value.values())
    return isinstance(value, list) and any(broken(item, marks) for item in value)


def _named(value: Any, member: str) -> set[str]:
    """Texts that members of this name have anywhere in it."""
    if isinstance(value, dict):
        own = {value[member]} if isinstance(value.get(member), str) else set[str]()
        return own.union(*(_named(item, member) for item in value.values()))
    if isinstance(value, list):
        return set[str]().union(*(_named(item, member) for item in value))
    return set()


class PlayedEnvoy:
    """in_force: by type and name. It judges when it has read a message, and takes what it does not refuse.

    marks: members that it refuses where they are true.
    """

    def __init__(self, *marks: str) -> None:
        self._marks = ("broken", *marks)
        self.in_force: dict[str, dict[str, Any]] = {kind: {} for kind in TYPES}
        self._versions: dict[str, dict[str, str]] = {kind: {} for kind in TYPES}
        self._bytes: dict[tuple[str, str], bytes] = {}
        self._asks: dict[str, set[str]] = {}
        self._stream: Stream | None = None
        self._ads: AdsServer | None = None

    def connect(self, ads: AdsServer, snapshot: Snapshot) -> None:
        """To a control plane, which another one may have been before."""
        self._ads, self._stream = ads, Stream(ads, snapshot)
        # What a control plane cannot know that begins anew is no matter here: decision 81 says so.
        self._bytes.clear()
        ads._streams.add(self._stream)
        asked, self._asks = self._asks, {}
        for kind in (CLUSTER, LISTENER, *((SCOPES,) if self.in_force[LISTENER] else ())):
            self._request(kind, initial=self._versions[kind])
            self._asks[kind] = set()
        for kind, names in asked.items():
            if names:
                self._request(kind, subscribe=names, initial=self._versions[kind])
                self._asks[kind] = names

    def disconnect(self) -> None:
        if self._stream is not None and self._ads is not None:
            self._ads._streams.discard(self._stream)
            self._stream.leave()
        self._stream = None

    def _request(
        self,
        kind: str,
        subscribe: set[str] | None = None,
        unsubscribe: set[str] | None = None,
        initial: dict[str, str] | None = None,
        nonce: str = "",
        refused: str = "",
    ) -> None:
        request = schema().message("envoy.service.discovery.v3.DeltaDiscoveryRequest")(
            type_url=TYPE + kind,
            resource_names_subscribe=sorted(subscribe or ()),
            resource_names_unsubscribe=sorted(unsubscribe or ()),
            initial_resource_versions=initial or {},
            response_nonce=nonce,
        )
        if refused:
            request.error_detail.message = refused
        assert self._stream is not None
        self._stream._take(kind, self._stream._subscriptions[kind], request)

    def step(self) -> bool:
        """One message. False: there is none."""
        response = self._stream._next() if self._stream is not None else None
        if response is None:
            return False
        kind = response.type_url.removeprefix(TYPE)
        told: list[str] = []
        for item in response.resources:
            value = json.loads(item.resource.value)
            again = self._bytes.get((kind, item.name)) == item.resource.value
            self._bytes[kind, item.name] = item.resource.value
            if again and kind in _LOOKED_AT_ONCE:
                continue
            if broken(value, self._marks) or (kind == LISTENER and not value["filter_chains"]):
                told.append(f"{item.name} is broken" if kind in _NAMED else "something is broken")
                continue
            self.in_force[kind][item.name] = value
            self._versions[kind][item.name] = item.version
        for name in response.removed_resources:
            for known in (self.in_force[kind], self._versions[kind]):
                known.pop(name, None)
            self._bytes.pop((kind, name), None)
        self._request(kind, nonce=response.nonce, refused="; ".join(told))
        self._ask()
        return True

    def missing(self) -> set[str]:
        """Clusters and secrets that something in force names, and that are not there."""
        clusters = _named([self.in_force[ROUTES], self.in_force[EXTENSION]], "cluster")
        secrets = _named(self.in_force[LISTENER], "secret")
        return clusters - self.in_force[CLUSTER].keys() | secrets - self.in_force[SECRET].keys()

    def _ask(self) -> None:
        """For what is referred to by what is in force, as it comes and goes."""
        if self.in_force[LISTENER] and SCOPES not in self._asks:
            self._asks[SCOPES] = set()
            self._request(SCOPES, initial=self._versions[SCOPES])
        of_listeners = self.in_force[LISTENER]
        wanted = {
            ROUTES: _named(of_listeners, "route_config_name")
            | _named(self.in_force[SCOPES], "route_configuration_name"),
            EXTENSION: _named(of_listeners, "extension"),
            SECRET: _named(of_listeners, "secret"),
        }
        for kind, names in wanted.items():
            before = self._asks.get(kind, set())
            for name in before - names:
                self.in_force[kind].pop(name, None)
                self._versions[kind].pop(name, None)
                self._bytes.pop((kind, name), None)
            if names != before:
                self._asks[kind] = names
                self._request(kind, names - before, before - names)


class Replica:
    """A control plane with its Envoys."""

    def __init__(self, wanted: Resources) -> None:
        self.envoys: list[PlayedEnvoy] = []
        self._begin(wanted)

    def _begin(self, wanted: Resources) -> None:
        self.snapshot = Snapshot(_Encoder())  # type: ignore[arg-type]
        self.ads = AdsServer(schema(), self.snapshot, ("gateway",))
        self.want(wanted)

    def want(self, wanted: Resources) -> None:
        self._wanted = wanted
        self.ads.set_resources("gateway", wanted)

    def start_envoy(self, *marks: str) -> None:
        """marks: what this one refuses besides."""
        self.envoys.append(PlayedEnvoy(*marks))
        self.envoys[-1].connect(self.ads, self.snapshot)

    def restart_envoy(self, number: int) -> None:
        self.envoys[number].disconnect()
        self.envoys[number] = PlayedEnvoy()
        self.envoys[number].connect(self.ads, self.snapshot)

    def restart(self) -> None:
        """As if it had been killed; Envoys keep what they have."""
        self._begin(self._wanted)
        for envoy in self.envoys:
            envoy.connect(self.ads, self.snapshot)

    def step(self) -> bool:
        """A message to each."""
        return sum(envoy.step() for envoy in self.envoys) > 0


def step(replicas: list[Replica]) -> bool:
    """A message to each Envoy of each. False: there was none."""
    return sum(replica.step() for replica in replicas) > 0


def settle(clock: Clock, replicas: list[Replica], most: int = 3000) -> None:
    """Until nobody has anything to say, and replicas have heard of each other."""
    for _ in range(most):
        heard = [replica.snapshot.refused_parts for replica in replicas]
        for number, replica in enumerate(replicas):
            others = [part for other, parts in enumerate(heard) if other != number for part in parts]
            replica.ads.heed(others)
        if step(replicas):
            continue
        clock.now += 2 * stream_module._PATIENCE_SECONDS
        if not step(replicas) and heard == [replica.snapshot.refused_parts for replica in replicas]:
            return
    raise AssertionError("it never ends")
