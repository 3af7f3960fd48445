"""One Envoy for all clients: each provider behind its own model's route, with its own key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.gateway.clients.stand_ins import Anthropic, AzureOpenAI, Cohere, OpenAI, StandIn
from tests.gateway.keys.objects import api_key, asking, key_text
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    key_policy,
    running_provider,
    running_workbench,
)

OF_THE_CLIENT = key_text("client")


@dataclass
class World:
    """The gateway, and each provider by the model that leads to it; `there` is what stands for it."""

    bench: Workbench
    providers: dict[str, Provider]
    there: dict[str, StandIn]

    @property
    def url(self) -> str:
        return self.bench.url

    def forget(self) -> None:
        """As if nothing had been asked yet."""
        for provider in self.providers.values():
            provider.seen.clear()
        for one in self.there.values():
            one.failures.clear()
            one.breaks_streams = False


SCHEMAS = {
    "gpt-4o": ({"name": "OpenAI"}, "APIKey", "apiKey"),
    "on-azure": ({"name": "AzureOpenAI", "version": "2025-01-01-preview"}, "AzureAPIKey", "azureAPIKey"),
    "claude": ({"name": "Anthropic"}, "AnthropicAPIKey", "anthropicAPIKey"),
    "rerank-v3.5": ({"name": "Cohere", "version": "v2"}, "APIKey", "apiKey"),
    "with-a-wrong-key": ({"name": "OpenAI"}, "APIKey", "apiKey"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[World]:
    there: dict[str, StandIn] = {
        "gpt-4o": OpenAI("sk-of-openai"),
        "on-azure": AzureOpenAI("of-azure", models=("ours",)),
        "claude": Anthropic("sk-ant", models=("claude",)),
        "rerank-v3.5": Cohere("of-cohere", models=("rerank-v3.5",)),
        "with-a-wrong-key": OpenAI("another"),
    }
    async with AsyncExitStack() as stack:
        providers = {
            model: await stack.enter_async_context(running_provider(Provider(answer=one)))
            for model, one in there.items()
        }
        bench = await stack.enter_async_context(running_workbench())
        documents = [gateway(bench.port), api_key("client")]
        for number, (model, (schema, kind, member)) in enumerate(SCHEMAS.items()):
            name = f"provider-{number}"
            key = "wrong" if model == "with-a-wrong-key" else there[model].key
            reference = {"name": name} | ({"modelNameOverride": "ours"} if model == "on-azure" else {})
            documents += backend(name, providers[model].port, schema)
            documents += key_policy(name, key, kind, member)
            documents.append(asking(ai_route(f"route-{number}", model, reference)))
        # A model of the route that the provider does not know.
        documents.append(asking(ai_route("unknown", "gpt-99", {"name": "provider-0"})))
        await bench.apply(*documents)
        yield World(bench, providers, there)


@pytest.fixture
def world(shared: World) -> World:
    shared.forget()
    return shared
