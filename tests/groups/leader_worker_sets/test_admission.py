"""What the definition of LeaderWorkerSet refuses by itself, on the embedded API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.groups.leader_worker_sets.conftest import a_set, template
from tests.groups.leader_worker_sets.loop import install_definition

from kajitori.api.resource import LEADER_WORKER_SETS
from kajitori.base.errors import Invalid
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server


def manifest(name: str = "x", **fields: Any) -> dict[str, Any]:
    return {**a_set(**fields), "metadata": {"name": name, "namespace": "default"}}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running_api_server() as server, Client(load_config(str(server.kubeconfig))) as client:
        await install_definition(client)
        yield client


async def create(client: Client, lws: dict[str, Any]) -> dict[str, Any]:
    return await client.create(LEADER_WORKER_SETS, lws, field_validation="Strict")


def rolling(**fields: Any) -> dict[str, Any]:
    return {"rolloutStrategy": {"rollingUpdateConfiguration": fields}}


def subgroups(size: int, part: int, kind: str = "LeaderWorker") -> dict[str, Any]:
    return {"size": size, "subGroupPolicy": {"subGroupSize": part, "subGroupPolicyType": kind}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"replicas": -1}, "spec.replicas"),
    ({"replicas": 1_000_001}, "spec.replicas"),
    ({"replicas": 1_000_000, "size": 100_000}, "spec.replicas"),
    ({"size": 0}, "spec.leaderWorkerTemplate.size"),
    ({"startupPolicy": "Never"}, "spec.startupPolicy"),
    ({"restartPolicy": "Always"}, "spec.leaderWorkerTemplate.restartPolicy"),
    (subgroups(5, 0), "subGroupSize"),
    (subgroups(5, 6), "subGroupSize"),
    (subgroups(6, 4), "subGroupSize"),
    (subgroups(4, 2, "LeaderExcluded"), "subGroupSize"),
    ({"rolloutStrategy": {"type": "Recreate"}}, "spec.rolloutStrategy.type"),
    (rolling(maxUnavailable=0), "maxUnavailable"),
    (rolling(maxUnavailable="0%", maxSurge="0%"), "maxUnavailable"),
    (rolling(maxUnavailable=-1), "maxUnavailable"),
    (rolling(maxUnavailable="101%"), "maxUnavailable"),
    (rolling(maxSurge=-1), "maxSurge"),
    (rolling(maxSurge="200%"), "maxSurge"),
    (rolling(partition=-1), "partition"),
]


async def test_what_makes_no_sense_is_refused_with_the_path_of_the_field(client: Client) -> None:
    for change, field in REFUSED:
        with pytest.raises(Invalid) as refused:
            await create(client, manifest(**change))
        assert any(field in cause["field"] for cause in refused.value.causes), (change, refused.value.causes)
    for name in ("0x", "x.y", "x" * 60):
        with pytest.raises(Invalid):
            await create(client, manifest(name))


async def test_what_makes_sense_is_taken(client: Client) -> None:
    accepted = [
        rolling(maxUnavailable=9),
        rolling(maxSurge=9, maxUnavailable="50%"),
        rolling(partition=9),
        {"replicas": 0} | rolling(maxUnavailable=0),
        {"restartPolicy": "Default"},
        subgroups(5, 2),
        subgroups(4, 2),
        subgroups(5, 2, "LeaderExcluded"),
    ]
    for number, change in enumerate(accepted):
        await create(client, manifest(f"x-{number}", **change))


async def test_defaults_are_filled_in(client: Client) -> None:
    lws = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "x", "namespace": "default"},
        "spec": {"leaderWorkerTemplate": {"workerTemplate": template()}},
    }
    spec = (await create(client, lws))["spec"]
    assert spec["replicas"] == 1
    assert spec["startupPolicy"] == "LeaderCreated"
    assert spec["networkConfig"] == {"subdomainPolicy": "Shared"}
    assert spec["leaderWorkerTemplate"]["size"] == 1
    assert spec["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
    assert spec["rolloutStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdateConfiguration": {"partition": 0, "maxUnavailable": 1, "maxSurge": 0},
    }


async def test_what_cannot_change_does_not(client: Client) -> None:
    await create(client, manifest("plain", size=4))
    await create(client, manifest("parted", **subgroups(4, 2)))
    for name, change in (
        ("plain", {"spec": {"leaderWorkerTemplate": {"subGroupPolicy": {"subGroupSize": 2}}}}),
        ("parted", {"spec": {"leaderWorkerTemplate": {"subGroupPolicy": None}}}),
        ("parted", {"spec": {"leaderWorkerTemplate": {"subGroupPolicy": {"subGroupSize": 4}}}}),
        ("plain", {"spec": {"networkConfig": {"subdomainPolicy": None}}}),
    ):
        with pytest.raises(Invalid):
            await client.patch(LEADER_WORKER_SETS, name, change, namespace="default")
    resized = {
        "spec": {
            "leaderWorkerTemplate": {"size": 8},
            "networkConfig": {"subdomainPolicy": "UniquePerReplica"},
        }
    }
    await client.patch(LEADER_WORKER_SETS, "plain", resized, namespace="default")
