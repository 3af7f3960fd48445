"""Groups without an order: their names, and which of them stop and begin."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.groups.leader_worker_sets.identity import (
    FIRST_HASH,
    Candidate,
    choose,
    fresh_groups,
    group_key,
    group_label,
    group_of_label,
    group_word,
)
from kajitori.groups.leader_worker_sets.rollout import Limits


@given(st.integers(0, 1_000_000) | st.integers(FIRST_HASH, 2 * FIRST_HASH - 1))
def test_a_group_is_read_back_from_its_label(group: int) -> None:
    assert group_of_label(group_label("default", "x", group)) == group


def test_a_hash_group_has_eight_digits_in_names_and_forty_in_labels() -> None:
    (group,) = fresh_groups("seed", 1, ())
    assert re.fullmatch("[0-9a-f]{8}", group_word(group))
    label = group_label("default", "x", group)
    assert re.fullmatch("[0-9a-f]{40}", label)
    assert label.startswith(group_word(group))
    assert label == group_key("default", f"x-{group_word(group)}", group)
    assert label != group_label("other", "x", group)


def test_labels_that_name_no_group_are_not_taken_for_one() -> None:
    for text in (None, "", "a", "-1", "123456789", "z" * 40, "0" * 39):
        assert group_of_label(text) == -1


def test_new_names_differ_from_each_other_and_from_those_that_are_there() -> None:
    first = fresh_groups("seed", 50, ())
    assert len(set(first)) == 50
    assert not set(fresh_groups("seed", 50, set(first))) & set(first)


def three(**changes: Candidate) -> list[Candidate]:
    groups = {name: Candidate(number, ready=True, born=number) for number, name in enumerate("abc")}
    return list((groups | changes).values())


def test_scale_down_takes_the_empty_then_the_unplaced_then_the_unready_then_the_youngest() -> None:
    groups = [
        Candidate(1, ready=True, pods=3, scheduled=3, born=1),
        Candidate(2, ready=True, pods=3, scheduled=3, born=2),
        Candidate(3, ready=False, pods=3, scheduled=3, born=0),
        Candidate(4, ready=False, pods=3, scheduled=1, born=0),
        Candidate(5, ready=False, pods=1, scheduled=0, born=0),
    ]
    order = [choose(Limits(wanted), groups).stop for wanted in (4, 3, 2, 1, 0)]
    assert order == [(5,), (5, 4), (5, 4, 3), (5, 4, 3, 2), (5, 4, 3, 2, 1)]


def test_a_draining_group_comes_back_before_a_new_one_is_made() -> None:
    groups = three(a=Candidate(0, draining=True, born=0))
    assert choose(Limits(2), groups) == ((0,), (), 0, 0, 0)
    assert choose(Limits(3), groups) == ((), (0,), 0, 0, 0)
    assert choose(Limits(4), groups) == ((), (0,), 1, 1, 0)


def test_a_replacement_waits_until_the_room_of_its_predecessor_is_free() -> None:
    assert choose(Limits(4), three(), leaving=1).create == 0
    assert choose(Limits(4), three(), leaving=1, wait_for_leaving=False).create == 1
    assert choose(Limits(4), three()).create == 1


def test_the_place_of_a_group_that_backs_off_is_kept_until_it_is_not_wanted_any_more() -> None:
    assert choose(Limits(4), three(), waiting=1) == ((), (), 0, 0, 1)
    assert choose(Limits(3), three(), waiting=1) == ((), (), 0, 0, 0)


def test_an_update_takes_groups_of_the_old_revision_that_are_not_ready_first() -> None:
    groups = [Candidate(number, ready=number != 1, updated=False, born=-number) for number in range(4)]
    assert choose(Limits(4), groups).stop == (1,)
    assert choose(Limits(4, max_surge=1), groups) == ((1,), (), 1, 4, 0)


def test_a_paused_update_replaces_nothing() -> None:
    groups = [Candidate(number, ready=True, updated=False) for number in range(4)]
    assert choose(Limits(4, max_surge=1), groups, paused=True) == ((), (), 0, 0, 0)
    assert choose(Limits(5), groups, paused=True).create == 1
    assert len(choose(Limits(3), groups, paused=True).stop) == 1


@dataclass
class Fleet:
    """Groups that do what they are chosen for. Those that stop are gone only when the test says so."""

    limits: Limits
    groups: list[Candidate] = field(default_factory=list)
    leaving: int = 0
    made: int = 0

    def step(self, *, wait: bool, paused: bool = False) -> None:
        before = sum(one.ready and not one.draining for one in self.groups)
        choice = choose(self.limits, self.groups, leaving=self.leaving, wait_for_leaving=wait, paused=paused)
        self.leaving += len(choice.stop)
        kept = [one for one in self.groups if one.group not in choice.stop]
        kept = [one._replace(draining=one.draining and one.group not in choice.revive) for one in kept]
        after = sum(one.ready and not one.draining for one in kept)
        limits = self.limits
        assert after >= min(before, limits.replicas - limits.max_unavailable)
        self.made += choice.create
        new = [Candidate(1000 + self.made - number, born=self.made) for number in range(choice.create)]
        size = len(kept) + len(new) + (self.leaving if wait else 0)
        # Less may be wanted than before; nothing is added then.
        if new:
            assert size <= limits.replicas + limits.max_surge
        self.groups = [*kept, *new]

    def ready(self, which: int, ready: bool) -> None:
        if self.groups:
            number = which % len(self.groups)
            self.groups[number] = self.groups[number]._replace(ready=ready)


events = st.lists(
    st.tuples(
        st.sampled_from(["step", "ready", "unready", "lose", "gone", "update", "scale", "drain", "pause"]),
        st.integers(0, 9),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(
    replicas=st.integers(0, 6),
    unavailable=st.integers(0, 3),
    surge=st.integers(0, 3),
    wait=st.booleans(),
    happens=events,
)
def test_whatever_happens_the_bounds_hold_and_it_converges(
    replicas: int, unavailable: int, surge: int, wait: bool, happens: list[tuple[str, int]]
) -> None:
    if not surge and not unavailable:
        unavailable = 1
    fleet = Fleet(Limits(replicas, 0, unavailable, surge))
    paused = False
    for what, number in happens:
        match what:
            case "step":
                fleet.step(wait=wait, paused=paused)
            case "ready" | "unready":
                fleet.ready(number, what == "ready")
            case "lose" if fleet.groups:
                fleet.groups.pop(number % len(fleet.groups))
                fleet.leaving += 1
            case "gone":
                fleet.leaving = 0
            case "update":
                fleet.groups = [one._replace(updated=False) for one in fleet.groups]
            case "scale":
                fleet.limits = fleet.limits._replace(replicas=number % 7)
            case "drain" if fleet.groups:
                first = fleet.groups[0]
                fleet.groups[0] = first._replace(draining=True, ready=False)
            case _:
                paused = not paused and what == "pause"
    for _ in range(60):
        fleet.step(wait=wait)
        fleet.leaving = 0
        fleet.groups = [one._replace(ready=True) for one in fleet.groups]
    assert len(fleet.groups) == fleet.limits.replicas
    assert all(one.updated and not one.draining for one in fleet.groups)
    assert choose(fleet.limits, fleet.groups) == ((), (), 0, 0, 0)
