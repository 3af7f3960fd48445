"""Fixtures: a workbench with a real Envoy, and stand-ins for providers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.gateway.workbench import Provider, Workbench, running_provider, running_workbench


@pytest.fixture
async def bench() -> AsyncIterator[Workbench]:
    async with running_workbench() as found:
        yield found


@pytest.fixture
async def first() -> AsyncIterator[Provider]:
    async with running_provider() as found:
        yield found


@pytest.fixture
async def second() -> AsyncIterator[Provider]:
    async with running_provider() as found:
        yield found
