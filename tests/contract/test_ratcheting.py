"""Objects that broke a rule before it was made: what an update of them says."""

from __future__ import annotations

from typing import Any

from tests.contract.test_definition_rules import DEFINITIONS, causes, definition
from tests.servers import Server
from tests.waiting import eventually

GROUP = "ratchet.example.com"
PLURAL = "ratchets"
NUMBER = {"type": "integer"}


def schema(**rules: list[dict[str, Any]]) -> dict[str, Any]:
    properties = {
        name: {**NUMBER, **({"x-kubernetes-validations": rules[name]} if name in rules else {})}
        for name in ("held", "compared", "stuck", "free")
    }
    spec: dict[str, Any] = {"type": "object", "properties": properties}
    if "spec" in rules:
        spec["x-kubernetes-validations"] = rules["spec"]
    return {"type": "object", "properties": {"spec": spec}}


async def _update(server: Server, path: str, **changes: int) -> Any:
    answer = await server.http.merge(f"{path}/x", {"spec": changes})
    warnings = sorted(answer.headers.getall("Warning", []))
    return answer.code, warnings, causes(answer)


async def test_a_rule_that_stays_broken_is_told_and_one_that_compares_is_not_let_pass(
    server: Server, namespace: str
) -> None:
    path = f"/apis/{GROUP}/v1/namespaces/{namespace}/{PLURAL}"
    name = f"{PLURAL}.{GROUP}"
    (await server.http.create(DEFINITIONS, definition(PLURAL, schema(), GROUP))).ok()
    try:
        await eventually(lambda: _served(server, path), f"{path} is served")
        body = {
            "apiVersion": f"{GROUP}/v1",
            "kind": "Ratchets",
            "metadata": {"name": "x"},
            "spec": {"held": 9, "compared": 1, "stuck": 0, "free": 1},
        }
        (await server.http.create(path, body)).ok()
        stricter = schema(held=[{"rule": "self < 5"}])
        await _stricter(server, path, name, stricter)
        warned = ['299 - "spec.held: Invalid value: 9: failed rule: self < 5"']
        assert await _update(server, path, free=2) == (200, warned, [])
        assert (await _update(server, path, held=8))[0] == 422
        assert await _update(server, path, held=3) == (200, [], [])
        compared = schema(held=[{"rule": "self < 3"}], compared=[{"rule": "self > oldSelf"}])
        await _stricter(server, path, name, compared)
        code, _, found = await _update(server, path, free=3)
        assert (code, [field for _, field, _ in found]) == (422, ["spec.compared"])
        stuck = schema(held=[{"rule": "self < 2"}], stuck=[{"rule": "1 / self > 0"}])
        await _stricter(server, path, name, stuck)
        code, _, found = await _update(server, path, free=4)
        assert (code, [field for _, field, _ in found]) == (422, ["spec.stuck"])
    finally:
        await server.http.delete(f"{DEFINITIONS}/{name}")


async def _served(server: Server, path: str) -> bool:
    return (await server.http.get(path)).code == 200


async def _stricter(server: Server, path: str, name: str, schema: dict[str, Any]) -> None:
    """Changes the schema, and waits until objects are judged by it: by the rule on `held`."""
    versions = definition(PLURAL, schema, GROUP)["spec"]["versions"]
    (await server.http.merge(f"{DEFINITIONS}/{name}", {"spec": {"versions": versions}})).ok()
    rule = schema["properties"]["spec"]["properties"]["held"]["x-kubernetes-validations"][0]["rule"]
    limit = int(rule.rpartition(" ")[2])
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Ratchets", "metadata": {"name": "y"}}

    async def judged() -> bool:
        probe = {**body, "spec": {"held": limit, "stuck": 1}}
        return (await server.http.create(path, probe, dryRun="All")).code == 422

    await eventually(judged, f"{rule} holds")
