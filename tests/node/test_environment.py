"""Environments and commands as Kubernetes computes them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.laptop.node.environment import (
    Pod,
    PodFacts,
    Service,
    container_command,
    container_environment,
    expand,
    service_environment,
)
from kajitori.laptop.node.references import MissingSource, Reference, environment_references

names = st.text(alphabet="ABCxyz_019.-", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(MISSING)", "$(MISSING)"),
        ("$(A", "$(A"),
        ("$A ${A} $", "$A ${A} $"),
        ("$$", "$"),
        ("$()", "$()"),
        ("$(A)$(A)", "11"),
    ],
)
def test_references_expand_as_documented(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


@given(st.text(max_size=30).filter(lambda text: "$" not in text))
def test_text_without_a_dollar_stays(text: str) -> None:
    assert expand(text, {"A": "1"}) == text


@given(names, st.text(max_size=10))
def test_an_escaped_reference_is_never_expanded(name: str, value: str) -> None:
    assert expand(f"$$({name})", {name: value}) == f"$({name})"


@given(names, st.text(max_size=10))
def test_values_are_not_expanded_again(name: str, value: str) -> None:
    assert expand(f"$({name})", {name: f"$({name}){value}"}) == f"$({name}){value}"


def facts(**spec: object) -> PodFacts:
    body = {
        "metadata": {"name": "web", "namespace": "team", "uid": "u1", "labels": {"app": "x"}},
        "spec": {
            "serviceAccountName": "robot",
            "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "3Mi"}}}
            ],
            **spec,
        },
    }
    pod = msgspec.convert(body, Pod)
    return PodFacts(pod, "127.16.0.9", "127.0.0.1", "node-1", {"memory": "8Gi", "cpu": "4"})


def environment_of(
    env: list[dict[str, object]], env_from: list[dict[str, object]] | None = None, sources=None
):
    fields = facts(
        containers=[
            {
                "name": "c",
                "env": env,
                "envFrom": env_from or [],
                "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "3Mi"}},
            }
        ]
    )
    container = fields.pod.spec.containers[0]
    given_sources = sources or {}
    known = {reference: given_sources.get(reference) for reference in environment_references([container])}
    return container_environment(container, fields, known, {"SVC": "s"})


def field(path: str) -> dict[str, object]:
    return {"fieldRef": {"fieldPath": path}}


def test_fields_of_the_pod_are_found() -> None:
    paths = {
        "metadata.name": "web",
        "metadata.namespace": "team",
        "metadata.uid": "u1",
        "metadata.labels['app']": "x",
        "metadata.annotations['none']": "",
        "spec.nodeName": "node-1",
        "spec.serviceAccountName": "robot",
        "status.podIP": "127.16.0.9",
        "status.podIPs": "127.16.0.9",
        "status.hostIP": "127.0.0.1",
    }
    env = [{"name": f"V{index}", "valueFrom": field(path)} for index, path in enumerate(paths)]
    result = environment_of(env)
    assert [result[f"V{index}"] for index in range(len(paths))] == list(paths.values())
    with pytest.raises(MissingSource, match=r"unsupported fieldPath: spec\.nope"):
        environment_of([{"name": "X", "valueFrom": field("spec.nope")}])


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", "1", "2"),
        ("limits.cpu", "1m", "1500"),
        ("limits.memory", "1Gi", "8"),  # not limited: what the node has
        ("requests.memory", "1Mi", "3"),
        ("requests.memory", "2Mi", "2"),
        ("requests.cpu", "1m", "1500"),
    ],
)
def test_resources_are_rounded_up_to_divisors(resource: str, divisor: str, value: str) -> None:
    reference = {"resourceFieldRef": {"resource": resource, "divisor": divisor}}
    assert environment_of([{"name": "X", "valueFrom": reference}])["X"] == value


def test_later_definitions_win_and_see_earlier_ones() -> None:
    sources = {
        Reference("configmap", "m"): {"A": b"map", "B": b"kept"},
        Reference("secret", "s"): {"A": b"secret"},
    }
    env_from = [{"configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}, "prefix": "P_"}]
    env = [
        {"name": "A", "value": "own-$(A)"},
        {"name": "C", "value": "$(P_A)$(SVC)$(D)"},
        {"name": "D", "value": "d"},
    ]
    result = environment_of(env, env_from, sources)
    assert result == {"SVC": "s", "A": "own-map", "B": "kept", "P_A": "secret", "C": "secrets$(D)", "D": "d"}


def test_missing_sources_are_named_unless_optional() -> None:
    with pytest.raises(MissingSource, match='secret "s" not found'):
        environment_of([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}])
    with pytest.raises(MissingSource, match="couldn't find key k in configmap m"):
        environment_of(
            [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}],
            sources={Reference("configmap", "m"): {}},
        )
    optional = {"configMapKeyRef": {"name": "m", "key": "k", "optional": True}}
    assert "X" not in environment_of([{"name": "X", "valueFrom": optional}])
    assert environment_of([], [{"configMapRef": {"name": "m", "optional": True}}]) == {"SVC": "s"}


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, ["serve", "model"]),
        ({"args": ["--port", "$(P)"]}, ["serve", "--port", "80"]),
        ({"command": ["run", "$(P)"]}, ["run", "80"]),
        ({"command": ["run"], "args": ["$$(P)"]}, ["run", "$(P)"]),
    ],
)
def test_command_and_args_replace_what_the_image_runs(
    container: dict[str, object], expected: list[str]
) -> None:
    spec = facts(containers=[{"name": "c", **container}]).pod.spec.containers[0]
    assert container_command(spec, {"P": "80"}, ["serve"], ["model"]) == expected


def test_services_have_their_variables() -> None:
    service = msgspec.convert(
        {
            "metadata": {"name": "my-db"},
            "spec": {
                "clusterIP": "127.31.0.7",
                "ports": [{"name": "sql-in", "port": 5432, "protocol": "TCP"}],
            },
        },
        Service,
    )
    headless = msgspec.convert({"metadata": {"name": "h"}, "spec": {"clusterIP": "None"}}, Service)
    assert service_environment([service, headless]) == {
        "MY_DB_SERVICE_HOST": "127.31.0.7",
        "MY_DB_SERVICE_PORT": "5432",
        "MY_DB_SERVICE_PORT_SQL_IN": "5432",
        "MY_DB_PORT": "tcp://127.31.0.7:5432",
        "MY_DB_PORT_5432_TCP": "tcp://127.31.0.7:5432",
        "MY_DB_PORT_5432_TCP_PROTO": "tcp",
        "MY_DB_PORT_5432_TCP_PORT": "5432",
        "MY_DB_PORT_5432_TCP_ADDR": "127.31.0.7",
    }
