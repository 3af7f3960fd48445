"""Fixtures: a workbench with a real Envoy, a cluster of the gateway, and stand-ins for providers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # tests start processes beside a gRPC server

import pytest

from tests.gateway.cluster import Cluster, running_cluster
from tests.gateway.workbench import Provider, Workbench, running_provider, running_workbench


@pytest.fixture
async def bench() -> AsyncIterator[Workbench]:
    async with running_workbench() as found:
        yield found


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with running_cluster() as found:
        yield found


@pytest.fixture
async def first() -> AsyncIterator[Provider]:
    async with running_provider() as found:
        yield found


@pytest.fixture
async def second() -> AsyncIterator[Provider]:
    async with running_provider() as found:
        yield found
