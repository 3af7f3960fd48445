"""Weights for tests of the real engine: from the cache that `make up` fills, fetched once where it is empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from kajitori.engines.weights import default_cache, ensure_weights


@pytest.fixture(scope="session")
def weights_cache() -> Path:
    cache = default_cache()
    ensure_weights("smollm2-135m", cache)
    return cache
