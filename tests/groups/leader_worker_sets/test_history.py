"""The status tells the last restarts: few, once each, and where the definition has no room for them nothing else changes."""

from __future__ import annotations

import asyncio
import copy

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.groups.leader_worker_sets.conftest import START, PlannedCluster, a_set
from tests.groups.leader_worker_sets.loop import running_controller, running_loop

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import CUSTOM_RESOURCE_DEFINITIONS, LEADER_WORKER_SETS, PODS
from kajitori.base.clock import rfc3339
from kajitori.groups.leader_worker_sets.history import (
    MOST_RECORDS,
    RECALL_SECONDS,
    extend,
    is_failed,
    recall,
    record_of,
)
from kajitori.groups.leader_worker_sets.identity import FIRST_HASH
from kajitori.groups.leader_worker_sets.plan import same_status
from kajitori.groups.leader_worker_sets.restart import Blame, Restart

records = st.builds(
    v1.GroupRestart,
    time=st.integers(0, 3000).map(lambda second: rfc3339(START + second)),
    group=st.sampled_from(["0", "1"]),
    attempt=st.integers(0, 3),
    how=st.sampled_from(["Deleted", "Failed"]),
    outcome=st.sampled_from(["Recreated", "InPlace", "Failed"]),
)


@given(st.lists(records, max_size=30), st.lists(records, max_size=5))
def test_the_history_stays_short_and_ends_with_the_newest(
    old: list[v1.GroupRestart], new: list[v1.GroupRestart]
) -> None:
    history = extend(extend([], old), new)
    assert len(history) <= MOST_RECORDS
    assert extend(history, history[-1:])[-1] == history[-1] if history else True


def test_a_restart_that_an_earlier_controller_told_is_not_told_twice() -> None:
    restart = Restart(
        incarnation="a", revision="r", blame=Blame(pod="x-0", how="deleted"), count=2, not_before=START + 1
    )
    first, again, later = (record_of(0, restart, START + seconds) for seconds in (0, 5, 900))
    assert first is not None
    assert again is not None
    assert later is not None
    assert extend([first], [again]) == [first]
    assert extend([first], [later]) == [first, later]


def test_after_a_controller_died_the_history_says_how_long_a_group_has_to_wait() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=2)).settle()
    for _ in range(4):
        cluster.run("x-0-1", restarts=1, exit_code=1)
        cluster.reconcile()
        cluster.bury()
        history = msgspec.convert(cluster.lws["status"]["restarts"], list[v1.GroupRestart])
        # Another process begins here.
        cluster.memory = {"restarts": recall(history, cluster.now, hashed=False), "taken": {}}
        plan = cluster.reconcile()
        cluster.settle()
    assert plan.again_after_seconds == 4
    assert cluster.pods["x-0"]["metadata"]["annotations"]["groups.kajitori.dev/restarts"] == "4"
    assert [record["attempt"] for record in cluster.lws["status"]["restarts"]] == [1, 2, 3, 4]


def test_groups_that_are_named_by_digits_are_found_again() -> None:
    group = FIRST_HASH + 0x0A1B2C3D
    restart = Restart(
        incarnation="a", revision="r", blame=Blame(pod="x", how="gone"), count=3, not_before=START + 9
    )
    record = record_of(group, restart, START)
    assert record is not None
    assert record.group == "0a1b2c3d"
    assert recall([record], START, hashed=True).keys() == {group}
    assert not recall([record], START + 9 + RECALL_SECONDS, hashed=True)
    assert not is_failed([record], group)


def test_nobody_is_told_of_updates_and_scale_downs() -> None:
    cluster = PlannedCluster(a_set(replicas=2)).settle()
    cluster.lws["spec"]["replicas"] = 1
    cluster.settle()
    assert "restarts" not in cluster.lws["status"]


def test_where_the_definition_has_no_such_field_the_status_is_not_written_again_and_again() -> None:
    cluster = PlannedCluster(a_set(replicas=1, size=2)).settle()
    cluster.run("x-0-1", restarts=1)
    for _ in range(3):
        cluster.reconcile()
        cluster.lws["status"].pop("restarts", None)
        cluster.bury()
        cluster.run_all()
    assert cluster.conditions()["Available"] == "True"
    for _ in range(3):
        before = msgspec.convert(cluster.lws["status"], v1.LeaderWorkerSetStatus)
        plan = cluster.reconcile()
        assert same_status(before, plan.status)


async def test_restarts_are_in_the_status_of_a_set_unless_its_definition_drops_them() -> None:
    lws = a_set(replicas=1, size=2)
    lws["metadata"] = {"name": "x", "namespace": "default"}
    async with running_loop(with_controller=False) as loop, running_controller(loop.server) as requests:
        await loop.apply(lws)
        await loop.available()

        async def restart_of(pod: str) -> None:
            before = await loop.uids(0)
            await loop.node.report(pod, restarts=1)

            async def anew() -> bool:
                now = await loop.uids(0)
                return now.keys() == before.keys() and not set(now.values()) & set(before.values())

            await loop.until(anew)
            await loop.available()

        await restart_of("x-0-1")
        (record,) = (await loop.set())["status"]["restarts"]
        assert (record["pod"], record["how"], record["exitCode"], record["signal"]) == (
            "x-0-1",
            "ContainerRestarted",
            137,
            9,
        )
        definitions = (await loop.client.list(CUSTOM_RESOURCE_DEFINITIONS)).items
        (crd,) = [crd for crd in definitions if crd["spec"]["names"]["kind"] == "LeaderWorkerSet"]
        versions = copy.deepcopy(crd["spec"]["versions"])
        del versions[0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["restarts"]
        await loop.client.patch(
            CUSTOM_RESOURCE_DEFINITIONS, crd["metadata"]["name"], {"spec": {"versions": versions}}
        )
        # What is stored is dropped with the next write.
        await loop.client.patch(
            LEADER_WORKER_SETS, "x", {"metadata": {"labels": {"a": "b"}}}, namespace="default"
        )

        async def dropped() -> bool:
            return "restarts" not in (await loop.set())["status"]

        await loop.until(dropped)
        await restart_of("x-0-1")
        written = requests.requests["PATCH x"] + requests.requests["PATCH leaderworkersets"]
        version = (await loop.set())["metadata"]["resourceVersion"]
        await loop.client.patch(
            PODS, "x-0", {"metadata": {"annotations": {"seen": "once"}}}, namespace="default"
        )
        await asyncio.sleep(0.3)
        assert (await loop.set())["metadata"]["resourceVersion"] == version
        assert requests.requests["PATCH x"] + requests.requests["PATCH leaderworkersets"] == written
        assert "restarts" not in (await loop.set())["status"]
