"""What rules of definitions cost at worst: the answers that a real server gave, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.contract.rule_costs import SCHEMAS, a_list, an_object, repeated, ruled

from kajitori.laptop.apiserver.crd.declared import schema_errors
from kajitori.laptop.apiserver.crd.rule_costs import Costs, shape_of, times_below

RECORDED: dict[str, Any] = msgspec.json.decode(
    (Path(__file__).parents[2] / "contract" / "recorded" / "rule_costs.json").read_bytes()
)


def refusals(schema: dict[str, Any]) -> list[list[str]]:
    found = schema_errors(schema, "spec.validation.openAPIV3Schema")
    return sorted([error.field or "", error.message] for error in found)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_refused_as_a_real_server_refused_it(name: str) -> None:
    recorded = RECORDED[name]
    assert refusals(SCHEMAS[name]) == recorded["causes"]
    if recorded["times"]:
        assert refusals(repeated(SCHEMAS[name], recorded["times"])) == recorded["repeated"]


def test_a_rule_below_lists_counts_as_often_as_its_place_occurs() -> None:
    assert times_below({"type": "array", "maxItems": 3}, 5) == 15
    assert times_below({"type": "object", "additionalProperties": {}, "maxProperties": 4}, 5) == 20
    assert times_below({"type": "object", "properties": {}}, 5) == 5
    assert times_below({"type": "array"}, 5) is None
    assert times_below({"type": "array", "maxItems": 3}, None) is None


def test_what_is_not_bounded_is_bounded_by_the_size_of_a_request() -> None:
    shape = shape_of({"type": "array", "items": {"type": "string"}})
    assert shape is not None
    assert shape.most == (3 * 1024 * 1024 - 2) // 3


def test_expressions_see_nothing_whose_type_is_left_open() -> None:
    assert shape_of({"x-kubernetes-preserve-unknown-fields": True}) is None
    assert shape_of({"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": True}}) is None


def test_rules_that_are_kept_are_only_counted_together() -> None:
    costs = Costs(each=False)
    assert costs.rule("a", 10**12, "rule") == []
    assert [error.field for error in costs.together("schema")] == ["a", "schema"]


def test_many_cheap_rules_fit_into_the_budget() -> None:
    rules = [f"self.l.all(x, x.size() > {number})" for number in range(100)]
    schema = an_object(spec=ruled(an_object(l=a_list({"type": "string", "maxLength": 9}, 10)), *rules))
    assert refusals(schema) == []
