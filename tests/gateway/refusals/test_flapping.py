"""What changes and changes back while Envoy is asked about it, and what replicas tell that this one does not know."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from kajitori.gateway.envoy.ads import AdsServer
from kajitori.gateway.envoy.forms import PROBE
from kajitori.gateway.envoy.inquiry import Inquiry
from kajitori.gateway.envoy.quarantine import Case
from kajitori.gateway.envoy.refused_part import RefusedPart, digest
from kajitori.gateway.envoy.schema import schema
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.gateway.resources import CLUSTER, ROUTES, Resources
from tests.gateway.refusals.test_finding import (
    BROKEN_ACTION,
    as_sent,
    route,
    snapshot_of,
    table,
    units_of,
    verdict,
)


def ask(case: Case) -> None:
    while (question := case.question()) is not None:
        case.answer(verdict(question))


def test_a_part_that_is_good_bad_and_good_again_while_it_is_asked_about_is_not_blamed() -> None:
    good, bad = as_sent(table(route("a"), route("b"))), as_sent(table(route("a", BROKEN_ACTION), route("b")))
    case = Case(ROUTES, "http/80", good, PROBE)
    case.refused(good, None, "no")
    case.change(bad)
    question = case.question()
    assert question is not None
    case.answer(verdict(question))
    case.change(good)
    ask(case)
    assert not case.rejected
    assert case.over


def test_a_part_that_is_bad_good_and_bad_again_while_it_is_asked_about_does_not_count_as_taken() -> None:
    good, bad = as_sent(table(route("a"), route("b"))), as_sent(table(route("a", BROKEN_ACTION), route("b")))
    case = Case(ROUTES, "http/80", bad, PROBE)
    case.refused(bad, None, "no")
    case.change(good)
    question = case.question()
    assert question is not None
    case.answer(verdict(question))
    case.change(bad)
    ask(case)
    assert [key.rpartition("#")[2] for key in case.rejected] == ["http/default/a/rule/0"]


def want(snapshot: Snapshot, *routes: dict[str, Any]) -> None:
    snapshot.set_resources("gateway", Resources({ROUTES: {"http/80": table(*routes)}}))


def test_what_is_good_again_when_envoys_refusal_arrives_is_neither_asked_about_nor_told() -> None:
    found = snapshot_of(route("a"), route("b"))
    asker = Inquiry(found)
    found.accept(ROUTES, "http/80", found.resources[ROUTES]["http/80"])
    want(found, route("a", BROKEN_ACTION), route("b"))
    sent = found.resources[ROUTES]["http/80"]
    want(found, route("a"), route("b", "", 1))
    found.refuse(ROUTES, "http/80", sent, "no", asker)
    assert not found.rejected
    assert not found.asks
    assert found.effective(ROUTES, "http/80") is found.resources[ROUTES]["http/80"]


def test_what_is_wrong_in_a_new_way_whenever_envoys_refusal_arrives_is_found_all_the_same() -> None:
    found = snapshot_of(route("a"), route("b"))
    asker = Inquiry(found)
    found.accept(ROUTES, "http/80", found.resources[ROUTES]["http/80"])
    for revision in range(3):
        want(found, route("a", BROKEN_ACTION, revision), route("b", "", revision))
        sent = found.effective(ROUTES, "http/80")
        want(found, route("a", BROKEN_ACTION, revision + 10), route("b", "", revision))
        if sent is not None and verdict(sent.value):
            found.refuse(ROUTES, "http/80", sent, "no", asker)
        while (case := found.case_for(asker)) is not None:
            question = case.question()
            if question is not None:
                found.answered(asker, verdict(question))
        assert units_of(found.effective(ROUTES, "http/80")) == {"a": True, "b": False}


def test_a_cluster_that_is_good_again_when_envoys_refusal_arrives_is_not_called_refused() -> None:
    found = snapshot_of()
    versions = [Resources({CLUSTER: {"c": {"name": "c", "timeout": seconds}}}) for seconds in (1, 2)]
    found.set_resources("other", versions[0])
    good = found.resources[CLUSTER]["c"]
    found.accept(CLUSTER, "c", good)
    found.set_resources("other", versions[1])
    bad = found.resources[CLUSTER]["c"]
    found.set_resources("other", versions[0])
    found.refuse(CLUSTER, "c", bad, "no")
    assert not found.rejected
    assert found.effective(CLUSTER, "c") is found.resources[CLUSTER]["c"]


@pytest.mark.parametrize("form", [99, 1])
def test_what_a_newer_replica_has_in_place_of_a_part_is_ignored_and_named_once_if_it_is_unknown_here(
    form: int, caplog: pytest.LogCaptureFixture
) -> None:
    found = snapshot_of(route("a"), route("b"))
    ads = AdsServer(schema(), found, ("gateway",))
    contents = [route("a")]
    told = RefusedPart(ROUTES, "http/80", "*", "http/default/a/rule/0", digest(contents), form)
    other = RefusedPart(ROUTES, "http/80", "*", "http/default/b/rule/0", digest([route("b")]), 2)
    with caplog.at_level(logging.WARNING):
        ads.heed([told, other])
        ads.heed([told])
        ads.heed([told, other])
    assert units_of(found.effective(ROUTES, "http/80")) == {"a": False, "b": True}
    assert [record.message for record in caplog.records] == [
        f"another replica leaves out http/default/a/rule/0 of {ROUTES}/http/80 in a way that is unknown here ({form}); "
        "it is served by this one"
    ]
