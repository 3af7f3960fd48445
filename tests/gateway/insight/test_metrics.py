"""Metrics under the names that Envoy AI Gateway's dashboards look for."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.metrics import GatewayMetrics
from tests.gateway.insight.test_usage import record

# As its `internal/metrics/genai.go` (v1.0.0) has them.
UPSTREAM = {
    "gen_ai.client.token.usage": [4.0**power for power in range(14)],
    "gen_ai.server.request.duration": [
        0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    ],
    "gen_ai.server.time_to_first_token": [
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 45, 60,
    ],
    "gen_ai.server.time_per_output_token": [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
}  # fmt: skip


def test_names_and_buckets_are_upstreams() -> None:
    metrics = GatewayMetrics()
    assert {each.name: [round(bound, 4) for bound in each.bounds] for each in metrics.histograms} == UPSTREAM


def test_series_have_upstreams_attributes_and_the_backend_besides() -> None:
    metrics = GatewayMetrics()
    metrics.observe(
        [
            record(
                1, operation="cohere_rerank", provider="azure.openai", effective_model="gpt-5-nano",
                response_model="gpt-5-nano-2025-08-07", usage=Usage(10, 5, 15, 2, 3, 1),
            ),
            record(2, operation="chat", provider="openai", effective_model="m", status=503, usage=None),
            record(3, backend="", model="anything"),
        ]
    )  # fmt: skip
    registry = CollectorRegistry()
    registry.register(metrics)
    text = generate_latest(registry).decode()
    common = (
        'gen_ai_operation_name="rerank",gen_ai_original_model="m",gen_ai_provider_name="azure.openai",'
        'gen_ai_request_model="gpt-5-nano",gen_ai_response_model="gpt-5-nano-2025-08-07"'
    )
    for kind, tokens in (
        ("input", 10),
        ("output", 5),
        ("cached_input", 2),
        ("cache_creation_input", 3),
        ("reasoning", 1),
    ):
        line = f'gen_ai_client_token_usage_sum{{{common},gen_ai_token_type="{kind}",kajitori_backend="default/one"}}'
        assert f"{line} {float(tokens)}" in text
    assert 'gen_ai_server_request_duration_count{error_type="_OTHER",gen_ai_operation_name="chat"' in text
    assert 'gen_ai_server_request_duration_count{error_type="",gen_ai_operation_name="rerank"' in text
    assert "anything" not in text
