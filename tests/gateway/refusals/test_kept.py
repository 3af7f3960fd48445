"""What stays in force because Envoy refuses what was to follow keeps what it needs."""

from __future__ import annotations

from typing import Any

from kajitori.gateway.envoy.encoded import Encoded, encoded
from kajitori.gateway.envoy.remains import Remains
from kajitori.gateway.resources import LISTENER, SECRET, TYPES
from tests.gateway.authority import Authority
from tests.gateway.refusals.played_envoy import encode
from tests.gateway.refusals.spoiling import of_resource, running_spoilt
from tests.gateway.security.objects import plain_route
from tests.gateway.test_tls_listeners import https, secure_gateway
from tests.gateway.workbench import Provider, backend
from tests.waiting import eventually


def test_what_is_wanted_again_is_as_it_is_wanted_and_no_longer_as_it_was_kept() -> None:
    def wanted(**secrets: str) -> dict[str, dict[str, Encoded]]:
        return {
            **{kind: {} for kind in TYPES},
            SECRET: {name: encoded(SECRET, {"name": name, "of": of}, encode) for name, of in secrets.items()},
        }

    remains = Remains()
    first, without, again = wanted(a="1", b="x"), wanted(b="x"), wanted(a="2", b="x")
    good = {(SECRET, name): item for name, item in first[SECRET].items()}
    remains.note(first, without, good)
    chain = {"certificate": "a"}
    remains.keep([chain])
    assert remains.among(without)[SECRET] == first[SECRET]
    remains.note(without, again, good)
    assert remains.among(again) == again
    remains.keep([chain])
    assert remains.among(again) == again
    # The new one has never been taken.
    remains.note(again, without, good)
    remains.keep([chain])
    assert remains.among(without)[SECRET] == first[SECRET]
    remains.keep([])
    assert remains.among(without) == without


async def test_a_chain_that_stays_as_it_was_keeps_its_certificate_until_it_is_replaced(
    first: Provider,
) -> None:
    authority = Authority()

    def documents(certificate: str) -> list[dict[str, Any]]:
        return [
            authority.secret("one", "one.example"), authority.secret(certificate, "two.example"),
            secure_gateway(
                https("one", bench.port, "one", "one.example"), https("two", bench.port, certificate, "two.example")
            ),
            *backend("b1", first.port), plain_route("web", "/", "b1"),
        ]  # fmt: skip

    def spoil(value: dict[str, Any]) -> dict[str, Any]:
        def spoilt(chain: dict[str, Any]) -> dict[str, Any]:
            match = {"server_names": ["*two*"]} if "two" in chain["name"] else chain["filter_chain_match"]
            return {**chain, "filter_chain_match": match}

        return {**value, "filter_chains": [spoilt(chain) for chain in value["filter_chains"]]}

    async def reached(host: str) -> int:
        name = f"{host}.example"
        async with bench.session.get(
            f"https://127.0.0.1:{bench.port}/x",
            ssl=authority.client_context(),
            server_hostname=name,
            headers={"host": name},
        ) as response:
            return response.status

    async with running_spoilt() as bench:
        await bench.apply(*documents("old"))
        assert await reached("two") == 200
        before = set(bench.ads._snapshot.resources[SECRET])
        bench.spoilt = (of_resource(LISTENER, f"http/{bench.port}", spoil),)
        await bench.refusing(*documents("new"))
        assert bench.plan is not None
        (gone,) = before - bench.plan.resources.by_type[SECRET].keys()
        assert await reached("one") == 200
        assert await reached("two") == 200
        bench.kill_envoy()
        await eventually(lambda: bench.ads.connected == 0)
        bench.start_envoy()
        await bench.settled()
        assert await reached("one") == 200
        assert await reached("two") == 200
        bench.spoilt = ()
        await bench.refusing(*documents("new"))
        assert await reached("two") == 200
        assert gone not in bench.ads._snapshot.resources[SECRET]
