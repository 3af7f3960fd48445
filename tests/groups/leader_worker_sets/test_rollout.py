"""The arithmetic of a rolling update."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.groups.leader_worker_sets.rollout import (
    Group,
    Limits,
    Position,
    advance,
    begin,
    begin_held,
    hold,
    resolve_limits,
    settled,
    steps,
)


@dataclass
class Fleet:
    """Groups that obey positions as a controller would make them: due groups are replaced at once."""

    limits: Limits
    groups: list[Group]
    position: Position = field(init=False)
    taken_down: int = 0
    scaled_to: int = field(init=False)

    def __post_init__(self) -> None:
        self.position = settled(len(self.groups))
        self.scaled_to = self.limits.replicas

    def new_revision(self) -> None:
        self.groups = [Group(group.ready, False) for group in self.groups]
        self.position = begin(self.limits, len(self.groups))
        self.obey()

    def step(self) -> None:
        self.position = advance(self.position, self.limits, self.groups)
        self.obey()

    def obey(self) -> None:
        before = sum(group.ready for group in self.groups)
        kept = self.groups[: self.position.groups]
        kept += [
            Group(False, index >= self.position.partition) for index in range(len(kept), self.position.groups)
        ]
        self.groups = [
            Group(False, True) if index >= self.position.partition and not group.updated else group
            for index, group in enumerate(kept)
        ]
        after = sum(group.ready for group in self.groups)
        if after < before and self.position.replicas == self.scaled_to:
            self.taken_down += before - after
            assert after >= self.limits.replicas - self.limits.max_unavailable, self
        assert len(self.groups) <= self.limits.replicas + self.limits.max_surge
        self.scaled_to = self.limits.replicas

    def make_ready(self, index: int) -> None:
        self.groups[index] = Group(True, self.groups[index].updated)

    @property
    def unready(self) -> list[int]:
        return [index for index, group in enumerate(self.groups) if not group.ready]


def test_one_group_at_a_time_from_the_highest_index() -> None:
    fleet = Fleet(Limits(4), [Group(True, True)] * 4)
    fleet.new_revision()
    replaced = []
    while not fleet.position.steady:
        fleet.step()
        if fleet.unready:
            replaced.append(fleet.unready)
            fleet.make_ready(fleet.unready[0])
    assert replaced == [[3], [2], [1], [0]]


def test_with_surge_a_group_goes_only_when_another_came() -> None:
    fleet = Fleet(Limits(4, max_unavailable=0, max_surge=1), [Group(True, True)] * 4)
    fleet.new_revision()
    partitions = [fleet.position.partition]
    sizes = [fleet.position.groups]
    while not fleet.position.steady:
        fleet.step()
        if fleet.unready:
            fleet.make_ready(fleet.unready[-1])
        if fleet.position.partition != partitions[-1]:
            partitions.append(fleet.position.partition)
            sizes.append(fleet.position.groups)
    assert partitions == [4, 3, 2, 1, 0]
    assert sizes == [5, 5, 5, 5, 5]
    assert len(fleet.groups) == 4


def test_with_surge_and_unavailable_the_surge_goes_when_one_group_remains() -> None:
    fleet = Fleet(Limits(4, max_unavailable=1, max_surge=1), [Group(True, True)] * 4)
    fleet.new_revision()
    assert fleet.position == Position(4, 5, 4)
    seen = []
    while not fleet.position.steady:
        fleet.step()
        if not seen or seen[-1] != fleet.position:
            seen.append(fleet.position)
        if fleet.unready:
            fleet.make_ready(fleet.unready[-1])
    assert [position.partition for position in seen] == [3, 2, 1, 0, 0]
    assert seen[-1].groups == 4


def test_a_partition_holds_the_groups_below_it() -> None:
    fleet = Fleet(Limits(6, partition=4), [Group(True, True)] * 6)
    fleet.new_revision()
    for _ in range(20):
        fleet.step()
        for index in fleet.unready:
            fleet.make_ready(index)
    assert [group.updated for group in fleet.groups] == [False] * 4 + [True] * 2
    fleet.limits = fleet.limits._replace(partition=0)
    for _ in range(20):
        fleet.step()
        for index in fleet.unready:
            fleet.make_ready(index)
    assert fleet.position.steady
    assert all(group.updated for group in fleet.groups)


def test_groups_that_were_never_ready_do_not_stop_a_rollout() -> None:
    fleet = Fleet(Limits(4), [Group(False, True)] * 4)
    fleet.new_revision()
    for _ in range(20):
        fleet.step()
    assert all(group.updated for group in fleet.groups)


def test_an_unready_group_below_counts_against_what_may_be_unavailable() -> None:
    fleet = Fleet(Limits(4), [Group(False, True), *[Group(True, True)] * 3])
    fleet.new_revision()
    for _ in range(5):
        fleet.step()
    assert fleet.taken_down == 0


def test_percentages_round_unavailable_down_and_surge_up() -> None:
    assert resolve_limits(10, 0, "25%", "25%") == Limits(10, 0, 2, 3)
    assert resolve_limits(4, 0, "10%", "0%") == Limits(4, 0, 1, 0)
    assert resolve_limits(4, 0, 9, 9) == Limits(4, 0, 9, 4)


def test_steady_sets_follow_their_replicas() -> None:
    assert advance(settled(3), Limits(5), [Group(True, True)] * 3) == settled(5)
    assert advance(settled(5), Limits(2, max_surge=1), [Group(False, True)] * 5) == settled(2)


@pytest.mark.parametrize("scaled", [2, 9])
def test_replicas_may_change_in_mid_roll(scaled: int) -> None:
    fleet = Fleet(Limits(5, max_surge=2), [Group(True, True)] * 5)
    fleet.new_revision()
    fleet.step()
    fleet.limits = fleet.limits._replace(replicas=scaled)
    for _ in range(50):
        fleet.step()
        for index in fleet.unready:
            fleet.make_ready(index)
    assert fleet.position == settled(scaled)
    assert fleet.groups == [Group(True, True)] * scaled


events = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.just(0)),
        st.tuples(st.just("ready"), st.integers(0, 15)),
        st.tuples(st.just("fail"), st.integers(0, 15)),
        st.tuples(st.just("revision"), st.just(0)),
        st.tuples(st.just("scale"), st.integers(0, 12)),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(
    replicas=st.integers(0, 9),
    unavailable=st.integers(0, 4),
    surge=st.integers(0, 4),
    partition=st.integers(0, 4),
    happens=events,
)
def test_bounds_hold_and_rollouts_converge_whatever_happens(
    replicas: int, unavailable: int, surge: int, partition: int, happens: list[tuple[str, int]]
) -> None:
    limits = resolve_limits(replicas, partition, unavailable, surge)
    fleet = Fleet(limits, [Group(True, True)] * replicas)
    fleet.new_revision()
    for what, number in happens:
        if what == "step":
            fleet.step()
        elif what == "revision":
            fleet.new_revision()
        elif what == "scale":
            replicas = number
            fleet.limits = resolve_limits(replicas, partition, unavailable, surge)
        elif fleet.groups:
            index = number % len(fleet.groups)
            fleet.groups[index] = Group(what == "ready", fleet.groups[index].updated)
    fleet.limits = fleet.limits._replace(partition=0)
    for _ in range(3 * replicas + 3 * surge + 10):
        fleet.step()
        for index in fleet.unready:
            fleet.make_ready(index)
    assert fleet.position == settled(replicas)
    assert fleet.groups == [Group(True, True)] * replicas


def test_a_paused_rollout_stays_where_it_is_and_goes_on_from_there() -> None:
    fleet = Fleet(Limits(4), [Group(True, True)] * 4)
    fleet.new_revision()
    fleet.step()
    fleet.make_ready(3)
    for _ in range(5):
        fleet.position = hold(fleet.position, fleet.limits)
        fleet.obey()
    assert fleet.position == Position(3, 4, 4)
    fleet.limits = fleet.limits._replace(replicas=6)
    fleet.position = hold(fleet.position, fleet.limits)
    fleet.obey()
    assert [group.updated for group in fleet.groups] == [False] * 3 + [True] * 3
    for _ in range(20):
        for index in fleet.unready:
            fleet.make_ready(index)
        fleet.step()
    assert fleet.position == settled(6)


def test_a_revision_that_comes_while_rollouts_are_paused_replaces_nothing() -> None:
    limits = Limits(4, max_surge=2)
    assert begin_held(limits, 4) == Position(4, 4, 4)
    # The surge of a rollout that it overtakes stays, and a scale-up goes on.
    assert begin_held(limits, 5) == Position(5, 5, 4)
    assert begin_held(limits, 2) == Position(2, 4, 4)


def test_the_steps_of_a_rollout_are_told_with_the_groups_at_each() -> None:
    told = steps(Limits(4, max_unavailable=1, max_surge=1), [Group(True, False)] * 4)
    assert [(step.created, step.replaced, step.removed) for step in told] == [
        ((4,), (), ()),
        ((), (2, 3), ()),
        ((), (0, 1), ()),
        ((), (), (4,)),
    ]
    assert [(step.groups, step.ready, step.updated, step.unavailable, step.surge) for step in told] == [
        (5, 4, 1, 0, 1),
        (5, 3, 3, 1, 1),
        (5, 3, 5, 1, 1),
        (4, 4, 4, 0, 0),
    ]


def test_the_steps_end_at_the_partition_that_is_asked_for() -> None:
    told = steps(Limits(6, partition=4), [Group(True, False)] * 6)
    assert [step.replaced for step in told] == [(5,), (4,)]


@settings(max_examples=200, deadline=None)
@given(
    ready=st.lists(st.booleans(), max_size=9),
    unavailable=st.integers(0, 4),
    surge=st.integers(0, 4),
    partition=st.integers(0, 9),
)
def test_steps_keep_the_bounds_and_end_whatever_there_is_to_begin_with(
    ready: list[bool], unavailable: int, surge: int, partition: int
) -> None:
    replicas = len(ready)
    limits = resolve_limits(replicas, partition, unavailable, surge)
    told = steps(limits, [Group(each, False) for each in ready])
    most_ready = sum(ready)
    for step in told:
        assert step.groups <= limits.replicas + limits.max_surge
        assert step.ready >= min(most_ready, limits.replicas - limits.max_unavailable), step
        most_ready = max(most_ready, step.ready)
    if all(ready) and replicas and not partition:
        assert (told[-1].groups, told[-1].updated) == (replicas, replicas)


def test_the_steps_end_where_a_group_that_is_not_ready_uses_up_what_may_be_unavailable() -> None:
    told = steps(Limits(4), [Group(False, False), *[Group(True, False)] * 3])
    assert told == []
    told = steps(Limits(4, max_unavailable=2), [Group(False, False), *[Group(True, False)] * 3])
    assert [step.replaced for step in told] == [(3,), (2,), (0, 1)]


wild_events = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.just(0)),
        st.tuples(st.just("hold"), st.just(0)),
        st.tuples(st.just("ready"), st.integers(0, 15)),
        st.tuples(st.just("fail"), st.integers(0, 15)),
        st.tuples(st.just("revision"), st.just(0)),
        st.tuples(st.just("held revision"), st.just(0)),
        st.tuples(st.just("scale"), st.integers(0, 12)),
        st.tuples(st.just("unavailable"), st.integers(0, 4)),
        st.tuples(st.just("surge"), st.integers(0, 4)),
        st.tuples(st.just("partition"), st.integers(0, 9)),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(replicas=st.integers(0, 9), happens=wild_events)
def test_whatever_is_changed_or_paused_in_mid_roll_it_converges_and_a_pause_takes_nothing_down(
    replicas: int, happens: list[tuple[str, int]]
) -> None:
    asked = {"replicas": replicas, "partition": 0, "unavailable": 1, "surge": 0}
    fleet = Fleet(resolve_limits(replicas, 0, 1, 0), [Group(True, True)] * replicas)
    fleet.new_revision()
    for what, number in happens:
        if what == "step":
            fleet.step()
        elif what in ("hold", "held revision"):
            if what == "held revision":
                fleet.groups = [Group(group.ready, False) for group in fleet.groups]
                fleet.position = begin_held(fleet.limits, len(fleet.groups))
            wanted = fleet.limits.replicas
            ready = sum(group.ready for group in fleet.groups[:wanted])
            fleet.position = hold(fleet.position, fleet.limits)
            fleet.obey()
            if what == "hold" and fleet.position.partition > 0:
                assert sum(group.ready for group in fleet.groups[:wanted]) == ready
        elif what == "revision":
            fleet.new_revision()
        elif what in ("ready", "fail"):
            if fleet.groups:
                index = number % len(fleet.groups)
                fleet.groups[index] = Group(what == "ready", fleet.groups[index].updated)
        else:
            asked["replicas" if what == "scale" else what] = number
            limits = (asked["replicas"], asked["partition"], asked["unavailable"], asked["surge"])
            fleet.limits = resolve_limits(*limits)
            fleet.scaled_to = -1
    fleet.limits = fleet.limits._replace(partition=0)
    fleet.scaled_to = -1
    for _ in range(60):
        fleet.step()
        for index in fleet.unready:
            fleet.make_ready(index)
    assert fleet.position == settled(asked["replicas"])
    assert fleet.groups == [Group(True, True)] * asked["replicas"]
