"""The sockets beside the kubeconfigs of a cluster's own processes."""

from __future__ import annotations

import asyncio
import dataclasses
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from tests.waiting import eventually

from kajitori.api.resource import CONFIG_MAPS, PODS
from kajitori.base.errors import Forbidden, Unauthorized
from kajitori.kube.client import Client
from kajitori.kube.config import load_own_config
from kajitori.kube.objects import Object
from kajitori.laptop.apiserver.testing import RunningApiServer, running_api_server

REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


async def _who(client: Client) -> Object:
    body = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    return msgspec.json.decode(await client.request("POST", REVIEWS, body=body))["status"]["userInfo"]


def _socket_of(running: RunningApiServer, name: str) -> Path:
    return running.kubeconfig_of(name).with_suffix(".sock")


async def test_a_socket_says_who_asks_and_what_they_may() -> None:
    async with running_api_server() as running:
        for name, user in (
            ("controllers", "system:kajitori:controllers"),
            ("node-1", "system:node:node-1"),
        ):
            async with Client(load_own_config(running.home, name)) as client:
                assert client.config.unix_socket
                assert (await _who(client))["username"] == user
        async with Client(load_own_config(running.home, "node-1")) as node:
            assert (await _who(node))["groups"] == ["system:nodes", "system:authenticated"]
            with pytest.raises(Forbidden):
                await node.delete(CONFIG_MAPS, "kube-root-ca.crt", "default")


async def test_a_token_that_is_shown_on_a_socket_decides() -> None:
    async with running_api_server() as running:
        own = load_own_config(running.home, "controllers")
        async with Client(dataclasses.replace(own, token="nobody's")) as client:
            with pytest.raises(Unauthorized):
                await client.list(PODS)


async def test_nobody_else_may_open_a_socket_or_its_folder() -> None:
    async with running_api_server() as running:
        path = _socket_of(running, "gateway")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_home_with_a_long_name_has_sockets_too(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    async with running_api_server(home) as running, Client(load_own_config(home, "node-2")) as client:
        assert len(str(_socket_of(running, "node-2"))) > 108
        assert (await _who(client))["username"] == "system:node:node-2"


async def test_a_watch_by_a_socket_ends_with_the_server_and_goes_on_with_the_next(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with running_api_server(tmp_path) as running:
            client = await stack.enter_async_context(Client(load_own_config(tmp_path, "controllers")))
            listed = await client.list(PODS)
            events = client.watch(PODS, resource_version=listed.resource_version)
            first = asyncio.ensure_future(anext(events, None))
            await eventually(lambda: running.server.state.hub.count() == 1, "the watch is live")
        assert await first is None
        async with running_api_server(tmp_path):
            await client.list(PODS)


async def test_a_home_without_sockets_is_reached_by_tls(tmp_path: Path) -> None:
    async with running_api_server(tmp_path) as running:
        _socket_of(running, "gateway").unlink()
        async with Client(load_own_config(tmp_path, "gateway")) as client:
            assert (await _who(client))["username"] == "system:kajitori:gateway"
