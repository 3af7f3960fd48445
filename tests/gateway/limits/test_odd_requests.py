"""What Envoy cannot ask about must not pass: requests with odd models, paths and ids, against a limit of which nothing is left.

The limit lets requests pass while the accountant cannot be asked, so a question that is lost would let them through.
"""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from tests.gateway.limits.limited_workbench import LimitedWorkbench
from tests.gateway.limits.questions import budget
from tests.gateway.workbench import Provider, ai_route, backend, gateway

Shared = tuple[LimitedWorkbench, Provider]
pytestmark = pytest.mark.asyncio(loop_scope="module")
REFUSED = (400, 404, 429)
ANY = {"headers": [{"type": "RegularExpression", "name": "x-ai-eg-model", "value": ".*"}]}


@pytest_asyncio.fixture(loop_scope="module")
async def used_up(shared: Shared) -> Shared:
    bench, provider = shared
    route = ai_route("odd", "m", {"name": "a"})
    route["spec"]["rules"][0]["matches"] = [ANY]
    nothing = budget("odd", {"requests": 0}, onStoreLoss="Allow")
    await bench.apply(gateway(bench.port), *backend("a", provider.port), route, nothing)
    return shared


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("m", 429), ("modèle 模型", 429), ("a|b\"c\\'d", 429), ("\U0001f600" * 40, 429),
        ("x\x7f\x85y", 400), ("tab\there", 400), ("m" * 20_000, 400),
    ],
)  # fmt: skip
async def test_no_name_of_a_model_gets_past_a_limit(used_up: Shared, model: str, status: int) -> None:
    bench, provider = used_up
    before = len(provider.seen)
    assert (await bench.post({"model": model, "messages": []})).status == status
    assert len(provider.seen) == before


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/chat/completions?\xe9=\xff", b"/v1/chat/completions?\"<>{}|\\^`", b"/v1/chat/completions?a#b",
        b"/v1/chat/completions?%zz%00", b"/v1/chat/completions?" + b"x" * 20_000, b"http://other/v1/chat/completions?[]",
        b"//v1/chat/completions",
    ],
)  # fmt: skip
async def test_no_path_and_no_id_gets_past_a_limit(used_up: Shared, target: bytes) -> None:
    bench, provider = used_up
    before, body = len(provider.seen), b'{"model":"m","messages":[]}'
    for header in (b"a: b", b'x-request-id: \xe9\xff|"', b"x-request-id: " + b"y" * 5_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        lines = (
            b"POST " + target + b" HTTP/1.1", b"host: localhost", b"content-type: application/json", b"connection: close",
            header, b"content-length: %d" % len(body), b"", body,
        )  # fmt: skip
        writer.write(b"\r\n".join(lines))
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        assert int(answer.split()[1]) in REFUSED and len(provider.seen) == before, answer


@pytest.mark.parametrize("model", ["-", "m ", "nobody's"])
async def test_no_name_of_a_model_gets_past_a_budget_of_money(shared: Shared, model: str) -> None:
    bench, provider = shared
    route = ai_route("odd", "m", {"name": "a", "modelNameOverride": "m"})
    route["spec"]["rules"][0]["matches"] = [ANY]
    money = budget("odd", {"usd": "1"}, onStoreLoss="Allow")
    await bench.apply(gateway(bench.port), *backend("a", provider.port), route, money)
    before = len(provider.seen)
    assert (await bench.post({"model": model, "messages": []})).status in (403, 429)
    assert len(provider.seen) == before
