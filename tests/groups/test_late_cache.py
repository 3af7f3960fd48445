"""A cache that is filled late holds nobody up for good."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kajitori.api.resource import PODS
from kajitori.base.errors import Forbidden
from kajitori.control.cache import Informer, PartialObject
from kajitori.groups import late_cache
from kajitori.kube.client import Client


async def test_a_cache_that_is_never_filled_is_told_as_a_right_that_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(late_cache, "LONGEST_WAIT_SECONDS", 0.01)
    never_run = Informer[Any](cast("Client", None), PODS, PartialObject)
    with pytest.raises(Forbidden, match="pods cannot be listed"):
        await late_cache.filled(never_run)
