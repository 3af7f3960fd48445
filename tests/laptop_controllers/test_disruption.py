"""PodDisruptionBudgets: the arithmetic alone, and with evictions on the embedded server."""

from __future__ import annotations

import msgspec
import pytest

from kajitori.api.resource import POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, SERVICE_ACCOUNTS
from kajitori.base.clock import rfc3339
from kajitori.base.errors import TooManyRequests
from kajitori.laptop.controllers import disruption, replica_sets, service_accounts
from kajitori.laptop.controllers.disruption.plan import (
    BudgetView,
    disrupted_pods,
    expected_and_desired,
    failed_status,
    plan_status,
    seconds_until_stale,
)
from kajitori.laptop.controllers.views import PodView

NOW = 1_700_000_000.0


def budget(status=None, **spec):
    metadata = {"name": "b", "namespace": "default", "uid": "b", "generation": 1}
    return msgspec.convert({"metadata": metadata, "spec": spec, "status": status or {}}, BudgetView)


def pod(name, ready=True, deleting=False, mark=None):
    conditions = [{"type": "Ready", "status": str(ready)}]
    if mark is not None:
        conditions.append(
            {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": rfc3339(NOW - mark)}
        )
    metadata = {"name": name, "namespace": "default", "uid": name}
    if deleting:
        metadata["deletionTimestamp"] = rfc3339(NOW)
    return msgspec.convert(
        {"metadata": metadata, "status": {"phase": "Running", "conditions": conditions}}, PodView
    )


@pytest.mark.parametrize(
    ("spec", "wanted", "present", "result"),
    [
        ({"minAvailable": 2}, 0, 3, (3, 2)),
        ({"minAvailable": "50%"}, 5, 4, (5, 3)),
        ({"maxUnavailable": 1}, 3, 3, (3, 2)),
        ({"maxUnavailable": "30%"}, 7, 7, (7, 4)),
        ({"maxUnavailable": 9}, 3, 3, (3, 0)),
        ({}, 0, 3, (0, 0)),
    ],
)
def test_numbers_and_percentages_say_how_many_pods_must_be_healthy(spec, wanted, present, result):
    assert expected_and_desired(budget(**spec).spec, wanted, present) == result


def test_an_evicted_pod_counts_as_gone_until_it_is_or_two_minutes_have_passed():
    noted = {"a": rfc3339(NOW - 60), "b": rfc3339(NOW - 130), "c": rfc3339(NOW), "gone": rfc3339(NOW)}
    one, pods = budget({"disruptedPods": noted}), [pod("a"), pod("b"), pod("c", deleting=True)]
    disrupted = disrupted_pods(one, pods, NOW)
    assert (set(disrupted.pods), [lost.metadata.name for lost in disrupted.lost]) == ({"a"}, ["b"])
    assert disrupted.wait_seconds == 60
    status = plan_status(one, pods, 3, 1, disrupted, NOW)
    assert (status.current_healthy, status.disruptions_allowed) == (1, 0)
    assert status.conditions[0]["reason"] == "InsufficientPods"


def test_a_budget_that_cannot_be_worked_out_allows_nothing():
    status = failed_status(budget({"disruptionsAllowed": 3}), "why", NOW)
    assert (status.disruptions_allowed, status.conditions[0]["reason"]) == (0, "SyncFailed")


def test_a_pod_that_lives_on_says_no_more_that_it_was_to_go():
    assert seconds_until_stale(pod("a", mark=100), NOW) == 20
    assert seconds_until_stale(pod("a", mark=500), NOW) == 0
    assert seconds_until_stale(pod("a", mark=500, deleting=True), NOW) is None
    assert seconds_until_stale(pod("a"), NOW) is None


async def started(world, **spec):
    await world.start(service_accounts, replica_sets, disruption)
    await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "default"))
    template = {"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    wanted = {"replicas": 3, "selector": {"matchLabels": {"app": "w"}}, "template": template}
    await world.client.create(
        REPLICA_SETS, {"metadata": {"name": "w", "namespace": "default"}, "spec": wanted}
    )
    one = {
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "w"}}, **spec},
    }
    await world.client.create(POD_DISRUPTION_BUDGETS, one)


def allows(world, count):
    async def check():
        status = (await world.client.get(POD_DISRUPTION_BUDGETS, "b", "default"))["status"]
        assert status["disruptionsAllowed"] == count, status
        return status

    return check


async def evict(world, name):
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    path = PODS.path("default", name, "eviction")
    await world.client.request(
        "POST", path, body=msgspec.json.encode(body), headers=[("Content-Type", "application/json")]
    )


async def test_evictions_go_as_far_as_the_budget_and_on_when_a_new_pod_serves(world):
    await started(world, maxUnavailable="34%")
    async with world.nodes_at_work():
        await world.until(allows(world, 2))
    names = [one["metadata"]["name"] for one in await world.pods()]
    await evict(world, names[0])
    await evict(world, names[1])
    with pytest.raises(TooManyRequests) as refused:
        await evict(world, names[2])
    assert (
        refused.value.causes[0]["message"]
        == "The disruption budget b needs 1 healthy pods and has 1 currently"
    )
    async with world.nodes_at_work():
        await world.until(allows(world, 2))
    status = await allows(world, 2)()
    assert "disruptedPods" not in status and status["conditions"][0]["reason"] == "SufficientPods"


@pytest.mark.parametrize("policy", ["AlwaysAllow", "IfHealthyBudget"])
async def test_unhealthy_pods_go_as_the_policy_says(world, policy):
    await started(world, minAvailable=3, unhealthyPodEvictionPolicy=policy)
    async with world.nodes_at_work():
        await world.until(lambda: world_ready(world, 3))
    name = (await world.pods())[0]["metadata"]["name"]
    await world.set_pod(name, ready=False)
    await world.until(allows(world, 0))
    await world.until(lambda: world_ready(world, 2))
    if policy == "AlwaysAllow":
        await evict(world, name)
    else:
        with pytest.raises(TooManyRequests):
            await evict(world, name)


async def world_ready(world, count):
    status = (await world.client.get(POD_DISRUPTION_BUDGETS, "b", "default"))["status"]
    return status["currentHealthy"] == count


async def test_pods_of_an_owner_that_nobody_can_scale_let_nothing_go(world):
    await started(world, maxUnavailable=1)
    owner = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "w", "controller": True}
    stray = {
        "metadata": {"name": "s", "namespace": "default", "labels": {"app": "w"}, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    await world.client.create(PODS, stray)

    async def failed():
        status = (await world.client.get(POD_DISRUPTION_BUDGETS, "b", "default"))["status"]
        return any(c["reason"] == "SyncFailed" and "Widget" in c["message"] for c in status["conditions"])

    await world.until(failed)
