"""What a DELETE does to objects with and without finalizers, to pods on nodes, to namespaces."""

from __future__ import annotations

from typing import Any

import pytest
from tests.apiserver.core.conftest import (
    CONFIG_MAPS,
    PODS,
    Api,
    add_service_account,
    config_map,
    pod,
)


async def test_an_object_without_finalizers_is_gone_at_once(api: Api) -> None:
    created = (await api.create(CONFIG_MAPS, config_map("a"))).ok()
    answer = await api.delete(f"{CONFIG_MAPS}/a")
    assert answer.json["status"] == "Success"
    assert answer.json["details"] == {"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]}
    assert (await api.get(f"{CONFIG_MAPS}/a")).code == 404


@pytest.mark.parametrize(
    ("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")]
)
async def test_a_policy_that_waits_leaves_its_finalizer(api: Api, policy: str, finalizer: str) -> None:
    (await api.create(CONFIG_MAPS, config_map("a"))).ok()
    first = (await api.delete(f"{CONFIG_MAPS}/a", {"propagationPolicy": policy})).ok()
    assert first["metadata"]["finalizers"] == [finalizer]
    assert first["metadata"]["deletionGracePeriodSeconds"] == 0
    again = (await api.delete(f"{CONFIG_MAPS}/a", {"propagationPolicy": policy})).ok()
    assert again == first
    gone = await api.merge(f"{CONFIG_MAPS}/a", {"metadata": {"finalizers": None}})
    assert gone.code == 200
    assert (await api.get(f"{CONFIG_MAPS}/a")).code == 404


async def test_no_finalizer_can_be_added_while_an_object_goes(api: Api) -> None:
    obj = config_map("a")
    obj["metadata"]["finalizers"] = ["example.com/one"]
    (await api.create(CONFIG_MAPS, obj)).ok()
    (await api.delete(f"{CONFIG_MAPS}/a")).ok()
    patch = {"metadata": {"finalizers": ["example.com/one", "example.com/two"]}}
    answer = await api.merge(f"{CONFIG_MAPS}/a", patch)
    assert answer.code == 422
    assert 'found new finalizers []string{"example.com/two"}' in answer.json["message"]


@pytest.mark.parametrize(
    ("preconditions", "words"),
    [
        ({"uid": "x"}, "the UID in the precondition (x) does not match the UID in record"),
        ({"resourceVersion": "1"}, "the ResourceVersion in the precondition (1) does not match"),
    ],
)
async def test_a_precondition_that_fails_deletes_nothing(
    api: Api, preconditions: dict[str, str], words: str
) -> None:
    (await api.create(CONFIG_MAPS, config_map("a"))).ok()
    answer = await api.delete(f"{CONFIG_MAPS}/a", {"preconditions": preconditions})
    assert answer.code == 409 and words in answer.json["message"]
    assert (await api.get(f"{CONFIG_MAPS}/a")).code == 200


async def test_an_unknown_policy_is_refused(api: Api) -> None:
    (await api.create(CONFIG_MAPS, config_map("a"))).ok()
    answer = await api.delete(f"{CONFIG_MAPS}/a", propagationPolicy="Bogus")
    assert answer.code == 422
    assert answer.json["details"]["causes"][0]["message"] == (
        'Unsupported value: "Bogus": supported values: "Foreground", "Background", "Orphan", "nil"'
    )


async def _bound_pod(api: Api, name: str) -> dict[str, Any]:
    await add_service_account(api)
    (await api.create(PODS, pod(name, terminationGracePeriodSeconds=20))).ok()
    binding = {"target": {"kind": "Node", "name": "node-1"}}
    assert (await api.create(f"{PODS}/{name}/binding", binding)).code == 201
    return (await api.get(f"{PODS}/{name}")).ok()


async def test_a_pod_without_a_node_is_gone_at_once(api: Api) -> None:
    await add_service_account(api)
    (await api.create(PODS, pod("p"))).ok()
    assert (await api.delete(f"{PODS}/p")).ok()["kind"] == "Pod"
    assert (await api.get(f"{PODS}/p")).code == 404


async def test_a_pod_on_a_node_gets_its_grace_and_the_node_ends_it(api: Api) -> None:
    bound = await _bound_pod(api, "p")
    assert bound["spec"]["nodeName"] == "node-1"
    first = (await api.delete(f"{PODS}/p")).ok()
    assert first["metadata"]["deletionGracePeriodSeconds"] == 20
    shorter = (await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 5})).ok()
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    longer = (await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 60})).ok()
    assert longer == shorter
    (await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 0})).ok()
    assert (await api.get(f"{PODS}/p")).code == 404


async def test_a_negative_grace_still_leaves_the_end_to_the_node(api: Api) -> None:
    await add_service_account(api)
    (await api.create(PODS, pod("p", nodeName="node-1"))).ok()
    ending = (await api.delete(f"{PODS}/p", {"gracePeriodSeconds": -1})).ok()
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 1


async def test_a_pod_is_bound_once(api: Api) -> None:
    await _bound_pod(api, "p")
    again = await api.create(f"{PODS}/p/binding", {"target": {"kind": "Node", "name": "node-2"}})
    assert again.code == 409
    assert 'pod p is already assigned to node "node-1"' in again.json["message"]


async def test_a_pod_is_bound_only_to_what_can_be_a_nodes_name(api: Api) -> None:
    await add_service_account(api)
    (await api.create(PODS, pod("p"))).ok()
    refused = await api.create(f"{PODS}/p/binding", {"target": {"kind": "Node", "name": "../../tmp/mine"}})
    assert refused.code == 422 and "target.name" in refused.json["message"]
    assert "nodeName" not in (await api.get(f"{PODS}/p")).ok()["spec"]


async def test_a_collection_is_deleted_by_its_selector(api: Api) -> None:
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        obj = config_map(name)
        obj["metadata"]["labels"] = {"l": label}
        (await api.create(CONFIG_MAPS, obj)).ok()
    answer = await api.request("DELETE", CONFIG_MAPS, labelSelector="l=x")
    assert [item["metadata"]["name"] for item in answer.ok()["items"]] == ["a", "b"]
    assert [item["metadata"]["name"] for item in (await api.get(CONFIG_MAPS)).json["items"]] == ["c"]


async def test_a_namespace_waits_for_its_finalizer_and_takes_nothing_new(api: Api) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    (await api.create("/api/v1/namespaces", namespace)).ok()
    going = (await api.delete("/api/v1/namespaces/n")).ok()
    assert going["status"]["phase"] == "Terminating"
    refused = await api.create("/api/v1/namespaces/n/configmaps", config_map("a", "n"))
    assert refused.code == 403
    assert refused.json["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    done = {**going, "spec": {"finalizers": []}}
    assert (await api.put("/api/v1/namespaces/n/finalize", done)).code == 200
    assert (await api.get("/api/v1/namespaces/n")).code == 404


async def test_the_default_namespace_stays(api: Api) -> None:
    answer = await api.delete("/api/v1/namespaces/default")
    assert answer.code == 403 and "this namespace may not be deleted" in answer.json["message"]


async def test_an_eviction_over_the_budget_is_refused(api: Api) -> None:
    await _bound_pod(api, "p")
    (await api.merge(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}})).ok()
    (await api.merge(f"{PODS}/p/status", {"status": {"phase": "Running"}})).ok()
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}},
    }
    (await api.create(budgets, budget)).ok()
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    refused = await api.create(f"{PODS}/p/eviction", eviction)
    assert refused.code == 429
    assert refused.json["details"]["causes"][0]["reason"] == "DisruptionBudget"
    status = {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}
    (await api.merge(f"{budgets}/b/status", {"status": status})).ok()
    assert (await api.create(f"{PODS}/p/eviction", eviction)).code == 201
    assert "deletionTimestamp" in (await api.get(f"{PODS}/p")).json["metadata"]
