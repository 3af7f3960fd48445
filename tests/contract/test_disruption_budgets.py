"""PodDisruptionBudgets and evictions behave alike on both servers."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from tests.contract.workloads import Workload, workload
from tests.servers import Server, without_volatile
from tests.waiting import eventually
from tests.wire import Answer

pytestmark = pytest.mark.usefixtures("nodes")
Object = dict[str, Any]


class Guarded(Workload):
    """A Deployment with a budget."""

    @property
    def budgets(self) -> str:
        return f"/apis/policy/v1/namespaces/{self.namespace}/poddisruptionbudgets"

    async def guard(self, **spec: Any) -> None:
        selector = {"matchLabels": {"app": "w"}}
        obj = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}}
        (await self.server.http.create(self.budgets, {**obj, "spec": {"selector": selector, **spec}})).ok()

    async def budget(self, **wanted: Any) -> Object:
        """Its status, once it has these fields."""
        last: Object = {}

        async def holds() -> Object | None:
            nonlocal last
            obj = (await self.server.http.get(f"{self.budgets}/b")).ok()
            last = obj.get("status", {})
            current = last.get("observedGeneration") == obj["metadata"].get("generation")
            return last if current and all(last.get(key) == value for key, value in wanted.items()) else None

        try:
            return await eventually(holds, f"budget with {wanted}")
        except BaseException:
            print("last status:", last)
            raise

    async def evict(self, name: str, **query: str) -> Answer:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction"
        return await self.server.http.create(path, body, **query)


@pytest.fixture
async def web(server: Server, namespace: str) -> Guarded:
    web = Guarded(server, namespace, "deployments")
    await web.create(workload("Deployment", replicas=3))
    await web.until_status(availableReplicas=3)
    return web


@pytest.mark.parametrize(
    ("spec", "expected", "desired"),
    [
        ({"minAvailable": 2}, 3, 2),
        ({"minAvailable": "50%"}, 3, 2),
        ({"maxUnavailable": 1}, 3, 2),
        ({"maxUnavailable": "34%"}, 3, 1),
    ],
)
async def test_the_status_says_how_many_may_go(
    web: Guarded, spec: Object, expected: int, desired: int
) -> None:
    await web.guard(**spec)
    status = await web.budget(expectedPods=expected, currentHealthy=3)
    assert without_volatile(status) == {
        "conditions": [
            {
                "message": "",
                "observedGeneration": 1,
                "reason": "SufficientPods",
                "status": "True",
                "type": "DisruptionAllowed",
            }
        ],
        "currentHealthy": 3,
        "desiredHealthy": desired,
        "disruptionsAllowed": 3 - desired,
        "expectedPods": expected,
        "observedGeneration": 1,
    }


async def test_an_eviction_beyond_the_budget_is_refused(web: Guarded) -> None:
    await web.guard(minAvailable=3)
    await web.budget(disruptionsAllowed=0, currentHealthy=3)
    refused = await web.evict((await web.pods())[0]["metadata"]["name"])
    assert refused.code == 429
    assert refused.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Cannot evict pod as it would violate the pod's disruption budget.",
        "reason": "TooManyRequests",
        "details": {
            "causes": [
                {
                    "reason": "DisruptionBudget",
                    "message": "The disruption budget b needs 3 healthy pods and has 3 currently",
                }
            ]
        },
        "code": 429,
    }
    assert "Retry-After" not in refused.headers


async def test_an_eviction_takes_one_disruption_until_another_pod_serves(web: Guarded) -> None:
    await web.guard(maxUnavailable=1)
    await web.budget(disruptionsAllowed=1)
    name = (await web.pods())[0]["metadata"]["name"]
    assert (await web.evict(name, dryRun="All")).code == 201
    await web.budget(disruptionsAllowed=1)
    answer = await web.evict(name)
    assert (answer.code, answer.json["status"]) == (201, "Success")
    await web.budget(disruptionsAllowed=1, currentHealthy=3)
    assert name not in [pod["metadata"]["name"] for pod in await web.pods()]


async def test_two_budgets_for_one_pod_are_refused(web: Guarded) -> None:
    await web.guard(maxUnavailable=1)
    await web.budget(disruptionsAllowed=1)
    other = {
        "metadata": {"name": "c"},
        "spec": {"selector": {"matchLabels": {"app": "w"}}, "maxUnavailable": 1},
    }
    (await web.server.http.create(web.budgets, other)).ok()
    refused = await web.evict((await web.pods())[0]["metadata"]["name"])
    assert refused.code == 500
    assert refused.json["message"] == (
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    )


@pytest.mark.parametrize(("policy", "code"), [("AlwaysAllow", 201), ("IfHealthyBudget", 429)])
async def test_a_pod_that_is_not_ready_goes_as_the_policy_says(web: Guarded, policy: str, code: int) -> None:
    await web.guard(minAvailable=3, unhealthyPodEvictionPolicy=policy)
    await web.budget(currentHealthy=3)
    name = (await web.pods())[0]["metadata"]["name"]
    path = f"/api/v1/namespaces/{web.namespace}/pods/{name}"
    await web.server.http.merge(path, {"metadata": {"annotations": {"kajitori.dev/test-ready": "false"}}})
    await web.budget(currentHealthy=2)
    assert (await web.evict(name)).code == code


async def test_pods_without_an_owner_count_only_by_number(server: Server, namespace: str) -> None:
    web = Guarded(server, namespace, "deployments")
    pod = {
        "metadata": {"name": "p", "labels": {"app": "w"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    (await server.http.create(f"/api/v1/namespaces/{namespace}/pods", pod)).ok()
    await web.guard(maxUnavailable=1)
    status = await web.budget(currentHealthy=1)
    assert (status["expectedPods"], status["disruptionsAllowed"]) == (0, 0)
    await server.http.merge(f"{web.budgets}/b", {"spec": {"maxUnavailable": None, "minAvailable": 0}})
    await web.budget(expectedPods=1, disruptionsAllowed=1)


async def test_an_owner_without_a_scale_lets_nothing_go(server: Server, namespace: str) -> None:
    daemons = Guarded(server, namespace, "daemonsets")
    daemon = workload("DaemonSet")
    daemon["spec"]["template"]["spec"]["nodeSelector"] = {"kajitori.dev/fake": "true"}
    await daemons.create(daemon)
    await daemons.until_status(numberAvailable=2)
    await daemons.guard(maxUnavailable=1)

    async def failed() -> Object | None:
        status = (await server.http.get(f"{daemons.budgets}/b")).ok().get("status", {})
        conditions = status.get("conditions") or [{}]
        return conditions[0] if conditions[0].get("reason") == "SyncFailed" else None

    condition = await eventually(failed, "the failure is told")
    assert condition["message"] == "daemonsets.apps does not implement the scale subresource"


async def test_an_evicted_pod_says_why_it_ends(server: Server, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    held = {
        "metadata": {"name": "p", "finalizers": ["kajitori.dev/test"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    (await server.http.create(pods, held)).ok()
    web = Guarded(server, namespace, "deployments")

    async def running() -> bool:
        return (await server.http.get(f"{pods}/p")).ok()["status"]["phase"] == "Running"

    await eventually(running, "the pod runs")
    assert (await web.evict("p")).code == 201
    pod = (await server.http.get(f"{pods}/p")).ok()
    (mark,) = [one for one in pod["status"]["conditions"] if one["type"] == "DisruptionTarget"]
    assert (mark["status"], mark["reason"], mark["message"]) == (
        "True",
        "EvictionByEvictionAPI",
        "Eviction API: evicting",
    )
    assert "deletionTimestamp" in pod["metadata"]
    (await server.http.merge(f"{pods}/p", {"metadata": {"finalizers": None}})).ok()


async def test_the_scale_of_a_custom_resource_says_how_many_pods_are_expected(
    server: Server, namespace: str
) -> None:
    group = "leaderworkerset.x-k8s.io/v1"
    template = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 4, "leaderWorkerTemplate": {"size": 1, "workerTemplate": template}}
    made = await server.http.create(
        f"/apis/{group}/namespaces/{namespace}/leaderworkersets",
        {"apiVersion": group, "kind": "LeaderWorkerSet", "metadata": {"name": "f"}, "spec": spec},
    )
    uid = made.ok()["metadata"]["uid"]
    owner = {"apiVersion": group, "kind": "LeaderWorkerSet", "name": "f", "uid": uid, "controller": True}
    pod = {
        "metadata": {"name": "p", "labels": {"app": "w"}, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    (await server.http.create(f"/api/v1/namespaces/{namespace}/pods", pod)).ok()
    web = Guarded(server, namespace, "deployments")
    await web.guard(minAvailable="25%")
    pokes = itertools.count()

    async def expected() -> bool:
        # The real controller learns of new kinds every half a minute, and looks again when a pod changes.
        await asyncio.sleep(0.5)
        poke = {"metadata": {"annotations": {"poke": str(next(pokes))}}}
        await server.http.merge(f"/api/v1/namespaces/{namespace}/pods/p", poke)
        status = (await server.http.get(f"{web.budgets}/b")).ok().get("status", {})
        return (status.get("expectedPods"), status.get("desiredHealthy")) == (4, 1)

    await eventually(expected, "four pods are expected", 60)
