"""Whatever happens, in whatever order: what is good is in force as it is wanted, what is bad is not, and who is told is who it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kajitori.gateway.envoy import stream as stream_module
from kajitori.gateway.envoy.parts import divide
from kajitori.gateway.envoy.parts_of_tables import unit_of
from kajitori.gateway.envoy.shards import scope
from kajitori.gateway.resources import CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPES, SECRET, TYPE, Resources
from tests.gateway.refusals.played_envoy import Clock, PlayedEnvoy, Replica, settle, step

_JWT = TYPE + "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
GOOD, ACTION, MATCH = "good", "action", "match"
# Of each object: how it is, and in which revision, so that it may come back as it was.
OBJECTS: tuple[str, ...] = (
    "route/a",
    "route/b",
    "route/c",
    "chain/a",
    "chain/b",
    "tokens/a",
    "tokens/b",
    "cluster/a",
)
World = dict[str, tuple[str, int]]


def _route(name: str, state: str, revision: int) -> dict[str, Any]:
    return {
        "name": f"http/default/{name}/rule/0/match/0",
        "match": {"prefix": f"/{name}", "broken": state == MATCH},
        "route": {"cluster": f"c-{revision}", "broken": state == ACTION},
    }


def _content(state: str, revision: int) -> dict[str, Any]:
    return {"revision": revision, "broken": state != GOOD}


def resources(world: World) -> Resources:
    def of(kind: str) -> dict[str, tuple[str, int]]:
        return {name.partition("/")[2]: each for name, each in world.items() if name.startswith(kind)}

    routes = [_route(name, *each) for name, each in of("route").items()]
    table = {"name": "t", "virtual_hosts": [{"name": "*", "domains": ["*"], "routes": routes}]}
    chains = [
        {"name": f"http/80/{name}", **_content(*each), "extension": "jwt", "secret": f"secret-{each[1]}"}
        for name, each in of("chain").items()
    ]
    # One that is always there, so there is something to listen with.
    chains.append({"name": "http/80/kept", "extension": "jwt"})
    tokens = {
        "providers": {
            name: {**_content(*each), "cluster": f"keys-{each[1]}"} for name, each in of("tokens").items()
        },
        "requirement_map": {name: {"provider_name": name} for name in of("tokens")},
    }
    clusters = {name: {"name": name, **_content(*each)} for name, each in of("cluster").items()}
    needed = [f"c-{each[1]}" for each in of("route").values()] + [
        f"keys-{each[1]}" for each in of("tokens").values()
    ]
    secrets = [f"secret-{each[1]}" for each in of("chain").values()]
    return Resources(
        {
            CLUSTER: clusters | {name: {"name": name} for name in needed},
            SECRET: {name: {"name": name} for name in secrets},
            LISTENER: {"http/80": {"name": "http/80", "filter_chains": chains}},
            EXTENSION: {"jwt": {"name": "jwt", "typed_config": {"@type": _JWT, **tokens}}},
            SCOPES: {"t": scope("t")},
            ROUTES: {"t": table},
        }
    )


def in_force(envoy: PlayedEnvoy) -> dict[str, Any]:
    """What is there of each object."""
    found: dict[str, Any] = {}
    for host in envoy.in_force[ROUTES].get("t", {}).get("virtual_hosts", ()):
        for each in host["routes"]:
            found["route/" + unit_of(each["name"]).split("/")[2]] = each
    for each in envoy.in_force[LISTENER].get("http/80", {}).get("filter_chains", ()):
        found["chain/" + each["name"].split("/")[2]] = each.get("revision")
    config = envoy.in_force[EXTENSION].get("jwt", {}).get("typed_config", {})
    for name, each in config.get("providers", {}).items():
        found[f"tokens/{name}"] = each["revision"]
    if "a" in envoy.in_force[CLUSTER]:
        found["cluster/a"] = envoy.in_force[CLUSTER]["a"].get("revision")
    return found


def told(replicas: list[Replica]) -> set[str]:
    """Of which objects some replica says that Envoy refuses them."""
    found: set[str] = set()
    for key in {key for replica in replicas for key in replica.ads.rejected}:
        kind, _, name = key.partition("/")
        name, place, unit = (*name.split("#", 2), "", "")[:3]
        if kind == ROUTES:
            found.add(f"route/{unit.split('/')[2]}")
        elif kind == LISTENER:
            found.add(f"chain/{place.split('/')[2]}")
        else:
            found.add(f"tokens/{place}" if kind == EXTENSION else f"cluster/{name}")
    return found


class History:
    """Checks what must be so whenever all has been said."""

    def __init__(self) -> None:
        self.good: dict[str, set[int]] = {}
        # Objects of which something was in force everywhere, and nothing has taken it away since.
        self.kept: set[str] = set()

    def check(self, world: World, replicas: list[Replica]) -> None:
        for envoy in (envoy for replica in replicas for envoy in replica.envoys):
            found = in_force(envoy)
            assert not envoy.missing()
            for name, (state, revision) in world.items():
                there = found.get(name)
                if name.startswith("route"):
                    if state == GOOD:
                        assert there == _route(name[-1], GOOD, revision), name
                    elif state == ACTION:
                        assert there is not None and there["direct_response"]["status"] == 500, name
                    else:
                        assert there is None, name
                elif state == GOOD:
                    assert there == revision, name
                else:
                    assert there in self.good.get(name, ()) or (there is None and name not in self.kept)
        bad = {name for name, (state, _) in world.items() if state != GOOD}
        assert told(replicas) == bad
        self.kept |= world.keys() - bad


def _events(objects: Sequence[str]) -> st.SearchStrategy[list[Any]]:
    """Each thing that happens, and how long it is until the next one."""
    states = st.sampled_from([GOOD, GOOD, ACTION, MATCH])
    each = st.one_of(st.tuples(states, st.integers(0, 1)), st.none())
    change = st.dictionaries(st.sampled_from(objects), each, min_size=1)
    happens = st.sampled_from(["restart envoy", "restart other envoy", "restart replica", "hear"])
    then = st.one_of(st.just("settle"), st.integers(0, 8))
    steps = st.lists(st.tuples(st.one_of(change, change, change, happens), then), min_size=2, max_size=8)
    return steps.map(lambda found: [event for step in found for event in step])


# What happens to a few of the objects: more of them meet each other less often.
EVENTS = st.lists(st.sampled_from(OBJECTS), min_size=1, max_size=3, unique=True).flatmap(_events)
AGAIN = {"tokens/a": (ACTION, 1)}


class Play:
    """Replicas, each with some Envoys, and what is wanted of them."""

    def __init__(self, count: int, envoys: int, clock: Clock) -> None:
        self.clock, self.world, self.history = clock, World(), History()
        self.replicas = [Replica(resources(self.world)) for _ in range(count)]
        for replica in self.replicas:
            for _ in range(envoys):
                replica.start_envoy()

    def change(self, change: dict[str, Any]) -> None:
        for name, each in change.items():
            if each is None:
                self.world.pop(name, None)
                self.history.kept.discard(name)
                continue
            self.world[name] = each
            if each[0] == GOOD:
                self.history.good.setdefault(name, set()).add(each[1])
        for replica in self.replicas:
            replica.want(resources(self.world))

    def happen(self, what: str) -> None:
        first, last = self.replicas[0], self.replicas[-1]
        if what == "restart replica":
            # It knows nothing of before, so an Envoy that restarts later has nothing of it either.
            self.history.kept.clear()
            first.restart()
        elif what == "restart envoy":
            first.restart_envoy(0)
        elif what == "restart other envoy":
            last.restart_envoy(-1)
        elif what == "hear" and first is not last:
            first.ads.heed(last.snapshot.refused_parts)
            last.ads.heed(first.snapshot.refused_parts)
        elif what == "settle":
            settle(self.clock, self.replicas)
            self.history.check(self.world, self.replicas)


def play(events: list[Any], count: int, envoys: int) -> None:
    clock = Clock()
    with patch.object(stream_module, "asyncio", clock.patched()):
        found = Play(count, envoys, clock)
        for event in ("settle", *events, "settle"):
            if isinstance(event, dict):
                found.change(event)
            elif isinstance(event, str):
                found.happen(event)
            else:
                for _ in range(event):
                    step(found.replicas)


@given(EVENTS)
@example([AGAIN, 1, {"tokens/a": None}, AGAIN])
@example(
    [
        {"chain/a": (GOOD, 0), "tokens/a": (GOOD, 0)},
        "settle",
        {"chain/a": (ACTION, 1), "tokens/a": (ACTION, 1)},
    ]
)
@example([{"chain/a": (GOOD, 0)}, "settle", "restart replica", "settle", {"chain/a": (ACTION, 0)}])
@settings(max_examples=60, deadline=None)
def test_whatever_changes_and_restarts_one_envoy_has_what_is_good_and_nobody_else_is_told(
    events: list[Any],
) -> None:
    play(events, 1, 1)


@given(EVENTS)
@settings(max_examples=60, deadline=None)
def test_two_envoys_of_one_control_plane_have_the_same(events: list[Any]) -> None:
    play(events, 1, 2)


@given(EVENTS)
@example(
    [
        {"tokens/a": (GOOD, 0)},
        "settle",
        {"cluster/a": (ACTION, 0)},
        "settle",
        {"cluster/a": None, "tokens/a": (ACTION, 0)},
    ]
)
@example(
    [
        {"chain/a": (GOOD, 0)},
        "settle",
        {"chain/a": None},
        {"chain/a": (GOOD, 0)},
        "settle",
        {"chain/a": (ACTION, 1)},
    ]
)
@settings(max_examples=60, deadline=None)
def test_so_have_envoys_of_two_control_planes(events: list[Any]) -> None:
    play(events, 2, 1)


KINDS = pytest.mark.parametrize("kind", [CLUSTER, LISTENER, EXTENSION, ROUTES])


def with_oddity(world: World, kind: str) -> Resources:
    """What only some Envoys refuse, in something of this type."""
    wanted = resources(world)
    for value in wanted.by_type[kind].values():
        for part in divide(kind, value).values() or (value,):
            if isinstance(part, list):
                part[0]["odd"] = True
            elif "revision" in part:
                part["odd"] = True
            elif part.get("providers"):
                next(iter(part["providers"].values()))["odd"] = True
    return wanted


@KINDS
def test_what_only_one_envoy_of_two_refuses_is_not_sent_to_it_again_and_again(kind: str) -> None:
    clock = Clock()
    with patch.object(stream_module, "asyncio", clock.patched()):
        found = Play(1, 0, clock)
        (replica,) = found.replicas
        replica.start_envoy()
        replica.start_envoy("odd")
        found.change(dict.fromkeys(OBJECTS, (GOOD, 0)))
        replica.want(with_oddity(found.world, kind))
        settle(clock, found.replicas, 200)
        assert told(found.replicas)
        found.happen("restart envoy")
        settle(clock, found.replicas, 200)
        found.change({})
        found.happen("settle")


@KINDS
def test_what_an_envoy_refused_that_is_gone_the_next_one_is_asked_about_for_all_replicas(kind: str) -> None:
    clock = Clock()
    with patch.object(stream_module, "asyncio", clock.patched()):
        found = Play(2, 0, clock)
        old, other = found.replicas
        old.start_envoy("odd")
        other.start_envoy()
        found.change(dict.fromkeys(OBJECTS, (GOOD, 0)))
        wanted = with_oddity(found.world, kind)
        for replica in found.replicas:
            replica.want(wanted)
        settle(clock, found.replicas)
        assert told(found.replicas)
        # One of a newer version takes its place.
        old.restart_envoy(0)
        settle(clock, found.replicas)
        assert not told(found.replicas)
        for replica in found.replicas:
            assert in_force(replica.envoys[0]).keys() == found.world.keys() | {"chain/kept"}
            for name, each in replica.snapshot.resources[kind].items():
                assert replica.envoys[0].in_force[kind][name] == each.value
