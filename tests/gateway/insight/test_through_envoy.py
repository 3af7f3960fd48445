"""What Envoy tells of a request's time, trace and answer."""

from __future__ import annotations

from kajitori.gateway.accounting.time_spent import time_spent
from kajitori.gateway.telemetry.spans import context_of
from tests.gateway.workbench import (
    Provider,
    ai_route,
    backend,
    gateway,
    running_provider,
    running_workbench,
)

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_request_is_booked_with_its_trace_its_times_and_the_model_that_answered() -> None:
    async with (
        running_provider(Provider(chunks=5, chunk_seconds=0.02)) as provider,
        running_workbench() as bench,
    ):
        route = ai_route("route", "m", {"name": "one", "modelNameOverride": "sent"})
        headers = ("agent-session-id", "x-team")
        await bench.apply(gateway(bench.port), *backend("one", provider.port), route, logged_headers=headers)
        sent = {"traceparent": TRACEPARENT, "agent-session-id": "s=1"}
        plain = await bench.record(await bench.post({"model": "m"}, headers=sent))
        # The provider's spans can hang under the same parent.
        assert provider.seen[-1].headers["traceparent"] == TRACEPARENT
        assert (plain.traceparent, plain.headers, plain.provider) == (
            TRACEPARENT,
            {"agent-session-id": "s=1"},
            "openai",
        )
        assert (plain.model, plain.effective_model, plain.response_model) == ("m", "sent", "sent")
        stream = await bench.record(await bench.post({"model": "m", "stream": True}))
        assert stream.received_seconds is not None and stream.sent_seconds is not None
        assert stream.time_to_first_token_seconds is not None
        times = (stream.received_seconds, stream.sent_seconds, stream.time_to_first_token_seconds)
        assert 0 < times[0] <= times[1] <= times[2] <= stream.duration_seconds
        assert time_spent(stream)["answer"] >= 0.05
        assert (stream.traceparent, context_of(stream).trace_id.hex()) == ("", stream.id.replace("-", ""))
        odd = await bench.record(await bench.post({"model": "m"}, headers={"traceparent": "x" * 5000}))
        assert len(odd.traceparent) == 64
