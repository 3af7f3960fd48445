"""A plan with a memory is the plan that is made from scratch, whatever changed in between."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.gateway import plan_memory, route_translation
from kajitori.gateway.credentials.exchange import Concealed, Token, TokenState
from kajitori.gateway.observed import Index, Observed, Settings
from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.plan_memory import PlanMemory, chunks
from tests.gateway.plan_memory_world import FOREIGN, REFUSED, SLOTS
from tests.gateway.workbench import KINDS, ai_route, backend, gateway, observe

TOKENS = (None, TokenState(), TokenState(Token(Concealed("first"))), TokenState(problem="no"))


class Cluster:
    """Objects as informers show them: who does not change stays the same object, who is new comes last."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}
        self.foreign: frozenset[str] = frozenset()
        self.token: TokenState | None = TOKENS[2]
        self.refused: dict[str, str] = {}
        self.generated = False
        self.latest: Plan | None = None
        for number, forms in enumerate(SLOTS):
            self.put(number, forms[0])

    def put(self, number: int, document: dict[str, Any] | None) -> None:
        if document is None:
            self._objects.pop(number, None)
            return
        copied = json.loads(json.dumps(document))
        self._objects[number] = msgspec.convert(copied, KINDS[document["kind"]][1])

    def change(self, what: int, form: int) -> None:
        """what: a slot, or one of the other matters behind these."""
        if what < len(SLOTS):
            forms = (*SLOTS[what], None)
            self.put(what, forms[form % len(forms)])
            return
        match what - len(SLOTS):
            case 0:
                self.foreign = FOREIGN[form % len(FOREIGN)]
            case 1:
                self.token = TOKENS[form % len(TOKENS)]
            case 2:
                self.refused = REFUSED[form % len(REFUSED)]
            case _:
                self.generated = not self.generated

    def observed(self) -> Observed:
        found: dict[str, list[Any]] = {}
        for number, item in self._objects.items():
            found.setdefault(KINDS[SLOTS[number][0]["kind"]][0], []).append(item)
        if self.generated and self.latest is not None:
            for made in self.latest.generated:
                field, kind = KINDS[made.resource.kind]
                found.setdefault(field, []).append(msgspec.convert(made.manifest, kind))
        fields: dict[str, Any] = {name: tuple(items) for name, items in found.items()}
        tokens = {("default", "q"): self.token} if self.token else {}
        return Observed(settings=Settings(), foreign=self.foreign, tokens=tokens, **fields)


def told(plan: Plan) -> dict[str, Any]:
    """Everything that a plan says, in a form in which 1 is not True."""
    found = {
        **{kind: plan.resources.by_type[kind] for kind in plan.resources.by_type},
        "statuses": [
            (item.resource.kind, item.namespace, item.name, item.generation, item.status)
            for item in plan.statuses
        ],
        "backends": plan.backends,
        "ports": plan.ports,
        "policy": msgspec.to_builtins(plan.policy),
        "generated": [(item.namespace, item.name, item.manifest) for item in plan.generated],
        "unwanted": [(item.namespace, item.name, item.uid) for item in plan.unwanted],
    }
    return json.loads(msgspec.json.encode(found, order="deterministic"))


def assert_same(mine: Plan, theirs: Plan) -> None:
    one, other = told(mine), told(theirs)
    for part in one.keys() | other.keys():
        assert msgspec.json.encode(one[part]) == msgspec.json.encode(other[part]), part


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, len(SLOTS) + 3), st.integers(0, 6)), min_size=1, max_size=4),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([1, 2, 32]),
)
def test_whatever_changes_a_plan_with_a_memory_is_the_plan_from_scratch(
    steps: list[list[tuple[int, int]]], chunk: int
) -> None:
    cluster, memory = Cluster(), PlanMemory()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_memory, "CHUNK", chunk)
        for changes in ([], *steps):
            for what, form in changes:
                cluster.change(what, form)
            observed = cluster.observed()
            remembered = make_plan(observed, cluster.refused, memory=memory)
            cluster.latest = remembered
            assert_same(remembered, make_plan(observed, cluster.refused))


@given(st.lists(st.integers(0, 500), unique=True, max_size=300), st.integers(0, 500))
def test_chunks_hold_all_objects_in_their_order_and_a_new_one_leaves_most_chunks_as_they_are(
    numbers: list[int], fresh: int
) -> None:
    def objects(of: list[int]) -> list[Any]:
        return [msgspec.convert({"metadata": {"name": f"n{number}"}}, KINDS["Namespace"][1]) for number in of]

    def names(of: list[int]) -> list[tuple[str, ...]]:
        return [tuple(item.metadata.name for item in chunk) for chunk in chunks(objects(of))]

    before, after = (
        names(numbers),
        names([*numbers[: len(numbers) // 2], fresh, *numbers[len(numbers) // 2 :]]),
    )
    assert [name for chunk in before for name in chunk] == [f"n{number}" for number in numbers]
    longest = 4 * plan_memory.CHUNK
    if all(len(chunk) < longest for chunk in (*before, *after)):
        assert len(set(before) - set(after)) <= 1


@pytest.mark.parametrize("number", range(len(SLOTS)))
def test_each_form_of_each_object_after_each_other_gives_the_plan_from_scratch(number: int) -> None:
    cluster, memory = Cluster(), PlanMemory()
    forms = (*SLOTS[number], None)
    order = [one for other in range(len(forms)) for one in (0, other)]
    for form in order:
        cluster.change(number, form)
        observed = cluster.observed()
        assert_same(make_plan(observed, memory=memory), make_plan(observed))


@pytest.mark.parametrize(("name", "form"), [("traffic", 4), ("config", 1), ("quota", 1)])
def test_where_policies_change_clusters_each_form_of_each_object_gives_the_plan_from_scratch(
    name: str, form: int
) -> None:
    cluster, memory = Cluster(), PlanMemory()
    (chosen,) = (at for at, forms in enumerate(SLOTS) if forms[0]["metadata"]["name"] == name)
    cluster.change(chosen, form)
    for number in range(len(SLOTS)):
        for other in range(1, len(SLOTS[number]) + 2) if number != chosen else ():
            cluster.change(number, other)
            observed = cluster.observed()
            assert_same(make_plan(observed, memory=memory), make_plan(observed))


def test_what_a_route_looked_at_before_it_met_a_defect_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    translate = route_translation.translate_ai_route

    def failing(index: Index, *others: Any) -> Any:
        if index.backends["default", "a"].metadata.labels:
            raise ZeroDivisionError("labels")
        return translate(index, *others)

    monkeypatch.setattr(route_translation, "translate_ai_route", failing)
    good = observe(gateway(80), *backend("a", 1), ai_route("r", "m", {"name": "a"}))
    (known,) = good.backends
    metadata = msgspec.structs.replace(known.metadata, labels={"bad": ""})
    bad = msgspec.structs.replace(good, backends=(msgspec.structs.replace(known, metadata=metadata),))
    memory = PlanMemory()
    for observed in (bad, good):
        assert_same(make_plan(observed, memory=memory), make_plan(observed))
