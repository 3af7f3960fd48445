"""Server-side apply on real kinds: ownership, conflicts and their words, removal, subresources."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kajitori.laptop.apiserver.apply import (
    ApplyConflict,
    InvalidApply,
    same_but_for_times,
    server_side_apply,
    track_update,
)
from kajitori.laptop.apiserver.schema import Schema

CONFIG_MAP = Schema.builtin("io.k8s.api.core.v1.ConfigMap")
DEPLOYMENT = Schema.builtin("io.k8s.api.apps.v1.Deployment")
POD = Schema.builtin("io.k8s.api.core.v1.Pod")
SERVICE = Schema.builtin("io.k8s.api.core.v1.Service")
NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:00:09Z"


def apply(
    live: dict[str, Any] | None,
    applied: dict[str, Any],
    manager: str = "m1",
    *,
    schema: Schema = CONFIG_MAP,
    api_version: str = "v1",
    force: bool = False,
    subresource: str = "",
    now: str = NOW,
) -> dict[str, Any]:
    before = copy.deepcopy((live, applied))
    result = server_side_apply(
        live,
        applied,
        manager=manager,
        api_version=api_version,
        subresource=subresource,
        force=force,
        schema=schema,
        now=now,
    )
    assert (live, applied) == before
    return result


def update(
    old: dict[str, Any] | None,
    new: dict[str, Any],
    manager: str = "editor",
    *,
    schema: Schema = CONFIG_MAP,
    api_version: str = "v1",
    subresource: str = "",
    now: str = NOW,
) -> dict[str, Any]:
    before = copy.deepcopy((old, new))
    entries = track_update(
        old,
        new,
        manager=manager,
        api_version=api_version,
        subresource=subresource,
        schema=schema,
        now=now,
    )
    assert (old, new) == before
    return {**new, "metadata": {**new["metadata"], "managedFields": entries}}


def config_map(**data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "s1", "namespace": "ns"},
        "data": data,
    }


def deployment(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "ns", "labels": {"app": "web"}},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": list(containers)},
            },
            **spec,
        },
    }


def container(name: str, image: str = "i:1", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": image, **more}


def fields_of(obj: dict[str, Any], manager: str, operation: str = "Apply", subresource: str = "") -> Any:
    found = [
        entry["fieldsV1"]
        for entry in obj["metadata"].get("managedFields", [])
        if (entry["manager"], entry["operation"], entry.get("subresource", ""))
        == (manager, operation, subresource)
    ]
    return found[0] if found else None


def test_an_applied_field_is_owned_in_the_documented_form() -> None:
    made = apply(
        None,
        deployment(container("c", ports=[{"containerPort": 80}], args=["x"], resources={}), replicas=2),
        schema=DEPLOYMENT,
        api_version="apps/v1",
    )
    assert made["metadata"]["managedFields"] == [
        {
            "manager": "m1",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": NOW,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:template": {
                        "f:metadata": {"f:labels": {"f:app": {}}},
                        "f:spec": {
                            "f:containers": {
                                'k:{"name":"c"}': {
                                    ".": {},
                                    "f:name": {},
                                    "f:image": {},
                                    "f:args": {},
                                    "f:resources": {},
                                    "f:ports": {
                                        'k:{"containerPort":80,"protocol":"TCP"}': {
                                            ".": {},
                                            "f:containerPort": {},
                                        }
                                    },
                                }
                            }
                        },
                    },
                },
            },
        }
    ]


def test_a_created_object_is_owned_with_the_maps_that_came_to_be() -> None:
    pod = {
        "metadata": {"name": "p", "labels": {"a": "1"}, "generateName": "p-", "finalizers": ["x/y"]},
        "spec": {"containers": [container("c", resources={"limits": {"cpu": "1"}})], "securityContext": {}},
    }
    made = update({"spec": {"containers": None}}, pod, schema=POD)
    assert fields_of(made, "editor", "Update") == {
        "f:metadata": {
            "f:generateName": {},
            "f:finalizers": {".": {}, 'v:"x/y"': {}},
            "f:labels": {".": {}, "f:a": {}},
        },
        "f:spec": {
            "f:containers": {
                'k:{"name":"c"}': {
                    ".": {},
                    "f:name": {},
                    "f:image": {},
                    "f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}}},
                }
            },
            "f:securityContext": {},
        },
    }


def test_equal_values_are_shared_without_conflict() -> None:
    live = apply(None, config_map(a="1"))
    shared = apply(live, config_map(a="1"), "m2")
    assert fields_of(shared, "m1") == fields_of(shared, "m2") == {"f:data": {"f:a": {}}}


def test_one_conflict_names_the_owner_and_the_field() -> None:
    live = update(None, config_map(b="1"), "wire")
    with pytest.raises(ApplyConflict) as refusal:
        apply(live, config_map(b="2"))
    status = refusal.value.status
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "wire" using v1: .data.b'
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "wire" using v1',
            "field": ".data.b",
        }
    ]


def test_several_conflicts_are_listed_by_owner() -> None:
    live = apply(None, config_map(a="1", b="1"))
    with pytest.raises(ApplyConflict) as refusal:
        apply(live, config_map(a="2", b="2", c="2"), "m2")
    assert str(refusal.value) == ('Apply failed with 2 conflicts: conflicts with "m1":\n- .data.a\n- .data.b')
    assert [cause["message"] for cause in refusal.value.status["details"]["causes"]] == [
        'conflict with "m1"'
    ] * 2


def test_a_conflict_names_the_subresource_and_the_item() -> None:
    live = apply(None, deployment(container("c")), schema=DEPLOYMENT, api_version="apps/v1")
    scaled = update(
        live,
        {**live, "spec": {**live["spec"], "replicas": 3}},
        "scaler",
        schema=DEPLOYMENT,
        api_version="apps/v1",
        subresource="scale",
    )
    with pytest.raises(ApplyConflict) as refusal:
        apply(
            scaled,
            deployment(container("c", "i:2"), replicas=1),
            "m2",
            schema=DEPLOYMENT,
            api_version="apps/v1",
        )
    assert sorted(refusal.value.conflicts) == [
        ('"m1"', '.spec.template.spec.containers[name="c"].image'),
        ('"scaler" with subresource "scale" using apps/v1', ".spec.replicas"),
    ]


def test_force_takes_the_fields_over() -> None:
    live = apply(None, config_map(a="1", b="1"))
    taken = apply(live, config_map(a="2"), "m2", force=True)
    assert taken["data"] == {"a": "2", "b": "1"}
    assert fields_of(taken, "m1") == {"f:data": {"f:b": {}}}
    assert fields_of(taken, "m2") == {"f:data": {"f:a": {}}}


def test_a_field_no_longer_applied_goes_unless_another_owns_it() -> None:
    live = apply(None, config_map(a="1", b="1"))
    live = apply(live, config_map(b="1"), "m2")
    left = apply(live, config_map(), "m1")
    assert left["data"] == {"b": "1"}
    assert fields_of(left, "m1") == {"f:data": {}}


def test_an_apply_of_nothing_gives_up_everything() -> None:
    live = apply(None, config_map(a="1"))
    nothing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s1"}}
    left = apply(live, nothing)
    assert "data" not in left
    assert "managedFields" not in left["metadata"]


def test_a_container_no_longer_applied_goes_with_its_defaults() -> None:
    live = apply(None, deployment(container("a"), container("b")), schema=DEPLOYMENT)
    containers = live["spec"]["template"]["spec"]["containers"]
    defaulted = [{**item, "terminationMessagePath": "/dev/termination-log"} for item in containers]
    live = copy.deepcopy(live)
    live["spec"]["template"]["spec"]["containers"] = defaulted
    left = apply(live, deployment(container("b")), schema=DEPLOYMENT)
    assert left["spec"]["template"]["spec"]["containers"] == [defaulted[1]]


def test_a_struct_no_longer_applied_goes_whole_so_that_defaults_return() -> None:
    live = apply(None, deployment(container("a"), strategy={"type": "Recreate"}), schema=DEPLOYMENT)
    live = copy.deepcopy(live)
    live["spec"]["strategy"]["rollingUpdate"] = {"maxSurge": "25%"}
    left = apply(live, deployment(container("a")), schema=DEPLOYMENT)
    assert "strategy" not in left["spec"]


def test_items_follow_the_order_of_the_body() -> None:
    live = apply(None, deployment(container("a"), container("b")), schema=DEPLOYMENT)
    live = apply(
        live,
        {
            "spec": {
                "template": {
                    "spec": {
                        "initContainers": [container("i")],
                        "containers": [container("sidecar")],
                    }
                }
            }
        },
        "mesh",
        schema=DEPLOYMENT,
    )
    again = apply(live, deployment(container("b"), container("a")), schema=DEPLOYMENT)
    names = [item["name"] for item in again["spec"]["template"]["spec"]["containers"]]
    assert set(names) == {"a", "b", "sidecar"}
    assert names.index("b") < names.index("a")


def test_service_ports_are_told_apart_by_port_and_protocol() -> None:
    spec = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]}
    made = apply(None, {"metadata": {"name": "dns"}, "spec": spec}, schema=SERVICE)
    assert set(fields_of(made, "m1")["f:spec"]["f:ports"]) == {
        'k:{"port":53,"protocol":"TCP"}',
        'k:{"port":53,"protocol":"UDP"}',
    }


def test_applying_the_same_again_is_the_same_object() -> None:
    applied = deployment(container("c", resources={"limits": {"cpu": "1"}}))
    live = apply(None, applied, schema=DEPLOYMENT)
    assert apply(live, applied, schema=DEPLOYMENT, now=LATER) is live
    in_other_words = deployment(container("c", resources={"limits": {"cpu": "1000m"}}))
    assert apply(live, in_other_words, schema=DEPLOYMENT, now=LATER) is live


def test_time_moves_only_with_a_change() -> None:
    live = apply(None, config_map(a="1"))
    live = apply(live, config_map(b="1"), "m2", now=LATER)
    assert [(entry["manager"], entry["time"]) for entry in live["metadata"]["managedFields"]] == [
        ("m1", NOW),
        ("m2", LATER),
    ]


def test_apply_entries_come_first_then_older_ones() -> None:
    live = update(None, config_map(a="1"), "u", now=NOW)
    live = apply(live, config_map(b="1"), "z", now=LATER)
    live = apply(live, config_map(c="1"), "a", now=LATER)
    assert [entry["manager"] for entry in live["metadata"]["managedFields"]] == ["a", "z", "u"]


def test_status_is_applied_through_its_subresource_only() -> None:
    live = apply(None, deployment(container("a")), schema=DEPLOYMENT)
    body = {**deployment(container("other")), "status": {"replicas": 2}}
    after = apply(live, body, "status-writer", schema=DEPLOYMENT, subresource="status")
    assert after["spec"] is live["spec"]
    assert after["status"] == {"replicas": 2}
    assert fields_of(after, "status-writer", subresource="status") == {"f:status": {"f:replicas": {}}}
    ignored = server_side_apply(
        live,
        body | deployment(container("a")),
        manager="m1",
        api_version="v1",
        subresource="",
        force=False,
        schema=DEPLOYMENT,
        now=NOW,
        ignored_fields=("status",),
    )
    assert ignored is live


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"foo": 1}, "(ns/s1; /v1, Kind=ConfigMap): .foo: field not declared in schema"),
        ({"data": {"b": 1}}, ".data.b: expected string, got 1"),
        ({"data": "x"}, '.data: expected map, got "x"'),
        (
            {"data": {"a": 1, "b": True}, "immutable": "no", "foo": 1},
            "Kind=ConfigMap): errors:\n  .data.a: expected string, got 1\n  .data.b: expected string, got true\n"
            '  .immutable: expected boolean, got "no"\n  .foo: field not declared in schema',
        ),
        (
            {"metadata": {"finalizers": ["a/b", "a/b"]}},
            '.metadata.finalizers: duplicate entries for key ["a/b"]',
        ),
        ({"metadata": {"managedFields": [{"manager": "x"}]}}, "metadata.managedFields must be nil"),
        ({"metadata": {"ownerReferences": [{"name": "n"}]}}, ""),
    ],
)
def test_what_cannot_be_owned_is_a_400_with_its_path(body: dict[str, Any], words: str) -> None:
    applied = {**config_map(), **body}
    if "metadata" in body:
        applied["metadata"] = {**config_map()["metadata"], **body["metadata"]}
    if not words:
        apply(None, applied)  # the schema has a default for the key
        return
    with pytest.raises(InvalidApply) as refusal:
        apply(None, applied)
    assert refusal.value.code == 400
    assert words in str(refusal.value)


def test_duplicate_environment_variables_cannot_be_applied() -> None:
    env = [{"name": "B", "value": "1"}, {"name": "B", "value": "2"}]
    with pytest.raises(
        InvalidApply, match=r'containers\[name="c"\]\.env: duplicate entries for key \[name="B"\]'
    ):
        apply(None, deployment(container("c", env=env)), schema=DEPLOYMENT)


def test_an_update_may_hold_duplicates_and_keeps_them() -> None:
    env = [{"name": "B", "value": "1"}, {"name": "B", "value": "2"}]
    made = update(None, deployment(container("c", env=env)), schema=DEPLOYMENT)
    item = fields_of(made, "editor", "Update")["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert item['k:{"name":"c"}']["f:env"] == {}


def test_an_update_takes_ownership_silently_and_only_of_what_it_changed() -> None:
    live = apply(None, config_map(a="1", b="1"))
    after = update(live, {**live, "data": {"a": "2", "b": "1"}})
    assert fields_of(after, "m1") == {"f:data": {"f:b": {}}}
    assert fields_of(after, "editor", "Update") == {"f:data": {"f:a": {}}}


def test_what_an_update_removes_is_owned_by_nobody() -> None:
    live = apply(None, config_map(a="1", b="1"))
    after = update(live, {**live, "data": {"a": "1"}})
    assert fields_of(after, "m1") == {"f:data": {"f:a": {}}}
    assert fields_of(after, "editor", "Update") is None


def test_an_update_that_changes_nothing_keeps_the_list_itself() -> None:
    live = update(None, config_map(a="1"))
    entries = live["metadata"]["managedFields"]
    same = copy.deepcopy(live)
    assert update(live, live)["metadata"]["managedFields"] is entries
    assert update(live, same)["metadata"]["managedFields"] is entries
    del same["metadata"]["managedFields"]
    assert update(live, same)["metadata"]["managedFields"] is entries


def test_a_writer_can_move_ownership_by_writing_managed_fields() -> None:
    live = update(None, config_map(a="1"), "kubectl-client-side-apply")
    moved = copy.deepcopy(live)
    moved["metadata"]["managedFields"][0].update(manager="kubectl", operation="Apply")
    after = update(live, moved)
    assert fields_of(after, "kubectl") == {"f:data": {".": {}, "f:a": {}}}
    dropped = apply(after, config_map(b="2"), "kubectl")
    assert dropped["data"] == {"b": "2"}


def test_one_empty_entry_clears_the_list_and_nonsense_changes_nothing() -> None:
    live = update(None, config_map(a="1"))
    metadata = live["metadata"]
    cleared = update(live, {**live, "metadata": {**metadata, "managedFields": [{}]}})
    assert cleared["metadata"]["managedFields"] == []
    nonsense = [{"manager": "x", "operation": "Steal", "fieldsType": "FieldsV1", "fieldsV1": {"q": 1}}]
    kept = update(live, {**live, "metadata": {**metadata, "managedFields": nonsense}})
    assert kept["metadata"]["managedFields"] == metadata["managedFields"]


def test_an_object_without_managers_belongs_to_before_first_apply() -> None:
    live = config_map(a="1")
    with pytest.raises(ApplyConflict, match=r'"before-first-apply" using v1: \.data\.a'):
        apply(live, config_map(a="2"))
    after = apply(live, config_map(b="1"))
    assert fields_of(after, "before-first-apply", "Update") == {"f:data": {".": {}, "f:a": {}}}


def test_updates_are_folded_when_they_grow_too_many() -> None:
    live = update(None, config_map(k0="0"), "w0")
    for number in range(1, 15):
        data = {**live["data"], f"k{number}": "1"}
        live = update(live, {**live, "data": data}, f"w{number}", now=f"2026-01-01T00:00:{number:02}Z")
    entries = live["metadata"]["managedFields"]
    assert len(entries) == 10
    owned = set().union(*(entry["fieldsV1"]["f:data"] for entry in entries)) - {"."}
    assert owned == {f"f:{key}" for key in live["data"]}


def test_atomic_structs_are_owned_and_replaced_whole() -> None:
    live = apply(None, deployment(container("c")), schema=DEPLOYMENT)
    other = {"spec": {"selector": {"matchLabels": {"x": "y"}}}}
    with pytest.raises(ApplyConflict, match=r"\.spec\.selector$"):
        apply(live, other, "m2", schema=DEPLOYMENT)
    taken = apply(live, other, "m2", schema=DEPLOYMENT, force=True)
    assert taken["spec"]["selector"] == {"matchLabels": {"x": "y"}}


def test_a_later_time_alone_is_no_difference() -> None:
    early = apply(None, config_map(a="1"))
    late = apply(None, config_map(a="1"), now=LATER)
    assert early != late
    assert same_but_for_times(late, early)
    assert not same_but_for_times(apply(None, config_map(a="2")), early)
    assert not same_but_for_times(apply(early, config_map(a="1"), "m2"), early)
