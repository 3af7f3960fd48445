"""Which fields of an object the struct does not know."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, field

from kajitori.api.unhonoured import unhonoured_fields, unhonoured_sentences


class Inner(msgspec.Struct, rename="camel"):
    known_number: int = 0
    anything: Any = None


class Outer(msgspec.Struct, rename="camel"):
    inner: Inner | None = None
    some_items: Annotated[list[Annotated[Inner, Meta(description="x")]], Meta(max_length=9)] = field(
        default_factory=list
    )
    by_name: dict[str, Inner] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    loose: dict[str, Any] = field(default_factory=dict)
    either: int | str = 0


@pytest.mark.parametrize(
    ("raw", "paths"),
    [
        ({}, []),
        ({"inner": {"knownNumber": 1}, "labels": {"a": "b"}, "loose": {"x": {"y": 1}}, "either": "50%"}, []),
        ({"foo": 1, "bar": {}}, ["spec.foo", "spec.bar"]),
        ({"inner": {"known_number": 1, "anything": {"deep": 1}}}, ["spec.inner.known_number"]),
        ({"someItems": [{}, {"foo": [1]}, {"bar": 1}]}, ["spec.someItems[1].foo", "spec.someItems[2].bar"]),
        ({"byName": {"one": {"foo": 1}}}, ["spec.byName[one].foo"]),
        ({"inner": None, "gone": None}, []),
        ({"inner": "of another form", "someItems": {"not": "a list"}}, []),
    ],
)
def test_each_member_that_the_struct_lacks_is_named_by_its_path(
    raw: dict[str, Any], paths: list[str]
) -> None:
    assert unhonoured_fields(raw, Outer) == paths


def test_the_prefix_is_the_path_of_what_is_looked_at() -> None:
    assert unhonoured_fields({"foo": 1}, Outer, "spec.rateLimit") == ["spec.rateLimit.foo"]


def test_a_slip_is_told_apart_from_a_field_that_nobody_honours() -> None:
    assert unhonoured_sentences({"iner": {}, "other": 1, "inner": {"knownNumbre": 1}}, Outer) == {
        "spec.iner": "spec.iner is not honoured (did you mean inner?)",
        "spec.other": "spec.other is not honoured",
        "spec.inner.knownNumbre": "spec.inner.knownNumbre is not honoured (did you mean knownNumber?)",
    }
