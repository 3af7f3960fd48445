"""Names and objects that belong to somebody else: they are neither taken over nor deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.groups.leader_worker_sets.conftest import PlannedCluster, a_set, container, template
from tests.groups.leader_worker_sets.loop import Loop, condition, running_loop

from kajitori.api.leaderworkerset import v1
from kajitori.api.resource import CONTROLLER_REVISIONS, LEADER_WORKER_SETS, PODS, SERVICES
from kajitori.groups.leader_worker_sets.revisions import data_hash, revision_data
from kajitori.groups.leader_worker_sets.status import BLOCKED

OTHER = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "other-uid", "controller": True}]


@pytest.fixture
async def loop() -> AsyncIterator[Loop]:
    async with running_loop() as loop:
        yield loop


def manifest(**fields: Any) -> dict[str, Any]:
    return {**a_set(**fields), "metadata": {"name": "x", "namespace": "default"}}


async def test_where_a_service_of_the_name_is_somebody_elses_no_pod_is_made_and_the_set_says_so(
    loop: Loop,
) -> None:
    service = {"metadata": {"name": "x", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
    made = await loop.client.create(SERVICES, {"apiVersion": "v1", "kind": "Service", **service})
    await loop.apply(manifest(replicas=1, size=2))

    async def blocked() -> bool:
        return condition(await loop.set(), "kajitori.dev/Blocked") == "True"

    await loop.until(blocked)
    assert await loop.pods() == {}
    held = await loop.client.get(SERVICES, "x", "default")
    assert held["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_revisions_of_somebody_else_are_passed_over_and_stay(loop: Loop) -> None:
    lws = manifest(replicas=1, size=1)
    asked = await loop.client.create(LEADER_WORKER_SETS, lws, dry_run=True, type=v1.LeaderWorkerSet)
    hash = data_hash(revision_data(asked.spec))
    versions: dict[str, str] = {}
    # One that our cache does not see, and one with our labels.
    for number, labels in ((1, {}), (2, {v1.SET_NAME_LABEL: "x", v1.REVISION_LABEL: hash})):
        foreign = {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {"name": f"x-{hash}-{number}", "namespace": "default", "labels": labels},
            "revision": number,
        }
        made = await loop.client.create(CONTROLLER_REVISIONS, foreign)
        versions[f"x-{hash}-{number}"] = made["metadata"]["resourceVersion"]
    await loop.apply(lws)
    await loop.available()
    assert f"x-{hash}-3" in {
        one["metadata"]["name"] for one in (await loop.client.list(CONTROLLER_REVISIONS, "default")).items
    }
    await loop.apply(manifest(replicas=1, size=1, workerTemplate=template(container(image="new:1"))))

    async def rolled() -> bool:
        pods = (await loop.pods()).values()
        return [pod["spec"]["containers"][0]["image"] for pod in pods] == ["new:1"]

    await loop.until(rolled)
    await loop.available()

    async def left() -> bool:
        names = {
            one["metadata"]["name"]: one
            for one in (await loop.client.list(CONTROLLER_REVISIONS, "default")).items
        }
        own = [one for name, one in names.items() if name not in versions]
        return len(own) == 1 and versions == {
            name: names[name]["metadata"]["resourceVersion"] for name in versions
        }

    await loop.until(left)


async def test_two_sets_whose_pods_have_one_name_do_not_take_it_from_each_other(loop: Loop) -> None:
    await loop.apply({**manifest(replicas=2, size=2), "metadata": {"name": "x", "namespace": "default"}})
    await loop.available()
    before = await loop.pods()
    await loop.apply({**manifest(replicas=2, size=1), "metadata": {"name": "x-1", "namespace": "default"}})

    async def blocked() -> str:
        lws = await loop.set("x-1")
        return next(
            (
                one["message"]
                for one in lws.get("status", {}).get("conditions", ())
                if one["type"] == BLOCKED and one["status"] == "True"
            ),
            "",
        )

    told = await loop.until(blocked)
    assert "Pod x-1-1 is of LeaderWorkerSet x" in told
    assert "x-1-0" in await loop.pods()
    assert {name: pod["metadata"]["uid"] for name, pod in before.items()}.items() <= {
        name: pod["metadata"]["uid"] for name, pod in (await loop.pods()).items()
    }.items()
    await loop.client.patch(LEADER_WORKER_SETS, "x", {"spec": {"replicas": 1}}, namespace="default")

    async def gone() -> bool:
        return "x-1" not in await loop.pods()

    await loop.until(gone)


def claims_set(**retention: str) -> dict[str, Any]:
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    return a_set(
        replicas=2, size=1, volumeClaimTemplates=[claim], persistentVolumeClaimRetentionPolicy=retention
    )


def test_a_claim_that_somebody_else_owns_is_neither_owned_nor_deleted() -> None:
    cluster = PlannedCluster(claims_set(whenScaled="Delete", whenDeleted="Delete")).settle()
    assert set(cluster.claims) == {"data-x-0", "data-x-1"}
    for claim in cluster.claims.values():
        claim["metadata"]["ownerReferences"] = OTHER
    cluster.lws["spec"]["replicas"] = 1
    cluster.settle()
    assert set(cluster.claims) == {"data-x-0", "data-x-1"}
    assert all(claim["metadata"]["ownerReferences"] == OTHER for claim in cluster.claims.values())


def test_a_claim_that_is_there_already_is_used_and_stays_as_it_is() -> None:
    cluster = PlannedCluster(claims_set())
    cluster.claims["data-x-0"] = {"metadata": {"name": "data-x-0", "namespace": "default", "uid": "theirs"}}
    cluster.settle()
    assert cluster.claims["data-x-0"]["metadata"] == {
        "name": "data-x-0",
        "namespace": "default",
        "uid": "theirs",
    }
    (volume,) = cluster.pods["x-0"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == "data-x-0"


@pytest.mark.parametrize(
    ("label", "value"), [(v1.SET_NAME_LABEL, None), (v1.SET_NAME_LABEL, "y"), (v1.GROUP_INDEX_LABEL, "none")]
)
async def test_a_pod_that_was_set_aside_by_its_labels_is_named_and_stays(
    loop: Loop, label: str, value: str | None
) -> None:
    await loop.apply(manifest(replicas=1, size=2))
    await loop.available()
    aside = await loop.client.patch(
        PODS, "x-0", {"metadata": {"labels": {label: value}}}, namespace="default"
    )

    async def told() -> str:
        conditions = (await loop.set())["status"]["conditions"]
        blocked = [one for one in conditions if one["type"] == BLOCKED and one["status"] == "True"]
        return blocked[0]["message"] if blocked else ""

    message = await loop.until(told)
    assert f"Pod x-0 is of this set, whose label {label} was changed" in message
    held = await loop.client.get(PODS, "x-0", "default")
    assert held["metadata"]["uid"] == aside["metadata"]["uid"]
    assert "deletionTimestamp" not in held["metadata"]
