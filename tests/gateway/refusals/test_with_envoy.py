"""A real Envoy that refuses something of what many share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from kajitori.gateway.envoy.bootstrap import write_bootstrap
from kajitori.gateway.error_names import anthropic_name
from kajitori.gateway.plan import make_plan
from kajitori.gateway.resources import CLUSTER, EXTENSION, LISTENER, ROUTES, SECRET
from tests.gateway.authority import Authority
from tests.gateway.refusals.spoiling import (
    OF_ACTION,
    OF_MATCH,
    SpoiltWorkbench,
    bad_action,
    bad_match,
    counted_tries,
    of_resource,
    of_routes,
    running_spoilt,
)
from tests.gateway.security.objects import for_route, local_jwt, plain_route, policy, token
from tests.gateway.test_delivery import QUESTION, many, stream
from tests.gateway.test_tls_listeners import https, listeners_of, secure_gateway
from tests.gateway.workbench import Provider, ai_route, backend, gateway, observe
from tests.waiting import eventually

ACTION_TOLD = f"requests for it are answered with 500, since Envoy refuses it: {OF_ACTION}"


@pytest.fixture
async def bench() -> AsyncIterator[SpoiltWorkbench]:
    async with running_spoilt() as found:
        yield found


def model(name: str) -> dict[str, Any]:
    return {"matches": [{"headers": [{"type": "Exact", "name": "x-ai-eg-model", "value": name}]}]}


def plain(name: str, path: str) -> dict[str, Any]:
    return plain_route(name, path, "b1")


async def test_a_rule_that_envoy_refuses_answers_500_in_the_clients_dialect_and_all_else_serves_and_changes(
    bench: SpoiltWorkbench, first: Provider
) -> None:
    other = ai_route("bad", "kept", {"name": "b1"})
    other["spec"]["rules"].append({**model("spoilt"), "backendRefs": [{"name": "b1"}]})
    documents = [*many(bench.port, first, 20), other, plain("web", "/web"), plain("worse", "/worse")]
    await bench.apply(*documents)
    bench.spoilt = (
        of_routes("ai/default/bad/rule/1/", bad_action),
        of_routes("http/default/worse/", bad_action),
    )
    await bench.refusing(*documents)
    reply = await bench.post({**QUESTION, "model": "spoilt"})
    assert reply.status == 500
    assert reply.json["error"]["message"] == (
        "Envoy refuses rules[1] of AIGatewayRoute default/bad; its status says why"
    )
    of_anthropic = await bench.post({**QUESTION, "model": "spoilt"}, "/v1/messages")
    assert (of_anthropic.status, of_anthropic.json["type"]) == (500, "error")
    assert of_anthropic.json["error"]["type"] == anthropic_name(500)
    assert (await bench.get("/worse/x")).status == 500
    # The object's other rule, and other objects, do not notice.
    assert (await bench.post({**QUESTION, "model": "kept"})).status == 200
    assert (await bench.get("/web/x")).status == 200
    assert bench.condition("AIGatewayRoute", "bad") == ("NotAccepted", "True", f"rules[1]: {ACTION_TOLD}")
    assert bench.condition("HTTPRoute", "worse") == ("Accepted", "False", f"rules[0]: {ACTION_TOLD}")
    assert bench.condition("AIGatewayRoute", "r3")[:2] == ("Accepted", "True")
    assert bench.condition("HTTPRoute", "web")[:2] == ("Accepted", "True")
    # Later changes of all others come through, and what is mended serves again.
    await bench.apply(*many(bench.port, first, 20, 1), *documents[-3:])
    assert (await bench.post({**QUESTION, "model": "moving-1"})).status == 200
    assert (await bench.post({**QUESTION, "model": "spoilt"})).status == 500
    bench.spoilt = ()
    await bench.refusing(*documents)
    assert not bench.ads.rejected
    assert (await bench.post({**QUESTION, "model": "spoilt"})).status == 200
    assert (await bench.get("/worse/x")).status == 200
    # What served to find it out is gone.
    assert (await bench.admin("/listeners")).split() == [f"http/{bench.port}::127.0.0.1:{bench.port}"]


async def test_the_culprit_among_many_is_found_with_few_tries_and_what_is_known_is_not_tried_again(
    bench: SpoiltWorkbench, first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = many(bench.port, first, 64)
    await bench.apply(*documents)
    tries = counted_tries(monkeypatch)
    bench.spoilt = (of_routes("ai/default/r7/", bad_match),)
    await bench.refusing(*documents)
    # One listener to try with, the suspect, its answer in the same place, and the listener is gone.
    assert len(tries) <= 4
    assert OF_MATCH in bench.condition("AIGatewayRoute", "r7")[2]
    assert "it is left out" in bench.condition("AIGatewayRoute", "r7")[2]
    assert (await bench.post({**QUESTION, "model": "model-8"})).status == 200
    tries.clear()
    await bench.refusing(*many(bench.port, first, 64, 1))
    assert not tries
    # Of a process that knows nothing about before, all are suspects.
    await bench.restart_control_plane()
    await bench.refusing(*documents)
    assert len(tries) <= 12
    assert list(bench.ads.rejected) == [f"{ROUTES}/http/{bench.port}#*#ai/default/r7/rule/0"]


async def test_an_object_that_is_wrong_in_a_new_way_all_the_time_holds_up_nobody_and_cuts_no_stream(
    bench: SpoiltWorkbench, first: Provider
) -> None:
    first.chunks, first.chunk_seconds = 40, 0.1
    await bench.apply(*many(bench.port, first, 40))
    streams = [asyncio.create_task(stream(bench, f"model-{number}")) for number in range(1, 21)]
    await eventually(lambda: len(first.seen) == 20)
    bench.spoilt = (of_routes("ai/default/r30/", bad_action),)
    wrong = ai_route("r30", "wrong-0", {"name": "b30"})

    async def flap() -> None:
        for number in range(1, 10_000):
            wrong["spec"]["rules"][0] = {**model(f"wrong-{number}"), "backendRefs": [{"name": "b30"}]}
            documents = [
                each for each in many(bench.port, first, 40, revision) if each["metadata"]["name"] != "r30"
            ]
            bench.set(*documents, wrong)
            await asyncio.sleep(0.02)

    revision = 0
    flapping = asyncio.create_task(flap())
    try:
        for revision in range(1, 6):

            async def arrived(revision: int = revision) -> bool:
                return (await bench.post({**QUESTION, "model": f"moving-{revision}"})).status == 200

            await eventually(arrived)
            assert not flapping.done()
    finally:
        flapping.cancel()
        await asyncio.wait([flapping])
    await eventually(lambda: any("r30" in key for key in bench.ads.rejected))
    bodies = await asyncio.gather(*streams)
    assert all(body.endswith(b"[DONE]\n\n") for body in bodies)
    assert {key.rpartition("#")[2] for key in bench.ads.rejected} == {"ai/default/r30/rule/0"}


async def test_killing_the_control_plane_or_envoy_beside_a_refused_object_loses_nobody_a_request(
    bench: SpoiltWorkbench, first: Provider
) -> None:
    documents = many(bench.port, first, 20)
    await bench.apply(*documents)
    bench.spoilt = of_routes("ai/default/r3/", bad_action), of_routes("ai/default/r4/", bad_match)
    await bench.refusing(*documents)
    asking = True
    statuses: list[int] = []

    async def ask() -> None:
        while asking:
            statuses.append((await bench.post({**QUESTION, "model": "model-10"})).status)

    load = [asyncio.create_task(ask()) for _ in range(4)]
    for _ in range(3):
        await bench.restart_control_plane()
        await bench.refusing(*documents)
        assert len(bench.ads.rejected) == 2
        enough = len(statuses) + 10
        await eventually(lambda enough=enough: len(statuses) > enough)
    asking = False
    await asyncio.gather(*load)
    assert set(statuses) == {200}
    bench.kill_envoy()
    await eventually(lambda: bench.ads.connected == 0)
    bench.start_envoy()
    await bench.settled()
    assert (await bench.post({**QUESTION, "model": "model-10"})).status == 200
    assert (await bench.post({**QUESTION, "model": "model-3"})).status == 500


async def test_a_second_envoy_is_given_what_the_first_one_takes(
    bench: SpoiltWorkbench, first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = counted_tries(monkeypatch)
    documents = many(bench.port, first, 8)
    bench.spoilt = (of_routes("ai/default/r3/", bad_action),)
    await bench.refusing(*documents)
    count = len(tries)
    # It has the same ports, which is told; routes are given to it all the same.
    write_bootstrap(
        bench.folder / "second.json",
        bench.folder / "ads.sock",
        bench.folder / "second.sock",
        bench.folder / "accountant.sock",
    )
    second = bench.another_envoy("second.json")
    try:
        await eventually(lambda: bench.ads.connected == 2)
        await eventually(lambda: f"{LISTENER}/http/{bench.port}" in bench.ads.rejected)
        assert len(tries) == count
    finally:
        second.kill()
        second.wait()
    await eventually(lambda: bench.ads.connected == 1)


async def test_one_policys_tokens_that_envoy_refuses_leave_those_of_others_in_force(
    bench: SpoiltWorkbench, first: Provider
) -> None:
    documents = [
        gateway(bench.port), *backend("b1", first.port), plain("one", "/one"), plain("two", "/two"),
        policy("of-one", for_route("one"), jwt=local_jwt()),
        policy("of-two", for_route("two"), jwt=local_jwt()),
    ]  # fmt: skip

    def spoil(value: dict[str, Any]) -> dict[str, Any]:
        config = value["typed_config"]
        providers = {
            name: {**each, "local_jwks": {"inline_string": "{"}} if "/of-two/" in name else each
            for name, each in config["providers"].items()
        }
        return {**value, "typed_config": {**config, "providers": providers}}

    plan = bench.set(*documents)
    filters = [name for name in plan.resources.by_type[EXTENSION] if "jwt" in name]
    bench.spoilt = tuple(of_resource(EXTENSION, name, spoil) for name in filters)
    await bench.refusing(*documents)
    good = {"authorization": f"Bearer {token()}"}

    async def served() -> bool:
        # Threads of Envoy learn of a filter's configuration one after the other.
        return (await bench.get("/one/x", good)).status == 200

    await eventually(served)
    assert (await bench.get("/one/x")).status == 401
    # Nobody gets by what cannot be checked.
    assert (await bench.get("/two/x", good)).status in (401, 403)
    assert bench.condition("SecurityPolicy", "of-one")[:2] == ("Accepted", "True")
    kind, status, message = bench.condition("SecurityPolicy", "of-two")
    assert (kind, status) == ("Accepted", "False")
    assert "Envoy refuses it: " in message


async def test_a_backend_that_envoy_refuses_is_passed_over_and_named(
    bench: SpoiltWorkbench, first: Provider, second: Provider
) -> None:
    refs = {"name": "a", "priority": 0}, {"name": "b", "priority": 1}
    documents = [
        gateway(bench.port), *backend("a", first.port), *backend("b", second.port),
        ai_route("both", "both", *refs), ai_route("other", "other", {"name": "b"}),
    ]  # fmt: skip
    plan = bench.set(*documents)
    (name,) = [name for name in plan.resources.by_type[CLUSTER] if name.startswith("ai/default/a")]
    bad = {"lb_policy": "LOAD_BALANCING_POLICY_CONFIG"}
    bench.spoilt = (of_resource(CLUSTER, name, lambda value: {**value, **bad}),)
    await bench.restart_control_plane()
    bench.kill_envoy()
    bench.start_envoy()
    await bench.refusing(*documents)
    assert (await bench.post({**QUESTION, "model": "other"})).status == 200
    assert bench.condition("AIServiceBackend", "a")[:2] == ("NotAccepted", "True")
    kind, status, message = bench.condition("AIGatewayRoute", "both")
    assert (kind, status) == ("NotAccepted", "True")
    assert message.startswith(f"rules[0]: Envoy refuses the cluster {name}, and keeps what it had of it")
    assert bench.condition("AIGatewayRoute", "other")[:2] == ("Accepted", "True")
    reply = await bench.post({**QUESTION, "model": "both"})
    assert (reply.status, len(first.seen), len(second.seen)) == (200, 0, 2)
    # What was in force before stays, though, also for a process that knows nothing of it.
    bench.spoilt = ()
    await bench.apply(*documents)
    assert (await bench.post({**QUESTION, "model": "both"})).status == 200
    assert len(first.seen) == 1
    bench.spoilt = (of_resource(CLUSTER, name, lambda value: {**value, **bad}),)
    await bench.restart_control_plane()
    await bench.refusing(*documents)
    assert bench.ads.rejected
    assert (await bench.post({**QUESTION, "model": "both"})).status == 200
    assert len(first.seen) == 2


async def test_a_https_listener_that_envoy_refuses_takes_no_other_one_of_its_port_with_it(
    bench: SpoiltWorkbench, first: Provider
) -> None:
    authority = Authority()

    def documents(*hosts: str) -> list[dict[str, Any]]:
        listeners = [https(host, bench.port, host, f"{host}.example") for host in hosts]
        secrets = [authority.secret(host, f"{host}.example") for host in hosts]
        routes = plain("web", "/"), plain("worse", "/worse")
        return [*secrets, secure_gateway(*listeners), *backend("b1", first.port), *routes]

    def spoil(value: dict[str, Any]) -> dict[str, Any]:
        def spoilt(chain: dict[str, Any]) -> dict[str, Any]:
            match = {"server_names": ["*two*"]} if "two" in chain["name"] else chain["filter_chain_match"]
            return {**chain, "filter_chain_match": match}

        return {**value, "filter_chains": [spoilt(chain) for chain in value["filter_chains"]]}

    def programmed(name: str) -> tuple[str, str]:
        assert bench.plan is not None
        state = listeners_of(bench.plan)[name]["Programmed"]
        return state[0], state[2]

    async def reached(host: str, path: str = "/x", status: int = 200) -> bool:
        context, name = authority.client_context(), f"{host}.example"
        url = f"https://127.0.0.1:{bench.port}{path}"
        try:
            async with bench.session.get(
                url, ssl=context, server_hostname=name, headers={"host": name}
            ) as response:
                return response.status == status
        except aiohttp.ClientError:
            return False

    # Tables are tried at the same time, in a listener of their own.
    bad_chain = of_resource(LISTENER, f"http/{bench.port}", spoil)
    bench.spoilt = bad_chain, of_routes("http/default/worse/", bad_action)
    await bench.refusing(*documents("one", "two", "three"))
    assert await reached("one")
    assert await reached("one", "/worse", 500)
    assert not await reached("two")
    assert programmed("one")[0] == "True"
    assert programmed("two")[0] == "False"
    assert "Envoy refuses it: " in programmed("two")[1]
    assert "partial wildcards are not supported" in programmed("two")[1]
    await bench.refusing(*documents("one", "two", "three", "four"))
    assert await reached("four")
    bench.spoilt = ()
    await bench.refusing(*documents("one", "two", "three", "four"))
    assert await reached("two")
    assert not bench.ads.rejected


async def test_one_certificate_among_many_that_envoy_cannot_read_is_named_and_the_others_serve(
    bench: SpoiltWorkbench, first: Provider
) -> None:
    authority = Authority()
    hosts = [f"h{number}" for number in range(8)]
    listeners = [https(host, bench.port, host, f"{host}.example") for host in hosts]
    secrets = [authority.secret(host, f"{host}.example") for host in hosts]
    documents = [*secrets, secure_gateway(*listeners), *backend("b1", first.port), plain("web", "/")]

    def spoil(value: dict[str, Any]) -> dict[str, Any]:
        pair = {**value["tls_certificate"], "certificate_chain": {"inline_string": "-----BEGIN RUBBISH"}}
        return {**value, "tls_certificate": pair}

    plan = make_plan(observe(*documents))
    names = [name for name in plan.resources.by_type[SECRET] if "h3" in name]
    bench.spoilt = tuple(of_resource(SECRET, name, spoil) for name in names)
    await bench.refusing(*documents)
    assert [key.partition("/")[2] for key in bench.ads.rejected] == names
    for host in ("h1", "h7"):
        name = f"{host}.example"
        async with bench.session.get(
            f"https://127.0.0.1:{bench.port}/x",
            ssl=authority.client_context(),
            server_hostname=name,
            headers={"host": name},
        ) as response:
            assert response.status == 200
    assert bench.plan is not None
    states = listeners_of(bench.plan)
    assert (states["h1"]["Programmed"][0], states["h3"]["Programmed"][0]) == ("True", "False")
    assert "Failed to load certificate chain" in states["h3"]["Programmed"][2]


async def test_a_listener_that_envoy_refuses_as_a_whole_stays_as_it_was_and_the_policy_that_shapes_it_is_told(
    bench: SpoiltWorkbench, first: Provider
) -> None:
    shaping = {
        "kind": "ClientTrafficPolicy",
        "metadata": {"name": "shaping"},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}],
            "timeout": {"http": {"idleTimeout": "9s"}},
        },
    }
    documents = [*many(bench.port, first, 3), shaping]
    await bench.apply(*documents)
    bench.spoilt = (
        of_resource(
            LISTENER,
            f"http/{bench.port}",
            lambda value: {**value, "filter_chains": value["filter_chains"] * 2},
        ),
    )
    await bench.refusing(*documents)
    kind, status, message = bench.condition("ClientTrafficPolicy", "shaping")
    assert (kind, status) == ("Accepted", "False")
    assert f"Envoy refuses the listener of port {bench.port} that this shapes" in message
    # Routes come by another way.
    await bench.apply(*many(bench.port, first, 3, 1), shaping)
    assert (await bench.post({**QUESTION, "model": "moving-1"})).status == 200
