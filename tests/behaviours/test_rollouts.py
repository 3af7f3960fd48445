"""Sentences 26 to 35 and the one on upgrades: how a new revision replaces an old one, and what must not disturb it.

Where the order counts, groups of the new revision are held unready: the rollout then stands still at each step, and
what it did so far can be looked at.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kajitori.api.resource import CONTROLLER_REVISIONS
from tests.behaviours.controllers import Controllers
from tests.behaviours.manifests import NEVER_READY, NEW, NEWEST, OLD, READY, a_set, rolling, template
from tests.behaviours.sight import Sight, annotation, condition, image_of, is_whole, label
from tests.wire import Object


def new_template(image: str = NEW, ready: str = "true") -> Object:
    """A patch of the spec. ready: `false` for pods that are held until they are annotated otherwise."""
    return {"leaderWorkerTemplate": {"workerTemplate": template(image, annotations={READY: ready})}}


HELD = new_template(ready="false")


def never_fewer_ready_than(sight: Sight, name: str, least: int) -> Callable[[], str]:
    """A rule for `Sight.always`."""

    def rule() -> str:
        ready = sight.ready_groups(name)
        return "" if len(ready) >= least else f"only {sorted(ready)} are ready"

    return rule


async def stands_at(sight: Sight, name: str, groups: set[int]) -> None:
    """Wait until just these groups are of the new revision, and see that no other becomes so."""
    await sight.until(lambda: sight.updated(name, NEW) == groups, f"groups {groups} are new")
    await sight.settled(0.4)
    assert sight.updated(name, NEW) == groups


async def let_go(sight: Sight, name: str, *groups: int) -> None:
    """Groups that were held become ready."""
    await sight.annotate([pod for index in groups for pod in sight.group(name, index)], {READY: "true"})


async def test_26_groups_roll_one_at_a_time_from_the_highest(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=3, size=2, leaderTemplate=template()))
    await sight.available("l")
    sight.always(never_fewer_ready_than(sight, "l", 2))
    leader = template(NEW, annotations=NEVER_READY)
    await sight.patch_set("l", {"leaderWorkerTemplate": {"leaderTemplate": leader}})

    def new() -> set[int]:
        return {
            index
            for index, members in sight.groups("l").items()
            if f"l-{index}" in members
            and image_of(members[f"l-{index}"]) == NEW
            and is_whole(members.values())
        }

    for index in (2, 1, 0):
        await sight.until(lambda index=index: new() == set(range(index, 3)), f"group {index} is new")
        await sight.settled(0.4)
        assert new() == set(range(index, 3))
        # With the last one of the new revision nothing is left to update; it has but to become ready.
        assert condition(sight.sets["l"], "UpdateInProgress") == ("True" if index else "False")
        assert condition(sight.sets["l"], "Progressing") == "True"
        await sight.annotate([f"l-{index}"], {READY: "true"})
    await sight.available("l")
    conditions = {one["type"]: one for one in sight.sets["l"]["status"]["conditions"]}
    assert conditions["UpdateInProgress"]["status"] == "False"
    told = [one for one in sight.past_sets if condition(one, "UpdateInProgress") == "True"]
    assert all(condition(one, "Progressing") == "True" for one in told)
    words = {(one["reason"], one["message"]) for lws in told for one in lws["status"]["conditions"]
             if one["type"] == "UpdateInProgress"}  # fmt: skip
    assert words == {("GroupsUpdating", "Rolling Upgrade is in progress")}
    assert any(note.startswith("Updating replica 2") for note in sight.notes("GroupsUpdating"))


async def test_27_max_unavailable_groups_roll_at_a_time(sight: Sight) -> None:
    await sight.apply(a_set("two", replicas=4, size=2, rolloutStrategy=rolling(2)))
    await sight.apply(a_set("all", replicas=3, size=2, rolloutStrategy=rolling(10)))
    await sight.available("two", "all")
    sight.always(never_fewer_ready_than(sight, "two", 2))
    await sight.patch_set("two", HELD)
    await sight.patch_set("all", HELD)
    await stands_at(sight, "two", {2, 3})
    await stands_at(sight, "all", {0, 1, 2})
    await let_go(sight, "two", 2, 3)
    await let_go(sight, "all", 0, 1, 2)
    await stands_at(sight, "two", {0, 1, 2, 3})
    await let_go(sight, "two", 0, 1)
    await sight.available("two", "all")


async def test_28_template_and_replicas_change_together(sight: Sight) -> None:
    await sight.apply(a_set("more", replicas=2, size=2))
    await sight.apply(a_set("fewer", replicas=4, size=2))
    await sight.available("more", "fewer")
    sight.always(never_fewer_ready_than(sight, "more", 1))
    sight.always(never_fewer_ready_than(sight, "fewer", 1))
    await sight.patch_set("more", {"replicas": 4, **new_template()})
    await sight.patch_set("fewer", {"replicas": 2, **new_template()})
    await sight.until(lambda: sight.updated("more", NEW) == {0, 1, 2, 3}, "four new ones")
    await sight.until(
        lambda: sight.updated("fewer", NEW) == {0, 1} and len(sight.groups("fewer")) == 2, "two new ones"
    )
    await sight.available("more", "fewer")


@pytest.mark.parametrize("replicas", [5, 2])
async def test_28_replicas_change_in_the_middle_of_a_roll(sight: Sight, replicas: int) -> None:
    await sight.apply(a_set("l", replicas=4, size=2))
    await sight.available("l")
    await sight.patch_set("l", HELD)
    await stands_at(sight, "l", {3})
    await sight.patch_set("l", {"replicas": replicas})
    if replicas == 5:
        # One that is added is of the new revision, and its being unready keeps the roll where it is.
        await stands_at(sight, "l", {3, 4})
    else:
        await stands_at(sight, "l", {1})
    held = replicas

    while held:
        held = min(sight.updated("l", NEW), default=0)
        await let_go(sight, "l", *sight.updated("l", NEW))
        if held:
            await sight.until(lambda held=held: min(sight.updated("l", NEW)) < held, f"below {held}")
    await sight.available("l")
    assert sight.updated("l", NEW) == set(range(replicas))


@pytest.mark.parametrize(("surge", "most"), [(1, 4), (3, 6), (7, 6), ("34%", 5)])
async def test_29_surge_groups_have_indexes_from_replicas_on_and_vanish(
    sight: Sight, surge: int | str, most: int
) -> None:
    await sight.apply(a_set("l", replicas=3, size=2, rolloutStrategy=rolling(max_surge=surge)))
    await sight.available("l")
    seen: set[int] = set()
    sight.always(lambda: seen.update(sight.groups("l")) or "")
    sight.always(never_fewer_ready_than(sight, "l", 2))
    await sight.patch_set("l", new_template())
    await sight.until(
        lambda: sight.updated("l", NEW) == {0, 1, 2} and len(sight.groups("l")) == 3, "three new ones"
    )
    await sight.available("l")
    await sight.until(lambda: sight.sets["l"]["status"]["replicas"] == 3, "the surge is not counted any more")
    assert seen == set(range(most))


async def test_30_without_unavailable_ones_there_are_always_as_many_ready_as_wanted(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=3, size=2, rolloutStrategy=rolling(0, 1)))
    await sight.available("l")
    sight.always(never_fewer_ready_than(sight, "l", 3))
    await sight.patch_set("l", HELD)
    for index in (3, 2, 1, 0):
        await stands_at(sight, "l", set(range(index, 4)))
        await let_go(sight, "l", index)
    await sight.until(lambda: len(sight.groups("l")) == 3, "the surge is gone")
    await sight.available("l")


async def test_31_a_second_update_overtakes_the_first(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=3, size=2, rolloutStrategy=rolling(1, 2)))
    await sight.available("l")
    await sight.patch_set("l", HELD)
    await sight.until(lambda: sight.updated("l", NEW), "it rolls")
    await sight.patch_set("l", new_template(NEWEST))
    await sight.until(
        lambda: sight.updated("l", NEWEST) == {0, 1, 2} and len(sight.groups("l")) == 3, "three newest ones"
    )
    await sight.available("l")


async def test_32_groups_that_were_never_ready_do_not_keep_an_update_from_proceeding(sight: Sight) -> None:
    broken = template(annotations=NEVER_READY)
    await sight.apply(a_set("l", replicas=3, size=2, worker=broken, rolloutStrategy=rolling(0, 1)))
    await sight.until(lambda: len(sight.pods) == 6)
    await sight.patch_set("l", new_template())
    await sight.until(
        lambda: sight.updated("l", NEW) == {0, 1, 2} and len(sight.groups("l")) == 3, "three new ones"
    )
    await sight.available("l")


async def test_32_unready_groups_below_the_partition_count_as_unavailable(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=4, size=2, rolloutStrategy=rolling(2)))
    await sight.available("l")
    await sight.annotate(["l-0-1"], NEVER_READY)
    await sight.until(lambda: sight.ready_groups("l") == {1, 2, 3})
    sight.always(never_fewer_ready_than(sight, "l", 2))
    await sight.patch_set("l", HELD)
    # One of two may go: the other is group 0.
    await stands_at(sight, "l", {3})
    while len(sight.updated("l", NEW)) < 4:
        before = len(sight.updated("l", NEW))
        await let_go(sight, "l", *sight.updated("l", NEW))
        await sight.until(lambda before=before: len(sight.updated("l", NEW)) > before, "it goes on")
    await let_go(sight, "l", 0, 1, 2, 3)
    await sight.available("l")


@pytest.mark.parametrize("surge", [0, 1])
async def test_33_groups_below_the_partition_keep_their_revision(sight: Sight, surge: int) -> None:
    await sight.apply(a_set("l", replicas=3, size=2, rolloutStrategy=rolling(1, surge, partition=2)))
    await sight.available("l")
    below = sight.uids("l", 0, 1)
    await sight.patch_set("l", new_template())
    tops = {2} | ({3} if surge else set())
    await sight.until(lambda: sight.updated("l", NEW) == tops and tops <= sight.ready_groups("l"))
    await sight.available("l")
    await sight.settled(0.4)
    assert sight.uids("l", 0, 1) == below
    assert sight.updated("l", OLD) == {0, 1}
    await sight.until(lambda: sight.sets["l"]["status"]["updatedReplicas"] == len(tops))
    await sight.patch_set("l", {"rolloutStrategy": rolling(1, surge, partition=1)})
    await sight.until(lambda: sight.updated("l", NEW) == tops | {1})
    await sight.available("l")
    assert sight.uids("l", 0) == {name: below[name] for name in ("l-0", "l-0-1")}
    await sight.patch_set("l", {"rolloutStrategy": rolling(1, surge, partition=0)})
    await sight.until(lambda: sight.updated("l", NEW) == {0, 1, 2} and len(sight.groups("l")) == 3)
    await sight.available("l")
    await sight.until(lambda: sight.sets["l"]["status"]["updatedReplicas"] == 3)


async def test_34_a_resize_makes_groups_anew_with_the_new_size(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=3))
    await sight.available("l")
    before = sight.uids("l")
    sight.always(never_fewer_ready_than(sight, "l", 1))
    await sight.patch_set("l", {"leaderWorkerTemplate": {"size": 4}})
    await sight.until(lambda: len(sight.pods) == 8 and sight.ready_groups("l") == {0, 1})
    await sight.available("l")
    assert not set(before.values()) & set(sight.uids("l").values())
    assert {annotation(pod, "size") for pod in sight.pods.values()} == {"4"}
    sizes = {one["value"] for pod in sight.pods.values() for one in pod["spec"]["containers"][0]["env"]
             if one["name"] == "LWS_GROUP_SIZE"}  # fmt: skip
    assert sizes == {"4"}


async def test_35_a_lost_revision_is_written_again_without_a_roll_and_old_ones_go(sight: Sight) -> None:
    await sight.apply(a_set("l", replicas=2, size=2))
    await sight.available("l")
    before = sight.uids("l")
    (revision,) = sight.revisions
    uid = sight.revisions[revision]["metadata"]["uid"]
    await sight.delete(CONTROLLER_REVISIONS, revision)
    await sight.until(
        lambda: [one["metadata"]["uid"] for one in sight.revisions.values()] not in ([], [uid]), "it is back"
    )
    await sight.settled(0.4)
    assert sight.uids("l") == before
    for image in (NEW, NEWEST):
        await sight.patch_set("l", new_template(image))
        await sight.until(lambda image=image: sight.updated("l", image) == {0, 1})
        await sight.available("l")
    kept = {label(pod, "template-revision-hash") for pod in sight.pods.values()}
    assert kept <= {label(one, "template-revision-hash") for one in sight.revisions.values()}


async def test_upgrade_pods_stay_when_the_controller_is_replaced_and_new_sets_reconcile(
    sight: Sight, controllers: Controllers
) -> None:
    await sight.apply(a_set("steady", replicas=2, size=2))
    await sight.apply(a_set("rolling", replicas=2, size=2))
    await sight.available("steady", "rolling")
    steady = sight.uids("steady")
    await sight.patch_set("rolling", HELD)
    await stands_at(sight, "rolling", {1})
    before = sight.uids("rolling")
    controllers.replace()
    await sight.apply(a_set("young", replicas=1, size=2))
    await sight.available("young")
    assert sight.uids("steady") == steady
    assert sight.uids("rolling") == before
    await let_go(sight, "rolling", 1)
    await stands_at(sight, "rolling", {0, 1})
    await let_go(sight, "rolling", 0)
    await sight.available("rolling")
    assert all(len(sight.past_pods[name]) == 1 for name in steady)
