"""One Redis a module, whose tests keep apart by the prefixes of their keys, and one Envoy with an accountant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.gateway.limits.limited_workbench import LimitedWorkbench, running_limited_workbench
from tests.gateway.limits.making import RedisServer, running_redis
from tests.gateway.workbench import Provider, running_provider


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[tuple[LimitedWorkbench, Provider]]:
    async with running_limited_workbench() as bench, running_provider() as provider:
        yield bench, provider
