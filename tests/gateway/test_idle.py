"""An Envoy that has nothing to do does nothing, and still tells what it did as soon as somebody asks."""

from __future__ import annotations

import re

from tests.gateway.workbench import Provider, Workbench, ai_route, backend, gateway
from tests.waiting import eventually


async def test_statistics_that_nobody_gathers_meanwhile_are_those_of_now(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(
        gateway(bench.port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"})
    )

    async def has_counted(name: str, number: int) -> bool:
        text = await bench.admin(f"/stats/prometheus?filter={name}")
        found = re.findall(rf"envoy_http_{name}(?:_count)?\{{[^}}]*http-{bench.port}[^}}]*\}} (\d+)", text)
        return sum(map(int, found)) == number

    for number in range(1, 4):
        assert (await bench.post({"model": "gpt-4o", "messages": []})).status == 200
        # Envoy counts once it has done with a request, which may be after its client has.
        for name in ("downstream_rq_completed", "downstream_rq_time"):
            await eventually(lambda name=name, number=number: has_counted(name, number), name)
