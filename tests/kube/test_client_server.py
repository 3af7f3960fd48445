"""The client against the embedded API server: each verb once, for what it means and not for its bytes."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest

from kajitori.api.kubernetes import core_v1
from kajitori.api.resource import CONFIG_MAPS, DEPLOYMENTS, LEASES, NAMESPACES, PODS
from kajitori.base.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Unauthorized,
)
from kajitori.control.cache import PartialObject
from kajitori.kube.client import Client
from kajitori.kube.config import ClusterConfig, load_config
from kajitori.kube.lease import LeaderElection, LeaseSettings
from kajitori.laptop.apiserver.testing import running_api_server


@pytest.fixture
async def server():
    async with running_api_server() as server:
        yield server


@pytest.fixture
async def client(server):
    async with Client(load_config(str(server.kubeconfig))) as client:
        yield client


def config_map(name="a", **data):
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


async def test_objects_are_created_read_changed_and_deleted(client):
    made = await client.create(CONFIG_MAPS, config_map(k="1"))
    with pytest.raises(AlreadyExists):
        await client.create(CONFIG_MAPS, config_map())
    typed = await client.get(CONFIG_MAPS, "a", "default", type=core_v1.ConfigMap)
    assert typed.data == {"k": "1"} and typed.metadata.uid == made["metadata"]["uid"]
    stale = {**made, "data": {"k": "2"}}
    changed = await client.update(CONFIG_MAPS, stale)
    with pytest.raises(Conflict):
        await client.update(CONFIG_MAPS, {**stale, "data": {"k": "3"}})
    merged = await client.patch(CONFIG_MAPS, "a", {"data": {"m": "1"}}, namespace="default")
    assert merged["data"] == {"k": "2", "m": "1"}
    removed = await client.patch(CONFIG_MAPS, "a", [{"op": "remove", "path": "/data/m"}], namespace="default")
    assert removed["data"] == changed["data"]
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAPS, "a", "default", preconditions_uid="another")
    assert await client.delete(CONFIG_MAPS, "a", "default", preconditions_uid=made["metadata"]["uid"]) is None
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "a", "default")


async def test_a_typed_object_can_be_created(client):
    body = core_v1.ConfigMap(
        metadata=msgspec.convert({"name": "t", "namespace": "default"}, core_v1.meta_v1.ObjectMeta),
        data={"a": "b"},
    )
    made = await client.create(CONFIG_MAPS, body, type=core_v1.ConfigMap)
    assert made.data == {"a": "b"} and made.metadata.resource_version


async def test_apply_owns_its_fields_and_meets_other_owners(client):
    await client.apply(CONFIG_MAPS, config_map(mine="1"), field_manager="one")
    with pytest.raises(Conflict) as caught:
        await client.apply(CONFIG_MAPS, config_map(mine="2"), field_manager="two", force=False)
    assert caught.value.causes[0]["field"] == ".data.mine"
    both = await client.apply(CONFIG_MAPS, config_map(other="2"), field_manager="two")
    assert both["data"] == {"mine": "1", "other": "2"}
    less = await client.apply(CONFIG_MAPS, config_map(), field_manager="one")
    assert less["data"] == {"other": "2"}


async def test_bad_input_is_refused_with_the_field_and_warnings_are_heard(client):
    heard = []
    client.on_warning = heard.append
    with pytest.raises(Invalid) as caught:
        await client.create(CONFIG_MAPS, config_map("Not A Name"))
    assert caught.value.causes[0]["field"] == "metadata.name"
    odd = {**config_map("odd"), "dataa": {}}
    await client.create(CONFIG_MAPS, odd, dry_run=True)
    assert any("dataa" in text for text in heard)
    with pytest.raises(BadRequest, match="dataa"):
        await client.create(CONFIG_MAPS, odd, field_validation="Strict")
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "odd", "default")


async def test_a_list_in_pages_is_whole_and_a_watch_goes_on_from_it(client):
    for number in range(25):
        await client.create(CONFIG_MAPS, config_map(f"m{number:02}"))
    found = await client.list(CONFIG_MAPS, "default", page_size=4, type=PartialObject)
    assert [one.metadata.name for one in found.items] == [f"m{number:02}" for number in range(25)]
    await client.delete_collection(CONFIG_MAPS, "default", field_selector="metadata.name=m07")
    await client.patch(CONFIG_MAPS, "m08", {"data": {"a": "b"}}, namespace="default")
    events = []
    watch = client.watch(CONFIG_MAPS, "default", resource_version=found.resource_version, type=PartialObject)
    async with asyncio.timeout(10), contextlib.aclosing(watch):
        async for event in watch:
            events.append((event.type, event.object.metadata.name))
            if len(events) == 2:
                break
    assert events == [("DELETED", "m07"), ("MODIFIED", "m08")]


async def test_a_watch_that_times_out_ends_cleanly_after_a_bookmark(client):
    listed = await client.list(CONFIG_MAPS, "default")
    marks = []
    watch = client.watch(
        CONFIG_MAPS, "default", resource_version=listed.resource_version, timeout_seconds=1,
        on_bookmark=lambda version, _: marks.append(int(version)),
    )  # fmt: skip
    assert [event async for event in watch] == []
    assert marks and marks[-1] >= int(listed.resource_version)


async def test_status_and_scale_are_subresources(client):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    await client.create(DEPLOYMENTS, {"metadata": {"name": "web", "namespace": "default"}, "spec": spec})
    assert (await client.set_scale(DEPLOYMENTS, "web", 5, "default"))["spec"]["replicas"] == 5
    assert (await client.get_scale(DEPLOYMENTS, "web", "default"))["spec"]["replicas"] == 5
    patch = {"spec": {"replicas": 9}, "status": {"observedGeneration": 7}}
    await client.patch(DEPLOYMENTS, "web", patch, namespace="default", subresource="status")
    web = await client.get(DEPLOYMENTS, "web", "default")
    assert (web["spec"]["replicas"], web["status"]["observedGeneration"]) == (5, 7)


async def test_who_is_unknown_or_has_no_right_is_told_so(client, server):
    authority = client.config.certificate_authority
    async with Client(ClusterConfig(server.url, certificate_authority=authority, token="wrong")) as stranger:
        with pytest.raises(Unauthorized):
            await stranger.list(PODS)
    async with Client(load_config(str(server.kubeconfig_of("node-1")))) as node:
        with pytest.raises(Forbidden, match="system:node:node-1"):
            await node.create(NAMESPACES, {"metadata": {"name": "mine"}})


async def test_of_two_contenders_one_leads_at_a_time(client, server):
    settings = LeaseSettings(lease_seconds=15, renew_deadline_seconds=12, retry_seconds=0.1)
    turns = []

    async def contend(name):
        async with Client(load_config(str(server.kubeconfig))) as mine:
            election = LeaderElection(mine, "kube-system", "test", name, settings=settings)

            async def work():
                turns.append((name, "begins"))
                await asyncio.sleep(0.3)
                turns.append((name, "ends"))

            await election.lead(work)

    await asyncio.gather(contend("a"), contend("b"))
    assert [what for _, what in turns] == ["begins", "ends"] * 2
    assert {name for name, _ in turns} == {"a", "b"}
    lease = await client.get(LEASES, "test", "kube-system")
    assert lease["spec"]["holderIdentity"] == ""
