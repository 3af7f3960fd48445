"""One Redis a module; its tests keep apart by the prefixes of their keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gateway.limits.making import RedisServer, running_redis


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server
