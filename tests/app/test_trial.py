"""Recorded requests meet the routes that Envoy would find for them."""

from __future__ import annotations

import pytest
from tests.gateway.workbench import ai_route, backend, gateway, observe

from kajitori.app.standalone.trial import find_route, first_clusters, unseen_headers
from kajitori.gateway.plan import make_plan
from kajitori.gateway.resources import ROUTES


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/v1/chat/completions", True),
        ("/v1/embeddings", True),
        ("/v1/messages", False),
        ("/v2/rerank", False),
    ],
)
def test_a_route_has_a_backend_for_what_its_schema_serves(path: str, served: bool) -> None:
    plan = make_plan(observe(gateway(8080), *backend("one", 9), ai_route("chat", "m", {"name": "one"})))
    tables = list(plan.resources.by_type[ROUTES].values())
    found = find_route(tables, "POST", "m", path)
    assert found is not None
    assert bool(first_clusters(found)) == served
    assert find_route(tables, "POST", "other", path) is None
    assert unseen_headers(tables) == []
