"""Quotas are counted, and what goes makes room."""

from __future__ import annotations

import pytest

from kajitori.api.resource import CONFIG_MAPS, PODS, RESOURCE_QUOTAS, SECRETS, SERVICE_ACCOUNTS
from kajitori.base.errors import Forbidden
from kajitori.laptop.controllers import quota, service_accounts
from kajitori.laptop.controllers.quota.plan import tracked_resources


def test_the_kinds_to_count_follow_from_the_names():
    names = ["requests.cpu", "count/deployments.apps", "secrets", "services.nodeports", "count/pods"]
    assert tracked_resources(names) == ["pods", "services", "deployments.apps", "secrets"]


@pytest.fixture
async def counted(world):
    await world.start(service_accounts, quota)

    async def account():
        return (await world.client.list(SERVICE_ACCOUNTS, "default")).items

    await world.until(account)
    return world


async def used(world):
    found = await world.client.get(RESOURCE_QUOTAS, "room", "default")
    return found.get("status", {}).get("used")


def pod(name, cpu="500m"):
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [container]}}


async def test_what_is_there_is_counted_and_what_goes_makes_room(counted):
    await counted.client.create(PODS, pod("first"))
    hard = {"pods": "2", "requests.cpu": "1", "count/configmaps": "3", "secrets": "1"}
    await counted.client.create(
        RESOURCE_QUOTAS, {"metadata": {"name": "room", "namespace": "default"}, "spec": {"hard": hard}}
    )

    async def says(**wanted):
        found = await used(counted)
        assert found is not None
        assert {name: found.get(name) for name in wanted} == wanted
        return found

    found = await counted.until(lambda: says(pods="1", secrets="0"))
    assert found == {"pods": "1", "requests.cpu": "500m", "count/configmaps": "1", "secrets": "0"}
    await counted.client.create(PODS, pod("second"))
    with pytest.raises(Forbidden):
        await counted.client.create(PODS, pod("third", "1m"))
    await counted.client.delete(PODS, "first", "default", grace_period_seconds=0)
    await counted.until(lambda: says(pods="1"))
    await counted.client.create(PODS, pod("third"))
    await counted.set_pod("second", ready=False, phase="Succeeded")
    await counted.until(lambda: says(pods="1"))
    for resource in (CONFIG_MAPS, SECRETS):
        await counted.client.create(resource, {"metadata": {"name": "one", "namespace": "default"}})
    await counted.until(lambda: says(secrets="1"))
    await counted.client.delete(CONFIG_MAPS, "one", "default")
    await counted.client.delete(SECRETS, "one", "default")
    found = await used(counted)
    await counted.until(lambda: says(secrets="0"))
    assert (await used(counted))["count/configmaps"] == "1"


async def test_a_changed_limit_is_taken_over(counted):
    body = {"metadata": {"name": "room", "namespace": "default"}, "spec": {"hard": {"pods": "2"}}}
    await counted.client.create(RESOURCE_QUOTAS, body)

    async def status(hard):
        found = await counted.client.get(RESOURCE_QUOTAS, "room", "default")
        assert found["status"]["hard"] == hard
        return found["status"]["used"]

    await counted.until(lambda: status({"pods": "2"}))
    change = {"spec": {"hard": {"pods": None, "services": "5"}}}
    await counted.client.patch(RESOURCE_QUOTAS, "room", change, namespace="default")
    assert await counted.until(lambda: status({"services": "5"})) == {"services": "1"}
