"""What a DisaggregatedSet does, seen from outside and on both servers: objects go in, sets, Services and pods come out.

The sentences are those of the design's reference (lws-scheduling.md, A8), in their order from 43 to 50; 44, what is refused,
is in `test_admission.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.contract.test_horizontal_autoscaling import Metrics, metrics  # noqa: F401 (a fixture)
from tests.groups.disaggregated_sets.conftest import EXTERNAL, a_role, a_set, rolling
from tests.groups.disaggregated_sets.watched import Watched, condition, group_controllers
from tests.servers import Server

from kajitori.api.disaggregatedset import v1
from kajitori.api.resource import (
    DISAGGREGATED_SET_ROLE_SCALERS,
    DISAGGREGATED_SETS,
    HORIZONTAL_POD_AUTOSCALERS,
    LEADER_WORKER_SETS,
    SERVICES,
)

Object = dict[str, Any]
NEVER_READY = {"kajitori.dev/test-ready": "false"}


@pytest.fixture
async def watched(server: Server, namespace: str, nodes: list[str]) -> AsyncIterator[Watched]:
    async with group_controllers(server):
        found = Watched(server, namespace)
        try:
            yield found
        finally:
            await found.close()


def revisions(sets: dict[str, Object]) -> set[str]:
    return {one["metadata"]["labels"][v1.REVISION_LABEL] for one in sets.values()}


def check_bounds(watched: Watched, roles: dict[str, tuple[int, int]]) -> int:
    """At every moment: at least and at most so many groups of each role, and no old revision with a role missing.

    Returns how many moments differ.
    """
    moments = [
        {
            revision: {role: wanted for role, (wanted, _) in roles.items()}
            for revision, roles in sample.items()
        }
        for sample in watched.sampled()
    ]
    moments = [moment for moment, _ in itertools.groupby(moments)]
    newest = next(reversed(moments[-1]))
    for number, moment in enumerate(moments):
        for role, (least, most) in roles.items():
            assert least <= sum(counts.get(role, 0) for counts in moment.values()) <= most, (role, moment)
        for revision, counts in moment.items():
            if revision == newest or all(counts.values()):
                continue
            # The requests for its roles are sent together but arrive one by one.
            soon = moments[number : number + len(counts)]
            assert any(not any(later.get(revision, {}).values()) for later in soon), moment
    return len(moments)


async def test_a_set_makes_one_set_of_groups_for_each_role_with_its_labels_and_the_queue_of_kueue(
    watched: Watched,
) -> None:
    queue = {"kueue.x-k8s.io/queue-name": "team"}
    prefill = a_role("prefill", 1, 2, metadata={"labels": queue, "annotations": {"a": "b"}})
    await watched.apply(a_set(prefill, a_role("decode", 2)))
    found = await watched.available()
    sets = await watched.sets()
    (revision,) = revisions(sets)
    assert sorted(sets) == [f"x-0-{revision}-{role}" for role in ("decode", "prefill")]
    made = sets[f"x-0-{revision}-prefill"]
    assert queue.items() <= made["metadata"]["labels"].items()
    assert made["metadata"]["annotations"]["a"] == "b"
    assert made["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]
    labels = {
        "app": "x-0-prefill",
        v1.NAME_LABEL: "x",
        v1.ROLE_LABEL: "prefill",
        v1.SLICE_LABEL: "0",
        v1.REVISION_LABEL: revision,
    }
    assert labels.items() <= made["metadata"]["labels"].items()
    pods = await watched.pods()
    assert sorted(pods) == sorted(
        f"x-0-{revision}-{pod}" for pod in ("prefill-0", "prefill-0-1", "decode-0", "decode-1")
    )
    for name in ("prefill-0", "prefill-0-1"):
        assert labels.items() <= pods[f"x-0-{revision}-{name}"]["metadata"]["labels"].items()
    assert found["status"]["roleStatuses"] == [
        {"name": "prefill", "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1},
        {"name": "decode", "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2},
    ]
    assert condition(found, v1.PROGRESSING) == "False"


@pytest.mark.parametrize("third", [False, True], ids=["two roles", "three roles"])
async def test_roles_are_updated_together_within_their_bounds_at_every_moment(
    watched: Watched, third: bool
) -> None:
    def manifest(image: str) -> Object:
        encode = [a_role("encode", 2, image=image, rolloutStrategy=rolling(0, "50%"))] if third else []
        return a_set(
            a_role("prefill", 4, image=image, rolloutStrategy=rolling("50%", 0)),
            a_role("decode", 2, rolloutStrategy=rolling(1, 1)),
            *encode,
        )

    await watched.apply(manifest("engine:1"))
    await watched.available()
    old = revisions(await watched.sets())
    await watched.follow()
    await watched.apply(manifest("engine:2"))
    await watched.available()
    bounds = {"prefill": (4, 6), "decode": (1, 3)} | ({"encode": (1, 2)} if third else {})
    assert check_bounds(watched, bounds) > 6
    assert not old & revisions(await watched.sets())
    # A step up waits for the one before to be ready.
    new = next(iter(revisions(await watched.sets())))
    steps = [sample[new] for sample in watched.sampled() if new in sample]
    for before, after in itertools.pairwise(steps):
        for role, (wanted, _) in after.items():
            had, ready = before.get(role, (0, 0))
            assert wanted <= had or ready == had, (role, before, after)


async def test_a_role_that_is_renamed_added_or_removed_drains_step_by_step(watched: Watched) -> None:
    await watched.apply(a_set(a_role("prefill", 3), a_role("decode", 3)))
    await watched.available()
    await watched.follow()
    await watched.apply(a_set(a_role("prefill", 3), a_role("decoder", 3), a_role("encode", 1)))
    await watched.available()
    check_bounds(watched, {"prefill": (3, 4)})
    drained = [watched.total(sample)["decode"] for sample in watched.sampled()]
    assert drained == sorted(drained, reverse=True)
    assert set(drained) >= {3, 2, 0}
    await watched.apply(a_set(a_role("prefill", 3), a_role("decoder", 3)))
    found = await watched.available()
    assert [role["name"] for role in found["status"]["roleStatuses"]] == ["prefill", "decoder"]
    roles = {one["metadata"]["labels"][v1.ROLE_LABEL] for one in (await watched.sets()).values()}
    assert roles == {"prefill", "decoder"}


async def test_of_two_old_revisions_the_broken_newer_one_drains_before_the_one_that_serves(
    watched: Watched,
) -> None:
    await watched.apply(a_set())
    await watched.available()
    (first,) = revisions(await watched.sets())
    await watched.apply(a_set(a_role("prefill", image="broken", annotations=NEVER_READY), a_role("decode")))

    async def stuck() -> str:
        sets = await watched.sets()
        broken = [one for one in sets.values() if one["metadata"]["labels"][v1.REVISION_LABEL] != first]
        begun = len(broken) == 2 and all(one["spec"]["replicas"] for one in broken)
        return broken[0]["metadata"]["labels"][v1.REVISION_LABEL] if begun else ""

    second = await watched.until(stuck, "the broken revision has begun")
    await watched.follow()
    await watched.apply(a_set(a_role("prefill", image="engine:3"), a_role("decode")))
    await watched.available()
    samples = watched.sampled()
    broken = [any(wanted for wanted, _ in sample.get(second, {}).values()) for sample in samples]
    serving = [sum(wanted for wanted, _ in sample.get(first, {}).values()) for sample in samples]
    assert broken[0] and not broken[-1]
    assert all(groups == 4 for groups, there in zip(serving, broken, strict=True) if there)
    assert serving[-1] == 0


async def test_services_are_headless_and_appear_when_every_role_is_ready_and_old_ones_go_after_the_switch(
    watched: Watched,
) -> None:
    client = watched.client
    await watched.apply(a_set(a_role("prefill", annotations=NEVER_READY), a_role("decode")))

    async def decodes() -> bool:
        sets = await watched.sets()
        return any(one.get("status", {}).get("readyReplicas") == 2 for one in sets.values())

    await watched.until(decodes, "decode is ready")
    assert not await watched.services()
    await watched.apply(a_set())
    await watched.available()
    services = await watched.services()
    (revision,) = revisions(await watched.sets())
    assert sorted(services) == [f"x-0-{revision}-{role}-prv" for role in ("decode", "prefill")]
    for name, service in services.items():
        assert service["spec"]["clusterIP"] == "None"
        assert not service["spec"].get("ports")
        labels = service["spec"]["selector"]
        assert labels[v1.ROLE_LABEL] in name
        assert labels[v1.REVISION_LABEL] == revision
    await client.delete(SERVICES, next(iter(services)), watched.namespace)

    async def back() -> bool:
        return len(await watched.services()) == 2

    await watched.until(back, "a deleted Service is back")
    await watched.apply(a_set(a_role("prefill", image="engine:2"), a_role("decode")))
    await watched.available()
    new = next(iter(revisions(await watched.sets())))
    assert new != revision
    assert sorted(await watched.services()) == [f"x-0-{new}-{role}-prv" for role in ("decode", "prefill")]


async def test_an_external_role_gets_a_scaler_whose_scale_is_there_before_any_write_and_reaches_its_groups(
    watched: Watched,
) -> None:
    client, namespace = watched.client, watched.namespace
    scaler = DISAGGREGATED_SET_ROLE_SCALERS
    await watched.apply(a_set(a_role("prefill", None, scaling=EXTERNAL), a_role("decode")))
    await watched.available()
    scale = await client.get_scale(scaler, "x-prefill", namespace)
    assert scale["spec"]["replicas"] == scale["status"]["replicas"] == 1
    assert scale["status"]["selector"].endswith("worker-index=0")
    await client.set_scale(scaler, "x-prefill", 3, namespace)

    async def three() -> bool:
        scale = await client.get_scale(scaler, "x-prefill", namespace)
        return scale["status"]["replicas"] == 3

    await watched.until(three, "there are three prefills")
    assert (await watched.scalers())["x-prefill"]["metadata"]["ownerReferences"][0][
        "kind"
    ] == "DisaggregatedSet"
    await watched.apply(a_set(a_role("prefill", 1), a_role("decode")))

    async def gone() -> bool:
        return not await watched.scalers()

    await watched.until(gone, "the scaler of a static role is gone")
    found = await watched.available()
    assert [role["replicas"] for role in found["status"]["roleStatuses"]] == [1, 2]


async def test_a_scaler_of_somebody_else_is_warned_of_and_not_adopted(watched: Watched) -> None:
    foreign = {
        "apiVersion": "disaggregatedset.x-k8s.io/v1",
        "kind": "DisaggregatedSetRoleScaler",
        "metadata": {"name": "x-prefill"},
        "spec": {"replicas": 7},
    }
    await watched.client.create(DISAGGREGATED_SET_ROLE_SCALERS, foreign, namespace=watched.namespace)
    await watched.apply(a_set(a_role("prefill", None, scaling=EXTERNAL), a_role("decode")))
    (note,) = await watched.until(lambda: watched.said("ScalerConflict"), "there is a warning")
    assert "DisaggregatedSetRoleScaler x-prefill is of somebody else" in note

    async def blocked() -> bool:
        return condition(await watched.the_set(), "kajitori.dev/Blocked") == "True"

    await watched.until(blocked, "the set says so")
    scaler = (await watched.scalers())["x-prefill"]
    assert "ownerReferences" not in scaler["metadata"]
    assert scaler["spec"]["replicas"] == 7
    assert "status" not in scaler


async def test_an_autoscaler_drives_a_role_through_its_scaler(
    watched: Watched,
    metrics: Metrics,  # noqa: F811
) -> None:
    metrics.queue = "35"
    await watched.apply(a_set(a_role("prefill", None, 2, scaling=EXTERNAL), a_role("decode", 1)))
    await watched.available()
    queue = {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    target = {
        "apiVersion": "disaggregatedset.x-k8s.io/v1",
        "kind": "DisaggregatedSetRoleScaler",
        "name": "x-prefill",
    }
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "prefill"},
        "spec": {
            "scaleTargetRef": target,
            "maxReplicas": 8,
            "metrics": [{"type": "External", "external": queue}],
        },
    }
    await watched.client.create(HORIZONTAL_POD_AUTOSCALERS, autoscaler, namespace=watched.namespace)

    async def grown() -> bool:
        roles = (await watched.the_set())["status"]["roleStatuses"]
        return roles[0] == {"name": "prefill", "replicas": 4, "readyReplicas": 4, "updatedReplicas": 4}

    await watched.until(grown, "the autoscaler has made four groups of the one")

    async def eight() -> bool:
        return len([name for name in await watched.pods() if "-prefill-" in name]) == 8

    await watched.until(eight, "each of them has two pods")
    assert (await watched.sets()).keys() == {
        f"x-0-{next(iter(revisions(await watched.sets())))}-{role}" for role in ("prefill", "decode")
    }


async def test_slices_are_independent_copies_with_affinities_and_fewer_delete_the_highest_alone(
    watched: Watched,
) -> None:
    placed = {"type": "ExclusiveSlice", "topology": "kubernetes.io/hostname"}
    await watched.apply(a_set(a_role("prefill", 1), a_role("decode", 1), slices=2, placementPolicy=placed))
    await watched.available()
    pods = await watched.pods()
    places: dict[str, set[str]] = {}
    for pod in pods.values():
        places.setdefault(pod["metadata"]["labels"][v1.SLICE_LABEL], set()).add(pod["spec"]["nodeName"])
    assert [len(nodes) for nodes in places.values()] == [1, 1], "a slice is on one node"
    assert places["0"] != places["1"], "no two slices on the same"
    (revision,) = revisions(await watched.sets())
    await watched.apply(a_set(a_role("prefill", 1), a_role("decode", 1), slices=3, placementPolicy=placed))

    async def three() -> bool:
        return len(await watched.sets()) == 6

    await watched.until(three, "there are three slices")
    assert revisions(await watched.sets()) == {revision}, "nothing rolls"
    await watched.apply(a_set(a_role("prefill", 1), a_role("decode", 1), slices=1, placementPolicy=placed))

    async def one() -> bool:
        names = await watched.sets()
        return sorted(names) == [f"x-0-{revision}-{role}" for role in ("decode", "prefill")]

    await watched.until(one, "only slice 0 is left")
    kept = {name: pod["metadata"]["uid"] for name, pod in pods.items() if name.startswith("x-0-")}

    async def rest() -> bool:
        return {name: pod["metadata"]["uid"] for name, pod in (await watched.pods()).items()} == kept

    await watched.until(rest, "its pods are the same and the others are gone")
    assert sorted(await watched.services()) == [
        f"x-0-{revision}-{role}-prv" for role in ("decode", "prefill")
    ]


async def test_deleting_a_set_removes_all_it_has_and_foreign_objects_of_the_same_name_are_not_touched(
    watched: Watched,
) -> None:
    client, namespace = watched.client, watched.namespace
    await watched.apply(a_set(a_role("prefill", None, scaling=EXTERNAL), a_role("decode", 1), name="y"))
    await watched.available("y")
    made = await watched.sets()
    assert await watched.scalers()
    await client.delete(DISAGGREGATED_SETS, "y", namespace)

    async def nothing() -> bool:
        found = [await each() for each in (watched.sets, watched.scalers, watched.services, watched.pods)]
        return not any(found)

    # A real garbage collector looks for kinds that are new every 30 seconds.
    await watched.until(nothing, "all that the set had is gone", 120)
    (revision,) = revisions(made)
    foreign = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": f"x-0-{revision}-prefill"},
        "spec": {
            "replicas": 0,
            "leaderWorkerTemplate": a_role()["spec"]["leaderWorkerTemplate"],
        },
    }
    service = {"metadata": {"name": f"x-0-{revision}-decode-prv"}, "spec": {"clusterIP": "None"}}
    held = await client.create(LEADER_WORKER_SETS, foreign, namespace=namespace)
    taken = await client.create(
        SERVICES, {"apiVersion": "v1", "kind": "Service", **service}, namespace=namespace
    )
    await watched.apply(a_set(a_role("prefill", 1), a_role("decode", 1)))

    async def blocked() -> str:
        conditions = (await watched.the_set()).get("status", {}).get("conditions", ())
        found = [one["message"] for one in conditions if one["type"] == "kajitori.dev/Blocked"]
        return found[0] if found else ""

    message = await watched.until(blocked, "the set says what is in its way")
    assert f"LeaderWorkerSet x-0-{revision}-prefill is of somebody else" in message
    kept = (await watched.sets())[f"x-0-{revision}-prefill"]
    assert kept["metadata"]["uid"] == held["metadata"]["uid"]
    assert kept["spec"] == held["spec"]
    assert kept["metadata"].get("labels") == held["metadata"].get("labels")
    await client.delete(LEADER_WORKER_SETS, f"x-0-{revision}-prefill", namespace)
    await client.patch(
        DISAGGREGATED_SETS, "x", {"metadata": {"labels": {"look": "again"}}}, namespace=namespace
    )

    async def service_blocks() -> bool:
        return f"Service x-0-{revision}-decode-prv is of somebody else" in await blocked()

    await watched.until(service_blocks, "the Service is in the way now")
    found = await client.get(SERVICES, f"x-0-{revision}-decode-prv", namespace)
    assert found["metadata"]["uid"] == taken["metadata"]["uid"]
    assert condition(await watched.the_set(), v1.AVAILABLE) == "False"


async def test_a_controller_that_dies_in_a_rollout_on_a_real_server_is_followed_by_one_that_finishes(
    server: Server, namespace: str, nodes: list[str]
) -> None:
    """Some of the points that `test_loop.py` tries one by one on the embedded server."""
    if server.name == "embedded":
        pytest.skip("its controllers are processes that other tests use")
    watched = Watched(server, namespace)
    for writes in (1, 4, 7, 11):
        await watched.apply(a_set(a_role("prefill", image=f"engine:{writes}"), a_role("decode"), slices=2))
        async with group_controllers(server, writes) as left:

            async def dead(left: Callable[[], float] = left) -> bool:
                return left() <= 0

            await watched.until(dead, "it is dead")
        async with group_controllers(server):
            await watched.available()
        sets = await watched.sets()
        assert len(sets) == 4
        assert len(revisions(sets)) == 1
        assert {one["spec"]["replicas"] for one in sets.values()} == {2}
        assert len(await watched.services()) == 4
