"""One Envoy a module, which its tests configure anew, and stand-ins for providers in the same loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.gateway.workbench import Provider, Workbench, running_provider, running_workbench


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Workbench]:
    async with running_workbench() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def one() -> AsyncIterator[Provider]:
    async with running_provider() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def two() -> AsyncIterator[Provider]:
    async with running_provider() as found:
        yield found
