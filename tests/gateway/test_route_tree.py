"""Routes by model as a tree: every request takes the route that it took from the list."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.envoy import route_tree
from kajitori.gateway.envoy.route_tree import HEADER, by_header_value
from tests.gateway.workbench import Provider, Workbench, ai_route, backend, gateway

MODELS = [f"m{number}" for number in range(40)]
HEADERS = [
    {"name": HEADER, "present_match": True},
    {"name": HEADER, "present_match": True, "invert_match": True},
    {"name": "x-kajitori-schemas", "present_match": True, "invert_match": True},
    {"name": HEADER, "string_match": {"safe_regex": {"regex": "m1.*"}}},
    {"name": HEADER, "string_match": {"exact": "m2"}, "invert_match": True},
    {"name": "tenant", "string_match": {"exact": "a"}},
]
EXACT = st.sampled_from(MODELS).map(lambda value: {"name": HEADER, "string_match": {"exact": value}})
ROUTE = st.builds(
    lambda prefix, headers: {"match": {"prefix": prefix, "headers": headers}},
    st.sampled_from(["/", "/v1"]),
    st.lists(st.one_of(EXACT, st.sampled_from(HEADERS)), max_size=2),
)


def fits(route: dict[str, Any], request: dict[str, str]) -> bool:
    for header in route["match"]["headers"]:
        value = request.get(header["name"])
        match = header.get("string_match", {})
        if "exact" in match:
            fit = value == match["exact"]
        elif "safe_regex" in match:
            fit = value is not None and value.startswith("m1")
        else:
            fit = value is not None
        # Envoy takes a header that is not there for one that does not match, unless presence is asked about.
        if header.get("invert_match") and not (value is None and match):
            fit = not fit
        if not fit:
            return False
    return request[":path"].startswith(route["match"]["prefix"])


@given(
    st.lists(ROUTE, max_size=30),
    st.sampled_from([None, *MODELS, "other"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["/x", "/v1/y"]),
)
def test_a_request_takes_the_same_route_from_the_tree_as_from_the_list(
    routes: list[dict[str, Any]], model: str | None, tenant: str, path: str
) -> None:
    request = {":path": path, "tenant": tenant}
    if model is not None:
        request |= {HEADER: model, "x-kajitori-schemas": "'OpenAI'"}
    expected = next((place for place, route in enumerate(routes) if fits(route, request)), None)
    fewest, growth = route_tree._FEWEST_ROUTES, route_tree._MOST_GROWTH
    route_tree._FEWEST_ROUTES, route_tree._MOST_GROWTH = 0, 1000
    try:
        tree = by_header_value(routes)
    finally:
        route_tree._FEWEST_ROUTES, route_tree._MOST_GROWTH = fewest, growth
    assert tree is not None
    by_value, others = tree
    tried = by_value.get(model or "", others)
    assert next((place for place in tried if fits(routes[place], request)), None) == expected


async def test_many_models_are_routed_by_a_tree_and_all_else_is_as_with_few(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    by_tenant = ai_route("tenant", "m5", {"name": "b"})
    by_tenant["spec"]["rules"][0]["matches"][0]["headers"].append({"name": "tenant", "value": "a"})
    pattern = ai_route("pattern", "late-.*", {"name": "b"})
    pattern["spec"]["rules"][0]["matches"][0]["headers"][0]["type"] = "RegularExpression"
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        *backend("b", second.port),
        *(ai_route(f"r{model}", model, {"name": "a"}) for model in MODELS),
        by_tenant,
        pattern,
    )
    assert '"matcher_tree"' in await bench.admin("/config_dump?resource=dynamic_route_configs")
    for model, headers, provider in (
        ("m5", {}, first),
        ("m39", {}, first),
        ("m5", {"tenant": "a"}, second),
        ("late-x", {}, second),
    ):
        seen = len(provider.seen)
        assert (await bench.post({"model": model, "messages": []}, headers=headers)).status == 200
        assert len(provider.seen) == seen + 1
    unknown = await bench.post({"model": "none", "messages": []})
    assert unknown.status == 404 and "m39" in unknown.json["error"]["message"]
    unfit = await bench.post({"model": "m5", "messages": []}, "/v1/messages")
    assert unfit.status == 404 and "AIServiceBackend default/a" in unfit.json["error"]["message"]
    assert len((await bench.get("/v1/models")).json["data"]) == 40
    assert (await bench.get("/v1/files")).status == 200
