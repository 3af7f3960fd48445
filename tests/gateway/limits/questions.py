"""Questions of clients, keys and budgets, and a provider that keeps its answer back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from tests.gateway.workbench import Provider, Reply


def lower(reply: Reply) -> dict[str, str]:
    return {name.lower(): value for name, value in reply.headers.items()}


def question(model: str = "m", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 7, **fields}


@contextlib.asynccontextmanager
async def held_back(provider: Provider) -> AsyncIterator[asyncio.Event]:
    """The provider answers when this is left; set as soon as it was asked."""
    arrived, leave = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        arrived.set()
        await leave.wait()
        return web.json_response({"usage": provider.usage, "choices": []})

    provider.answer = answer
    try:
        yield arrived
    finally:
        leave.set()
        provider.answer = None


def budget(name: str, amount: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Budget",
        "metadata": {"name": name},
        "spec": {
            "amount": amount,
            "window": {"calendar": {"unit": "Month", "timeZone": "Europe/Berlin"}},
            "routes": ["*"],
            "onStoreLoss": "Deny",
            **spec,
        },
    }


def key_of(name: str, id: str, **spec: Any) -> tuple[dict[str, Any], str]:
    text = f"kaji_{id}_{'s' * 40}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    item = {
        "kind": "APIKey",
        "metadata": {"name": name},
        "spec": {"id": id, "hashes": [{"sha256": digest}], **spec},
    }
    return item, text
