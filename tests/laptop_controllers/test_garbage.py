import asyncio

import pytest

from kajitori.api.resource import CONFIG_MAPS, CUSTOM_RESOURCE_DEFINITIONS, NODES, SECRETS, Resource
from kajitori.base.errors import ApiError, NotFound
from kajitori.kube.objects import owner_reference
from kajitori.laptop.controllers import garbage
from kajitori.laptop.controllers.views import View

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")


async def make(world, name, *owners, resource=CONFIG_MAPS, block=False, finalizers=None, namespace="default"):
    metadata = {"name": name, "namespace": namespace, "finalizers": finalizers or []}
    metadata["ownerReferences"] = [owner_reference(owner, controller=False, block=block) for owner in owners]
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
    return await world.client.create(resource, body)


async def exists(world, name, resource=CONFIG_MAPS):
    try:
        return await world.client.get(resource, name, None if not resource.namespaced else "default")
    except NotFound:
        return None


async def gone(world, *names, resource=CONFIG_MAPS):
    async def check():
        return not any([await exists(world, name, resource) for name in names])

    await world.until(check)


@pytest.fixture
async def collected(world):
    await world.start(garbage)
    return world


async def test_in_the_background_the_owner_goes_at_once_and_its_dependents_follow(collected):
    root = await make(collected, "root")
    child = await make(collected, "child", root)
    await make(collected, "grandchild", child, resource=SECRETS)
    await collected.client.delete(CONFIG_MAPS, "root", "default", propagation_policy="Background")
    assert not await exists(collected, "root")
    await gone(collected, "child")
    await gone(collected, "grandchild", resource=SECRETS)


async def test_in_the_foreground_the_owner_waits_for_the_dependents_that_block_it(collected):
    root = await make(collected, "root")
    await make(collected, "blocking", root, block=True, finalizers=["example.com/hold"])
    await make(collected, "free", root, finalizers=["example.com/hold"])
    await collected.client.delete(CONFIG_MAPS, "root", "default", propagation_policy="Foreground")

    async def both_marked():
        for name in ("blocking", "free"):
            assert "deletionTimestamp" in (await exists(collected, name))["metadata"]
        return True

    await collected.until(both_marked)
    assert "foregroundDeletion" in (await exists(collected, "root"))["metadata"]["finalizers"]
    await collected.client.patch(
        CONFIG_MAPS, "blocking", {"metadata": {"finalizers": None}}, namespace="default"
    )
    await gone(collected, "blocking", "root")
    assert await exists(collected, "free"), "who does not block is not waited for"
    await collected.client.patch(CONFIG_MAPS, "free", {"metadata": {"finalizers": None}}, namespace="default")


async def test_a_whole_tree_goes_in_the_foreground_leaves_first(collected):
    root = await make(collected, "root")
    child = await make(collected, "child", root, block=True)
    await make(collected, "leaf", child, block=True)
    order = []

    async def watch():
        version = root["metadata"]["resourceVersion"]
        async for event in collected.client.watch(CONFIG_MAPS, "default", resource_version=version):
            order.extend([event.object["metadata"]["name"]] if event.type == "DELETED" else [])

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0.1)
    await collected.client.delete(CONFIG_MAPS, "root", "default", propagation_policy="Foreground")
    await gone(collected, "root", "child", "leaf")

    async def seen():
        return len(order) == 3

    await collected.until(seen)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert order == ["leaf", "child", "root"]


async def test_orphans_stay_without_their_owner(collected):
    root = await make(collected, "root")
    other = await make(collected, "other")
    await make(collected, "child", root, other)
    await collected.client.delete(CONFIG_MAPS, "root", "default", propagation_policy="Orphan")
    await gone(collected, "root")
    child = await exists(collected, "child")
    assert [owner["name"] for owner in child["metadata"]["ownerReferences"]] == ["other"]


async def test_one_owner_that_stays_keeps_the_object_and_the_dead_reference_goes(collected):
    root = await make(collected, "root")
    other = await make(collected, "other")
    await make(collected, "child", root, other)
    await collected.client.delete(CONFIG_MAPS, "root", "default")

    async def relieved():
        owners = (await exists(collected, "child"))["metadata"]["ownerReferences"]
        return [owner["name"] for owner in owners] == ["other"]

    await collected.until(relieved)


async def test_an_owner_that_never_existed_costs_the_dependent_its_life(collected):
    ghost = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ghost", "uid": "no-such-uid"}}
    await make(collected, "child", ghost)
    await gone(collected, "child")


async def test_the_same_name_with_another_uid_is_another_owner(collected):
    root = await make(collected, "root")
    await make(collected, "child", {**root, "metadata": {**root["metadata"], "uid": "of-before"}})
    await gone(collected, "child")
    assert await exists(collected, "root")


async def test_an_owner_of_a_kind_that_nobody_serves_is_not_taken_for_dead(collected):
    stranger = {"apiVersion": "later.example.com/v1", "kind": "Later", "metadata": {"name": "l", "uid": "u"}}
    await make(collected, "child", stranger)
    await asyncio.sleep(0.5)
    assert await exists(collected, "child")


async def test_a_cluster_scoped_owner_has_dependents_in_namespaces(collected):
    node = await collected.client.create(
        NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    )
    await make(collected, "child", node)
    await asyncio.sleep(0.2)
    assert await exists(collected, "child")
    await collected.client.delete(NODES, "n")
    await gone(collected, "child")


async def test_two_that_own_each_other_go_in_the_foreground(collected):
    one = await make(collected, "one")
    two = await make(collected, "two", one, block=True)
    patch = {"metadata": {"ownerReferences": [owner_reference(two, controller=False)]}}
    await collected.client.patch(CONFIG_MAPS, "one", patch, namespace="default")
    await collected.client.delete(CONFIG_MAPS, "one", "default", propagation_policy="Foreground")
    await gone(collected, "one", "two")


async def define_widgets(world):
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [
                {
                    "name": "v1", "served": True, "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }  # fmt: skip
    await world.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition)


async def delete_widgets(world):
    await world.client.delete(CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.com")
    await gone(world, "widgets.example.com", resource=CUSTOM_RESOURCE_DEFINITIONS)


async def owners_and_dependents_go_with_widgets(world):
    async def served():
        try:
            return await make(world, "w", resource=WIDGETS)
        except ApiError:
            return None

    widget = await world.until(served)
    await make(world, "of-widget", widget)
    owner = await make(world, "owner")
    await make(world, "v", owner, resource=WIDGETS)
    await world.client.delete(WIDGETS, "w", "default")
    await gone(world, "of-widget")
    await world.client.delete(CONFIG_MAPS, "owner", "default")
    await gone(world, "v", resource=WIDGETS)


async def test_custom_resources_are_followed_from_their_definition_on(collected):
    await define_widgets(collected)
    await owners_and_dependents_go_with_widgets(collected)
    await delete_widgets(collected)


async def test_what_others_of_the_process_watch_is_watched_once_and_collected_all_the_same(world):
    def register(runtime):
        runtime.informer(CONFIG_MAPS, View)
        runtime.informer(WIDGETS, View, optional=True)
        # These have not all, or not all of it.
        runtime.informer(SECRETS, View, label_selector="some")

    await world.start(garbage, register=register)
    root = await make(world, "root")
    child = await make(world, "child", root, block=True)
    await make(world, "grandchild", child, block=True)
    orphaned = await make(world, "orphaned")
    await make(world, "orphan", orphaned)
    await make(world, "secret", orphaned, resource=SECRETS)
    await world.client.delete(CONFIG_MAPS, "root", "default", propagation_policy="Foreground")
    await gone(world, "root", "child", "grandchild")
    await world.client.delete(CONFIG_MAPS, "orphaned", "default", propagation_policy="Orphan")
    await gone(world, "orphaned")
    for name, resource in (("orphan", CONFIG_MAPS), ("secret", SECRETS)):
        assert "ownerReferences" not in (await exists(world, name, resource))["metadata"]
    hub = world.server.server.state.hub
    assert len(hub.live("configmaps")) == 1
    assert len(hub.live("secrets")) == 2
    for _ in range(2):
        await define_widgets(world)
        await owners_and_dependents_go_with_widgets(world)
        assert len(hub.live("widgets.example.com")) == 1
        await delete_widgets(world)


async def test_what_happened_while_it_was_away_is_caught_up_with(world):
    root = await make(world, "root")
    for number in range(20):
        await make(world, f"child-{number}", root)
    await world.client.delete(CONFIG_MAPS, "root", "default", propagation_policy="Background")
    await world.start(garbage)
    await gone(world, *(f"child-{number}" for number in range(20)))
