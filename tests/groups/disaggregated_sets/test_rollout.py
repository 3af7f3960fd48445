"""The arithmetic of coordinated rollouts: bounds at every step whatever the numbers, and an end."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.groups.disaggregated_sets.rollout import Counts, Role, Step, next_step

NAMES = ("prefill", "decode", "encode", "router")


def advance(roles: dict[str, Role], old: list[Counts], step: Step) -> None:
    """Do what the step says."""
    assert (step.new is None) != (step.old is None), "one thing at a time"
    if step.new is not None:
        for name, count in step.new.items():
            roles[name] = msgspec.structs.replace(roles[name], new=count)
    if step.old is not None:
        old[step.revision] = step.old


def totals(roles: dict[str, Role], old: list[Counts]) -> Counts:
    return {name: role.new + sum(counts.get(name, 0) for counts in old) for name, role in roles.items()}


def whole(counts: Counts) -> set[str]:
    return {name for name, count in counts.items() if count}


def check(before: tuple[dict[str, Role], list[Counts]], roles: dict[str, Role], old: list[Counts]) -> None:
    """What holds from one moment to the next."""
    had, has = totals(*before), totals(roles, old)
    serves = any(role.target for role in roles.values())
    for name, role in roles.items():
        shrinks = before[0][name].new > role.target
        assert has[name] <= max(had[name], role.target + role.max_surge)
        if serves and not shrinks:
            assert has[name] >= min(had[name], role.target - role.max_unavailable)
    for index, (then, now) in enumerate(zip(before[1], old, strict=True)):
        assert whole(now) in (whole(then), set()), "no role of a revision is left alone"
        if now != then:
            assert not any(whole(newer) for newer in before[1][:index]), "the newest drains first"


def roll(roles: dict[str, Role], old: list[Counts]) -> list[tuple[dict[str, Role], list[Counts]]]:
    """Every moment from the first to the last."""
    moments = [(dict(roles), [dict(counts) for counts in old])]
    while (step := next_step(roles, old)) is not None:
        advance(roles, old, step)
        check(moments[-1], roles, old)
        moments.append((dict(roles), [dict(counts) for counts in old]))
        assert len(moments) < 2_000, "it does not end"
    assert all(role.new == role.target for role in roles.values())
    assert not any(map(whole, old))
    return moments


def numbers(moments: list[tuple[dict[str, Role], list[Counts]]], *names: str) -> list[tuple[int, ...]]:
    """(old, new) of each role in turn."""
    return [
        tuple(
            count for name in names for count in (sum(counts.get(name, 0) for counts in old), roles[name].new)
        )
        for roles, old in moments
    ]


def role(target: int, initial: int | None = None, surge: int = 1, unavailable: int = 0) -> Role:
    return Role(
        target=target,
        initial=target if initial is None else initial,
        max_surge=surge,
        max_unavailable=unavailable,
    )


def test_five_prefill_and_two_decode_keep_their_ratio_as_the_proposal_shows() -> None:
    roles = {"prefill": role(5, surge=2, unavailable=1), "decode": role(2, surge=2, unavailable=1)}
    moments = roll(roles, [{"prefill": 5, "decode": 2}])
    assert numbers(moments, "decode", "prefill") == [
        (2, 0, 5, 0),
        (2, 1, 5, 2),
        (2, 1, 3, 2),
        (2, 2, 3, 4),
        (1, 2, 2, 4),
        (1, 2, 2, 5),
        (0, 2, 0, 5),
    ]


def test_with_the_defaults_of_a_role_one_group_is_in_excess_and_none_is_missing() -> None:
    moments = roll({"prefill": role(2), "decode": role(2)}, [{"prefill": 2, "decode": 2}])
    assert numbers(moments, "prefill") == [(2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]


def test_without_surge_the_last_old_group_of_a_small_role_waits_for_the_others() -> None:
    roles = {"prefill": role(4), "router": role(1, surge=0, unavailable=1)}
    moments = roll(roles, [{"prefill": 4, "router": 1}])
    assert numbers(moments, "prefill", "router")[-3:] == [(1, 4, 1, 0), (0, 4, 0, 0), (0, 4, 0, 1)]


def test_the_newest_old_revision_drains_before_the_older_one() -> None:
    roles = {"prefill": role(4, initial=5), "decode": role(4, initial=5)}
    moments = roll(roles, [{"prefill": 1, "decode": 1}, {"prefill": 4, "decode": 4}])
    broken_is_gone = next(number for number, (_, old) in enumerate(moments) if not whole(old[0]))
    assert broken_is_gone == 1
    assert moments[broken_is_gone][1][1] == {"prefill": 4, "decode": 4}


def test_a_renamed_a_removed_and_an_added_role_drain_and_grow_with_the_others() -> None:
    roles = {
        "prefill": role(4),
        "decode": role(0, initial=4),
        "decoder": role(4, initial=0),
        "encode": role(2, initial=0),
    }
    moments = roll(roles, [{"prefill": 4, "decode": 4}])
    left = [old for old, *_ in numbers(moments, "decode")]
    assert left == sorted(left, reverse=True)
    assert len(set(left)) > 3, "progressively, not at once"


def test_a_revision_whose_end_was_cut_short_is_ended_first() -> None:
    roles = {"prefill": role(4, surge=2), "decode": role(4, surge=2)}
    roles = {name: msgspec.structs.replace(each, new=3) for name, each in roles.items()}
    assert next_step(roles, [{"prefill": 0, "decode": 1}, {"prefill": 1, "decode": 1}]) == Step(
        old={"prefill": 0, "decode": 0}, revision=0
    )


def test_when_nobody_is_to_serve_all_goes_at_once() -> None:
    roles = {"prefill": role(0, initial=3), "decode": role(0, initial=3)}
    assert len(roll(roles, [{"prefill": 3, "decode": 3}])) == 2


counts = st.integers(0, 12)
bounds = st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(any)


@st.composite
def slices(draw: st.DrawFn) -> tuple[dict[str, Role], list[Counts]]:
    """Any roles with any bounds, of up to three old revisions that have some of them, the rollout begun or not."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    old = [
        {name: draw(counts) for name in draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True))}
        for _ in range(draw(st.integers(0, 3)))
    ]
    roles: dict[str, Role] = {}
    for name in {*names, *(name for each in old for name in each)}:
        left = sum(each.get(name, 0) for each in old)
        if name not in names:
            roles[name] = Role(initial=left + draw(st.integers(0, 4)))
            continue
        surge, unavailable = draw(bounds)
        roles[name] = Role(
            target=draw(counts),
            new=draw(st.sampled_from([0, 0, draw(counts)])),
            initial=left + draw(st.integers(0, 4)),
            max_surge=surge,
            max_unavailable=unavailable,
        )
    return roles, old


@given(slices())
@settings(max_examples=800)
def test_bounds_are_never_broken_and_every_rollout_ends(
    situation: tuple[dict[str, Role], list[Counts]],
) -> None:
    roll(*situation)


@given(slices(), st.lists(st.tuples(st.integers(0, 30), st.sampled_from(NAMES), counts), max_size=4))
@settings(max_examples=300)
def test_targets_that_change_on_the_way_are_followed(
    situation: tuple[dict[str, Role], list[Counts]], changes: list[tuple[int, str, int]]
) -> None:
    roles, old = situation
    for number in range(40):
        for when, name, target in changes:
            if when == number and name in roles:
                roles[name] = msgspec.structs.replace(roles[name], target=target)
        before = (dict(roles), [dict(each) for each in old])
        step = next_step(roles, old)
        if step is not None:
            advance(roles, old, step)
            check(before, roles, old)
    roll(roles, old)


@given(slices())
@settings(max_examples=300)
def test_a_step_that_was_half_done_is_followed_by_one_that_is_right(
    situation: tuple[dict[str, Role], list[Counts]],
) -> None:
    """Each role is a request of its own: the process may die between two of them."""
    roles, old = situation
    step = next_step(roles, old)
    if step is not None and step.new is not None:
        (name, count), *_ = step.new.items()
        roles[name] = msgspec.structs.replace(roles[name], new=count)
    roll(roles, old)
