"""Cells as `kubectl get` prints them."""

from __future__ import annotations

import pytest

from kajitori.laptop.apiserver.tables.json_path import InvalidPath, compile_path, first

NOW = 1_795_669_200.0  # 2026-11-26T05:00:00Z
CREATED = "2026-11-26T04:56:48Z"


@pytest.fixture
def row(builtin):
    """row("v1", "pods", obj) -> {column name: cell}."""

    def row_(group_version: str, plural: str, obj):
        group, _, version = group_version.rpartition("/")
        kind = builtin.lookup(group, version, plural)
        obj.setdefault("metadata", {}).setdefault("name", "web")
        obj["metadata"].setdefault("creationTimestamp", CREATED)
        cells = kind.cells(obj, NOW)
        return dict(zip([column.name for column in kind.columns], cells, strict=True))

    return row_


def running(name="main", **more):
    return {"name": name, "ready": True, "restartCount": 0, "state": {"running": {}}, **more}


def pod(containers=1, inits=(), **status):
    return {
        "metadata": {"name": "web", "creationTimestamp": CREATED},
        "spec": {
            "containers": [{"name": f"c{i}", "image": "x"} for i in range(containers)],
            "initContainers": list(inits),
        },
        "status": {"phase": "Running", **status},
    }


def test_every_listed_kind_has_a_cell_for_each_column(builtin):
    for kind in builtin.kinds():
        if "list" in kind.verbs:
            assert len(kind.cells({"metadata": {"name": "a"}}, NOW)) == len(kind.columns), kind


def test_the_wide_columns_of_pods_end_with_what_is_simulated(builtin):
    columns = builtin.lookup("", "v1", "pods").columns
    assert [column.name for column in columns if column.priority == 0] == [
        "Name",
        "Ready",
        "Status",
        "Restarts",
        "Age",
    ]
    assert [column.name for column in columns if column.priority == 1] == [
        "IP",
        "Node",
        "Nominated Node",
        "Readiness Gates",
        "Simulated",
    ]
    assert columns[0].format == "name"


def test_a_running_pod(row):
    condition = {"type": "kajitori.dev/Simulated", "status": "True", "reason": "SimulatedEngine"}
    obj = pod(
        containerStatuses=[running()],
        conditions=[{"type": "Ready", "status": "True"}, {**condition, "message": "vLLM, 8 x H200"}],
        podIPs=[{"ip": "127.16.0.2"}],
    )
    obj["spec"]["nodeName"] = "node-1"
    assert row("v1", "pods", obj) == {
        "Name": "web",
        "Ready": "1/1",
        "Status": "Running",
        "Restarts": "0",
        "Age": "3m12s",
        "IP": "127.16.0.2",
        "Node": "node-1",
        "Nominated Node": "<none>",
        "Readiness Gates": "<none>",
        "Simulated": "vLLM, 8 x H200",
    }


def test_restarts_say_when_the_last_one_was(row):
    ended = {"terminated": {"exitCode": 1, "finishedAt": "2026-11-26T04:55:00Z"}}
    obj = pod(containerStatuses=[running(restartCount=2, lastState=ended)])
    assert row("v1", "pods", obj)["Restarts"] == "2 (5m ago)"


@pytest.mark.parametrize(
    ("obj", "status"),
    [
        (pod(phase="Pending"), "Pending"),
        (pod(phase="Failed", reason="Evicted"), "Evicted"),
        (
            pod(phase="Pending", conditions=[{"type": "PodScheduled", "reason": "SchedulingGated"}]),
            "SchedulingGated",
        ),
        (
            pod(
                containerStatuses=[{"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 1}]
            ),
            "CrashLoopBackOff",
        ),
        (
            pod(phase="Succeeded", containerStatuses=[{"state": {"terminated": {"reason": "Completed"}}}]),
            "Completed",
        ),
        (pod(containerStatuses=[{"state": {"terminated": {"exitCode": 3}}}]), "ExitCode:3"),
        (pod(containerStatuses=[{"state": {"terminated": {"exitCode": 137, "signal": 9}}}]), "Signal:9"),
        (
            pod(2, containerStatuses=[{"state": {"terminated": {"reason": "Completed"}}}, running("c1")]),
            "NotReady",
        ),
        (
            pod(
                2,
                containerStatuses=[{"state": {"terminated": {"reason": "Completed"}}}, running("c1")],
                conditions=[{"type": "Ready", "status": "True"}],
            ),
            "Running",
        ),
        (
            pod(
                2,
                containerStatuses=[
                    {"state": {"terminated": {"reason": "Completed", "exitCode": 0}}},
                    {"state": {"terminated": {"reason": "Error", "exitCode": 1}}},
                ],
            ),
            "Error",
        ),
        (
            pod(inits=[{"name": "i"}, {"name": "j"}], initContainerStatuses=[{"name": "i", "state": {}}]),
            "Init:0/2",
        ),
        (
            pod(
                inits=[{"name": "i"}, {"name": "j"}],
                initContainerStatuses=[
                    {"name": "i", "state": {"terminated": {"exitCode": 0}}},
                    {"name": "j", "state": {"waiting": {"reason": "ErrImagePull"}}},
                ],
            ),
            "Init:ErrImagePull",
        ),
        (
            pod(
                inits=[{"name": "i"}],
                initContainerStatuses=[{"name": "i", "state": {"terminated": {"exitCode": 2}}}],
            ),
            "Init:ExitCode:2",
        ),
    ],
)
def test_the_status_of_a_pod_sums_up_its_containers(row, obj, status):
    assert row("v1", "pods", obj)["Status"] == status


def test_a_deleted_pod_is_terminating_unless_its_node_is_lost(row):
    obj = pod(containerStatuses=[running()])
    obj["metadata"]["deletionTimestamp"] = CREATED
    assert row("v1", "pods", obj)["Status"] == "Terminating"
    obj["status"]["reason"] = "NodeLost"
    assert row("v1", "pods", obj)["Status"] == "Unknown"


def test_sidecars_count_among_the_containers(row):
    obj = pod(
        inits=[{"name": "side", "restartPolicy": "Always"}],
        initContainerStatuses=[{"name": "side", "started": True, "ready": True, "state": {"running": {}}}],
        containerStatuses=[running("c0")],
    )
    shown = row("v1", "pods", obj)
    assert (shown["Status"], shown["Ready"]) == ("Running", "2/2")


def test_a_node(row):
    node = {
        "metadata": {"labels": {"node-role.kubernetes.io/worker": ""}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.36.3", "kernelVersion": "6.1", "architecture": "amd64"},
        },
    }
    assert row("v1", "nodes", node) == {
        "Name": "web",
        "Status": "Ready,SchedulingDisabled",
        "Roles": "worker",
        "Age": "3m12s",
        "Version": "v1.36.3",
        "Internal-IP": "127.0.0.1",
        "External-IP": "<none>",
        "OS-Image": "<unknown>",
        "Kernel-Version": "6.1 (amd64)",
        "Container-Runtime": "<unknown>",
    }
    assert row("v1", "nodes", {})["Status"] == "Unknown"


def test_a_deployment_and_its_selector(row):
    spec = {
        "replicas": 3,
        "selector": {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["b", "a"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        },
        "template": {"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}},
    }
    cells = row(
        "apps/v1", "deployments", {"spec": spec, "status": {"readyReplicas": 1, "updatedReplicas": 2}}
    )
    assert (cells["Ready"], cells["Up-to-date"], cells["Available"]) == ("1/3", 2, 0)
    assert (cells["Containers"], cells["Images"]) == ("a,b", "x,y")
    assert cells["Selector"] == "app=web,!old,tier in (a,b)"


@pytest.mark.parametrize(
    ("spec", "address", "external", "ports"),
    [
        ({"type": "ClusterIP", "clusterIPs": ["127.31.0.1"]}, "127.31.0.1", "<none>", "<none>"),
        (
            {"type": "NodePort", "clusterIP": "127.31.0.1", "ports": [{"port": 80, "nodePort": 30080}]},
            "127.31.0.1",
            "<none>",
            "80:30080/TCP",
        ),
        (
            {"type": "LoadBalancer", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]},
            "<none>",
            "<pending>",
            "80/TCP,53/UDP",
        ),
        ({"type": "ExternalName", "externalName": "example.com"}, "<none>", "example.com", "<none>"),
    ],
)
def test_a_service(row, spec, address, external, ports):
    cells = row("v1", "services", {"spec": spec})
    assert (cells["Cluster-IP"], cells["External-IP"], cells["Port(s)"]) == (address, external, ports)


def test_long_lists_are_cut_short(row):
    endpoints = [{"addresses": [f"127.16.0.{i}"]} for i in range(1, 6)]
    cells = row(
        "discovery.k8s.io/v1",
        "endpointslices",
        {"addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 80}]},
    )
    assert cells["Endpoints"] == "127.16.0.1,127.16.0.2,127.16.0.3 + 2 more..."
    assert cells["Ports"] == "80"


def test_events_of_both_groups_look_alike(row):
    core = {
        "lastTimestamp": "2026-11-26T04:59:00Z",
        "firstTimestamp": "2026-11-26T04:58:00Z",
        "count": 3,
        "type": "Normal",
        "reason": "Started",
        "message": "Started it\n",
        "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{main}"},
        "source": {"component": "kubelet", "host": "node-1"},
    }
    new = {
        "deprecatedLastTimestamp": core["lastTimestamp"],
        "deprecatedFirstTimestamp": core["firstTimestamp"],
        "deprecatedCount": 3,
        "type": "Normal",
        "reason": "Started",
        "note": "Started it\n",
        "regarding": core["involvedObject"],
        "deprecatedSource": core["source"],
    }
    cells = row("v1", "events", core)
    assert cells == row("events.k8s.io/v1", "events", new)
    assert (cells["Last Seen"], cells["First Seen"], cells["Count"]) == ("60s", "2m", 3)
    assert (cells["Object"], cells["Source"], cells["Message"]) == (
        "pod/web",
        "kubelet, node-1",
        "Started it",
    )


def test_a_job_and_how_long_it_ran(row):
    status = {
        "startTime": "2026-11-26T04:50:00Z",
        "completionTime": "2026-11-26T04:51:30Z",
        "succeeded": 1,
        "conditions": [{"type": "Complete", "status": "True"}],
    }
    cells = row("batch/v1", "jobs", {"spec": {"completions": 1}, "status": status})
    assert (cells["Status"], cells["Completions"], cells["Duration"]) == ("Complete", "1/1", "90s")


def test_an_autoscaler_shows_what_it_sees_and_wants(row):
    spec = {
        "scaleTargetRef": {"kind": "Deployment", "name": "web"},
        "minReplicas": 1,
        "maxReplicas": 5,
        "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}},
            {"type": "Pods", "pods": {"target": {"averageValue": "5"}}},
            {"type": "External", "external": {"target": {"averageValue": "2"}}},
        ],
    }
    current = [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}}]
    cells = row(
        "autoscaling/v2", "horizontalpodautoscalers", {"spec": spec, "status": {"currentMetrics": current}}
    )
    assert cells["Targets"] == "cpu: 12%/80%, <unknown>/5 + 1 more..."


# Custom resources.


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.replicas", [2]),
        ("{.spec.replicas}", [2]),
        (".status.conditions[?(@.type=='Ready')].status", ["True"]),
        ('.status.conditions[?(@.type == "Ready")].status', ["True"]),
        (".status.conditions[?(@.age>3)].type", ["Old"]),
        (".status.conditions[?(@.age)].type", ["Old"]),
        (".spec.hosts[*]", ["a", "b", "c"]),
        (".spec.hosts[0]", ["a"]),
        (".spec.hosts[-1]", ["c"]),
        (".spec.hosts[0:2]", ["a", "b"]),
        (".metadata.labels['a\\.b/c']", ["x"]),
        (".metadata.labels.a\\.b/c", ["x"]),
        ("..type", ["Ready", "Old"]),
        (".spec.none", []),
        (".spec.hosts[9]", []),
        (".spec.replicas.deeper", []),
    ],
)
def test_json_paths(path, found):
    obj = {
        "metadata": {"labels": {"a.b/c": "x"}},
        "spec": {"replicas": 2, "hosts": ["a", "b", "c"]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "age": 4}]},
    }
    assert list(compile_path(path)(obj)) == found
    assert first(path, obj) == (found[0] if found else None)


@pytest.mark.parametrize("path", [".spec[", ".spec[?(x)]", "[abc]"])
def test_a_path_that_makes_no_sense_is_refused(path):
    with pytest.raises(InvalidPath):
        compile_path(path)
