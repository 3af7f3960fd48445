"""Sentences 8 to 11, 36, 37 and 39: what is written on the pods of a group, and where they may go."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

from kajitori.api.resource import LEADER_WORKER_SETS, NODES, PODS
from tests.behaviours.manifests import OLD, a_set, template
from tests.behaviours.sight import Sight, annotation, is_ready, label, sight_of
from tests.servers import Server, make_namespace, pod
from tests.wire import Object

PREFIX = "leaderworkerset.sigs.k8s.io/"
VARIABLES = ["LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX"]
ZONE = "topology.kubernetes.io/zone"


@contextlib.asynccontextmanager
async def another_namespace(server: Server, name: str) -> AsyncGenerator[Sight]:
    await make_namespace(server, name)
    async with sight_of(server.client, name) as other:
        yield other
    await server.http.delete(f"/api/v1/namespaces/{name}")


async def test_08_every_pod_says_which_set_group_and_place_it_is_of(sight: Sight, server: Server) -> None:
    async with another_namespace(server, f"{sight.namespace}-other") as other:
        for each in (sight, other):
            await each.apply(a_set("l", replicas=2, size=3))
            await each.available("l")
        keys: set[str] = set()
        for each in (sight, other):
            revision = {label(one, "template-revision-hash") for one in each.pods.values()}
            assert len(revision) == 1
            assert revision != {""}
            for group in (0, 1):
                members = each.group("l", group)
                assert {label(one, "worker-index"): name for name, one in members.items()} == {
                    "0": f"l-{group}",
                    "1": f"l-{group}-1",
                    "2": f"l-{group}-2",
                }
                (key,) = {label(one, "group-key") for one in members.values()}
                assert key == hashlib.sha1(f"{each.namespace}/l-{group}".encode()).hexdigest()
                keys.add(key)
                assert {annotation(one, "size") for one in members.values()} == {"3"}
                assert annotation(members[f"l-{group}"], "leader-name") is None
                for worker in (1, 2):
                    assert annotation(members[f"l-{group}-{worker}"], "leader-name") == f"l-{group}"
                for name, one in members.items():
                    assert one["spec"]["hostname"] == name
                    assert label(one, "subgroup-index") == ""
        assert len(keys) == 4


async def test_09_the_variables_of_a_group_come_first_in_every_container_and_override(sight: Sight) -> None:
    """That LWS_LEADER_ADDRESS resolves needs pods that run: see the table in this folder's `__init__`."""
    own = [{"name": "LWS_GROUP_SIZE", "value": "99"}, {"name": "MINE", "value": "$(LWS_WORKER_INDEX)"}]
    containers = [{"name": name, "image": OLD, "env": own} for name in ("engine", "sidecar")]
    first = [{"name": "prepare", "image": OLD, "env": own}]
    worker = {"spec": {"containers": containers, "initContainers": first}}
    await sight.apply(a_set("l", replicas=1, size=2, worker=worker))
    await sight.available("l")
    for index, name in enumerate(("l-0", "l-0-1")):
        spec = sight.pods[name]["spec"]
        assert len(spec["containers"] + spec["initContainers"]) == 3
        for container in spec["containers"] + spec["initContainers"]:
            assert [one["name"] for one in container["env"]] == [*VARIABLES, "MINE"]
            values = {one["name"]: one["value"] for one in container["env"]}
            assert values["LWS_LEADER_ADDRESS"] == f"l-0.l.{sight.namespace}"
            assert values["LWS_GROUP_SIZE"] == "2"
            assert values["LWS_WORKER_INDEX"] == str(index)


async def test_10_pods_of_nobodys_set_are_left_alone(sight: Sight) -> None:
    """Neither one that looks like a pod of the set, nor one with its labels."""
    impostor = pod("l-7")
    impostor["metadata"]["labels"] = {f"{PREFIX}name": "l", f"{PREFIX}worker-index": "0"}
    for foreign in (pod("plain"), pod("l-0-9"), impostor):
        await sight.client.create(PODS, foreign, namespace=sight.namespace)
    await sight.until(
        lambda: all(is_ready(sight.pods.get(name, {"metadata": {}})) for name in ("plain", "l-0-9", "l-7")),
        "foreign pods run",
    )
    before = {name: dict(sight.pods[name]) for name in ("plain", "l-0-9", "l-7")}
    await sight.apply(a_set("l", replicas=1, size=2))
    await sight.available("l")
    await sight.delete(PODS, "l-0-1")
    await sight.until(lambda: len(sight.past_pods["l-0-1"]) == 2, "the group is made anew")
    await sight.available("l")
    for name, was in before.items():
        now = sight.pods[name]
        assert now["metadata"]["uid"] == was["metadata"]["uid"]
        assert now["metadata"].get("labels") == was["metadata"].get("labels")
        assert now["metadata"].get("annotations") == was["metadata"].get("annotations")
        assert "env" not in now["spec"]["containers"][0]
    await sight.delete(LEADER_WORKER_SETS, "l")
    await sight.until(lambda: set(sight.pods) == set(before), "only the set's own pods go", 90)


def tpu_containers(*counts: int, env: list[Object] | None = None) -> list[Object]:
    """A container for each count; 0 asks for none."""
    made: list[Object] = []
    for number, count in enumerate(counts):
        container: Object = {"name": f"c{number}", "image": OLD}
        if count:
            container["resources"] = {"limits": {"google.com/tpu": str(count)}}
        if env:
            container["env"] = env
        made.append(container)
    return made


def tpu(pod: Object, container: int = 0) -> Object:
    env = pod["spec"]["containers"][container].get("env") or ()
    return {one["name"]: one["value"] for one in env if one["name"].startswith("TPU_")}


def with_tpus(*counts: int, **more: Any) -> Object:
    return {"spec": {"containers": tpu_containers(*counts, **more)}}


async def test_11_tpu_variables_are_there_where_tpus_are_asked_for(sight: Sight) -> None:
    """Pods with TPUs wait for nodes that have some; what is written on them does not."""
    no_tpus = with_tpus(0)
    parts = {"subGroupPolicy": {"subGroupSize": 2}}
    brought = [{"name": "TPU_WORKER_HOSTNAMES", "value": "mine"}]
    for lws in (
        a_set("none", replicas=1, size=2),
        a_set("both", replicas=1, size=2, worker=with_tpus(4)),
        a_set("alone", replicas=1, size=1, worker=with_tpus(4)),
        a_set("workers", replicas=1, size=3, worker=with_tpus(4), leaderTemplate=no_tpus),
        a_set("five", replicas=1, size=5, worker=with_tpus(4)),
        a_set("two", replicas=1, size=2, worker=with_tpus(4, 0, 4)),
        a_set("parts", replicas=1, size=4, worker=with_tpus(4), **parts),
        a_set("brought", replicas=1, size=2, worker=with_tpus(4, env=brought)),
    ):
        await sight.apply(lws)
    pods = sight.pods
    await sight.until(lambda: len(pods) == 2 + 2 + 1 + 3 + 5 + 2 + 4 + 2, "pods of all sets")
    assert not tpu(pods["none-0"])
    assert tpu(pods["both-0"]) == {
        "TPU_WORKER_HOSTNAMES": "both-0.both,both-0-1.both",
        "TPU_PROCESS_ADDRESSES": "both-0.both:8476,both-0-1.both:8476",
        "TPU_PROCESS_PORT": "8476",
        "TPU_WORKER_ID": "0",
        "TPU_NAME": "both-0",
    }
    assert tpu(pods["both-0-1"])["TPU_WORKER_ID"] == "1"
    assert tpu(pods["alone-0"])["TPU_WORKER_HOSTNAMES"] == "alone-0.alone"
    assert not tpu(pods["workers-0"])
    assert [tpu(pods[f"workers-0-{i}"])["TPU_WORKER_ID"] for i in (1, 2)] == ["0", "1"]
    assert tpu(pods["workers-0-2"])["TPU_WORKER_HOSTNAMES"] == "workers-0-1.workers,workers-0-2.workers"
    assert annotation(pods["both-0-1"], "leader-requests-tpus") == "true"
    assert annotation(pods["workers-0-1"], "leader-requests-tpus") is None
    assert [tpu(pods[f"five-0-{i}"])["TPU_WORKER_ID"] for i in (1, 2, 3, 4)] == ["1", "2", "3", "4"]
    assert len(tpu(pods["five-0"])["TPU_WORKER_HOSTNAMES"].split(",")) == 5
    numbered = [tpu(pods["two-0-1"], container) for container in (0, 2)]
    assert [one["TPU_WORKER_ID"] for one in numbered] == ["2", "3"]
    assert [one["TPU_PROCESS_PORT"] for one in numbered] == ["8476", "8477"]
    assert not tpu(pods["two-0-1"], 1)
    assert tpu(pods["parts-0-1"])["TPU_WORKER_HOSTNAMES"] == "parts-0.parts,parts-0-1.parts"
    assert tpu(pods["parts-0-3"])["TPU_WORKER_HOSTNAMES"] == "parts-0-2.parts,parts-0-3.parts"
    assert tpu(pods["parts-0-3"])["TPU_WORKER_ID"] == "1"
    assert tpu(pods["brought-0"]) == {"TPU_WORKER_HOSTNAMES": "mine"}


def terms(pod: Object, kind: str) -> list[Object]:
    affinity = pod["spec"].get("affinity") or {}
    return (affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or []


async def test_36_groups_of_an_exclusive_topology_never_share_a_domain(
    sight: Sight, nodes: list[str]
) -> None:
    """Workers get their leader's affinity, not a node selector once it is bound: all pods are made at once."""
    theirs = {
        "labelSelector": {"matchLabels": {"app": "unlike"}},
        "topologyKey": "kubernetes.io/hostname",
    }
    worker = template()
    worker["spec"]["affinity"] = {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [theirs]}
    }
    lws = a_set("l", replicas=3, size=2, worker=worker, annotations={f"{PREFIX}exclusive-topology": ZONE})
    await sight.apply(lws)
    await sight.until(lambda: len(sight.ready_groups("l")) == len(nodes), "a group in each zone")
    await sight.settled()
    assert len(sight.ready_groups("l")) == 2, "there are two zones"
    zones = {
        node["metadata"]["name"]: node["metadata"]["labels"][ZONE]
        for node in (await sight.client.list(NODES)).items
        if ZONE in (node["metadata"].get("labels") or {})
    }
    used: list[str] = []
    for index in sight.ready_groups("l"):
        members = sight.group("l", index).values()
        (zone,) = {zones[one["spec"]["nodeName"]] for one in members}
        used.append(zone)
    assert len(set(used)) == 2
    await sight.delete(PODS, f"l-{min(sight.ready_groups('l'))}-1")
    await sight.until(lambda: len(sight.ready_groups("l")) == 1)
    await sight.until(lambda: len(sight.ready_groups("l")) == 2, "it, or the one that waited, has the zone")
    for one in sight.pods.values():
        key = label(one, "group-key")
        (near,) = terms(one, "podAffinity")
        assert near["topologyKey"] == ZONE
        assert near["labelSelector"]["matchExpressions"] == [
            {"key": f"{PREFIX}group-key", "operator": "In", "values": [key]}
        ]
        kept, far = terms(one, "podAntiAffinity")
        assert kept["topologyKey"] == "kubernetes.io/hostname"
        assert {"key": f"{PREFIX}group-key", "operator": "NotIn", "values": [key]} in far["labelSelector"][
            "matchExpressions"
        ]
        assert annotation(one, "exclusive-topology") == ZONE


async def test_37_pods_know_the_subgroup_that_they_are_of(sight: Sight) -> None:
    def policy(part: int, kind: str = "LeaderWorker") -> Object:
        return {"subGroupPolicy": {"subGroupSize": part, "subGroupPolicyType": kind}}

    exclusive = {f"{PREFIX}subgroup-exclusive-topology": "kubernetes.io/hostname"}
    await sight.apply(a_set("apart", replicas=1, size=4, annotations=exclusive, **policy(2)))
    await sight.available("apart")
    # These may not come near it; how they are labelled is all that counts.
    for lws in (
        a_set("even", replicas=1, size=4, **policy(2)),
        a_set("extra", replicas=1, size=5, **policy(2)),
        a_set("single", replicas=1, size=3, **policy(1)),
        a_set("excluded", replicas=1, size=5, **policy(2, "LeaderExcluded")),
    ):
        await sight.apply(lws)
    await sight.until(lambda: len(sight.pods) == 4 + 5 + 3 + 5 + 4, "pods of all sets")

    def parts(name: str) -> list[str]:
        members = sorted(sight.group(name, 0).values(), key=lambda one: int(label(one, "worker-index")))
        return [label(one, "subgroup-index") for one in members]

    assert parts("even") == ["0", "0", "1", "1"]
    assert parts("extra") == ["0", "0", "0", "1", "1"]
    assert parts("single") == ["0", "1", "2"]
    assert parts("excluded") == ["", "0", "0", "1", "1"]
    for name in ("even", "extra", "excluded"):
        keys = {
            label(one, "subgroup-index"): label(one, "subgroup-key") for one in sight.group(name, 0).values()
        }
        assert len(set(keys.values())) == len(keys)
        kind = "LeaderExcluded" if name == "excluded" else "LeaderWorker"
        for one in sight.group(name, 0).values():
            assert annotation(one, "subgroup-size") == "2"
            assert (annotation(one, "subgroup-policy-type") or "LeaderWorker") == kind
    for one in sight.group("apart", 0).values():
        (near,) = terms(one, "podAffinity")
        (far,) = terms(one, "podAntiAffinity")
        assert near["labelSelector"]["matchExpressions"][0]["values"] == [label(one, "subgroup-key")]
        assert far["topologyKey"] == "kubernetes.io/hostname"
    hosts = {
        label(one, "subgroup-index"): one["spec"]["nodeName"] for one in sight.group("apart", 0).values()
    }
    assert len(set(hosts.values())) == 2
