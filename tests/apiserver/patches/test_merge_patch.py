"""JSON merge patches against RFC 7386."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.laptop.apiserver.patches import apply_merge_patch
from kajitori.laptop.apiserver.status import StatusError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), json_values, max_size=3)


def standard_merge(target: Any, patch: Any) -> Any:
    """The pseudo code of RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = standard_merge(result.get(name), value)
    return result


@given(documents, documents)
def test_merging_follows_the_standard_and_changes_no_input(target: Any, patch: Any) -> None:
    before = copy.deepcopy((target, patch))
    assert apply_merge_patch(target, patch) == standard_merge(target, patch)
    assert (target, patch) == before


@given(documents)
def test_a_patch_that_changes_nothing_gives_the_same_object(target: dict[str, Any]) -> None:
    assert apply_merge_patch(target, {}) is target
    scalars = {k: v for k, v in target.items() if not isinstance(v, dict) and v is not None}
    assert apply_merge_patch(target, scalars) is target


def test_true_does_not_equal_one() -> None:
    assert apply_merge_patch({"a": 1}, {"a": True})["a"] is True


def test_a_patch_that_is_no_map_is_a_400() -> None:
    with pytest.raises(StatusError) as refusal:
        apply_merge_patch({}, [1])
    assert refusal.value.code == 400
