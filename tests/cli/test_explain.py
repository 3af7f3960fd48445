"""What `kaji explain` makes of records: one timeline, each reason once, restarts with their last words."""

from __future__ import annotations

from typing import Any

import pytest

from kajitori.base.clock import rfc3339
from kajitori.cli import explain_group
from kajitori.cli.explain import troubles
from kajitori.cli.members import stuck_pods
from kajitori.cli.timeline import Entry, merged, print_timeline


def a_pod(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {}}, "spec": {}, "status": {"phase": "Pending"} | status}


def unplaced(message: str) -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}


def test_pods_that_wait_for_the_same_are_told_once() -> None:
    pods = [a_pod(f"web-{number}", **unplaced("0/2 nodes are available")) for number in range(5)]
    assert stuck_pods(pods, troubles) == [
        "pods web-0, web-1, web-2 and 2 more: PodScheduled is False: 0/2 nodes are available"
    ]


def test_names_and_hashes_in_a_message_do_not_keep_pods_apart() -> None:
    pods = [
        a_pod(f"x-{number}", **unplaced(f"gang x-{number}-99659806ac needs 2 places, x-{number} is one"))
        for number in range(2)
    ]
    (line,) = stuck_pods(pods, troubles)
    assert line.startswith("pods x-0, x-1: ")


def test_a_pod_behind_a_gate_names_the_gate_and_one_that_is_well_is_not_told() -> None:
    gated = a_pod("x-0")
    gated["spec"] = {"schedulingGates": [{"name": "scheduling.kajitori.dev/gang"}]}
    well = a_pod("x-1", phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    ending = a_pod("x-2")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert stuck_pods([gated, well, ending], troubles) == [
        "pod x-0: held by the scheduling gate scheduling.kajitori.dev/gang"
    ]


def test_conditions_of_ours_are_bad_when_they_are_true() -> None:
    conditions = [
        {"type": "kajitori.dev/DoesNotFit", "status": "True", "message": "too large"},
        {"type": "kajitori.dev/Blocked", "status": "False", "message": "nothing of the kind now"},
        {"type": "kajitori.dev/Paused", "status": "False", "message": "nothing of the kind now"},
        {"type": "kajitori.dev/GroupsFailed", "status": "False", "message": "nothing of the kind now"},
        {"type": "Available", "status": "True", "message": ""},
    ]
    obj = {"metadata": {"name": "x"}, "status": {"conditions": conditions}}
    assert troubles(obj) == ["kajitori.dev/DoesNotFit is True: too large"]


def a_set(*restarts: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "x", "generation": 1},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 1, "restarts": list(restarts)} | status,
    }


def a_restart(at: float, **fields: Any) -> dict[str, Any]:
    return {
        "time": rfc3339(at),
        "group": "1",
        "attempt": 1,
        "pod": "x-1-1",
        "how": "ContainerRestarted",
        "container": "engine",
        "exitCode": 137,
        "signal": 9,
        "reason": "OOMKilled",
        "node": "node-2",
        "lastLog": "loading\nout of memory\n",
    } | fields


def test_a_restart_is_told_with_the_last_lines_under_it() -> None:
    (entry,) = explain_group.restart_entries(a_set(a_restart(1_700_000_000.0)))
    assert entry.what == (
        "group 1 begun anew: container engine of pod x-1-1 on node-2 ended: exit code 137, signal 9, OOMKilled"
    )
    assert entry.below == ("loading", "out of memory")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"how": "Deleted", "by": "anna (kubectl)"}, "pod x-1-1 on node-2 was deleted: exit code 137"),
        ({"how": "Gone", "exitCode": None, "signal": None, "reason": ""}, "is gone without a trace"),
        ({"outcome": "Failed"}, "group 1 failed and left as it is: "),
        ({"outcome": "InPlace", "attempt": 3}, "group 1 restarted in place (restart 3 in a row): "),
        ({"how": "Lifted"}, "group 1 begun anew: its user wanted it back"),
    ],
)
def test_each_kind_of_restart_has_its_words(fields: dict[str, Any], told: str) -> None:
    (entry,) = explain_group.restart_entries(a_set(a_restart(1_700_000_000.0, **fields)))
    assert told in entry.what


def test_events_about_a_restart_give_way_to_its_record_and_stay_where_there_is_none() -> None:
    events = [
        Entry(100.0, "groups", "RecreateGroup: Worker pod x-1-1 failed"),
        Entry(500.0, "groups", "RecreateGroup: y"),
    ]
    left = explain_group.without_restart_events(events, [Entry(101.0, "restart", "group 1 begun anew")])
    assert [entry.at_seconds for entry in left] == [500.0]


def test_a_group_that_keeps_failing_says_so_with_when_it_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_010.0)
    failing = a_restart(1_700_000_000.0, attempt=4, notBefore=rfc3339(1_700_000_014.0))
    (line,) = explain_group.waits_for(a_set(failing), [])
    assert line.startswith("group 1 keeps failing: 4 restarts in a row, the last 10s ago: container engine")
    assert "begins anew in 4 s" in line
    assert explain_group.waits_for(a_set(a_restart(1_699_990_000.0, attempt=4)), []) == []


def test_a_set_that_nobody_looks_at_says_so() -> None:
    (line,) = explain_group.waits_for(a_set(observedGeneration=0), [])
    assert "its controller has not seen the last change yet" in line


def test_what_several_records_say_is_merged_by_time_and_said_once() -> None:
    one = [Entry(10.0, "a", "first"), Entry(30.0, "a", "third")]
    other = [Entry(20.0, "b", "second"), Entry(31.0, "b", "third", below=("log",))]
    entries = merged(one, other)
    assert [entry.what for entry in entries] == ["first", "second", "third"]
    assert entries[-1].below == ("log",)


def test_a_long_timeline_shows_its_end_and_says_how_much_came_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = [Entry(float(number), "who", f"entry {number}") for number in range(100)]
    print_timeline(entries, every=False)
    told = capsys.readouterr().out.splitlines()
    assert "60 earlier (--all prints them)" in told[1]
    assert told[-1].endswith("entry 99")
    assert len(told) == 42
    print_timeline(entries)
    assert len(capsys.readouterr().out.splitlines()) == 101


@pytest.mark.parametrize("kind", ["Warning", "Exhausted"])
def test_what_a_policy_warns_of_and_a_budget_that_is_used_up_are_told(kind: str) -> None:
    accepted = {"type": "Accepted", "status": "True", "message": "the policy holds"}
    told = {"type": kind, "status": "True", "message": "spec.retrys is not honoured"}
    obj = {"metadata": {"name": "x"}, "status": {"ancestors": [{"conditions": [accepted, told]}]}}
    assert troubles(obj) == [f"{kind} is True: spec.retrys is not honoured"]
