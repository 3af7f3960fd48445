"""What people do wrong, and what they get: one clear error, with the place and the cure; nothing half applied."""

from __future__ import annotations

import http.client
import json
import re

import pytest

from tests.world.conftest import Cluster, needs_kubectl, wait_until

pytestmark = [pytest.mark.world, pytest.mark.timeout(300), pytest.mark.xdist_group("bad-input")]

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: {image}
    command: {command}
    resources: {resources}
"""


def pod(name: str, image: str = "busybox", command: str = '[sleep, "1000"]', resources: str = "{}") -> str:
    return POD.format(name=name, image=image, command=command, resources=resources)


def post(cluster: Cluster, body: bytes, path: str = "/v1/chat/completions") -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.gateway_port, timeout=30)
    connection.request("POST", path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, json.loads(data)


def test_malformed_yaml_names_file_line_and_expectation(cluster: Cluster) -> None:
    done = cluster.kaji("apply", "-f", "-", stdin="apiVersion: v1\nkind: [Pod\n", check=False)
    assert done.returncode == 1
    assert re.search(r"standard input:\d+:\d+: malformed YAML", done.stderr)


def test_an_unknown_field_is_a_warning_with_the_nearest_spelling(cluster: Cluster) -> None:
    text = pod("typo").replace("restartPolicy: Never", "restartPolicy: Never\n  nodeNam: node-1")
    done = cluster.kaji("apply", "-f", "-", stdin=text)
    assert 'standard input:7: unknown field "spec.nodeNam"' in done.stderr
    assert "nodeName" in done.stderr
    assert "Pod typo created" in done.stdout


def test_an_unknown_field_is_an_error_when_strict_and_nothing_is_stored(cluster: Cluster) -> None:
    text = pod("strict").replace("restartPolicy: Never", "restartPolicy: Never\n  nodeNam: node-1")
    done = cluster.kaji("apply", "--strict", "-f", "-", stdin=text, check=False)
    assert done.returncode == 1
    assert "spec.nodeNam" in done.stdout
    assert cluster.kaji("get", "pod", "strict", check=False).returncode == 1


def test_a_wrong_range_is_refused_with_the_field_path(cluster: Cluster) -> None:
    text = pod("port").replace("command:", "ports: [{containerPort: 70000}]\n    command:")
    done = cluster.kaji("apply", "-f", "-", stdin=text, check=False)
    assert done.returncode == 1
    assert "spec.containers[0].ports[0].containerPort" in done.stdout
    assert cluster.kaji("get", "pod", "port", check=False).returncode == 1


def test_a_wrong_type_in_a_custom_object_is_refused_with_the_field_path(cluster: Cluster) -> None:
    text = """
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: wrong}
spec:
  replicas: many
  leaderWorkerTemplate: {size: 2, workerTemplate: {spec: {containers: [{name: a, image: busybox}]}}}
"""
    done = cluster.kaji("apply", "-f", "-", stdin=text, check=False)
    assert done.returncode == 1
    assert "spec.replicas" in done.stdout
    assert cluster.kaji("get", "lws", "wrong", check=False).returncode == 1


def test_an_image_without_mapping_waits_with_its_cure(cluster: Cluster) -> None:
    cluster.apply(pod("unmapped", image="example.com/strange:1"))

    def told() -> str | None:
        text = cluster.kaji("explain", "pod/unmapped").stdout
        return text if "ImageNotMapped" in text else None

    text = wait_until(told, "the reason shows")
    assert "images.yaml" in text
    assert "example.com/strange" in text


def test_a_command_that_does_not_exist_is_told(cluster: Cluster) -> None:
    cluster.apply(pod("nocommand", command="[no-such-program]"))

    def told() -> str | None:
        text = cluster.kaji("explain", "pod/nocommand").stdout
        return text if "no-such-program" in text else None

    wait_until(told, "the reason names the command")


def test_gpus_that_no_node_can_give_are_told_with_the_numbers(cluster: Cluster) -> None:
    cluster.apply(pod("greedy", resources='{limits: {nvidia.com/gpu: "64"}}'))

    def told() -> str | None:
        text = cluster.kaji("explain", "pod/greedy").stdout
        return text if "nvidia.com/gpu" in text else None

    text = wait_until(told, "the reason names the resource")
    assert "0/2 nodes are available" in text


@needs_kubectl
def test_kubectl_describe_shows_the_same_reasons(cluster: Cluster) -> None:
    cluster.apply(pod("unmapped2", image="example.com/strange:1"))
    wait_until(
        lambda: "images.yaml" in cluster.kubectl("describe", "pod", "unmapped2").stdout,
        "describe names the cure",
    )


def test_a_body_that_is_no_json_is_400(cluster: Cluster) -> None:
    status, answer = post(cluster, b"{not json")
    assert status == 400
    assert isinstance(answer["error"], dict)
    assert answer["error"]["message"]


def test_a_body_over_the_limit_is_413(cluster: Cluster) -> None:
    body = json.dumps(
        {"model": "smollm2-135m", "messages": [{"role": "user", "content": "x" * (33 * 2**20)}]}
    )
    try:
        status, answer = post(cluster, body.encode())
    except (BrokenPipeError, ConnectionResetError):
        pytest.fail("the gateway cut the connection without an answer")
    assert status == 413
    assert isinstance(answer["error"], dict)


def test_an_unknown_model_names_those_that_exist(cluster: Cluster) -> None:
    status, answer = post(cluster, b'{"model": "nope", "messages": []}')
    assert status == 404
    assert "smollm2-135m" in json.dumps(answer)


ROUTE = """
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: kaji, kind: Gateway, group: gateway.networking.k8s.io}}]
  rules:
  - matches: [{{headers: [{{type: Exact, name: x-ai-eg-model, value: {name}}}]}}]
    backendRefs: [{{name: {backend}}}]
"""


def test_a_route_to_a_missing_backend_says_so_and_disturbs_no_other(cluster: Cluster) -> None:
    cluster.apply(ROUTE.format(name="lost", backend="nowhere"))

    def told() -> str | None:
        text = cluster.kaji("explain", "aigatewayroute/lost").stdout
        return text if "nowhere" in text else None

    wait_until(told, "the condition names the backend")
    status, answer = wait_until(
        lambda: found if (found := post(cluster, b'{"model": "lost", "messages": []}'))[0] != 404 else None,
        "the route is known to the gateway",
    )
    assert 500 <= status < 600
    assert isinstance(answer["error"], dict)
    body = json.dumps(
        {"model": "smollm2-135m", "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]}
    )
    assert post(cluster, body.encode())[0] == 200


def test_a_missing_secret_says_so(cluster: Cluster) -> None:
    cluster.apply(
        """
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: keyed}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: 9}}]}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: keyed}
spec:
  schema: {name: OpenAI}
  backendRef: {name: keyed, kind: Backend, group: gateway.envoyproxy.io}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {name: keyed}
spec:
  targetRefs: [{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: keyed}]
  type: APIKey
  apiKey: {secretRef: {name: no-such-secret}}
"""
        + "---"
        + ROUTE.format(name="keyed", backend="keyed")
    )
    wait_until(
        lambda: (
            "no-such-secret" in cluster.kaji("explain", "backendsecuritypolicy/keyed").stdout
            or "no-such-secret" in cluster.kaji("explain", "aigatewayroute/keyed").stdout
        ),
        "a condition names the secret",
    )
    status, _ = wait_until(
        lambda: found if (found := post(cluster, b'{"model": "keyed", "messages": []}'))[0] != 404 else None,
        "the route is known to the gateway",
    )
    assert 500 <= status < 600
