"""What the tests of traffic ask for, of whom."""

from __future__ import annotations

from typing import Any

from tests.gateway.workbench import (
    Provider,
    ai_route,
    backend,
    key_policy,
)

QUESTION = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
AZURE = {"name": "AzureOpenAI", "version": "2025-01-01-preview"}


def fallback_pair(first: Provider | int, second: Provider | int, **rule: Any) -> list[dict[str, Any]]:
    """Azure first, OpenAI as the fallback, each with a key of its own."""
    ports = [item.port if isinstance(item, Provider) else item for item in (first, second)]
    return [
        *backend("azure", ports[0], AZURE),
        *backend("openai", ports[1]),
        *key_policy("azure", "azure-secret", "AzureAPIKey", "azureAPIKey"),
        *key_policy("openai", "openai-secret"),
        ai_route(
            "route", "gpt-4o", {"name": "azure", "priority": 0}, {"name": "openai", "priority": 1}, rule=rule
        ),
    ]
