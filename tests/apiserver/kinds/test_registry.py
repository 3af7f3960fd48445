"""Kinds as they come and go, what is told of them, and views of the same stored objects."""

from __future__ import annotations

import copy
import json

import pytest

from kajitori.laptop.apiserver.decode import decode_body
from kajitori.laptop.apiserver.discovery import Discovery, version_rank
from kajitori.laptop.apiserver.kinds import Context, Registry
from kajitori.laptop.apiserver.kinds.versions import (
    autoscaler_from_v2,
    autoscaler_to_v2,
    event_from_core,
    event_to_core,
)
from kajitori.laptop.apiserver.openapi import OpenApi
from kajitori.laptop.apiserver.status import StatusError


def version(name, **more):
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {"replicas": {"type": "integer", "default": 1}, "size": {"type": "string"}},
            },
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
        },
    }
    return {"name": name, "served": True, "storage": False, "schema": {"openAPIV3Schema": schema}, **more}


def definition(*versions):
    return {
        "metadata": {"name": "models.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {
                "plural": "models",
                "singular": "model",
                "kind": "Model",
                "listKind": "ModelList",
                "shortNames": ["mo"],
                "categories": ["all"],
            },
            "versions": list(versions),
        },
    }


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def crd():
    return definition(
        version(
            "v1",
            storage=True,
            subresources={
                "status": {},
                "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                },
            },
            selectableFields=[{"jsonPath": ".spec.size"}],
            additionalPrinterColumns=[
                {"name": "Size", "type": "string", "jsonPath": ".spec.size"},
                {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
                {"name": "Seen", "type": "date", "jsonPath": ".status.seen"},
            ],
        ),
        version("v1beta1", deprecated=True),
        version("v1alpha1", served=False),
    )


def model(**spec):
    return {
        "apiVersion": "example.com/v1",
        "kind": "Model",
        "metadata": {"name": "a", "namespace": "b"},
        "spec": spec,
    }


def test_built_in_kinds_are_found_by_url_and_by_object(registry):
    pods = registry.lookup("", "v1", "pods")
    assert pods is registry.lookup_kind("", "v1", "Pod")
    assert pods.short_names == ("po",)
    assert set(pods.subresources) >= {"status", "log", "exec", "binding", "eviction"}
    assert registry.lookup("apps", "v1", "deployments").scale.replicas == ".spec.replicas"
    assert registry.lookup("", "v1", "leaves") is None
    assert registry.lookup("", "v1", "leases") is None
    assert registry.lookup("coordination.k8s.io", "v1", "leases").created_by_put


def test_field_selectors_read_what_they_name(registry):
    selectors = registry.lookup("", "v1", "pods").field_selectors
    pod = {
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running"},
    }
    assert selectors["metadata.name"](pod) == "a"
    assert selectors["spec.nodeName"](pod) == selectors["spec.host"](pod) == "n"
    assert selectors["status.phase"](pod) == "Running"
    assert selectors["spec.hostNetwork"](pod) == "false"
    assert selectors["status.podIP"](pod) == ""
    assert "metadata.namespace" not in registry.lookup("", "v1", "nodes").field_selectors


def test_served_versions_of_a_definition_become_kinds(registry, crd):
    before = registry.revision
    kinds = registry.add_crd(crd)
    assert [kind.resource.version for kind in kinds] == ["v1", "v1beta1"]
    assert registry.revision > before
    v1, beta = kinds
    assert v1.storage == beta.storage == v1.resource
    assert v1.short_names == ("mo",)
    assert (v1.list_kind, v1.singular) == ("ModelList", "model")
    assert v1.has_status
    assert not beta.has_status
    assert v1.scale.selector == ".status.selector"
    assert v1.field_selectors["spec.size"]({"spec": {"size": "big"}}) == "big"
    assert beta.warning == "example.com/v1beta1 Model is deprecated; use example.com/v1 Model"
    assert registry.lookup("example.com", "v1alpha1", "models") is None


def test_a_changed_definition_replaces_what_it_served(registry, crd):
    registry.add_crd(crd)
    changed = copy.deepcopy(crd)
    changed["spec"]["versions"][1]["served"] = False
    registry.add_crd(changed)
    assert registry.lookup("example.com", "v1beta1", "models") is None
    registry.remove_crd("models.example.com")
    assert registry.lookup("example.com", "v1", "models") is None
    assert all(kind.resource.group != "example.com" for kind in registry.kinds())


def test_custom_objects_are_pruned_defaulted_and_shown_by_their_columns(registry, crd):
    v1, _ = registry.add_crd(crd)
    decoded = decode_body(json.dumps(model(size="big", sise=1)).encode(), "", v1)
    assert decoded.warnings == ['unknown field "spec.sise" (did you mean "size"?)']
    obj = decoded.obj
    v1.prepare_create(obj, Context("2026-11-26T05:00:00Z", "u"))
    assert obj["spec"] == {"size": "big", "replicas": 1}
    assert v1.validate(obj) == []
    assert [column.name for column in v1.columns] == ["Name", "Size", "Replicas", "Seen"]
    assert v1.columns[2].priority == 1
    assert v1.cells(obj, 0) == ["a", "big", 1, None]


def test_custom_objects_must_say_what_they_are(registry, crd):
    v1, _ = registry.add_crd(crd)
    with pytest.raises(StatusError, match="does not match the expected API version"):
        decode_body(json.dumps({**model(), "apiVersion": "example.com/v2"}).encode(), "", v1)
    with pytest.raises(StatusError, match="'Kind' is missing"):
        decode_body(b"{}", "", v1)


def test_a_negative_scale_is_refused(registry, crd):
    v1, _ = registry.add_crd(crd)
    obj = model(replicas=-1)
    v1.prepare_create(obj, Context("2026-11-26T05:00:00Z", "u"))
    assert [str(error) for error in v1.validate(obj)] == [
        ".spec.replicas: Invalid value: -1: should be a non-negative integer"
    ]


def test_the_generation_of_a_custom_object_counts_all_but_metadata_and_status(registry, crd):
    v1, beta = registry.add_crd(crd)
    context = Context("2026-11-26T05:00:00Z", "u")
    for kind, counts_status in ((v1, False), (beta, True)):
        old = model(size="a")
        kind.prepare_create(old, context)
        new = copy.deepcopy(old)
        new["status"] = {"replicas": 2}
        kind.prepare_update(new, old, context)
        assert new["metadata"]["generation"] == (2 if counts_status else 1)
        new = copy.deepcopy(old)
        new["spec"]["size"] = "b"
        kind.prepare_update(new, old, context)
        assert new["metadata"]["generation"] == 2


def test_a_status_write_leaves_the_rest_of_a_custom_object_alone(registry, crd):
    v1, _ = registry.add_crd(crd)
    old = model(size="a")
    v1.prepare_create(old, Context("2026-11-26T05:00:00Z", "u"))
    new = copy.deepcopy(old)
    new["spec"]["size"] = "b"
    new["metadata"]["labels"] = {"x": "y"}
    new["status"] = {"replicas": 2}
    v1.prepare_update(new, old, Context("2026-11-26T05:00:01Z"), "status")
    assert new["spec"] == old["spec"]
    assert "labels" not in new["metadata"]
    assert new["status"] == {"replicas": 2}


def test_versions_of_a_custom_object_differ_in_api_version_only(registry, crd):
    v1, beta = registry.add_crd(crd)
    stored = model(size="a")
    shown = beta.from_stored(stored)
    assert shown == {**stored, "apiVersion": "example.com/v1beta1"}
    assert beta.to_stored(shown) == stored
    assert v1.from_stored(stored) is stored


# Discovery.


def test_versions_sort_by_maturity():
    names = ["v1alpha1", "v10", "foo", "v2beta1", "v1", "v1beta2", "v2", "v11alpha2"]
    assert sorted(names, key=version_rank) == [
        "v10",
        "v2",
        "v1",
        "v2beta1",
        "v1beta2",
        "v11alpha2",
        "v1alpha1",
        "foo",
    ]


def test_the_aggregated_form_lists_all_and_follows_changes(registry, crd):
    discovery = Discovery(registry)
    core = json.loads(discovery.aggregated(core=True).body)
    assert (core["kind"], core["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    (group,) = core["items"]
    resources = {resource["resource"]: resource for resource in group["versions"][0]["resources"]}
    assert resources["pods"]["shortNames"] == ["po"]
    assert resources["pods"]["responseKind"] == {"group": "", "version": "", "kind": "Pod"}
    assert "deletecollection" not in resources["namespaces"]["verbs"]
    eviction = next(s for s in resources["pods"]["subresources"] if s["subresource"] == "eviction")
    assert eviction["responseKind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}

    before = discovery.aggregated(core=False)
    assert discovery.aggregated(core=False) is before
    registry.add_crd(crd)
    after = discovery.aggregated(core=False)
    assert after.etag != before.etag
    (ours,) = [
        item for item in json.loads(after.body)["items"] if item["metadata"].get("name") == "example.com"
    ]
    assert [v["version"] for v in ours["versions"]] == ["v1", "v1beta1"]
    assert ours["versions"][0]["resources"][0]["responseKind"] == {
        "group": "example.com",
        "version": "v1",
        "kind": "Model",
    }
    assert discovery.aggregated(core=False, version="v2beta1").content_type == (
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
    )


def test_the_older_forms_list_the_same(registry):
    discovery = Discovery(registry)
    assert discovery.api_versions("127.0.0.1:6443")["versions"] == ["v1"]
    names = [group["name"] for group in discovery.group_list()["groups"]]
    assert names[0] == "apps"
    autoscaling = discovery.group("autoscaling")
    assert [v["version"] for v in autoscaling["versions"]] == ["v2", "v1"]
    assert autoscaling["preferredVersion"]["groupVersion"] == "autoscaling/v2"
    apps = discovery.resource_list("apps", "v1")
    scale = next(r for r in apps["resources"] if r["name"] == "deployments/scale")
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")
    assert discovery.group("nope") is None
    assert discovery.resource_list("apps", "v9") is None


# OpenAPI.


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def test_every_document_of_the_index_exists_and_is_whole(registry, crd):
    registry.add_crd(crd)
    api = OpenApi(Discovery(registry))
    index = json.loads(api.index())["paths"]
    assert "api/v1" in index
    assert "apis/example.com/v1" in index
    for path, entry in index.items():
        document = api.document(path)
        assert entry["serverRelativeURL"] == f"/openapi/v3/{path}?hash={document.etag.strip(chr(34))}"
        parsed = json.loads(document.body)
        schemas = parsed["components"]["schemas"]
        for reference in references(parsed):
            assert reference.removeprefix("#/components/schemas/") in schemas, (path, reference)


def test_what_kubectl_looks_for_is_there(registry, crd):
    registry.add_crd(crd)
    api = OpenApi(Discovery(registry))
    apps = json.loads(api.document("apis/apps/v1").body)
    patch = apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {
        "group": "apps",
        "version": "v1",
        "kind": "Deployment",
    }
    assert {"name": "fieldValidation", "in": "query"}.items() <= next(
        p for p in patch["parameters"] if p["name"] == "fieldValidation"
    ).items()
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    spec = apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]
    assert spec["containers"]["x-kubernetes-patch-merge-key"] == "name"
    ours = json.loads(api.document("apis/example.com/v1").body)
    custom = ours["paths"]["/apis/example.com/v1/namespaces/{namespace}/models/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" not in custom["requestBody"]["content"]
    assert "com.example.v1.Model" in ours["components"]["schemas"]


def test_hashes_change_with_the_content_and_only_then(registry, crd):
    api = OpenApi(Discovery(registry))
    apps = api.hash_of("apis/apps/v1")
    assert apps == OpenApi(Discovery(Registry())).hash_of("apis/apps/v1")
    registry.add_crd(crd)
    first = api.hash_of("apis/example.com/v1")
    changed = copy.deepcopy(crd)
    spec = changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["colour"] = {"type": "string"}
    registry.add_crd(changed)
    assert api.hash_of("apis/example.com/v1") != first
    assert api.hash_of("apis/apps/v1") == apps
    assert "colour" in api.document("apis/example.com/v1").body.decode()
    assert api.document("apis/nope/v1") is None
    assert api.document("x") is None


def test_the_older_document_has_every_kind(registry):
    swagger = json.loads(OpenApi(Discovery(registry)).swagger())
    assert swagger["swagger"] == "2.0"
    definitions = swagger["definitions"]
    for reference in references(swagger):
        assert reference.removeprefix("#/definitions/") in definitions
    assert "/api/v1/namespaces/{namespace}/pods/{name}" in swagger["paths"]


# Two views of one store.


def test_events_keep_their_content_in_either_group(builtin):
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "a"},
        "regarding": {"kind": "Pod", "name": "p"},
        "note": "hello",
        "reportingController": "c",
        "eventTime": "2026-11-26T05:00:00.000000Z",
    }
    core = event_to_core(event)
    assert core["involvedObject"] == event["regarding"]
    assert (core["message"], core["reportingComponent"], core["apiVersion"]) == ("hello", "c", "v1")
    # What sorts by it finds the field, as with a real server.
    assert core["lastTimestamp"] is None
    assert event_from_core(core).items() >= event.items()
    new = builtin.lookup("events.k8s.io", "v1", "events")
    assert new.storage == builtin.lookup("", "v1", "events").storage


def test_an_autoscaler_of_v1_is_stored_as_v2():
    v1 = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
        "status": {"currentReplicas": 1, "currentCPUUtilizationPercentage": 20},
    }
    v2 = autoscaler_to_v2(v1)
    assert v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
    assert v2["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"] == 20
    assert autoscaler_from_v2(v2) == v1
