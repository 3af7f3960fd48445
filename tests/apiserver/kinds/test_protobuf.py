"""The protobuf of Go clients: hand-made bytes, and for every message that it reads back what was written."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.api.schemas import definitions, protobuf_messages
from kajitori.laptop.apiserver.decode import decode_as, decode_body
from kajitori.laptop.apiserver.parsing import PROTOBUF
from kajitori.laptop.apiserver.protobuf import MalformedProtobuf, read_envelope, read_message

SCALARS = {"string", "bytes", "bool", "int32", "int64", "double"}
META = "io.k8s.apimachinery.pkg.apis.meta.v1."


# A writer, for the tests only.


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, payload: bytes | int | float) -> bytes:
    if isinstance(payload, float):
        return varint(number << 3 | 1) + struct.pack("<d", payload)
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    names = field(1, api_version.encode()) + field(2, kind.encode())
    return b"k8s\0" + field(1, names) + field(2, raw) + field(3, b"") + field(4, b"")


SPECIAL = {
    META + "Time": lambda text: field(1, 1_790_000_000) if text else b"",
    META + "MicroTime": lambda text: field(1, 1_790_000_000) + field(2, 250_000_000),
    META + "FieldsV1": lambda value: field(1, b'{"f:a":{}}'),
    "io.k8s.apimachinery.pkg.api.resource.Quantity": lambda text: field(1, text.encode()),
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": lambda value: (
        field(1, 1) + field(3, value.encode()) if isinstance(value, str) else field(1, 0) + field(2, value)
    ),
    "io.k8s.apimachinery.pkg.runtime.RawExtension": lambda value: field(1, b'{"any":[1]}'),
}
SPECIAL_VALUES = {
    META + "Time": st.just("2026-09-21T14:13:20Z"),
    META + "MicroTime": st.just("2026-09-21T14:13:20.250000Z"),
    META + "FieldsV1": st.just({"f:a": {}}),
    "io.k8s.apimachinery.pkg.api.resource.Quantity": st.sampled_from(["1", "500m", "2Gi"]),
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": st.sampled_from([0, 80, "http", "25%"]),
    "io.k8s.apimachinery.pkg.runtime.RawExtension": st.just({"any": [1]}),
}
SCALAR_VALUES = {
    "string": st.text(max_size=6),
    "bytes": st.binary(max_size=6).map(lambda raw: base64.b64encode(raw).decode()),
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
}


def written(wire: str, value) -> bytes | int | float:
    if wire == "string":
        return value.encode()
    if wire == "bytes":
        return base64.b64decode(value)
    if wire in SCALARS:
        return value if wire == "double" else int(value)
    return SPECIAL[wire](value) if wire in SPECIAL else message(wire, value)


def message(definition: str, obj: dict) -> bytes:
    out = b""
    for number, name, wire, label in protobuf_messages()[definition]:
        if label == "i":
            out += field(number, message(wire, obj))
        elif name not in obj:
            continue
        elif label == "m":
            for key, value in obj[name].items():
                out += field(number, field(1, key.encode()) + field(2, written(wire, value)))
        elif label == "r":
            out += b"".join(field(number, written(wire, item)) for item in obj[name])
        else:
            out += field(number, written(wire, obj[name]))
    return out


def readable(definition: str) -> bool:
    """Messages whose JSON form is that of their fields."""
    return (
        not any(
            definition.endswith(end)
            for end in (".ExtraValue", ".Verbs", ".JSON", "OrBool", "OrArray", "OrStringArray")
        )
        and definition not in SPECIAL
    )


def objects(definition: str, depth: int = 0) -> st.SearchStrategy[dict]:
    fields: dict[str, st.SearchStrategy] = {}
    for _, name, wire, label in protobuf_messages()[definition]:
        if wire in SCALARS:
            value = SCALAR_VALUES[wire]
        elif wire in SPECIAL_VALUES:
            value = SPECIAL_VALUES[wire]
        elif depth > 1 or not readable(wire):
            continue
        else:
            value = st.deferred(lambda wire=wire: objects(wire, depth + 1))
        if label == "m":
            value = st.dictionaries(st.text(max_size=4), value, min_size=1, max_size=2)
        elif label == "r":
            value = st.lists(value, min_size=1, max_size=2)
        elif label == "z":
            value = value.filter(bool)
        if label == "i":
            fields |= _inlined(wire, depth)
            continue
        fields[name] = value
    return st.fixed_dictionaries({}, optional=fields)


def _inlined(definition: str, depth: int) -> dict[str, st.SearchStrategy]:
    return {
        name: SCALAR_VALUES["string"].filter(bool)
        for _, name, wire, label in protobuf_messages()[definition]
        if wire == "string" and label in ("", "z")
    }


KINDS = [
    "io.k8s.api.core.v1.Pod",
    "io.k8s.api.core.v1.Secret",
    "io.k8s.api.core.v1.Service",
    "io.k8s.api.core.v1.Event",
    "io.k8s.api.core.v1.Node",
    "io.k8s.api.apps.v1.Deployment",
    "io.k8s.api.apps.v1.StatefulSet",
    "io.k8s.api.batch.v1.CronJob",
    "io.k8s.api.rbac.v1.ClusterRole",
    "io.k8s.api.coordination.v1.Lease",
    "io.k8s.api.discovery.v1.EndpointSlice",
    "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    META + "DeleteOptions",
]


@pytest.mark.parametrize("definition", KINDS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_back(definition, data):
    obj = data.draw(objects(definition))
    assert read_message(definition, message(definition, obj)) == obj


def test_every_message_of_the_tables_reads_its_own_empty_form():
    for definition in filter(readable, protobuf_messages()):
        assert read_message(definition, b"") == {}


def test_a_deployment_as_kubectl_sends_it(builtin):
    container = field(1, b"nginx") + field(2, b"nginx:1.27") + field(8, b"")
    pod_spec = field(2, container)
    template = field(1, field(8, b"") + field(11, field(1, b"app") + field(2, b"web"))) + field(2, pod_spec)
    selector = field(1, field(1, b"app") + field(2, b"web"))
    spec = field(1, 2) + field(2, selector) + field(3, template) + field(4, field(1, b""))
    metadata = field(1, b"web") + field(2, b"") + field(3, b"shop") + field(7, 0) + field(8, b"")
    body = envelope("apps/v1", "Deployment", field(1, metadata) + field(2, spec) + field(3, field(1, 0)))
    obj = decode_body(body, PROTOBUF, builtin.lookup("apps", "v1", "deployments")).obj
    assert obj["metadata"] == {"name": "web", "namespace": "shop"}
    assert obj["spec"]["replicas"] == 2
    assert obj["spec"]["selector"] == {"matchLabels": {"app": "web"}}
    assert obj["spec"]["template"]["spec"]["containers"] == [
        {"name": "nginx", "image": "nginx:1.27", "resources": {}}
    ]


def test_a_secret_keeps_its_bytes(builtin):
    raw = bytes(range(256))
    body = envelope("v1", "Secret", field(2, field(1, b"blob") + field(2, raw)))
    obj = decode_body(body, PROTOBUF, builtin.lookup("", "v1", "secrets")).obj
    assert base64.b64decode(obj["data"]["blob"]) == raw


def test_options_come_with_the_group_of_their_resource():
    body = envelope("apps/v1", "DeleteOptions", field(1, 0) + field(4, b"Foreground"))
    obj = decode_as(body, PROTOBUF, "", "v1", "DeleteOptions").obj
    assert (obj["gracePeriodSeconds"], obj["propagationPolicy"]) == (0, "Foreground")


def test_a_schema_of_a_definition_takes_each_of_its_forms():
    name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
    numbers = {json_name: number for number, json_name, _, _ in protobuf_messages()[name]}
    inner = field(numbers["type"], b"string")
    raw = (
        field(numbers["items"], field(1, inner))
        + field(numbers["additionalProperties"], field(1, 1))
        + field(numbers["default"], field(1, b'{"a":[1]}'))
        + field(numbers["enum"], field(1, b'"x"'))
    )
    assert read_message(name, raw) == {
        "items": {"type": "string"},
        "additionalProperties": True,
        "default": {"a": [1]},
        "enum": ["x"],
    }


def test_unknown_field_numbers_are_passed_over():
    assert read_message(META + "ObjectMeta", field(1, b"a") + field(2000, b"later")) == {"name": "a"}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"k8s\0\x0a\xff", b"k8s\0\x0f", b"k8s\0\x00\x01", b"k8s\0" + b"\xff" * 12]
)
def test_bytes_that_are_no_envelope_are_refused(body):
    with pytest.raises(MalformedProtobuf):
        read_envelope(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_malformed(raw):
    try:
        read_message("io.k8s.api.core.v1.Pod", raw)
    except MalformedProtobuf:
        pass


def test_the_tables_name_the_fields_of_the_schemas():
    def names(definition: str) -> set[str]:
        found: set[str] = set()
        for _, name, wire, label in protobuf_messages()[definition]:
            found |= names(wire) if label == "i" else {name}
        return found

    for definition in protobuf_messages():
        properties = definitions().get(definition, {}).get("properties")
        if properties is not None:
            assert names(definition) == set(properties) - {"apiVersion", "kind"} or names(definition) == set(
                properties
            ), definition
