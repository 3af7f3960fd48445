"""Fields that selectors compare: read from an object and from its bytes alike."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.laptop.apiserver.kinds.paths import FieldGetter

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(-1, 1), st.text(max_size=3), st.just("false")
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "spec": st.one_of(
            VALUES,
            st.fixed_dictionaries(
                {}, optional={"a": VALUES, "b": st.fixed_dictionaries({}, optional={"c": VALUES})}
            ),
        ),
        "type": VALUES,
        "other": st.lists(VALUES, max_size=2),
    },
)
PATHS = st.sampled_from(["type", "spec.a", "spec.a|false", "spec.a|0", "spec.b.c"])


@given(PATHS, OBJECTS)
def test_a_field_has_the_same_text_in_an_object_and_in_its_bytes(path: str, obj: dict[str, Any]):
    getter = FieldGetter(path)
    body = msgspec.json.encode(obj)
    text = getter(obj)
    assert getter.read(body) == text
    # What a search for the text relies on: no object with it is passed over.
    trace = getter.trace(text)
    assert trace is None or trace in body


@pytest.mark.parametrize("value", ["", "true", "false", "0", "-1", "1.5", "1e9"])
def test_what_need_not_be_a_text_in_the_bytes_leaves_no_trace(value: str):
    assert FieldGetter("spec.a").trace(value) is None


def test_the_trace_of_a_text_is_its_field():
    assert FieldGetter("spec.nodeName").trace('n"1') == b'"nodeName":"n\\"1"'
