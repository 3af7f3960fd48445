"""Large route tables in shards: every request takes the route that it takes in the whole table."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.envoy.route_tree import HEADER
from kajitori.gateway.envoy.shards import SHARDS, TABLE_HEADER, Sharding, scope, shard_name, shard_of
from kajitori.gateway.resources import ROUTES, SCOPES, Resources
from tests.gateway.lua.machine import request_machine
from tests.gateway.test_route_tree import MODELS, ROUTE, fits
from tests.gateway.workbench import Provider, Workbench, ai_route, backend, gateway

MANY = 400


def cut(routes: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Routes of one host by the table where they are then."""
    sharding = Sharding()
    sharding._cut.add(("t", "host"))
    table = {"name": "t", "virtual_hosts": [{"name": "host", "domains": ["*"], "routes": routes}]}
    found = sharding.cut(Resources({ROUTES: {"t": table}, SCOPES: {"t": scope("t")}})).by_type[ROUTES]
    return {name: value["virtual_hosts"][0]["routes"] for name, value in found.items()}


@given(
    st.lists(ROUTE, max_size=30),
    st.sampled_from([None, *MODELS, "other"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["/x", "/v1/y"]),
)
def test_a_request_takes_the_same_route_in_its_shard_as_in_the_whole_table(
    routes: list[dict[str, Any]], model: str | None, tenant: str, path: str
) -> None:
    request = {":path": path, "tenant": tenant}
    name = "t"
    if model is not None:
        request |= {HEADER: model, "x-kajitori-schemas": "'OpenAI'"}
        name = shard_name("t", shard_of(model))
    expected = next((route for route in routes if fits(route, request)), None)
    assert next((route for route in cut(routes)[name] if fits(route, request)), None) is expected


@given(st.lists(st.tuples(st.integers(0, 29), ROUTE), max_size=12))
def test_tables_that_follow_each_other_are_cut_as_from_scratch(
    changes: list[tuple[int, dict[str, Any]]],
) -> None:
    sharding = Sharding()
    sharding._cut.add(("t", "host"))
    routes: list[dict[str, Any]] = [{"match": {"prefix": "/", "headers": []}} for _ in range(30)]
    for place, route in changes:
        routes = [
            *routes[:place],
            {**route, "name": "ai-entry" if place < 3 else f"r{place}"},
            *routes[place + 1 :],
        ]
        table = {"name": "t", "virtual_hosts": [{"name": "host", "domains": ["*"], "routes": routes}]}
        resources = Resources({ROUTES: {"t": table}, SCOPES: {"t": scope("t")}})
        scratch = Sharding()
        scratch._cut.add(("t", "host"))
        assert sharding.cut(resources).by_type == scratch.cut(resources).by_type


@given(st.text(min_size=1, max_size=40))
def test_the_script_finds_the_shard_of_a_model(model: str) -> None:
    assert request_machine().shard_of(model.encode().decode("latin-1")) == f"{shard_of(model):02}"


def test_few_routes_stay_in_one_table_and_what_was_cut_stays_cut() -> None:
    def table(count: int) -> Resources:
        exact = [{"name": HEADER, "string_match": {"exact": f"m{number}"}} for number in range(count)]
        routes = [
            {"name": f"r{at}", "match": {"prefix": "/", "headers": [header]}}
            for at, header in enumerate(exact)
        ]
        routes.append({"name": "rest", "match": {"prefix": "/"}})
        value = {"name": "t", "virtual_hosts": [{"name": "host", "domains": ["*"], "routes": routes}]}
        return Resources({ROUTES: {"t": value}, SCOPES: {"t": scope("t")}})

    sharding = Sharding()
    assert len(sharding.cut(table(31)).by_type[ROUTES]) == 1
    found = sharding.cut(table(MANY))
    assert len(found.by_type[ROUTES]) == len(found.by_type[SCOPES]) == SHARDS + 1
    assert len(sharding.cut(table(31)).by_type[ROUTES]) == SHARDS + 1


def test_of_tables_that_are_gone_nothing_is_kept() -> None:
    sharding = Sharding()
    for name in ("t", "u"):
        table = {
            "name": name,
            "virtual_hosts": [{"name": "host", "domains": ["*"], "routes": by_model(MANY)}],
        }
        sharding.cut(Resources({ROUTES: {name: table}, SCOPES: {name: scope(name)}}))
        sharding.cut(Resources({}))
    assert sharding._cut == {("u", "host")}
    assert sharding._natures.keys() == sharding._marked.keys() == {"u"}


def by_model(count: int) -> list[dict[str, Any]]:
    wanted = [{"name": HEADER, "string_match": {"exact": f"m{number}"}} for number in range(count)]
    return [
        {"name": each["string_match"]["exact"], "match": {"prefix": "/", "headers": [each]}}
        for each in wanted
    ]


def test_a_host_where_a_filter_may_choose_another_model_stays_whole() -> None:
    sharding = Sharding()
    sharding._cut.add(("t", "host"))
    asks = {"filter": {"typed_config": {"clear_route_cache": True}}}
    own = {"name": "r", "match": {"prefix": "/"}, "typed_per_filter_config": asks}
    table = {"name": "t", "virtual_hosts": [{"name": "host", "domains": ["*"], "routes": [own]}]}
    found = sharding.cut(Resources({ROUTES: {"t": table}, SCOPES: {"t": scope("t")}})).by_type[ROUTES]
    assert found["t"]["virtual_hosts"] == table["virtual_hosts"] and len(found) == 1


def routes(count: int, *models: str) -> list[dict[str, Any]]:
    named = [f"m{number}" for number in range(count)]
    return [ai_route(f"r{model}", model, {"name": "a"}) for model in (*named, *models)]


async def test_a_thousand_models_are_served_from_shards_and_one_change_sends_one_of_them(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    pattern = ai_route("pattern", "late-.*", {"name": "b"})
    pattern["spec"]["rules"][0]["matches"][0]["headers"][0]["type"] = "RegularExpression"
    objects = [gateway(bench.port), *backend("a", first.port), *backend("b", second.port), pattern]
    await bench.apply(*objects, *routes(MANY))
    for model, provider in (("m5", first), ("m399", first), ("late-x", second)):
        seen = len(provider.seen)
        assert (await bench.post({"model": model, "messages": []})).status == 200
        assert len(provider.seen) == seen + 1
        assert TABLE_HEADER not in provider.seen[-1].headers
    unknown = await bench.post({"model": "none", "messages": []})
    assert unknown.status == 404 and "No route matches the model 'none'" in unknown.json["error"]["message"]
    assert len((await bench.get("/v1/models")).json["data"]) == MANY
    assert (await bench.get("/v1/files")).status == 200
    before = dict(bench.ads._snapshot.resources[ROUTES])
    await bench.apply(*objects, *routes(MANY)[1:], ai_route("rm0", "m0", {"name": "b"}))
    after = bench.ads._snapshot.resources[ROUTES]
    assert [name for name in after if after[name] is not before[name]] == [
        f"http/{bench.port}/shard-{shard_of('m0'):02}"
    ]
    assert (await bench.post({"model": "m0", "messages": []})).status == 200
    assert second.seen[-1].json["model"] == "m0"


async def test_requests_go_on_while_a_table_is_cut(bench: Workbench, first: Provider) -> None:
    objects = [gateway(bench.port), *backend("a", first.port)]
    await bench.apply(*objects, *routes(100))
    statuses: list[int] = []
    done = asyncio.Event()

    async def ask() -> None:
        while not done.is_set():
            statuses.append((await bench.post({"model": f"m{len(statuses) % 100}", "messages": []})).status)

    asking = [asyncio.create_task(ask()) for _ in range(3)]
    await bench.apply(*objects, *routes(MANY))
    await bench.apply(*objects, *routes(100))
    done.set()
    await asyncio.gather(*asking)
    assert set(statuses) == {200}
    assert f"http/{bench.port}/shard-00" in bench.ads._snapshot.resources[ROUTES]
