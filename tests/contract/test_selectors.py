"""Label and field selectors: what they choose, and how a server refuses those that it cannot read."""

from __future__ import annotations

import pytest
from tests.servers import Server

KEY_FORM = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
VALUE_FORM = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
NOT_AN_INTEGER = "for 'Gt', 'Lt' operators, the value must be an integer"
CHOSEN = {
    "app=x": "c1 c3",
    "app==x": "c1 c3",
    "app!=x": "c0 c2 c4",
    "app in (x,y)": "c0 c1 c2 c3 c4",
    "app in (x), num>1": "c3",
    "app notin (x)": "c0 c2 c4",
    "app notin (x),num in (0,4)": "c0 c4",
    "!odd": "c0 c2 c4",
    "odd": "c1 c3",
    "odd=": "c1 c3",
    "num>2": "c3 c4",
    "num<2": "c0 c1",
    "num in ()": "",
    "num in (1,,2)": "c1 c2",
    "num=0,app=x": "",
    "in in (in)": "",
}
REFUSED_LABELS = {
    "a=b=c": "found '=', expected: ',' or 'end of string'",
    "=b": "found '=', expected: !, identifier, or 'end of string'",
    "a in b": "unable to parse requirement: found 'b' expected: '('",
    "a in (b": "unable to parse requirement: found '', expected: ',' or ')'",
    "a notin": "unable to parse requirement: found '' expected: '('",
    "a b": "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
    "a,": "found '', expected: identifier after ','",
    "a,,b": "found ',', expected: identifier after ','",
    "!": "unable to parse requirement: found '', expected: identifier",
    "a>x": f'unable to parse requirement: values[0]: Invalid value: "x": {NOT_AN_INTEGER}',
    "a>=3": "unable to parse requirement: found '=', expected: identifier",
    "-a=b": f'unable to parse requirement: <nil>: Invalid value: "-a": {KEY_FORM}',
    "a=-b": f'unable to parse requirement: values[0][a]: Invalid value: "-b": {VALUE_FORM}',
    "a=" + "x" * 64: (
        f'unable to parse requirement: values[0][a]: Invalid value: "{"x" * 64}": must be no more than 63 bytes'
    ),
}
REFUSED_FIELDS = {
    ("configmaps", "metadata.name"): "invalid selector: 'metadata.name'; can't understand 'metadata.name'",
    ("configmaps", "spec.x=1"): (
        '"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"'
    ),
    ("configmaps", "metadata.name=a=b"): "invalid field selector: unescaped character in value: 61",
    ("configmaps", "metadata.name=a\\x"): "invalid field selector: invalid escape sequence: \\x",
    ("pods", "spec.containers=x"): "field label not supported: spec.containers",
}


@pytest.fixture
async def objects(server: Server, namespace: str) -> str:
    """The path of five config maps with labels."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for number in range(5):
        labels = {
            "app": "x" if number % 2 else "y",
            "num": str(number),
            **({"odd": ""} if number % 2 else {}),
        }
        await server.http.create(path, {"metadata": {"name": f"c{number}", "labels": labels}})
    return path


async def test_a_label_selector_chooses_by_all_of_its_requirements(server: Server, objects: str) -> None:
    found: dict[str, str] = {}
    for selector in CHOSEN:
        items = (await server.http.get(objects, labelSelector=selector)).ok()["items"]
        names = [item["metadata"]["name"] for item in items]
        found[selector] = " ".join(name for name in names if name != "kube-root-ca.crt")
    assert found == CHOSEN


async def test_a_label_selector_that_cannot_be_read_is_refused_with_its_fault(
    server: Server, namespace: str
) -> None:
    found: dict[str, str] = {}
    for selector in REFUSED_LABELS:
        answer = await server.http.get(f"/api/v1/namespaces/{namespace}/configmaps", labelSelector=selector)
        found[selector] = answer.json.get("message", "taken")
        assert (answer.code, answer.json["reason"]) == (400, "BadRequest")
    assert found == REFUSED_LABELS


async def test_a_field_selector_that_a_kind_does_not_know_is_refused(server: Server, namespace: str) -> None:
    found: dict[tuple[str, str], str] = {}
    for plural, selector in REFUSED_FIELDS:
        answer = await server.http.get(f"/api/v1/namespaces/{namespace}/{plural}", fieldSelector=selector)
        assert (answer.code, answer.json["reason"]) == (400, "BadRequest")
        found[plural, selector] = answer.json["message"]
    assert found == REFUSED_FIELDS


async def test_field_selectors_choose_by_name_and_namespace(
    server: Server, objects: str, namespace: str
) -> None:
    async def names(selector: str, path: str = objects) -> list[str]:
        items = (await server.http.get(path, fieldSelector=selector)).ok()["items"]
        return [item["metadata"]["name"] for item in items if item["metadata"]["name"] != "kube-root-ca.crt"]

    assert await names("metadata.name=c1") == ["c1"]
    assert await names("metadata.name!=c1,metadata.name!=c2") == ["c0", "c3", "c4"]
    assert await names("metadata.name=c1,metadata.name=c2") == []
    everywhere = "/api/v1/configmaps"
    assert await names(f"metadata.namespace={namespace},metadata.name=c4", everywhere) == ["c4"]


async def test_kinds_have_field_selectors_of_their_own(server: Server, namespace: str) -> None:
    for path, selector in {
        f"/api/v1/namespaces/{namespace}/pods": "spec.nodeName=,status.phase=Running,spec.hostNetwork=false",
        f"/api/v1/namespaces/{namespace}/events": "involvedObject.kind=Pod,reason=x,type=Normal,source=x",
        f"/apis/events.k8s.io/v1/namespaces/{namespace}/events": "regarding.kind=Pod,reportingController=x",
        f"/api/v1/namespaces/{namespace}/secrets": "type=Opaque",
        f"/api/v1/namespaces/{namespace}/services": "spec.clusterIP=None,spec.type=ClusterIP",
        f"/apis/batch/v1/namespaces/{namespace}/jobs": "status.successful=7",
        "/api/v1/namespaces": "status.phase=Terminated",
        "/api/v1/nodes": "spec.unschedulable=true",
    }.items():
        assert (await server.http.get(path, fieldSelector=selector)).ok()["items"] == [], path
