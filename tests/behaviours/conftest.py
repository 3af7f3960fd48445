"""Fixtures of the behaviours: `sight` of a namespace whose sets the group controllers see to, as a process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.behaviours.controllers import Controllers, running_controllers
from tests.behaviours.sight import Sight, sight_of
from tests.servers import Place, Server


@pytest.fixture(scope="package")
def controllers(place: Place, nodes: list[str]) -> Iterator[Controllers]:
    with running_controllers(place) as running:
        yield running


@pytest.fixture
async def sight(server: Server, namespace: str, controllers: Controllers) -> AsyncIterator[Sight]:
    async with sight_of(server.client, namespace) as found:
        yield found
