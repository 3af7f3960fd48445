"""The example of fallback does what its page says."""

from __future__ import annotations

from pathlib import Path

from tests.gateway.resilience.test_cooling import busy
from tests.gateway.workbench import Provider, Workbench, free_port, gateway

EXAMPLE = Path(__file__).parents[3] / "examples" / "priority-fallback" / "priority-fallback.yaml"


async def test_the_example_of_fallback_does_what_its_page_says(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    text = EXAMPLE.read_text()
    for port, real in ((9111, first.port), (9112, free_port()), (9113, second.port)):
        text = text.replace(f"port: {port}", f"port: {real}")
    busy(first, **{"retry-after": "60"})
    plan = await bench.apply(gateway(bench.port, "kaji"), text)
    question = {"model": "steady-chat", "messages": []}
    while not first.seen:
        assert (await bench.post(question)).status == 200
    told = await bench.post(question, headers={"x-gateway-decision": "show"})
    assert told.headers["x-gateway-backend"] == "default/elsewhere"
    assert "default/east cooled for" in told.headers["x-gateway-decision"]
    assert (await bench.post(question, headers={"x-backend-order": "elsewhere,west"})).status == 200
    assert (await bench.post(question, headers={"x-backend-order": "east"})).status == 400
    states = {item.name: item.status for item in plan.statuses if item.name == "steady-chat"}
    (route,) = (item for item in plan.statuses if item.resource.kind == "AIGatewayRoute")
    message = route.status["conditions"][0]["message"]
    assert "steady-chat: east (80 %) and west (20 %), then elsewhere" in message
    assert states["steady-chat"]["ancestors"][0]["conditions"][0]["status"] == "True"
