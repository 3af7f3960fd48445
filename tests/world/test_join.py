"""Our nodes in a real cluster: its API server, its scheduler, its controllers; all inside a network namespace."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kajitori.laptop.apiserver import pki
from tests.world.conftest import wait_until
from tests.world.real_world import ADDRESS, World, real_world

pytestmark = [pytest.mark.world, pytest.mark.timeout(300)]

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: server
        image: python
        command: [sh, -c, "hostname > index.html; echo serving; exec python3 -u -m http.server 8000"]
        readinessProbe: {httpGet: {port: 8000, path: /}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8000}]}
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    blue = ("--gpus", "8", "--labels", "team=blue")
    with real_world(one=blue, two=("--taints", "slow=true:PreferNoSchedule")) as made:
        yield made


@pytest.fixture(scope="module")
def web(world: World) -> str:
    """A Deployment and its Service, ready; the name of a pod."""
    world.kubectl("apply", "-f", "-", stdin=WEB)
    world.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    return world.pods()[0]["metadata"]["name"]


def test_nodes_are_ready_and_say_what_they_are(world: World) -> None:
    nodes = {node["metadata"]["name"]: node for node in world.objects("nodes")}
    assert set(nodes) == {"one", "two"}
    one, two = nodes["one"], nodes["two"]
    assert one["status"]["capacity"]["nvidia.com/gpu"] == "8"
    assert one["metadata"]["labels"]["team"] == "blue"
    assert {"key": "slow", "value": "true", "effect": "PreferNoSchedule"} in two["spec"]["taints"]
    assert one["spec"]["podCIDR"] != two["spec"]["podCIDR"]
    for node in (one, two):
        conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
        for kind in ("Ready", "kajitori.dev/ServicesReachable", "kajitori.dev/ServingCertificate"):
            assert conditions[kind] == "True"
    listed = world.kaji("node", "list").stdout
    assert "one" in listed and "running" in listed


def test_pods_reach_each_other_by_service_name_and_address(world: World, web: str) -> None:
    pods = world.pods()
    ranges = {pod["status"]["podIP"].rsplit(".", 1)[0] for pod in pods}
    assert len(pods) == 2 and all(each.startswith("10.244.") for each in ranges)
    ask = "import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1]).read().decode().strip())"
    found = {
        world.kubectl("exec", web, "--", "python3", "-c", ask, "http://web.default.svc/").stdout.strip()
        for _ in range(10)
    }
    assert found <= {pod["metadata"]["name"] for pod in pods} and found
    for pod in pods:
        url = f"http://{pod['status']['podIP']}:8000/"
        answer = world.kubectl("exec", web, "--", "python3", "-c", ask, url).stdout.strip()
        assert answer == pod["metadata"]["name"]


def test_connections_of_a_pod_come_from_its_address(world: World, web: str) -> None:
    code = "import socket; print(socket.create_connection(('web', 80)).getsockname()[0])"
    address = world.kubectl("get", "pod", web, "-o", "jsonpath={.status.podIP}").stdout
    assert world.kubectl("exec", web, "--", "python3", "-c", code).stdout.strip() == address


def test_pods_find_the_api_server_by_their_environment(world: World, web: str) -> None:
    code = (
        "import os, ssl, urllib.request as u\n"
        "folder = '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "url = f\"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}/version\"\n"
        "asked = u.Request(url, headers={'Authorization': 'Bearer ' + open(folder + 'token').read()})\n"
        "print(u.urlopen(asked, context=ssl.create_default_context(cafile=folder + 'ca.crt')).read().decode())\n"
    )
    assert '"gitVersion"' in world.kubectl("exec", web, "--", "python3", "-c", code).stdout


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_kubectl_execs_copies_and_forwards_by_websocket_and_by_spdy(
    world: World, web: str, websockets: str, tmp_path: Path
) -> None:
    ways = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets, "KUBECTL_PORT_FORWARD_WEBSOCKETS": websockets}
    code = "cat; echo err >&2; exit 7"
    done = world.kubectl("exec", "-i", web, "--", "sh", "-c", code, check=False, stdin="hello\n", **ways)
    assert (done.returncode, done.stdout) == (7, "hello\n")
    assert done.stderr.startswith("err\n")
    source = tmp_path / "source"
    source.write_bytes(os.urandom(300_000))
    world.kubectl("cp", str(source), f"{web}:/tmp/copied-{websockets}", **ways)
    world.kubectl("cp", f"{web}:/tmp/copied-{websockets}", str(tmp_path / "back"), **ways)
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    world.environment |= ways
    forward = world.popen(str(world.program), "kubectl", "port-forward", web, ":8000")
    try:
        assert forward.stdout is not None and forward.stdin is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert found
        ask = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{found[1]}/').read().decode())"
        assert world.python(ask) == web
    finally:
        forward.terminate()
        forward.communicate()


def test_kubectl_follows_logs_and_attaches(world: World) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "talker"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "c",
                    "image": "busybox",
                    "stdin": True,
                    "stdinOnce": True,
                    "command": ["sh", "-c", "echo ready; read x; echo got $x"],
                }
            ],
        },
    }
    world.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    world.kubectl("wait", "--for=condition=Ready", "pod/talker", "--timeout=30s")
    follower = world.popen(str(world.program), "kubectl", "logs", "-f", "talker")
    attached = world.popen(str(world.program), "kubectl", "attach", "-i", "talker", stderr=subprocess.DEVNULL)
    output, _ = attached.communicate("hello\n", timeout=30)
    assert "got hello" in output
    logged, _ = follower.communicate(timeout=30)
    assert logged == "ready\ngot hello\n"
    world.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/talker", "--timeout=30s")
    world.kubectl("delete", "pod", "talker", "--wait")


def test_kubectl_debugs_a_pod_and_a_node(world: World, web: str) -> None:
    output = world.kubectl(
        "debug", web, "-i", "--image=busybox", "--target=server", "--container=looker", "--",
        "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
    ).stdout  # fmt: skip
    logged = world.kubectl("logs", web, "-c", "looker").stdout
    assert "http.server 8000" in output + logged
    world.kubectl(
        "debug", "node/one", "--image=busybox", "--", "sh", "-c", "ls /host/proc/1/stat; sleep 1000"
    )
    pod = next(
        each["metadata"]["name"] for each in world.pods() if "node-debugger" in each["metadata"]["name"]
    )
    wait_until(
        lambda: "/host/proc/1/stat" in world.kubectl("logs", pod, check=False).stdout, "the host is seen"
    )
    world.kubectl("delete", "pod", pod, "--grace-period=1", "--wait")


def test_pods_see_no_keys_of_the_machines_nodes(world: World, web: str) -> None:
    folder = str(world.folder / "kaji-nodes")
    assert (world.folder / "kaji-nodes" / "one" / "pki" / "node-client.pem").exists()
    seen = world.kubectl("exec", web, "--", "find", folder, "-name", "*.pem", check=False).stdout
    assert seen == ""


def test_who_may_not_is_refused_by_the_kubelet_api(world: World) -> None:
    authority = pki.Authority(world.plane / "pki")
    pair = world.folder / "stranger.pem"
    pair.write_bytes(b"".join(authority.client_certificate(pki.Identity("stranger", "stranger"))))
    code = (
        "import ssl, sys, urllib.request as u, urllib.error\n"
        "context = ssl.create_default_context(cafile=sys.argv[1])\n"
        "if sys.argv[2]: context.load_cert_chain(sys.argv[2])\n"
        "asked = u.Request(sys.argv[4], headers={'Authorization': 'Bearer ' + sys.argv[3]} if sys.argv[3] else {})\n"
        "try: print(u.urlopen(asked, context=context).status)\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    trusted = str(world.plane / "pki" / "ca.crt")
    url = f"https://{ADDRESS}:10250/pods"
    assert world.python(code, trusted, "", "", url) == "401"
    assert world.python(code, trusted, "", "nonsense", url) == "401"
    assert world.python(code, trusted, str(pair), "", url) == "403"
    world.kubectl("create", "serviceaccount", "watcher")
    world.kubectl(
        "create", "clusterrolebinding", "watcher", "--clusterrole=system:kubelet-api-admin",
        "--serviceaccount=default:watcher",
    )  # fmt: skip
    token = world.kubectl("create", "token", "watcher").stdout.strip()
    assert world.python(code, trusted, "", token, url) == "200"


def test_an_agent_that_is_killed_takes_its_pods_over_again(world: World, web: str) -> None:
    def containers() -> set[tuple[str, int]]:
        return {
            (each["containerID"], each["restartCount"])
            for pod in world.pods()
            for each in pod["status"]["containerStatuses"]
        }

    before = containers()
    old = {node: world.agent_pid(node) for node in ("one", "two")}
    for pid in old.values():
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    for node, pid in old.items():
        wait_until(lambda node=node, pid=pid: world.agent_pid(node) not in (None, pid), "another agent")
    wait_until(
        lambda: world.kubectl("exec", web, "--", "echo", "back", check=False).stdout == "back\n",
        "exec works again",
    )
    assert containers() == before


def test_a_deleted_pod_is_replaced(world: World, web: str) -> None:
    world.kubectl("delete", "pod", web, "--wait")
    world.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert web not in [pod["metadata"]["name"] for pod in world.pods()]
    assert len(world.pods()) == 2


def test_a_range_that_is_not_this_machines_is_refused_with_the_cure(world: World) -> None:
    refused = world.kaji("node", "join", "--name", "three", "--pod-cidr", "10.9.0.0/24", check=False)
    assert refused.returncode == 2
    assert "ip route add local 10.9.0.0/24 dev lo" in refused.stderr
    overlapping = world.kaji("node", "join", "--name", "three", "--pod-cidr", "10.244.0.0/16", check=False)
    assert "overlaps" in overlapping.stderr


def test_who_may_not_approve_or_bind_is_told_what_an_administrator_types(world: World) -> None:
    server = json.loads(world.kubectl("config", "view", "-o", "json").stdout)["clusters"][0]["cluster"][
        "server"
    ]
    config = world.folder / "jane.kubeconfig"
    authority = pki.Authority(world.plane / "pki")
    pki.write_kubeconfig(config, server, authority, pki.Identity("jane", "jane"))
    world.kubectl(
        "create", "clusterrole", "asks", "--verb=create,get", "--resource=certificatesigningrequests"
    )
    world.kubectl("create", "clusterrolebinding", "asks", "--clusterrole=asks", "--user=jane")
    join = (
        sys.executable,
        "-m",
        "kajitori.cli",
        "node",
        "join",
        "--kubeconfig",
        str(config),
        "--name",
        "jane",
    )
    waiting = world.popen(*join, stderr=subprocess.PIPE)
    assert waiting.stdout is not None
    line = waiting.stdout.readline()
    found = re.search(r"an administrator must type: kubectl (certificate approve \S+)", line)
    assert found, line
    world.kubectl(*found[1].split())
    _, refused = waiting.communicate(timeout=60)
    while match := re.search(r"an administrator must type: kubectl (create [^)]*)", refused):
        world.kubectl(*match[1].split())
        refused = world.run(*join, check=False).stderr
    assert "extension-apiserver-authentication-reader" in refused
    world.kubectl(
        "create", "rolebinding", "-n", "kube-system", "jane", "--user=jane",
        "--role=extension-apiserver-authentication-reader",
    )  # fmt: skip
    joined = world.run(*join).stdout
    found = re.search(
        r"an administrator must type: kubectl (certificate approve node-jane-serving\S+)", joined
    )
    assert found, joined
    condition = '{.status.conditions[?(@.type=="kajitori.dev/ServingCertificate")].status}'
    assert world.kubectl("get", "node", "jane", "-o", f"jsonpath={condition}").stdout == "False"
    world.kubectl(*found[1].split())
    world.kubectl("wait", "--for=condition=kajitori.dev/ServingCertificate", "node/jane", "--timeout=30s")
    world.kaji("node", "leave", "jane", "--kubeconfig", str(world.plane / "admin.kubeconfig"))


def test_a_node_does_nothing_that_it_may_not(world: World, web: str) -> None:
    refused: set[str] = set()
    for line in (world.plane / "audit.log").read_text().splitlines():
        event = json.loads(line)
        by_node = event["user"]["username"].startswith("system:node:")
        if by_node and event["responseStatus"].get("code") == 403:
            refused.add(f"{event['verb']} {event['objectRef']['resource']}")
    # What its pods refer to becomes readable a moment after they are bound.
    assert refused <= {"get configmaps", "get secrets", "create serviceaccounts"}


def test_a_node_that_leaves_leaves_nothing_behind(world: World, web: str) -> None:
    output = world.kaji("node", "leave", "two").stdout
    assert "drained" in output
    assert [node["metadata"]["name"] for node in world.objects("nodes")] == ["one"]
    world.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert {pod["spec"]["nodeName"] for pod in world.pods()} == {"one"}
    assert not world.objects("clusterrolebindings", "-l", "kajitori.dev/joined-node=two")
    leases = [each["metadata"]["name"] for each in world.objects("leases", "-n", "kube-node-lease")]
    assert leases == ["one"]
    assert not [each for each in world.objects("csr") if "two" in each["metadata"]["name"]]
    assert not (world.folder / "kaji-nodes" / "two").exists()
