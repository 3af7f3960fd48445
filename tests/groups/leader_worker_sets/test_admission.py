"""What the definition of LeaderWorkerSet refuses by itself, and what it lets pass, on both API servers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.groups.leader_worker_sets.conftest import a_set, template
from tests.servers import Server
from tests.waiting import eventually

from kajitori.api.leaderworkerset.policies import policies
from kajitori.api.leaderworkerset.v1 import LEADER_NAME_ANNOTATION, SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION
from kajitori.api.resource import LEADER_WORKER_SETS, Resource
from kajitori.base.errors import Invalid
from kajitori.kube.client import Client

Object = dict[str, Any]
POLICY = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False
)
BINDING = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    False,
)


def manifest(name: str = "x", **fields: Any) -> Object:
    return {**a_set(**fields), "metadata": {"name": name}}


async def create(client: Client, namespace: str, lws: Object, *, dry_run: bool = False) -> Object:
    lws = {**lws, "metadata": {"namespace": namespace, **lws["metadata"]}}
    return await client.create(LEADER_WORKER_SETS, lws, field_validation="Strict", dry_run=dry_run)


def rolling(**fields: Any) -> Object:
    return {"rolloutStrategy": {"rollingUpdateConfiguration": fields}}


def subgroups(size: int, part: int, kind: str = "LeaderWorker") -> Object:
    return {"size": size, "subGroupPolicy": {"subGroupSize": part, "subGroupPolicyType": kind}}


CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
# What is asked for, the field that the refusal names, and words of its sentence.
ROLLING = "spec.rolloutStrategy.rollingUpdateConfiguration."
SUBGROUP_SIZE = "spec.leaderWorkerTemplate.subGroupPolicy.subGroupSize"
REFUSED: list[tuple[Object, str, str]] = [
    ({"replicas": -1}, "spec.replicas", "greater than or equal to 0"),
    ({"replicas": 1_000_001}, "spec.replicas", "less than or equal to 1000000"),
    ({"replicas": 1_000_000, "size": 100_000}, "spec.replicas", "more pods than can be counted"),
    ({"size": 0}, "spec.leaderWorkerTemplate.size", "greater than or equal to 1"),
    ({"startupPolicy": "Never"}, "spec.startupPolicy", '"LeaderCreated", "LeaderReady"'),
    ({"restartPolicy": "Always"}, "spec.leaderWorkerTemplate.restartPolicy", '"RecreateGroupAfterStart"'),
    (
        {"networkConfig": {"subdomainPolicy": "Own"}},
        "spec.networkConfig.subdomainPolicy",
        '"UniquePerReplica"',
    ),
    (subgroups(5, 0), SUBGROUP_SIZE, "greater than or equal to 1"),
    (subgroups(5, 6), SUBGROUP_SIZE, "cannot be larger than its group"),
    (subgroups(6, 4), SUBGROUP_SIZE, "must divide into subgroups"),
    (subgroups(4, 2, "LeaderExcluded"), SUBGROUP_SIZE, "size - 1 if the leader is excluded"),
    (
        subgroups(4, 2, "Other"),
        "spec.leaderWorkerTemplate.subGroupPolicy.subGroupPolicyType",
        "LeaderExcluded",
    ),
    ({"rolloutStrategy": {"type": "Recreate"}}, "spec.rolloutStrategy.type", '"RollingUpdate"'),
    (rolling(maxUnavailable=0), ROLLING + "maxUnavailable", "no group could ever be replaced"),
    (rolling(maxUnavailable="0%", maxSurge="0%"), ROLLING + "maxUnavailable", "cannot both be 0"),
    (
        {"replicas": 4} | rolling(maxUnavailable="10%"),
        ROLLING + "maxUnavailable",
        "less than one of so few replicas, and maxSurge is 0",
    ),
    (
        {"replicas": 4} | rolling(maxUnavailable="24%", maxSurge="0%"),
        ROLLING + "maxUnavailable",
        "less than one",
    ),
    (rolling(maxUnavailable=-1), ROLLING + "maxUnavailable", "greater than or equal to 0"),
    (rolling(maxUnavailable="101%"), ROLLING + "maxUnavailable", "should match"),
    (rolling(maxUnavailable="half"), ROLLING + "maxUnavailable", "should match"),
    (rolling(maxSurge=-1), ROLLING + "maxSurge", "greater than or equal to 0"),
    (rolling(maxSurge="200%"), ROLLING + "maxSurge", "should match"),
    (rolling(partition=-1), ROLLING + "partition", "greater than or equal to 0"),
    ({"groupIdentity": "Random"}, "spec.groupIdentity", '"Hash", "Ordinal"'),
    ({"groupIdentity": "Hash"} | rolling(partition=1), ROLLING + "partition", "there is no partition"),
    (
        {"groupIdentity": "Hash", "volumeClaimTemplates": [CLAIM]},
        "spec.leaderWorkerTemplate.volumeClaimTemplates",
        "never comes back under its name",
    ),
    ({"groupReplacementPolicy": "Immediate"}, "spec.groupReplacementPolicy", "the one before it is gone"),
]
NAMING_A_LEADER = {**template(), "metadata": {"annotations": {LEADER_NAME_ANNOTATION: "x-7"}}}
REFUSED += [
    ({"leaderTemplate": NAMING_A_LEADER}, "spec.leaderWorkerTemplate", "another one's worker"),
    ({"workerTemplate": NAMING_A_LEADER}, "spec.leaderWorkerTemplate", "another one's worker"),
]
NAMES = [
    ("0x", {}, "metadata.name becomes the name of a Service"),
    ("x.y", {}, "metadata.name becomes the name of a Service"),
    ("x" * 60, {}, "metadata.name is too long"),
    # Nine groups have one digit; with a surge there may be a tenth.
    ("x" * 59, {"replicas": 9} | rolling(maxSurge=9), "metadata.name is too long"),
    ("x" * 53, {"groupIdentity": "Hash"}, "metadata.name is too long"),
]


async def test_what_makes_no_sense_is_refused_with_the_path_of_the_field_and_a_sentence(
    server: Server, namespace: str
) -> None:
    for change, field, words in REFUSED:
        with pytest.raises(Invalid) as refused:
            await create(server.client, namespace, manifest(**change))
        told = [cause["message"] for cause in refused.value.causes if cause["field"] == field]
        assert any(words in text for text in told), (change, refused.value.causes)


async def test_names_that_would_not_fit_are_refused(server: Server, namespace: str) -> None:
    for name, fields, words in NAMES:
        with pytest.raises(Invalid) as refused:
            await create(server.client, namespace, manifest(name, **fields))
        assert words in str(refused.value), name
    await create(server.client, namespace, manifest("x" * 59, replicas=9))


async def test_what_makes_sense_is_taken(server: Server, namespace: str) -> None:
    accepted = [
        rolling(maxUnavailable=9),
        rolling(maxSurge=9, maxUnavailable="50%"),
        {"replicas": 4} | rolling(maxUnavailable="25%"),
        {"replicas": 4} | rolling(maxUnavailable="10%", maxSurge="1%"),
        {"replicas": 4} | rolling(maxUnavailable="100%", maxSurge=0),
        rolling(partition=9),
        {"replicas": 0} | rolling(maxUnavailable=0),
        {"replicas": 0} | rolling(maxUnavailable="10%"),
        {"restartPolicy": "Default"},
        {"leaderTemplate": template(), "workerTemplate": NAMING_A_LEADER},
        subgroups(5, 2),
        subgroups(4, 2),
        subgroups(5, 2, "LeaderExcluded"),
        subgroups(5, 1, "LeaderExcluded"),
        {"groupIdentity": "Hash", "groupReplacementPolicy": "Immediate", "replicas": 1_000},
        {"groupIdentity": "Hash"} | rolling(partition=0, maxSurge=1),
    ]
    for change in accepted:
        await create(server.client, namespace, manifest(**change), dry_run=True)


async def test_defaults_are_filled_in(server: Server, namespace: str) -> None:
    lws = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "x"},
        "spec": {"leaderWorkerTemplate": {"workerTemplate": template()}},
    }
    spec = (await create(server.client, namespace, lws))["spec"]
    assert spec["replicas"] == 1
    assert spec["startupPolicy"] == "LeaderCreated"
    assert spec["groupIdentity"] == "Ordinal"
    assert spec["groupReplacementPolicy"] == "PostTermination"
    assert spec["networkConfig"] == {"subdomainPolicy": "Shared"}
    assert spec["leaderWorkerTemplate"]["size"] == 1
    assert spec["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
    assert spec["rolloutStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdateConfiguration": {"partition": 0, "maxUnavailable": 1, "maxSurge": 0},
    }


async def test_a_type_of_rollout_that_a_client_in_go_leaves_empty_is_taken(
    server: Server, namespace: str
) -> None:
    made = await create(server.client, namespace, manifest(rolloutStrategy={"type": ""}))
    configuration = made["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]
    assert configuration == {"partition": 0, "maxUnavailable": 1, "maxSurge": 0}


async def test_what_cannot_change_does_not(server: Server, namespace: str) -> None:
    client = server.client
    await create(client, namespace, manifest("plain", size=4))
    await create(client, namespace, manifest("parted", **subgroups(4, 2)))
    for name, change, words in (
        ("plain", {"leaderWorkerTemplate": {"subGroupPolicy": {"subGroupSize": 2}}}, "cannot be added"),
        ("parted", {"leaderWorkerTemplate": {"subGroupPolicy": None}}, "cannot be added to or removed"),
        ("parted", {"leaderWorkerTemplate": {"subGroupPolicy": {"subGroupSize": 4}}}, "cannot change"),
        ("plain", {"networkConfig": {"subdomainPolicy": None}}, "can be changed but not taken away"),
        ("plain", {"groupIdentity": "Hash"}, "groups cannot be named another way"),
    ):
        with pytest.raises(Invalid) as refused:
            await client.patch(LEADER_WORKER_SETS, name, {"spec": change}, namespace=namespace)
        assert words in str(refused.value), change
    resized = {
        "leaderWorkerTemplate": {"size": 8, "restartPolicy": "Default"},
        "networkConfig": {"subdomainPolicy": "UniquePerReplica"},
    }
    await client.patch(LEADER_WORKER_SETS, "plain", {"spec": resized}, namespace=namespace)


async def test_a_percentage_that_comes_to_nothing_of_fewer_groups_does_not_stop_an_autoscaler(
    server: Server, namespace: str
) -> None:
    client = server.client
    await create(client, namespace, manifest("x", replicas=20, **rolling(maxUnavailable="10%")))
    path = f"/apis/leaderworkerset.x-k8s.io/v1/namespaces/{namespace}/leaderworkersets/x/scale"
    scaled = await server.http.merge(path, {"spec": {"replicas": 4}})
    assert scaled.code == 200, scaled.json
    with pytest.raises(Invalid, match="less than one of so few replicas"):
        change = rolling(maxUnavailable="12%")
        await client.patch(LEADER_WORKER_SETS, "x", {"spec": change}, namespace=namespace)


async def test_a_policy_refuses_what_a_definition_cannot_see(server: Server, namespace: str) -> None:
    policy, binding = policies()
    # Of this test alone: the server is shared.
    policy["metadata"]["name"] = binding["metadata"]["name"] = f"{namespace}.kajitori.dev"
    binding["spec"]["policyName"] = policy["metadata"]["name"]
    binding["spec"]["matchResources"] = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    }
    lws = manifest("x", size=4)
    lws["metadata"]["annotations"] = {SUBGROUP_EXCLUSIVE_TOPOLOGY_ANNOTATION: "rack"}
    older = json.loads(json.dumps(lws))
    older["metadata"] |= {"name": "older", "finalizers": ["kajitori.dev/held"]}
    await create(server.client, namespace, older)
    await server.client.delete(LEADER_WORKER_SETS, "older", namespace)
    await server.client.create(POLICY, policy)
    await server.client.create(BINDING, binding)
    try:

        async def refusal() -> str:
            try:
                await create(server.client, namespace, lws, dry_run=True)
            except Invalid as error:
                return error.message
            return ""

        told = await eventually(refusal, "the policy is in force")
        assert "there are no subgroups without spec.leaderWorkerTemplate.subGroupPolicy" in told
        # A set from before that is being deleted can still go.
        await server.client.patch(
            LEADER_WORKER_SETS, "older", {"metadata": {"finalizers": None}}, namespace=namespace
        )
        parted = json.loads(json.dumps(manifest("x", **subgroups(4, 2))))
        parted["metadata"]["annotations"] = lws["metadata"]["annotations"]
        await create(server.client, namespace, parted)
    finally:
        await server.client.delete(BINDING, binding["metadata"]["name"])
        await server.client.delete(POLICY, policy["metadata"]["name"])
