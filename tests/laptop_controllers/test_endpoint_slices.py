import asyncio

import pytest

from kajitori.api.resource import ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICE_ACCOUNTS, SERVICES
from kajitori.laptop.controllers import endpoint_slices, garbage, service_accounts


def service(name="web", **spec):
    body = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}], **spec}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": body,
    }


def pod(name, app="web"):
    container = {"name": "c", "image": "busybox", "ports": [{"name": "http", "containerPort": 8000}]}
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
        "spec": {"containers": [container]},
    }


@pytest.fixture
async def served(world):
    await world.start(service_accounts, endpoint_slices, garbage)
    await world.until(lambda: world.client.get(SERVICE_ACCOUNTS, "default", "default"))
    return world


async def slices(world, name="web"):
    selector = f"kubernetes.io/service-name={name}"
    return (await world.client.list(ENDPOINT_SLICES, "default", label_selector=selector)).items


def told(world, expected, name="web"):
    async def check():
        found = {
            e["targetRef"]["name"]: e["conditions"]["ready"]
            for one in await slices(world, name)
            for e in one["endpoints"]
        }
        assert found == expected, found
        return True

    return check


async def test_pods_enter_become_ready_and_leave(served):
    await served.client.create(SERVICES, service())
    await served.client.create(PODS, pod("a"))
    await served.client.create(PODS, pod("other", "db"))
    await served.set_pod("a", ready=False)
    await served.set_pod("other", ready=True)
    await served.until(told(served, {"a": False}))
    await served.set_pod("a", ready=True)
    await served.until(told(served, {"a": True}))
    (one,) = await slices(served)
    assert one["ports"][0]["port"] == 8000 and one["addressType"] == "IPv4"

    async def legacy_too():
        subsets = (await served.client.get(ENDPOINTS, "web", "default"))["subsets"]
        return subsets[0]["addresses"][0]["targetRef"]["name"] == "a"

    await served.until(legacy_too)
    await served.client.patch(PODS, "other", {"metadata": {"labels": {"app": "web"}}}, namespace="default")
    await served.until(told(served, {"a": True, "other": True}))
    await served.client.delete(PODS, "a", "default")
    await served.until(told(served, {"other": True}))


async def test_slices_go_with_their_service(served):
    await served.client.create(SERVICES, service())
    await served.client.create(PODS, pod("a"))
    await served.set_pod("a", ready=True)
    await served.until(told(served, {"a": True}))
    await served.client.delete(SERVICES, "web", "default")

    async def gone():
        legacy = [
            one
            for one in (await served.client.list(ENDPOINTS, "default")).items
            if one["metadata"]["name"] == "web"
        ]
        return not await slices(served) and not legacy

    await served.until(gone)


async def test_a_slice_that_somebody_spoils_or_deletes_is_mended(served):
    await served.client.create(SERVICES, service())
    await served.client.create(PODS, pod("a"))
    await served.set_pod("a", ready=True)
    await served.until(told(served, {"a": True}))
    (one,) = await slices(served)
    await served.client.patch(
        ENDPOINT_SLICES, one["metadata"]["name"], {"endpoints": []}, namespace="default"
    )
    await served.until(told(served, {"a": True}))
    await served.client.delete(ENDPOINT_SLICES, (await slices(served))[0]["metadata"]["name"], "default")
    await served.until(told(served, {"a": True}))


async def test_a_service_without_a_selector_keeps_the_slices_that_others_made(served):
    await served.client.create(SERVICES, service("manual", selector=None))
    made = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "mine", "namespace": "default", "labels": {"kubernetes.io/service-name": "manual"}},
        "endpoints": [{"addresses": ["127.16.0.1"]}], "ports": [],
    }  # fmt: skip
    await served.client.create(ENDPOINT_SLICES, made)
    await served.client.create(SERVICES, service())
    await served.client.create(PODS, pod("a"))
    await served.set_pod("a", ready=True)
    await served.until(told(served, {"a": True}))
    assert [one["metadata"]["name"] for one in await slices(served, "manual")] == ["mine"]


async def test_many_pods_becoming_ready_together_cost_few_writes(served):
    await served.client.create(SERVICES, service())
    for number in range(60):
        await served.client.create(PODS, pod(f"p{number}"))
    for number in range(60):
        await served.set_pod(f"p{number}", ready=True, ip=f"127.16.1.{number + 1}")
    await served.until(told(served, {f"p{number}": True for number in range(60)}))
    (one,) = await slices(served)
    assert one["metadata"]["generation"] <= 15
    before = one["metadata"]["resourceVersion"]
    await asyncio.sleep(0.5)
    assert (await slices(served))[0]["metadata"]["resourceVersion"] == before
