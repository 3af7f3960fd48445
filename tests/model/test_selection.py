"""One answer to whether labels meet a selector, in all the forms in which one is written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.api.kubernetes.meta_v1 import LabelSelector
from kajitori.laptop.apiserver.label_selectors import selector_text, selects
from kajitori.laptop.apiserver.selectors import parse_labels
from kajitori.model.selection import holds, is_empty, matches

WORDS = st.sampled_from(["a", "b", "c"])
LABELS = st.dictionaries(WORDS, WORDS)
REQUIREMENTS = st.one_of(
    st.fixed_dictionaries({"key": WORDS, "operator": st.sampled_from(["In", "NotIn"]),
                           "values": st.lists(WORDS, min_size=1)}),
    st.fixed_dictionaries({"key": WORDS, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)  # fmt: skip
SELECTORS = st.fixed_dictionaries({"matchLabels": LABELS, "matchExpressions": st.lists(REQUIREMENTS)})


@given(SELECTORS, LABELS)
def test_an_object_its_raw_form_and_its_text_choose_the_same(
    raw: dict[str, Any], labels: dict[str, str]
) -> None:
    chosen = matches(msgspec.convert(raw, LabelSelector), labels)
    assert selects(raw, labels) is chosen
    assert all(requirement.matches(labels) for requirement in parse_labels(selector_text(raw))) is chosen


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "held"),
    [
        ("In", ["a"], None, False),
        ("NotIn", ["a"], None, True),
        ("Exists", [], "", True),
        ("DoesNotExist", [], "", False),
        ("Gt", ["3"], "4", True),
        ("Gt", ["3"], "3", False),
        ("Lt", ["3"], "-1", True),
        ("Lt", ["3"], "many", False),
        ("Lt", [], "1", False),
        ("Gt", ["3"], None, False),
        ("Near", ["a"], "a", False),
    ],
)
def test_a_requirement_holds_as_the_api_says(
    operator: str, wanted: list[str], value: str | None, held: bool
) -> None:
    assert holds(operator, wanted, value) is held


def test_a_selector_without_requirements_chooses_everything() -> None:
    assert is_empty(LabelSelector()) and matches(LabelSelector(), {})
