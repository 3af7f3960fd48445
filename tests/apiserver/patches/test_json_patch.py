"""JSON patches against RFC 6902 and against a naive oracle."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.laptop.apiserver.patches import apply_json_patch
from kajitori.laptop.apiserver.status import StatusError

OBJECT = {"a": {"b": [1, 2, {"c": 3}]}, "x/y": 1, "m~n": 2}


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([{"op": "add", "path": "/a/b/1", "value": 9}], {"a": {"b": [1, 9, 2, {"c": 3}]}}),
        ([{"op": "add", "path": "/a/b/-", "value": 9}], {"a": {"b": [1, 2, {"c": 3}, 9]}}),
        ([{"op": "add", "path": "/a/z", "value": None}], {"a": {"b": [1, 2, {"c": 3}], "z": None}}),
        ([{"op": "remove", "path": "/a/b/0"}], {"a": {"b": [2, {"c": 3}]}}),
        ([{"op": "replace", "path": "/a/b/2/c", "value": 4}], {"a": {"b": [1, 2, {"c": 4}]}}),
        ([{"op": "move", "from": "/a/b", "path": "/q"}], {"a": {}, "q": [1, 2, {"c": 3}]}),
        (
            [{"op": "copy", "from": "/a/b/2", "path": "/a/b/0"}],
            {"a": {"b": [{"c": 3}, 1, 2, {"c": 3}]}},
        ),
        ([{"op": "test", "path": "/x~1y", "value": 1.0}], {}),
        ([{"op": "test", "path": "/m~0n", "value": 2}], {}),
        ([{"op": "test", "path": "/missing", "value": None}], {}),
    ],
)
def test_each_operation_does_what_the_standard_says(
    operations: list[dict[str, Any]], expected: dict[str, Any]
) -> None:
    before = copy.deepcopy(OBJECT)
    assert apply_json_patch(OBJECT, operations) == {**OBJECT, **expected}
    assert before == OBJECT


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a/b/0", "value": 2},
        {"op": "test", "path": "/a/b/0", "value": True},
        {"op": "remove", "path": "/nope"},
        {"op": "replace", "path": "/a/nope", "value": 1},
        {"op": "add", "path": "/nope/deep", "value": 1},
        {"op": "add", "path": "/a/b/9", "value": 1},
        {"op": "add", "path": "/a/b/01", "value": 1},
        {"op": "add", "path": "/a/b/²", "value": 1},
        {"op": "add", "path": "no-slash", "value": 1},
        {"op": "add", "path": "/a"},
        {"op": "move", "from": "/a", "path": "/a/b/0"},
        {"op": "remove", "path": ""},
        {"op": "replace", "path": "", "value": [1]},
        {"op": "spoil", "path": "/a"},
        {"path": "/a"},
        {"op": "remove"},
    ],
)
def test_an_operation_that_does_not_fit_is_a_bare_422(operation: dict[str, Any]) -> None:
    before = copy.deepcopy(OBJECT)
    with pytest.raises(StatusError) as refusal:
        apply_json_patch(OBJECT, [{"op": "add", "path": "/fine", "value": 1}, operation])
    assert refusal.value.code == 422
    assert str(refusal.value) == "the server rejected our request due to an error in our request"
    assert before == OBJECT


@pytest.mark.parametrize("patch", [{"op": "add"}, ["add"], "x", None])
def test_what_is_not_a_list_of_operations_is_a_400(patch: Any) -> None:
    with pytest.raises(StatusError) as refusal:
        apply_json_patch(OBJECT, patch)
    assert refusal.value.code == 400


def test_what_a_patch_does_not_touch_is_shared() -> None:
    obj = {"a": {"b": 1}, "c": {"d": [1]}}
    patched = apply_json_patch(obj, [{"op": "replace", "path": "/a/b", "value": 2}])
    assert patched["c"] is obj["c"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text(max_size=2), json_values, max_size=4)


@given(documents, documents)
def test_a_patch_that_replaces_every_key_makes_the_target(source: Any, target: Any) -> None:
    def pointer(key: str) -> str:
        return "/" + key.replace("~", "~0").replace("/", "~1")

    patch = [{"op": "remove", "path": pointer(key)} for key in source]
    patch += [{"op": "add", "path": pointer(key), "value": value} for key, value in target.items()]
    patch += [{"op": "test", "path": pointer(key), "value": value} for key, value in target.items()]
    assert apply_json_patch(source, patch) == target
