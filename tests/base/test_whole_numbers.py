"""Whole numbers in labels and annotations."""

from __future__ import annotations

import pytest

from kajitori.base.whole_numbers import whole_number
from kajitori.groups.leader_worker_sets.options import (
    DRAIN_SECONDS,
    GANG_DEADLINE_SECONDS,
    IN_PLACE_COMMAND,
    MAX_RESTARTS,
    options_of,
)
from kajitori.model.gang import GANG_LABEL, SIZE_ANNOTATION, gang_of

TOO_MUCH = ["2147483648", "9" * 20, "9" * 400, "9" * 5000]


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("2147483647", 2147483647)])
def test_digits_are_a_number(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", " 1", "-1", "+1", "1.0", "1e3", "1_000", "\u0661", "\u00b2", *TOO_MUCH])
def test_anything_else_is_none(text: str) -> None:
    assert whole_number(text) is None


@pytest.mark.parametrize("key", [MAX_RESTARTS, DRAIN_SECONDS, GANG_DEADLINE_SECONDS])
@pytest.mark.parametrize("text", TOO_MUCH)
def test_a_number_of_more_than_a_clock_holds_is_named_and_has_the_effect_of_the_default(
    key: str, text: str
) -> None:
    options = options_of({key: text})
    assert list(options.refused) == [key]
    assert (options.max_restarts, options.drain_seconds, options.gang_deadline_seconds) == (None, 0, None)


def test_a_command_that_is_nested_too_deep_to_be_read_is_named() -> None:
    assert list(options_of({IN_PLACE_COMMAND: "[" * 100_000}).refused) == [IN_PLACE_COMMAND]


@pytest.mark.parametrize("size", TOO_MUCH)
def test_a_pod_of_a_gang_too_large_to_count_is_a_pod_of_its_own(size: str) -> None:
    assert gang_of({GANG_LABEL: "x"}, {SIZE_ANNOTATION: size}) is None


def test_what_is_wrong_with_a_long_value_is_told_in_a_line() -> None:
    refused = options_of({IN_PLACE_COMMAND: "[" * 100_000, MAX_RESTARTS: "9" * 5000}).refused
    assert all(len(told) < 200 for told in refused.values())
