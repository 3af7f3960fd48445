import asyncio
import itertools

import msgspec
import pytest

from kajitori.api.resource import CONFIG_MAPS
from kajitori.base.errors import NotFound
from kajitori.control.cache import Informer, Metadata
from kajitori.control.testing import run_virtual


class ConfigMapView(msgspec.Struct, frozen=True, rename="camel"):
    metadata: Metadata
    data: dict[str, str] = {}


def config_map(name, namespace="default", **data):
    return {"metadata": {"name": name, "namespace": namespace, "labels": {"app": name[0]}}, "data": data}


class Following:
    """An informer that runs, with what it told."""

    def __init__(self, server, **options):
        self.client = server.client()
        self.informer = Informer(self.client, CONFIG_MAPS, ConfigMapView, seed=1, **options)
        self.told = []
        self.informer.on_change(
            lambda old, new: self.told.append(
                (old.metadata.name if old else None, new.metadata.name if new else None)
            )
        )

    async def __aenter__(self):
        self.task = asyncio.ensure_future(self.informer.run())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def names(self):
        return sorted(obj.metadata.name for obj in self.informer.list())


def test_the_cache_holds_what_was_there_and_what_changes(new_memory_server):
    async def scenario():
        server = new_memory_server()
        client = server.client()
        for number in range(7):
            await client.create(CONFIG_MAPS, config_map(f"m{number}"))
        async with Following(server, page_size=3) as following:
            await following.informer.synced()
            assert following.names() == [f"m{n}" for n in range(7)]
            made = await client.create(CONFIG_MAPS, config_map("x", a="1"))
            await following.informer.wait_for(made["metadata"]["resourceVersion"])
            assert following.informer.get("default", "x").data == {"a": "1"}
            await client.delete(CONFIG_MAPS, "x", "default")
            await asyncio.sleep(1)
            assert following.informer.get("default", "x") is None
            assert following.told[-2:] == [(None, "x"), ("x", None)]

    run_virtual(scenario())


def test_indexes_follow_the_objects(new_memory_server):
    async def scenario():
        server = new_memory_server()
        client = server.client()
        async with Following(server, indexers={"app": lambda obj: [obj.metadata.labels["app"]]}) as following:
            for name in ("a1", "a2", "b1"):
                await client.create(CONFIG_MAPS, config_map(name))
            await asyncio.sleep(1)
            assert [o.metadata.name for o in following.informer.by_index("app", "a")] == ["a1", "a2"]
            await client.patch(CONFIG_MAPS, "a1", {"metadata": {"labels": {"app": "b"}}}, namespace="default")
            await client.delete(CONFIG_MAPS, "a2", "default")
            await asyncio.sleep(1)
            assert following.informer.by_index("app", "a") == []
            assert sorted(o.metadata.name for o in following.informer.by_index("app", "b")) == ["a1", "b1"]

    run_virtual(scenario())


@pytest.mark.parametrize("fault", ["cut", "compacted", "down", "down and compacted"])
def test_the_cache_survives(new_memory_server, fault):
    async def scenario():
        server = new_memory_server()
        client = server.client()
        await client.create(CONFIG_MAPS, config_map("stays"))
        await client.create(CONFIG_MAPS, config_map("goes"))
        async with Following(server) as following:
            await following.informer.synced()
            await asyncio.sleep(1)
            server.down = "down" in fault
            server.cut_watches()
            if server.down:
                await asyncio.sleep(120)
                server.down = False
            # While nobody watches: one goes, one comes, one changes.
            await client.delete(CONFIG_MAPS, "goes", "default")
            await client.create(CONFIG_MAPS, config_map("comes"))
            await client.patch(CONFIG_MAPS, "stays", {"data": {"k": "v"}}, namespace="default")
            if "compacted" in fault:
                server.compact()
            await asyncio.sleep(60)
            assert following.names() == ["comes", "stays"]
            assert following.informer.get("default", "stays").data == {"k": "v"}
            assert ("goes", None) in following.told
            lists = [entry for entry in server.log if entry == ("GET", "/api/v1/configmaps")]
            assert len(lists) == (2 if "compacted" in fault else 1), "a cut alone needs no new list"

    run_virtual(scenario())


def test_an_unreachable_server_is_asked_less_and_less_often(new_memory_server):
    async def scenario():
        server = new_memory_server()
        async with Following(server) as following:
            await following.informer.synced()
            attempts = []
            stream = server.stream
            server.stream = lambda *args: attempts.append(asyncio.get_running_loop().time()) or stream(*args)
            server.down = True
            server.cut_watches()
            await asyncio.sleep(600)
            gaps = [after - before for before, after in itertools.pairwise(attempts)]
            assert max(gaps) < 25 and min(gaps[10:]) > 5
            assert len(attempts) < 100

    run_virtual(scenario())


def test_an_idle_cache_sends_one_request_in_five_minutes_at_most(new_memory_server):
    async def scenario():
        server = new_memory_server()
        async with Following(server) as following:
            await following.informer.synced()
            await asyncio.sleep(1)
            before = len(server.log)
            await asyncio.sleep(3600)
            assert len(server.log) - before <= 12

    run_virtual(scenario())


def test_what_was_created_is_in_the_cache_at_once_and_told_once(new_memory_server):
    async def scenario():
        server = new_memory_server()
        async with Following(server) as following:
            await following.informer.synced()
            server.watch_delay_seconds = 5
            made = await following.client.create(CONFIG_MAPS, config_map("mine"), type=ConfigMapView)
            following.informer.remember(made)
            assert following.names() == ["mine"]
            await asyncio.sleep(60)
            assert following.names() == ["mine"]
            assert following.told == [(None, "mine")]

    run_virtual(scenario())


def test_a_late_answer_does_not_bring_back_what_is_gone(new_memory_server):
    async def scenario():
        server = new_memory_server()
        async with Following(server) as following:
            await following.informer.synced()
            made = await following.client.create(CONFIG_MAPS, config_map("brief"), type=ConfigMapView)
            await following.client.delete(CONFIG_MAPS, "brief", "default")
            await asyncio.sleep(1)
            following.informer.remember(made)
            assert following.names() == []

    run_virtual(scenario())


def test_a_late_event_does_not_bring_back_what_was_deleted(new_memory_server):
    async def scenario():
        server = new_memory_server()
        async with Following(server) as following:
            await following.informer.synced()
            made = await following.client.create(CONFIG_MAPS, config_map("gone"), type=ConfigMapView)
            await asyncio.sleep(1)
            server.watch_delay_seconds = 5
            await following.client.patch(CONFIG_MAPS, "gone", {"data": {"late": "yes"}}, namespace="default")
            await following.client.delete(CONFIG_MAPS, "gone", "default")
            following.informer.forget(made)
            assert following.names() == []
            seen = []
            following.informer.on_change(lambda old, new: seen.append((old, new)))
            await asyncio.sleep(60)
            assert following.names() == [] and seen == []
            with pytest.raises(NotFound):
                await following.client.get(CONFIG_MAPS, "gone", "default")
            await following.client.create(CONFIG_MAPS, config_map("gone"))
            await asyncio.sleep(60)
            assert following.names() == ["gone"], "the next of the name is another object"

    run_virtual(scenario())


def test_an_object_that_does_not_fit_is_skipped_and_the_rest_is_known(new_memory_server):
    async def scenario():
        server = new_memory_server()
        client = server.client()
        await client.create(CONFIG_MAPS, config_map("good"))
        await client.create(CONFIG_MAPS, {**config_map("bad"), "data": "no mapping"})
        async with Following(server) as following:
            await following.informer.synced()
            assert following.names() == ["good"]
            await client.create(CONFIG_MAPS, {**config_map("worse"), "data": 5})
            await client.create(CONFIG_MAPS, config_map("late"))
            await asyncio.sleep(5)
            assert following.names() == ["good", "late"]

    run_virtual(scenario())


def test_a_callback_that_fails_does_not_keep_others_from_hearing(new_memory_server):
    async def scenario():
        server = new_memory_server()
        async with Following(server) as following:
            following.informer._callbacks.insert(0, lambda old, new: 1 / 0)
            await following.client.create(CONFIG_MAPS, config_map("a"))
            await asyncio.sleep(1)
            assert following.told == [(None, "a")]

    run_virtual(scenario())
