"""Estimates of what rules cost at worst: a rule is refused for its cost by both servers or by neither.

`recorded/rule_costs.json` holds what kube-apiserver 1.36.3 said to the schemas of `rule_costs`, and to each rule put
below a list that is long enough to make it a little dearer than its budget: such a refusal shows the cost exactly.
Rules by chance, more of them by hand: `KAJITORI_EXAMPLES=500 pytest tests/contract/test_rule_costs.py -n0`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from tests.contract.random_rules import Chance, a_ruled_schema, an_object
from tests.contract.rule_costs import SCHEMAS, repeated
from tests.contract.test_definition_rules import DEFINITIONS, causes, definition
from tests.servers import Server
from tests.waiting import eventually

RECORDED = Path(__file__).parent / "recorded" / "rule_costs.json"
EXAMPLES = int(os.environ.get("KAJITORI_EXAMPLES", "12"))
GROUP = "chance.example.com"
RULES_OF_A_SCHEMA = 10
OBJECTS = 15


async def _refusals(server: Server, schema: dict[str, Any]) -> list[list[str]]:
    answer = await server.http.create(DEFINITIONS, definition("ws", schema), dryRun="All")
    assert answer.code in (201, 422), answer.body
    return sorted([field, message] for _, field, message in causes(answer))


async def test_each_rule_is_taken_or_refused_for_its_cost_with_the_same_words(server: Server) -> None:
    recorded = msgspec.json.decode(RECORDED.read_bytes())
    found: dict[str, Any] = {}
    for name, schema in SCHEMAS.items():
        times = recorded[name]["times"]
        found[name] = {
            "causes": await _refusals(server, schema),
            "times": times,
            "repeated": await _refusals(server, repeated(schema, times)) if times else [],
        }
    assert found == recorded


def _of_rules(errors: list[list[str]]) -> set[tuple[str, str]]:
    """Without those of all rules together: of rules that are as dear, any four are shown."""
    return {(field, message) for field, message in errors if "entire OpenAPIv3 schema" not in message}


async def test_rules_by_chance_are_taken_or_refused_alike(servers: tuple[Server, Server]) -> None:
    ours, theirs = servers
    for example in range(EXAMPLES):
        chance = Chance(example)
        properties: dict[str, Any] = {}
        for index in range(RULES_OF_A_SCHEMA):
            ruled = a_ruled_schema(chance)
            length = chance.choice((1, 100, 10_000, 1_000_000, 100_000_000))
            properties[f"r{index}"] = {"type": "array", "maxItems": length, "items": ruled}
        schema = {
            "type": "object",
            "properties": {"spec": {"type": "object", "properties": properties}},
        }
        found, wanted = await _refusals(ours, schema), await _refusals(theirs, schema)
        assert _of_rules(found) == _of_rules(wanted), f"example {example}"
        assert len(found) == len(wanted), f"example {example}"


async def test_objects_by_chance_are_taken_or_refused_alike(
    servers: tuple[Server, Server], shared_namespace: str
) -> None:
    """Rules run on the same objects; with each object the two servers say the same of each rule."""
    for round_ in range(max(1, EXAMPLES // 12)):
        chance = Chance(f"objects {round_}")
        properties = {f"r{index}": a_ruled_schema(chance) for index in range(40)}
        properties = {
            name: schema for name, schema in properties.items() if await _is_taken(servers[1], schema)
        }
        spec = {"type": "object", "properties": properties}
        await _make(servers, round_, {"type": "object", "properties": {"spec": spec}})
        path = f"/apis/{GROUP}/v1/namespaces/{shared_namespace}/chances{round_}"
        for number in range(OBJECTS):
            obj = {
                "apiVersion": f"{GROUP}/v1",
                "kind": f"Chances{round_}",
                "metadata": {"name": "x"},
                "spec": {name: an_object(chance, schema) for name, schema in properties.items()},
            }
            found, wanted = [
                {
                    field: message
                    for _, field, message in causes(await server.http.create(path, obj, dryRun="All"))
                }
                for server in servers
            ]
            assert found.keys() == wanted.keys(), f"object {number} of round {round_}"


async def _is_taken(server: Server, ruled: dict[str, Any]) -> bool:
    schema = {"type": "object", "properties": {"spec": ruled}}
    return not await _refusals(server, schema)


async def _make(servers: tuple[Server, Server], round_: int, schema: dict[str, Any]) -> None:
    plural = f"chances{round_}"
    for server in servers:
        await server.http.delete(f"{DEFINITIONS}/{plural}.{GROUP}")
        path = f"/apis/{GROUP}/v1/{plural}"
        await eventually(lambda server=server, path=path: _answers(server, path, 404), f"{path} is gone")
        (await server.http.create(DEFINITIONS, definition(plural, schema, GROUP))).ok()
        await eventually(lambda server=server, path=path: _answers(server, path, 200), f"{path} is served")


async def _answers(server: Server, path: str, code: int) -> bool:
    return (await server.http.get(path)).code == code
