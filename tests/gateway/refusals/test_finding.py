"""Finding out what is refused, without an Envoy: one that is played refuses by a mark in a route."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.envoy.encoded import Encoded, encoded
from kajitori.gateway.envoy.forms import PROBE, Form
from kajitori.gateway.envoy.inquiry import Inquiry
from kajitori.gateway.envoy.parts import assemble, divide
from kajitori.gateway.envoy.parts_of_tables import owner_of, unit_of
from kajitori.gateway.envoy.quarantine import Case
from kajitori.gateway.envoy.refused_part import RefusedPart, digest
from kajitori.gateway.envoy.route_tree import HEADER
from kajitori.gateway.envoy.search import Search
from kajitori.gateway.envoy.shards import SHARDS, scope, shard_name, shard_of
from kajitori.gateway.envoy.stream import Stream
from kajitori.gateway.envoy.words import shown
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.gateway.plan import make_plan
from kajitori.gateway.refusal_status import refusals_told
from kajitori.gateway.resources import CLUSTER, LISTENER, ROUTES, SCOPES, TYPES, Resources
from tests.gateway.workbench import ai_route, backend, gateway, observe

BROKEN_ACTION, BROKEN_MATCH = "action", "match"


def encode(kind: str, value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def search_all(count: int, bad: set[int]) -> tuple[Search[int], int]:
    search = Search(tuple(range(count)))
    questions = 0
    while group := search.asked():
        questions += 1
        search.answer(f"refused {sorted(bad & set(group))}" if bad & set(group) else None)
    return search, questions


@given(st.integers(1, 100), st.data())
def test_exactly_what_is_bad_is_found_with_its_own_words_and_a_bounded_number_of_questions(
    count: int, data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1)))
    search, questions = search_all(count, bad)
    assert search.found == {number: f"refused [{number}]" for number in bad}
    assert search.good == set(range(count)) - bad
    assert questions <= 2 * count + math.log2(count) + 2
    if len(bad) == 1:
        assert questions <= math.log2(count) + 4


@given(st.integers(2, 60), st.data())
def test_a_search_ends_though_answers_contradict_each_other(count: int, data: st.DataObject) -> None:
    search = Search(tuple(range(count)))
    for _ in range(4 * count):
        if not search.asked():
            break
        search.answer("no" if data.draw(st.booleans()) else None)
    assert not search.asked()
    assert search.found.keys() | search.good == set(range(count))


def table(*routes: dict[str, Any]) -> dict[str, Any]:
    return {"name": "http/80", "virtual_hosts": [{"name": "*", "domains": ["*"], "routes": list(routes)}]}


def route(owner: str, broken: str = "", revision: int = 0) -> dict[str, Any]:
    match = {"prefix": "/", "broken": broken == BROKEN_MATCH}
    action = {"cluster": f"c-{revision}", "broken": broken == BROKEN_ACTION}
    return {"name": f"http/default/{owner}/rule/0/match/0", "match": match, "route": action}


def verdict(value: dict[str, Any]) -> str | None:
    """What Envoy says of a table."""
    for host in value["virtual_hosts"]:
        for each in host["routes"]:
            if each["match"].get("broken") or each.get("route", {}).get("broken"):
                return f"bad is {each['name']}"
    return None


def as_sent(value: dict[str, Any]) -> Encoded:
    return encoded(ROUTES, value, encode)


class Played:
    """An Envoy and the case of one table, in step."""

    def __init__(self) -> None:
        self.case: Case | None = None
        self.good: Encoded | None = None
        self.wanted: Encoded | None = None
        self.questions = 0
        self.refusals = 0

    def want(self, value: dict[str, Any]) -> None:
        self.wanted = as_sent(value)
        if self.case is not None:
            self.case.change(self.wanted)

    def step(self) -> bool:
        """One message: what is served, if it is another one, else a question. False: nothing to do."""
        assert self.wanted is not None
        sent = self.case.served(self.good, encode) if self.case else self.wanted
        if sent is not None and (self.good is None or sent.version != self.good.version):
            refused = verdict(sent.value)
            if refused is None:
                self.good = sent
                if self.case is not None and self.case.over and sent.version == self.wanted.version:
                    self.case = None
                return True
            self.refusals += 1
            self.case = self.case or Case(ROUTES, "http/80", self.wanted, PROBE)
            self.case.refused(sent, self.good, refused)
        if self.case is None:
            return False
        question = self.case.question()
        if question is None:
            now = self.case.served(self.good, encode)
            return now is not None and (self.good is None or now.version != self.good.version)
        self.questions += 1
        self.case.answer(verdict(question))
        return True

    def settle(self, most: int = 10_000) -> None:
        for _ in range(most):
            if not self.step():
                return
        raise AssertionError("it never ends")

    def served(self) -> dict[str, dict[str, Any]]:
        assert self.good is not None
        return {unit_of(each["name"]): each for each in self.good.value["virtual_hosts"][0]["routes"]}


KINDS_OF_ROUTES = st.sampled_from(["", "", "", BROKEN_ACTION, BROKEN_MATCH])
WORLDS = st.lists(st.dictionaries(st.sampled_from("abcdefgh"), KINDS_OF_ROUTES), min_size=1, max_size=6)


@given(WORLDS)
def test_whatever_changes_good_routes_serve_and_bad_ones_answer_or_are_left_out(
    worlds: list[dict[str, str]],
) -> None:
    envoy = Played()
    for revision, world in enumerate(worlds):
        envoy.want(table(*(route(name, broken, revision) for name, broken in sorted(world.items()))))
        envoy.settle()
        served = envoy.served()
        for name, broken in world.items():
            found = served.get(f"http/default/{name}/rule/0")
            if broken == BROKEN_MATCH:
                assert found is None
            elif broken == BROKEN_ACTION:
                assert found is not None
                assert found["direct_response"]["status"] == 500
            else:
                assert found == route(name, "", revision)
        bad = {name for name, broken in world.items() if broken}
        told = envoy.case.rejected if envoy.case else {}
        assert {key.split("/")[-3] for key in told} == bad
        assert all(f"bad is http/default/{key.split('/')[-3]}/" in message for key, message in told.items())


@given(st.integers(1, 4), st.sampled_from([BROKEN_ACTION, BROKEN_MATCH]))
def test_what_changes_with_every_message_and_is_always_wrong_delays_others_by_few_messages(
    pace: int, broken: str
) -> None:
    envoy = Played()
    envoy.want(table(route("good"), route("flapping")))
    envoy.settle()
    for revision in range(1, 100):
        # The other one changes at every twentieth.
        envoy.want(table(route("good", "", revision // 20), route("flapping", broken, revision)))
        for _ in range(pace):
            envoy.step()
        if revision % 20 == 19:
            assert envoy.served()["http/default/good/rule/0"] == route("good", "", revision // 20)
    assert envoy.refusals <= 6


def test_parts_that_are_good_alone_and_bad_together_do_not_hold_up_later_ones() -> None:
    def of_pairs(value: dict[str, Any]) -> str | None:
        names = {
            each["name"].split("/")[2] for each in value["virtual_hosts"][0]["routes"] if "route" in each
        }
        return "left and right exclude each other" if {"left", "right"} <= names else None

    good = as_sent(table(route("left")))
    wanted = as_sent(table(route("left"), route("right"), route("other")))
    case = Case(ROUTES, "http/80", wanted, PROBE)
    case.refused(wanted, good, "left and right exclude each other")
    while (question := case.question()) is not None:
        case.answer(of_pairs(question))
    # All are well alone, so it goes out once more; then who changed has to wait.
    assert case.served(good, encode) is wanted
    case.refused(wanted, good, "left and right exclude each other")
    while (question := case.question()) is not None:
        case.answer(of_pairs(question))
    assert case.served(good, encode) is wanted
    case.refused(wanted, good, "left and right exclude each other")
    served = case.served(good, encode)
    assert served is not None
    assert of_pairs(served.value) is None
    case.change(as_sent(table(route("left"), route("right"), route("other"), route("later"))))
    served = case.served(good, encode)
    assert served is not None
    assert route("later") in served.value["virtual_hosts"][0]["routes"]


@pytest.mark.parametrize("after", [[route("bad"), route("good")], [route("good")]])
def test_nobody_is_blamed_for_what_another_one_was_that_is_mended_or_gone_meanwhile(
    after: list[dict[str, Any]],
) -> None:
    wanted = as_sent(table(route("bad", BROKEN_ACTION), route("good")))
    case = Case(ROUTES, "http/80", wanted, PROBE)
    case.refused(wanted, None, "no")
    question = case.question()
    assert question is not None
    case.answer(verdict(question))
    case.change(as_sent(table(*after)))
    while (question := case.question()) is not None:
        case.answer(verdict(question))
    assert not case.rejected
    assert case.over


def test_the_parts_of_a_plans_resources_make_them_again() -> None:
    documents = [
        gateway(80),
        *backend("b", 1),
        *(ai_route(f"r{n}", f"m{n}", {"name": "b"}) for n in range(3)),
    ]
    resources = make_plan(observe(*documents)).resources
    for kind in TYPES:
        for value in resources.by_type.get(kind, {}).values():
            parts = divide(kind, value)
            if parts:
                assert assemble(kind, value, {}) == value
                assert assemble(kind, value, dict.fromkeys(parts, Form.BEFORE), parts) == value
    units = {unit for _, unit in divide(ROUTES, resources.by_type[ROUTES]["http/80"])}
    assert [owner_of(unit) for unit in sorted(units) if owner_of(unit)] == [
        ("AIGatewayRoute", "default", f"r{number}", "rules[0]") for number in range(3)
    ]
    assert not divide(CLUSTER, next(iter(resources.by_type[CLUSTER].values())))
    assert not divide(LISTENER, resources.by_type[LISTENER]["http/80"])


@pytest.mark.parametrize(("place", "where", "told"), [("h0", "host h0", 1), ("", "the whole route table", 3)])
def test_what_is_refused_of_a_host_or_a_table_is_told_of_each_rule_there(
    place: str, where: str, told: int
) -> None:
    routes = [ai_route(f"r{n}", "m", {"name": "b"}) for n in range(3)]
    for n, each in enumerate(routes):
        each["spec"]["hostnames"] = [f"h{n}"]
    plan = make_plan(observe(gateway(80), *backend("b", 1), *routes))
    statuses = refusals_told(plan.statuses, plan.resources, {f"{ROUTES}/http/80#{place}#": "no"})
    found = [each for each in statuses if f"{where}: no" in str(each.status)]
    assert {each.resource.kind for each in found} == {"AIGatewayRoute"}
    assert len(found) == told


def test_envoys_words_are_shown_in_one_line_without_secrets() -> None:
    secret = {"name": "known", "generic_secret": {"secret": {"inline_string": "correct horse"}}}
    told = shown("bad header\n 'correct horse' in sk-abcdefghijklmnop for known", [secret])
    assert told == "bad header '***' in sk-*** for known"
    # What certificates are held against is no secret, and the name of a field is no word to take out.
    names = [{"san_type": "OTHER_NAME", "oid": "nonsense"}]
    authority = {"name": "ca", "validation_context": {"match_typed_subject_alt_names": names}}
    told = "Failed to create SAN matcher for OTHER_NAME with OID: nonsense"
    assert shown(told, [authority]) == told
    probe = "Error adding/updating listener(s) kajitori.probe.tried: error adding listener '127.0.0.1:1': no"
    assert shown(probe) == "no"
    assert len(shown("x " * 1000)) < 600
    # Envoy quotes what it was sent in front of its reason, and gives none if that is long.
    assert (
        shown('goo.gle/debugstr   \nname: "a"\nroutes {\n}\n: constraint failed (Value)')
        == "constraint failed (Value)"
    )
    assert "its own checks fail" in shown('goo.gle/debugproto \nname: "a"\n  routes {...(truncated)')


def snapshot_of(*routes: dict[str, Any]) -> Snapshot:
    class Encoder:
        encode = staticmethod(encode)

    found = Snapshot(Encoder())  # type: ignore[arg-type]
    found.set_resources("gateway", Resources({ROUTES: {"http/80": table(*routes)}}))
    return found


def test_what_is_refused_is_called_by_its_name_though_that_is_like_the_name_of_a_shard() -> None:
    name = "backend/default/shard-12"
    found = snapshot_of()
    found.set_resources("other", Resources({CLUSTER: {name: {"name": name}}}))
    found.refuse(CLUSTER, name, found.resources[CLUSTER][name], "no")
    assert found.rejected == {f"{CLUSTER}/{name}": "no"}


def units_of(sent: Encoded | None) -> dict[str, bool]:
    """Of each rule that is served, whether it is answered with an error."""
    assert sent is not None
    return {
        unit_of(each["name"]).split("/")[2]: "direct_response" in each
        for each in sent.value["virtual_hosts"][0]["routes"]
    }


def test_what_envoys_of_one_replica_refuse_goes_to_those_of_no_other_until_it_is_another() -> None:
    routes = route("one"), route("two", BROKEN_ACTION)
    here, there = snapshot_of(*routes), snapshot_of(*routes)
    asker = Inquiry(here)
    here.refuse(ROUTES, "http/80", here.resources[ROUTES]["http/80"], "no", asker)
    while (case := here.case_for(asker)) is not None:
        question = case.question()
        if question is not None:
            here.answered(asker, verdict(question))
    assert units_of(here.effective(ROUTES, "http/80")) == {"one": False, "two": True}
    assert units_of(there.effective(ROUTES, "http/80")) == {"one": False, "two": False}
    there.heed(here.refused_parts)
    assert units_of(there.effective(ROUTES, "http/80")) == {"one": False, "two": True}
    # Each replica tells only what its own Envoys said, or they would keep it alive for each other.
    assert not there.rejected
    assert not there.refused_parts
    there.set_resources("gateway", Resources({ROUTES: {"http/80": table(route("one"), route("two", "", 1))}}))
    assert units_of(there.effective(ROUTES, "http/80")) == {"one": False, "two": False}
    there.set_resources("gateway", Resources({ROUTES: {"http/80": table(*routes)}}))
    assert units_of(there.effective(ROUTES, "http/80")) == {"one": False, "two": True}
    there.heed([])
    assert units_of(there.effective(ROUTES, "http/80")) == {"one": False, "two": False}


def test_of_a_rule_that_stands_in_several_shards_each_part_is_heeded() -> None:
    here = snapshot_of()
    for name, model in (("http/80/shard-01", "a"), ("http/80/shard-02", "b")):
        bad = {**route("one", BROKEN_ACTION), "match": {"prefix": "/", "model": model}}
        here.set_resources(name, Resources({ROUTES: {name: {**table(bad), "name": name}}}))
    parts = [
        RefusedPart(ROUTES, "http/80", "*", "http/default/one/rule/0", digest(contents), Form.ANSWER.value)
        for name in ("http/80/shard-01", "http/80/shard-02")
        for part, contents in divide(ROUTES, here.resources[ROUTES][name].value).items()
        if part == ("*", "http/default/one/rule/0")
    ]
    here.heed(parts)
    for name in ("http/80/shard-01", "http/80/shard-02"):
        assert units_of(here.effective(ROUTES, name)) == {"one": True}
    here.heed(parts[:1])
    assert units_of(here.effective(ROUTES, "http/80/shard-02")) == {"one": False}


def test_an_envoy_that_refuses_what_another_one_takes_is_asked_and_served_like_the_other() -> None:
    routes = route("one"), route("two", BROKEN_ACTION), route("three", BROKEN_MATCH)
    found = snapshot_of(*routes)
    strict, lax = Inquiry(found), Inquiry(found)

    def lenient(value: dict[str, Any]) -> str | None:
        routes = [each for host in value["virtual_hosts"] for each in host["routes"]]
        return "no such match" if any(each["match"].get("broken") for each in routes) else None

    def ask(asker: Inquiry, answers: Any) -> None:
        while (case := found.case_for(asker)) is not None:
            question = case.question()
            if question is not None:
                found.answered(asker, answers(question))

    found.refuse(ROUTES, "http/80", found.resources[ROUTES]["http/80"], "no", lax)
    ask(lax, lenient)
    sent = found.effective(ROUTES, "http/80")
    assert units_of(sent) == {"one": False, "two": False}
    assert sent is not None
    found.accept(ROUTES, "http/80", sent)
    found.refuse(ROUTES, "http/80", sent, "no", strict)
    ask(strict, verdict)
    assert units_of(found.effective(ROUTES, "http/80")) == {"one": False, "two": True}
    assert {key.split("/")[-3] for key in found.rejected} == {"two", "three"}
    # One who leaves before its answer is stood in for by another.
    found.set_resources(
        "gateway", Resources({ROUTES: {"http/80": table(route("one"), route("two", BROKEN_ACTION, 5))}})
    )
    assert found.asks
    found.leave(strict)
    ask(lax, verdict)
    assert not found.asks
    assert units_of(found.effective(ROUTES, "http/80")) == {"one": False, "two": True}


def test_a_table_that_is_cut_for_the_first_time_waits_for_a_shard_of_which_a_part_is_refused() -> None:
    def resources(count: int) -> Resources:
        routes = [
            {**route(f"r{at}"), "match": {"prefix": "/", "headers": [_model(f"m{at}")]}}
            for at in range(count)
        ]
        return Resources({ROUTES: {"http/80": table(*routes)}, SCOPES: {"http/80": scope("http/80")}})

    found = snapshot_of()
    found.set_resources("gateway", resources(10))
    stream = Stream(SimpleNamespace(), found)  # type: ignore[arg-type]
    subscription = stream._subscriptions[ROUTES]
    subscription.names = {"http/80"} | {shard_name("http/80", number) for number in range(SHARDS)}

    def sent(refused: str = "") -> set[str]:
        due = stream._due(ROUTES, subscription)
        for name, each in due.items():
            subscription.has[name] = each.version
            if name == refused:
                found.refuse(ROUTES, name, each, "no", stream._inquiry)
            else:
                found.accept(ROUTES, name, each)
        return set(due)

    assert sent() == {"http/80"}
    found.set_resources("gateway", resources(1000))
    shard = shard_name("http/80", shard_of("m5"))
    assert "http/80" not in sent(shard)
    assert sent() == set()
    bad = "http/default/r5/rule/0/match/0"
    while (case := found.case_for(stream._inquiry)) is not None:
        question = case.question()
        if question is not None:
            found.answered(stream._inquiry, "no" if bad in str(_leading(question)) else None)
    assert sent() == {shard}
    assert sent() == {"http/80"}


def _model(name: str) -> dict[str, Any]:
    return {"name": HEADER, "string_match": {"exact": name}}


def _leading(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Routes that lead to a backend."""
    return [each for host in value["virtual_hosts"] for each in host["routes"] if "route" in each]
