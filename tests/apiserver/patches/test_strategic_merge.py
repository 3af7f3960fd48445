"""Strategic merge patches: lists that merge by key, directives, orders."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.laptop.apiserver.patches import apply_strategic_merge_patch
from kajitori.laptop.apiserver.schema import Schema
from kajitori.laptop.apiserver.status import StatusError

POD = Schema.builtin("io.k8s.api.core.v1.Pod")
DEPLOYMENT = Schema.builtin("io.k8s.api.apps.v1.Deployment")
NODE = Schema.builtin("io.k8s.api.core.v1.Node")


def pod(*names: str, **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": name, "image": f"{name}:1"} for name in names], **spec}}


def names(obj: dict[str, Any], field: str = "containers") -> list[str]:
    return [item["name"] for item in obj["spec"][field]]


def test_items_merge_by_their_key_and_new_ones_go_first() -> None:
    before = pod("a", "b")
    patched = apply_strategic_merge_patch(
        before, {"spec": {"containers": [{"name": "b", "image": "b:2"}, {"name": "c", "image": "c:1"}]}}, POD
    )
    assert patched["spec"]["containers"] == [
        {"name": "a", "image": "a:1"},
        {"name": "b", "image": "b:2"},
        {"name": "c", "image": "c:1"},
    ]
    assert names(apply_strategic_merge_patch(before, {"spec": {"containers": [{"name": "n"}]}}, POD)) == [
        "n",
        "a",
        "b",
    ]
    assert before == pod("a", "b")


def test_ports_merge_by_container_port_alone() -> None:
    before = {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}
    patch = {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "web"}]}]}}
    ports = apply_strategic_merge_patch(before, patch, POD)["spec"]["containers"][0]["ports"]
    assert ports == [{"containerPort": 80, "protocol": "TCP", "name": "web"}]


def test_a_delete_directive_removes_the_item_with_that_key() -> None:
    patch = {"spec": {"containers": [{"name": "a", "$patch": "delete"}, {"name": "zz", "$patch": "delete"}]}}
    assert names(apply_strategic_merge_patch(pod("a", "b"), patch, POD)) == ["b"]


def test_a_replace_directive_in_a_list_leaves_only_the_patch() -> None:
    patch = {"spec": {"containers": [{"$patch": "replace"}, {"name": "n"}]}}
    assert names(apply_strategic_merge_patch(pod("a", "b"), patch, POD)) == ["n"]


def test_directives_in_maps_replace_or_empty_them() -> None:
    before = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    replace = {"metadata": {"labels": {"$patch": "replace", "c": "3"}}}
    delete = {"metadata": {"labels": {"$patch": "delete"}}}
    assert apply_strategic_merge_patch(before, replace, POD)["metadata"]["labels"] == {"c": "3"}
    assert apply_strategic_merge_patch(before, delete, POD)["metadata"]["labels"] == {}


def test_atomic_lists_are_replaced() -> None:
    before = pod("a", tolerations=[{"key": "x"}])
    patched = apply_strategic_merge_patch(before, {"spec": {"tolerations": [{"key": "y"}]}}, POD)
    assert patched["spec"]["tolerations"] == [{"key": "y"}]


def test_retain_keys_drops_the_other_members_of_a_union() -> None:
    before = pod("a", volumes=[{"name": "v", "emptyDir": {}}])
    patch = {
        "spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]}
    }
    patched = apply_strategic_merge_patch(before, patch, POD)
    assert patched["spec"]["volumes"] == [{"name": "v", "configMap": {"name": "c"}}]
    strategy = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    recreate = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert apply_strategic_merge_patch(strategy, recreate, DEPLOYMENT) == {
        "spec": {"strategy": {"type": "Recreate"}}
    }


def test_primitive_lists_merge_as_sets_and_lose_what_is_named() -> None:
    before = {"metadata": {"finalizers": ["x/a", "x/b"]}}
    patch = {"metadata": {"finalizers": ["x/c"], "$deleteFromPrimitiveList/finalizers": ["x/a"]}}
    finalizers = apply_strategic_merge_patch(before, patch, POD)["metadata"]["finalizers"]
    assert sorted(finalizers) == ["x/b", "x/c"]
    only_delete = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"]}}
    assert apply_strategic_merge_patch(before, only_delete, POD)["metadata"]["finalizers"] == ["x/b"]


def test_an_element_order_orders_the_list_and_keeps_the_objects_own_items() -> None:
    order = [{"name": "c"}, {"name": "a"}]
    patch = {"spec": {"$setElementOrder/containers": order, "containers": [{"name": "c", "image": "c:1"}]}}
    result = names(apply_strategic_merge_patch(pod("a", "server"), patch, POD))
    assert result.index("c") < result.index("a")
    assert set(result) == {"a", "c", "server"}
    alone = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}
    assert names(apply_strategic_merge_patch(pod("a", "b"), alone, POD)) == ["b", "a"]


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        (
            {"spec": {"containers": [{"image": "noname"}]}},
            'map: {"image":"noname"} does not contain declared merge key: name',
        ),
        ({"spec": {"$patch": "spoil"}}, "Unknown patch type found: spoil"),
        ({"spec": {"containers": ["x"]}}, "not an object"),
        ({"metadata": {"finalizers": [{}]}}, "primitives"),
        ({"spec": {"$retainKeys": ["a"], "nodeName": "n"}}, "does not name nodeName"),
        ({"spec": {"$setElementOrder/containers": 3, "containers": [{"name": "a"}]}}, "must be a list"),
        (
            {"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}},
            "does not match",
        ),
    ],
)
def test_a_directive_or_item_that_makes_no_sense_is_a_422(patch: dict[str, Any], words: str) -> None:
    with pytest.raises(StatusError) as refusal:
        apply_strategic_merge_patch(pod("a"), patch, POD)
    assert refusal.value.code == 422
    assert words in str(refusal.value)


def test_null_removes_and_directives_never_stay_in_the_object() -> None:
    patch = {
        "metadata": {"annotations": {"gone": None, "$retainKeys": ["k"], "k": "v"}},
        "spec": {"containers": [{"name": "a", "$patch": "delete"}, {"name": "n", "image": None}]},
    }
    assert apply_strategic_merge_patch({}, patch, POD) == {
        "metadata": {"annotations": {"k": "v"}},
        "spec": {"containers": [{"name": "n"}]},
    }


def test_a_status_patch_shares_the_spec() -> None:
    before = {**pod("a"), "status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    patched = apply_strategic_merge_patch(before, patch, POD)
    assert patched["spec"] is before["spec"]
    assert patched["status"]["conditions"] == [{"type": "Ready", "status": "True"}]


containers = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abcdef")},
        optional={"image": st.sampled_from(["i:1", "i:2"]), "workingDir": st.sampled_from(["/a", "/b"])},
    ),
    unique_by=lambda item: item["name"],
    max_size=5,
)


@given(containers, containers)
def test_merging_keyed_lists_is_a_union_that_keeps_both_relative_orders(
    live: list[dict[str, Any]], patch: list[dict[str, Any]]
) -> None:
    before = copy.deepcopy((live, patch))
    merged = apply_strategic_merge_patch({"spec": {"containers": live}}, {"spec": {"containers": patch}}, POD)
    assert (live, patch) == before
    result = merged["spec"]["containers"]
    expected: dict[str, dict[str, Any]] = {item["name"]: item for item in live}
    for item in patch:
        expected[item["name"]] = {**expected.get(item["name"], {}), **item}
    assert {item["name"]: item for item in result} == expected
    assert len(result) == len(expected)
    order = [item["name"] for item in result]
    patched = [item["name"] for item in patch]
    own = [item["name"] for item in live if item["name"] not in patched]
    assert [name for name in order if name in patched] == patched
    assert [name for name in order if name not in patched] == own
