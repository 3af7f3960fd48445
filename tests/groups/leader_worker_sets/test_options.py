"""What users may ask of a set by annotation."""

from __future__ import annotations

from kajitori.groups.leader_worker_sets import options
from kajitori.groups.leader_worker_sets.options import Options, options_of


def test_a_set_that_asks_for_nothing_has_the_defaults() -> None:
    assert options_of({}) == Options()


def test_each_choice_is_read() -> None:
    found = options_of(
        {
            options.MAX_RESTARTS: "3",
            options.RESTART: "InPlace",
            options.IN_PLACE_COMMAND: '["pkill", "vllm"]',
            options.GROUP_READY: "true",
            options.DRAIN_SECONDS: "30",
            options.PAUSED: "true",
            options.GANG: "Volcano",
            options.GANG_DEADLINE_SECONDS: "60",
            options.PREFERRED_TOPOLOGY: "rack, zone",
            options.COMPATIBILITY: "StatefulSet",
        }
    )
    assert found == Options(
        max_restarts=3,
        restart="InPlace",
        in_place_command=("pkill", "vllm"),
        group_ready=True,
        drain_seconds=30,
        paused=True,
        gang="Volcano",
        gang_deadline_seconds=60,
        preferred_topology=("rack", "zone"),
        compatibility="StatefulSet",
    )


def test_a_choice_that_makes_no_sense_is_the_default_and_is_named() -> None:
    found = options_of(
        {
            options.MAX_RESTARTS: "-1",
            options.GANG: "volcano",
            options.IN_PLACE_COMMAND: "kill 1",
            options.PAUSED: "yes",
        }
    )
    assert (found.max_restarts, found.gang, found.in_place_command, found.paused) == (
        None,
        "Auto",
        ("kill", "1"),
        False,
    )
    assert found.refused[options.MAX_RESTARTS] == "'-1' is not a whole number, 0 or more"
    assert found.refused[options.GANG].startswith("'volcano' is not one of Auto, None, Gate")
    assert set(found.refused) == {
        options.MAX_RESTARTS,
        options.GANG,
        options.IN_PLACE_COMMAND,
        options.PAUSED,
    }
