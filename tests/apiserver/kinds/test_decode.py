"""Bodies: JSON, YAML, what is unknown, given twice, of a wrong type or no JSON at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.laptop.apiserver.decode import decode_as, decode_body, decode_document
from kajitori.laptop.apiserver.parsing import (
    JSON,
    PROTOBUF,
    YAML,
    Unreadable,
    json_duplicates,
    parse,
)
from kajitori.laptop.apiserver.status import StatusError


@pytest.fixture
def config_map(builtin):
    return builtin.lookup("", "v1", "configmaps")


@pytest.fixture
def deployment(builtin):
    return builtin.lookup("apps", "v1", "deployments")


def refusal(body, kind, content_type=JSON, **options) -> str:
    with pytest.raises(StatusError) as caught:
        decode_body(body if isinstance(body, bytes) else body.encode(), content_type, kind, **options)
    assert caught.value.code == 400
    return str(caught.value)


def test_a_body_without_content_type_is_json(config_map):
    assert decode_body(b'{"data":{"a":"b"}}', "", config_map).obj["data"] == {"a": "b"}


def test_built_in_kinds_may_leave_out_api_version_and_kind(config_map):
    obj = decode_body(b"{}", JSON, config_map).obj
    assert (obj["apiVersion"], obj["kind"]) == ("v1", "ConfigMap")


def test_unknown_and_repeated_fields_become_warnings_and_are_dropped(config_map):
    body = b'{"metadata":{"name":"a","colour":1},"data":{"a":"1","a":"2"}}'
    decoded = decode_body(body, JSON, config_map)
    assert decoded.obj["metadata"] == {"name": "a"}
    assert decoded.obj["data"] == {"a": "2"}
    assert decoded.warnings == ['unknown field "metadata.colour"', 'duplicate field "data.a"']


def test_a_warning_names_the_nearest_spelling(deployment):
    decoded = decode_body(b'{"spec":{"replcas":3}}', JSON, deployment)
    assert decoded.warnings == ['unknown field "spec.replcas" (did you mean "replicas"?)']


def test_strict_validation_refuses_what_is_unknown_or_repeated(config_map):
    body = '{"metadata":{"name":"a","colour":1},"data":{"a":"1","a":"2"}}'
    assert refusal(body, config_map, field_validation="Strict") == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
        'unknown field "metadata.colour", duplicate field "data.a"'
    )


def test_ignore_says_nothing(config_map):
    body = b'{"metadata":{"colour":1},"data":{"a":"1","a":"2"}}'
    assert decode_body(body, JSON, config_map, field_validation="Ignore").warnings == []


def test_paths_of_unknown_fields_have_indices(deployment):
    body = b'{"spec":{"template":{"spec":{"containers":[{"name":"a","imag":"x"}]}}}}'
    (warning,) = decode_body(body, JSON, deployment).warnings
    assert warning.startswith('unknown field "spec.template.spec.containers[0].imag"')


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            '{"metadata":{"labels":4}}',
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            '{"spec":{"replicas":"x"}}',
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            '{"spec":{"replicas":3000000000}}',
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            '{"spec":{"template":{"spec":{"containers":{}}}}}',
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type"
            " []v1.Container",
        ),
        ('{"spec":[]}', "json: cannot unmarshal array into Go struct field"),
    ],
)
def test_a_wrong_type_is_named_with_its_field(deployment, body, words):
    message = refusal(body, deployment)
    assert message.startswith('Deployment in version "v1" cannot be handled as a Deployment: ')
    assert words in message


def test_bad_base64_quantities_and_times_are_named(builtin):
    secret, pod = builtin.lookup("", "v1", "secrets"), builtin.lookup("", "v1", "pods")
    assert refusal('{"data":{"a":"%"}}', secret).endswith("illegal base64 data at input byte 0")
    body = '{"spec":{"containers":[{"resources":{"limits":{"cpu":"lots"}}}]}}'
    assert "spec.containers[0].resources.limits.cpu" in refusal(body, pod)
    assert "parsing time" in refusal('{"metadata":{"creationTimestamp":"today"}}', pod)


@pytest.mark.parametrize(
    "body", ["", "{", '{"a"', "[1]", "nonsense", '{"metadata":{"name":"a",]', b"\xff\xfe{}"]
)
def test_what_is_no_object_says_what_was_expected(config_map, body):
    message = refusal(body, config_map)
    assert message.startswith(
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: "
    )


def test_a_syntax_error_has_line_and_column(config_map):
    assert "line 2, column 11" in refusal('{\n  "data": x}', config_map)


def test_deep_nesting_is_refused_not_fatal(builtin):
    crd = builtin.lookup("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    schema = '{"items":' * 5000 + "{}" + "}" * 5000
    body = '{"spec":{"versions":[{"schema":{"openAPIV3Schema":' + schema + "}}]}}"
    assert "exceeded max depth" in refusal(body, crd)


@pytest.mark.parametrize("levels", [199, 200, 900])
@pytest.mark.parametrize("media_type", [JSON, YAML])
def test_every_python_reads_the_same_depth(levels, media_type):
    body = b"[" * levels + b"]" * levels
    if levels < 200:
        parse(body, media_type)
        return
    with pytest.raises(Unreadable, match="max depth"):
        parse(body, media_type)


def test_another_kind_or_version_is_refused(config_map):
    assert "does not match the expected kind (ConfigMap)" in refusal('{"kind":"Secret"}', config_map)
    message = refusal('{"apiVersion":"v2"}', config_map)
    assert message == "the API version in the data (v2) does not match the expected API version (v1)"


def test_an_unknown_format_is_415(config_map):
    with pytest.raises(StatusError) as caught:
        decode_body(b"x", "text/plain", config_map)
    assert caught.value.code == 415


def test_nulls_and_empty_optional_fields_vanish(deployment):
    body = b'{"metadata":{"labels":{}},"spec":{"replicas":null,"template":{"spec":{"volumes":[],"securityContext":{}}}}}'
    obj = decode_body(body, JSON, deployment).obj
    assert obj["metadata"] == {}
    assert obj["spec"] == {"strategy": {}, "template": {"metadata": {}, "spec": {"securityContext": {}}}}


def test_options_may_be_empty_or_without_names():
    assert decode_as(b"", "", "", "v1", "DeleteOptions").obj["kind"] == "DeleteOptions"
    assert (
        decode_as(b'{"gracePeriodSeconds":0}', "", "", "v1", "DeleteOptions").obj["gracePeriodSeconds"] == 0
    )


# YAML.


def test_yaml_is_read_as_json_would_be(config_map):
    body = b"""
apiVersion: v1
kind: ConfigMap
metadata: {name: a, annotations: {when: 2020-01-01, at: '12:30'}}
data: {one: "1", mode: "0644", yes: "on"}
"""
    obj = decode_body(body, YAML, config_map).obj
    assert obj["metadata"]["annotations"] == {"when": "2020-01-01", "at": "12:30"}
    assert obj["data"] == {"one": "1", "mode": "0644", "true": "on"}


def test_repeated_keys_of_yaml_are_found(config_map):
    assert decode_body(b"data:\n  a: x\n  a: z\n", YAML, config_map).warnings == ['duplicate field "data.a"']


def test_broken_yaml_has_line_and_column(config_map):
    message = refusal("kind: ConfigMap\ndata: [a\nmetadata: {}\n", config_map, YAML)
    assert "yaml: line 3, column" in message


def test_a_yaml_bomb_is_refused(config_map):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join(['*a' + str(i - 1)] * 10)}]" for i in range(1, 9)]
    assert "excessive aliasing" in refusal("\n".join(lines), config_map, YAML)


def test_yaml_that_contains_itself_is_refused(config_map):
    assert "json parse error" in refusal("data: &d\n  again: *d\n", config_map, YAML)


def test_shared_parts_of_yaml_are_not_shared_in_the_object(builtin):
    body = b"metadata: {labels: &l {a: b}, annotations: *l}\n"
    metadata = decode_body(body, YAML, builtin.lookup("", "v1", "configmaps")).obj["metadata"]
    assert metadata["labels"] == metadata["annotations"]
    assert metadata["labels"] is not metadata["annotations"]


def test_a_patch_document_may_be_a_list():
    assert decode_document(b'[{"op":"remove"}]', "application/json-patch+json") == [{"op": "remove"}]
    with pytest.raises(StatusError, match="error decoding patch"):
        decode_document(b"[", "application/json-patch+json")


# Properties.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), json_values), st.sampled_from([None, 1, "\t"]))
def test_objects_without_repeated_keys_have_no_duplicates(obj, indent):
    body = json.dumps(obj, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert json_duplicates(body, obj) == []


@settings(max_examples=50)
@given(st.dictionaries(st.text(), json_values, min_size=1), st.data())
def test_every_repeated_key_is_found(obj, data):
    key = data.draw(st.sampled_from(sorted(obj)))
    inner = json.dumps(obj)
    body = f'{{"outer":[1,{{{json.dumps(key)}: 0,{inner[1:]}]}}'.encode()
    found = json_duplicates(body, json.loads(body))
    assert len(found) == 1
    assert found[0].startswith('duplicate field "outer[1]')


@settings(max_examples=50)
@given(json_values)
def test_any_json_is_an_object_or_a_clear_refusal(builtin, value):
    pod = builtin.lookup("", "v1", "pods")
    body = json.dumps({"metadata": value, "spec": value}).encode()
    try:
        decode_body(body, JSON, pod)
    except StatusError as error:
        assert error.code == 400


@given(st.binary(max_size=80))
def test_any_bytes_are_an_object_or_a_clear_refusal(builtin, body):
    pod = builtin.lookup("", "v1", "pods")
    for content_type, prefix in ((JSON, b""), (YAML, b""), (PROTOBUF, b"k8s\0"), (PROTOBUF, b"")):
        try:
            decode_body(prefix + body, content_type, pod)
        except StatusError as error:
            assert error.code == 400
