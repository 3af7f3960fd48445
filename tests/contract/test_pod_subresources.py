"""Binding and eviction of pods, their budgets; leases and events as clients use them; priority classes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.servers import Server, pod
from tests.waiting import eventually

FAR = {"schedulerName": "nobody"}


async def test_a_pod_is_bound_once(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    (await server.http.create(path, pod("p", **FAR))).ok()
    target = {"target": {"apiVersion": "v1", "kind": "Node", "name": "n1"}}
    answer = await server.http.create(f"{path}/p/binding", {"metadata": {"name": "p"}, **target})
    assert (answer.code, answer.json["status"]) == (201, "Success")
    found = (await server.http.get(f"{path}/p")).ok()
    assert found["spec"]["nodeName"] == "n1"
    assert [(c["type"], c["status"]) for c in found["status"]["conditions"]] == [("PodScheduled", "True")]
    again = await server.http.create(f"{path}/p/binding", {"metadata": {"name": "p"}, **target})
    assert (again.code, again.json["message"]) == (
        409,
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"',
    )
    await server.http.delete(f"{path}/p", gracePeriodSeconds="0")


async def test_a_pod_with_gates_is_not_bound(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    (await server.http.create(path, pod("p", schedulingGates=[{"name": "example.com/wait"}]))).ok()
    target = {"target": {"kind": "Node", "name": "n1"}}
    answer = await server.http.create(f"{path}/p/binding", {"metadata": {"name": "p"}, **target})
    assert (answer.code, answer.json["message"]) == (
        409,
        'Operation cannot be fulfilled on pods/binding "p": pod p has non-empty .spec.schedulingGates',
    )


def eviction(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, **more}


async def test_a_budget_refuses_an_eviction(server: Server, namespace: str, nodes: list[str]) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    (await server.http.create(path, pod("web"))).ok()
    budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    (await server.http.create(budgets, {"metadata": {"name": "one"}, "spec": spec})).ok()

    async def counted() -> bool:
        shown = (await server.http.get(f"{budgets}/one")).ok().get("status") or {}
        return shown.get("currentHealthy") == 1

    await eventually(counted, "the budget knows its pod")
    answer = await server.http.create(f"{path}/web/eviction", eviction("web"))
    assert (answer.code, answer.json["reason"]) == (429, "TooManyRequests")
    assert answer.json["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert answer.json["details"]["causes"] == [
        {
            "reason": "DisruptionBudget",
            "message": "The disruption budget one needs 1 healthy pods and has 1 currently",
        }
    ]
    (await server.http.delete(f"{budgets}/one")).ok()
    answer = await server.http.create(f"{path}/web/eviction", eviction("web"))
    assert (answer.code, answer.json["status"]) == (201, "Success")


async def test_a_pod_that_does_not_run_yet_is_evicted_freely(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    (await server.http.create(path, pod("p", **FAR))).ok()
    assert (await server.http.create(f"{path}/p/eviction", eviction("p"))).code == 201
    assert (await server.http.get(f"{path}/p")).code == 404
    answer = await server.http.create(f"{path}/p/eviction", eviction("p"))
    assert (answer.code, answer.json["message"]) == (404, 'pods "p" not found')


async def test_events_of_both_groups_are_one(server: Server, namespace: str) -> None:
    core = f"/api/v1/namespaces/{namespace}/events"
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace},
        "reason": "Tried",
        "message": "it was tried",
        "type": "Normal",
        "source": {"component": "tests"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 2,
    }
    (await server.http.create(core, event)).ok()
    found = (await server.http.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/e")).ok()
    assert found["regarding"]["name"] == "p"
    assert (found["note"], found["reason"], found["type"]) == ("it was tried", "Tried", "Normal")
    assert (found["deprecatedSource"], found["deprecatedCount"]) == ({"component": "tests"}, 2)
    answer = await server.http.create(
        f"/apis/events.k8s.io/v1/namespaces/{namespace}/events",
        {"metadata": {"name": "f"}, "regarding": {"kind": "Pod", "namespace": namespace}, "reason": "R"},
    )
    assert answer.code == 422


async def test_a_lease_is_taken_by_the_first_who_writes(server: Server, namespace: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    spec = {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.123456Z",
        "leaseTransitions": 0,
    }
    made = (await server.http.create(path, {"metadata": {"name": "l"}, "spec": spec})).ok()
    assert made["spec"] == spec
    for holder, code in (("b", 200), ("c", 409)):
        taken = {**made, "spec": {**spec, "holderIdentity": holder, "leaseTransitions": 1}}
        assert (await server.http.put(f"{path}/l", taken)).code == code
    assert (await server.http.get(f"{path}/l")).ok()["spec"]["holderIdentity"] == "b"
    answer = await server.http.create(path, {"metadata": {"name": "z"}, "spec": {"leaseDurationSeconds": 0}})
    assert answer.json["message"] == (
        'Lease.coordination.k8s.io "z" is invalid: spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0'
    )


CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"


async def test_the_priority_of_a_pod_comes_from_its_class(server: Server, namespace: str) -> None:
    name = f"high-{namespace}"
    (await server.http.create(CLASSES, {"metadata": {"name": name}, "value": 1000})).ok()
    path = f"/api/v1/namespaces/{namespace}/pods"
    try:
        made = (await server.http.create(path, pod("p", priorityClassName=name, **FAR), dryRun="All")).ok()
        assert (made["spec"]["priority"], made["spec"]["preemptionPolicy"]) == (1000, "PreemptLowerPriority")
        answer = await server.http.create(path, pod("q", priorityClassName="nothing", **FAR))
        assert (answer.code, answer.json["message"]) == (
            403,
            'pods "q" is forbidden: no PriorityClass with name nothing was found',
        )
        answer = await server.http.merge(f"{CLASSES}/{name}", {"value": 5})
        assert answer.code == 422
        assert answer.json["details"]["causes"][0]["message"].endswith("may not be changed in an update.")
    finally:
        await server.http.delete(f"{CLASSES}/{name}")


@pytest.mark.parametrize(
    ("name", "value"), [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)]
)
async def test_the_classes_of_the_cluster_are_there(server: Server, name: str, value: int) -> None:
    assert (await server.http.get(f"{CLASSES}/{name}")).ok()["value"] == value


async def test_ephemeral_containers_are_added_by_their_subresource(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    (await server.http.create(path, pod("p", **FAR))).ok()
    added = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox:1"}]}}
    answer = await server.http.request(
        "PATCH",
        f"{path}/p/ephemeralcontainers",
        added,
        content_type="application/strategic-merge-patch+json",
    )
    (shown,) = answer.ok()["spec"]["ephemeralContainers"]
    assert (shown["name"], shown["terminationMessagePolicy"]) == ("debug", "File")
    answer = await server.http.merge(f"{path}/p/ephemeralcontainers", {"spec": {"ephemeralContainers": []}})
    assert answer.code == 422
    assert answer.json["message"].endswith(
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be removed\n'
    )


async def test_resources_of_a_pod_are_changed_by_resize(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    made = pod("p", **FAR)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}
    (await server.http.create(path, made)).ok()
    larger = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1500m"}}}]}}
    strategic = {"content_type": "application/strategic-merge-patch+json"}
    answer = await server.http.request("PATCH", f"{path}/p/resize", larger, **strategic)
    assert answer.ok()["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1500m"}
    assert (await server.http.request("PATCH", f"{path}/p", larger, **strategic)).code == 200
    smaller = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}}
    assert (await server.http.request("PATCH", f"{path}/p", smaller, **strategic)).code == 422
