"""What keys may do at endpoints that name no model, and which models they are shown."""

from __future__ import annotations

from tests.gateway.keys.objects import api_key, asking, key_text
from tests.gateway.workbench import Provider, Workbench, ai_route, backend, gateway


async def test_a_key_for_some_models_uses_no_endpoint_that_could_use_others(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        asking(ai_route("one", "m", {"name": "a"})),
        asking(ai_route("two", "n", {"name": "a"})),
        api_key("aaaaaa"),
        api_key("bbbbbb", models=["m"]),
    )
    all_models, some = ({"authorization": f"Bearer {key_text(name)}"} for name in ("aaaaaa", "bbbbbb"))
    for path in ("/v1/batches", "/v1/files", "/v1/responses/resp_1"):
        assert (await bench.get(path)).status == 401
        assert (await bench.get(path, all_models)).status == 200
        refused = await bench.get(path, {**some, "x-ai-eg-model": "m"})
        assert (refused.status, refused.json["error"]["type"]) == (403, "Forbidden")
        assert "some models only" in refused.json["error"]["message"]
    listed = [item["id"] for item in (await bench.get("/v1/models", some)).json["data"]]
    assert listed == ["m"]
    assert (await bench.get("/v1/models/n", some)).status == 404
    assert (await bench.get("/anthropic/v1/models/m", some)).json["type"] == "model"
    assert (await bench.get("/anthropic/v1/models")).json["error"]["type"] == "authentication_error"
    # The name of a model that a form or a query has is held against the key, too.
    upgrade = {"connection": "upgrade", "upgrade": "websocket"}
    reply = await bench.get("/v1/realtime?model=n", {**some, **upgrade})
    assert reply.status == 403
