"""What the server fills in, kind by kind."""

from __future__ import annotations

import copy
import json

import pytest

from kajitori.api.resource import SERVICE_ACCOUNTS
from kajitori.laptop.apiserver.kinds import Context

UID = "6f1f0a44-63a5-4b5c-9a5e-0d5b1c7a2e11"


def test_a_pod_gets_its_defaults(take, pod_spec):
    pod = take("v1", "pods", {"spec": pod_spec, "status": {"phase": "Running"}}).obj
    spec = pod["spec"]
    assert spec["restartPolicy"] == "Always"
    assert spec["dnsPolicy"] == "ClusterFirst"
    assert spec["schedulerName"] == "default-scheduler"
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["securityContext"] == {}
    assert spec["enableServiceLinks"] is True
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert [t["key"] for t in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert pod["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert pod["metadata"]["generation"] == 1


def test_a_pod_mounts_its_service_account_token(take, pod_spec):
    spec = take("v1", "pods", {"spec": pod_spec}).obj["spec"]
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert volume["projected"]["defaultMode"] == 420
    assert volume["projected"]["sources"][0]["serviceAccountToken"] == {
        "expirationSeconds": 3607,
        "path": "token",
    }
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert mount == {
        "name": volume["name"],
        "readOnly": True,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    }


def test_a_pod_or_its_account_may_refuse_the_token(take, builtin, pod_spec):
    refused = take("v1", "pods", {"spec": {**pod_spec, "automountServiceAccountToken": False}}).obj
    assert "volumes" not in refused["spec"]
    account = {"automountServiceAccountToken": False, "imagePullSecrets": [{"name": "registry"}]}

    def lookup(resource, namespace, name):
        return account if (resource, namespace, name) == (SERVICE_ACCOUNTS, "default", "robot") else None

    pod = {
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": "nginx"}], "serviceAccountName": "robot"},
    }
    builtin.lookup("", "v1", "pods").prepare_create(pod, Context("2026-11-26T05:00:00Z", UID, lookup))
    assert "volumes" not in pod["spec"]
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_the_priority_class_sets_priority_and_preemption(builtin, pod_spec):
    found = {"value": 7, "preemptionPolicy": "Never"}
    context = Context(
        "2026-11-26T05:00:00Z", UID, lambda resource, _n, name: found if name == "low" else None
    )
    pod = {"metadata": {"name": "a", "namespace": "b"}, "spec": {**pod_spec, "priorityClassName": "low"}}
    builtin.lookup("", "v1", "pods").prepare_create(pod, context)
    assert (pod["spec"]["priority"], pod["spec"]["preemptionPolicy"]) == (7, "Never")


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:2", "IfNotPresent"),
        ("nginx@sha256:0000", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(take, image, policy):
    spec = {"containers": [{"name": "main", "image": image}]}
    assert take("v1", "pods", {"spec": spec}).obj["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_a_container_gets_its_defaults(take):
    container = {
        "name": "main",
        "image": "nginx",
        "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 80}},
        "livenessProbe": {"grpc": {"port": 9000}},
        "env": [
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        ],
    }
    made = take("v1", "pods", {"spec": {"containers": [container]}}).obj["spec"]["containers"][0]
    assert made["resources"] == {}
    assert made["terminationMessagePath"] == "/dev/termination-log"
    assert made["terminationMessagePolicy"] == "File"
    assert made["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert made["readinessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert made["livenessProbe"]["grpc"] == {"port": 9000, "service": ""}
    assert made["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert made["env"][1]["valueFrom"]["resourceFieldRef"]["divisor"] == "0"


def test_requests_follow_limits_in_pods_only(take):
    container = {"name": "main", "image": "x", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}
    pod = take("v1", "pods", {"spec": {"containers": [copy.deepcopy(container)]}}).obj
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    deployment = take("apps/v1", "deployments", {"spec": spec}).obj
    assert "requests" not in deployment["spec"]["template"]["spec"]["containers"][0]["resources"]


@pytest.mark.parametrize(
    ("limits", "requests", "quality"),
    [
        ({}, {}, "BestEffort"),
        ({"cpu": "1", "memory": "1Gi"}, {}, "Guaranteed"),
        ({"cpu": "1"}, {}, "Burstable"),
        ({}, {"memory": "1Gi"}, "Burstable"),
        ({"nvidia.com/gpu": "1"}, {}, "BestEffort"),
    ],
)
def test_the_quality_of_service_follows_requests_and_limits(take, limits, requests, quality):
    container = {"name": "main", "image": "x", "resources": {"limits": limits, "requests": requests}}
    pod = take("v1", "pods", {"spec": {"containers": [container]}}).obj
    assert pod["status"]["qosClass"] == quality


def test_volumes_get_modes_and_a_bare_one_is_an_empty_directory(take, pod_spec):
    volumes = [
        {"name": "a"},
        {"name": "b", "configMap": {"name": "c"}},
        {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        {"name": "e", "hostPath": {"path": "/tmp"}},
        {"name": "f", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    made = take("v1", "pods", {"spec": {**pod_spec, "volumes": volumes}}).obj["spec"]["volumes"]
    assert made[0] == {"name": "a", "emptyDir": {}}
    assert made[1]["configMap"]["defaultMode"] == 420
    assert made[2]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600
    assert made[3]["hostPath"]["type"] == ""
    assert made[4]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] == "v1"


def test_workloads_get_their_defaults(take, pod_spec):
    labels = {"app": "web"}
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod_spec},
    }

    def made(plural):
        taken = take("apps/v1", plural, {"spec": copy.deepcopy(spec), "status": {"replicas": 9}})
        assert taken.errors == []
        assert taken.obj["spec"]["template"]["spec"]["restartPolicy"] == "Always"
        return taken.obj

    deployment = made("deployments")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert deployment["spec"]["revisionHistoryLimit"] == 10
    assert deployment["spec"]["progressDeadlineSeconds"] == 600
    assert deployment["status"] == {}
    assert made("replicasets")["status"] == {"replicas": 0}
    stateful = made("statefulsets")["spec"]
    assert (stateful["podManagementPolicy"], stateful["replicas"]) == ("OrderedReady", 1)
    assert stateful["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert stateful["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }
    daemon = made("daemonsets")["spec"]
    assert daemon["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


def test_a_job_gets_labels_and_a_selector_of_its_own(take, pod_spec):
    taken = take("batch/v1", "jobs", {"spec": {"template": {"spec": {**pod_spec, "restartPolicy": "Never"}}}})
    assert taken.errors == []
    spec = taken.obj["spec"]
    own = {
        "batch.kubernetes.io/controller-uid": UID,
        "batch.kubernetes.io/job-name": "web",
        "controller-uid": UID,
        "job-name": "web",
    }
    assert taken.obj["metadata"]["labels"] == own
    assert spec["template"]["metadata"]["labels"] == own
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": UID}}
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (1, 1, 6)
    assert (spec["completionMode"], spec["suspend"]) == ("NonIndexed", False)


def test_a_service_gets_all_but_its_address(take):
    spec = take("v1", "services", {"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}).obj["spec"]
    assert spec["type"] == "ClusterIP"
    assert spec["sessionAffinity"] == "None"
    assert spec["internalTrafficPolicy"] == "Cluster"
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert "clusterIP" not in spec


def test_plain_text_of_a_secret_becomes_data(take):
    secret = take("v1", "secrets", {"stringData": {"a": "hello"}, "data": {"b": "aGk="}}).obj
    assert secret["type"] == "Opaque"
    assert secret["data"] == {"a": "aGVsbG8=", "b": "aGk="}
    assert "stringData" not in secret


def test_a_namespace_is_active_labelled_and_held(take):
    namespace = take("v1", "namespaces", {"metadata": {"name": "shop"}}).obj
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}
    assert namespace["spec"] == {"finalizers": ["kubernetes"]}
    assert namespace["status"] == {"phase": "Active"}


def test_a_new_node_keeps_its_status_and_is_tainted(take):
    node = take("v1", "nodes", {"metadata": {"name": "n1"}, "status": {"capacity": {"cpu": 4}}}).obj
    assert node["status"]["allocatable"] == {"cpu": "4"}
    assert node["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    assert node["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 0}}


def test_a_claim_is_pending_and_a_file_system(take):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
    claim = take("v1", "persistentvolumeclaims", {"spec": spec}).obj
    assert claim["spec"]["volumeMode"] == "Filesystem"
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"
    assert claim["status"] == {"phase": "Pending"}


def test_an_autoscaler_looks_at_cpu_and_completes_its_behaviour(take):
    spec = {
        "maxReplicas": 3,
        "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
    }
    made = take("autoscaling/v2", "horizontalpodautoscalers", {"spec": spec}).obj["spec"]
    assert made["minReplicas"] == 1
    assert made["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 80}
    assert made["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 60
    assert made["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert made["behavior"]["scaleDown"]["selectPolicy"] == "Max"


def test_bindings_name_the_group_of_roles_and_people(take):
    binding = {
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "robot"}],
    }
    made = take("rbac.authorization.k8s.io/v1", "rolebindings", binding).obj
    assert made["roleRef"]["apiGroup"] == "rbac.authorization.k8s.io"
    assert [subject.get("apiGroup") for subject in made["subjects"]] == ["rbac.authorization.k8s.io", None]


def test_what_the_server_owns_cannot_be_given(take, pod_spec):
    metadata = {
        "name": "a",
        "namespace": "default",
        "uid": "mine",
        "creationTimestamp": "2000-01-01T00:00:00Z",
        "deletionTimestamp": "2000-01-01T00:00:00Z",
        "generation": 9,
    }
    made = take("v1", "pods", {"metadata": metadata, "spec": pod_spec}).obj["metadata"]
    assert made["uid"] == UID
    assert made["creationTimestamp"] == "2026-11-26T05:00:00Z"
    assert made["generation"] == 1
    assert "deletionTimestamp" not in made


def test_defaults_settle_every_kind_so_that_a_second_look_changes_nothing(builtin, take):
    for kind in builtin.kinds():
        if "list" not in kind.verbs:
            continue
        resource = kind.resource
        first = take(resource.api_version, resource.plural, {}).obj
        again = json.loads(json.dumps(first))
        assert kind.conform(again) == [], resource
        assert again == first, resource
        kind.prepare_update(again, first, Context("2030-01-01T00:00:00Z"))
        assert again == first, resource


def test_the_generation_grows_with_the_spec_only(take, pod_spec):
    labels = {"app": "web"}
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod_spec},
    }
    old = take("apps/v1", "deployments", {"spec": spec}).obj
    labelled = copy.deepcopy(old)
    labelled["metadata"]["labels"] = {"a": "b"}
    assert take("apps/v1", "deployments", labelled, old).obj["metadata"]["generation"] == 1
    scaled = copy.deepcopy(old)
    scaled["spec"]["replicas"] = 5
    assert take("apps/v1", "deployments", scaled, old).obj["metadata"]["generation"] == 2


def test_a_status_write_changes_only_the_status_and_a_main_write_never_does(take, pod_spec):
    labels = {"app": "web"}
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod_spec},
    }
    old = take("apps/v1", "deployments", {"spec": spec}).obj
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 7
    new["status"] = {"replicas": 3}
    status_write = take("apps/v1", "deployments", copy.deepcopy(new), old, "status").obj
    assert status_write["spec"] == old["spec"]
    assert status_write["status"] == {"replicas": 3}
    assert status_write["metadata"]["generation"] == 1
    main_write = take("apps/v1", "deployments", new, old).obj
    assert main_write["spec"]["replicas"] == 7
    assert main_write["status"] == {}


# Subresources whose body is the object.


def test_only_finalize_changes_the_finalizers_of_a_namespace(take):
    old = take("v1", "namespaces", {"metadata": {"name": "shop"}}).obj
    new = copy.deepcopy(old)
    del new["spec"]["finalizers"]
    assert take("v1", "namespaces", copy.deepcopy(new), old).obj["spec"] == {"finalizers": ["kubernetes"]}
    assert take("v1", "namespaces", new, old, "finalize").obj["spec"] == {}


def test_a_debugging_container_is_added_and_stays(take, pod_spec):
    old = take("v1", "pods", {"spec": pod_spec}).obj
    new = copy.deepcopy(old)
    new["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "busybox"}]
    new["spec"]["nodeName"] = "elsewhere"
    taken = take("v1", "pods", new, old, "ephemeralcontainers")
    assert taken.errors == []
    assert "nodeName" not in taken.obj["spec"]
    assert taken.obj["spec"]["ephemeralContainers"][0]["imagePullPolicy"] == "Always"
    gone = copy.deepcopy(taken.obj)
    gone["spec"]["ephemeralContainers"] = [{"name": "main", "image": "busybox"}]
    assert take("v1", "pods", gone, taken.obj, "ephemeralcontainers").errors == [
        'spec.ephemeralContainers[0].name: Duplicate value: "main"',
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be removed\n',
    ]


def test_a_resize_changes_resources_only(take, pod_spec):
    old = take("v1", "pods", {"spec": pod_spec}).obj
    new = copy.deepcopy(old)
    new["spec"]["containers"][0] |= {"image": "other", "resources": {"limits": {"cpu": "2"}}}
    taken = take("v1", "pods", new, old, "resize")
    assert taken.errors == []
    container = taken.obj["spec"]["containers"][0]
    assert container["image"] == "nginx:1.27"
    assert container["resources"] == {"limits": {"cpu": "2"}, "requests": {"cpu": "2"}}
    assert taken.obj["metadata"]["generation"] == 2


def test_an_approval_changes_conditions_only(take):
    spec = {"request": "eA==", "signerName": "example.com/x", "usages": ["client auth"]}
    old = take("certificates.k8s.io/v1", "certificatesigningrequests", {"spec": spec}).obj
    new = copy.deepcopy(old)
    new["spec"]["signerName"] = "example.com/y"
    new["status"] = {"conditions": [{"type": "Approved", "status": "True"}], "certificate": "eA=="}
    made = take("certificates.k8s.io/v1", "certificatesigningrequests", new, old, "approval").obj
    assert made["spec"] == spec
    assert made["status"] == {"conditions": [{"type": "Approved", "status": "True"}]}
