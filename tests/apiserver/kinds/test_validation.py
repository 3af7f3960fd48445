"""What breaks the rules, and the words for it."""

from __future__ import annotations

import copy

import pytest

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end"
    " with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start"
    " and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    r" '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


@pytest.fixture
def workload(pod_spec):
    labels = {"app": "web"}
    return {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod_spec},
    }


@pytest.fixture
def pod(take):
    """pod(container fields, spec fields) -> errors."""

    def errors(container=None, **spec):
        main = {"name": "main", "image": "nginx", **(container or {})}
        return take("v1", "pods", {"spec": {"containers": [main], **spec}}).errors

    return errors


def test_a_name_that_is_no_subdomain(take):
    assert take("v1", "configmaps", {"metadata": {"name": "Bad_Name"}}).errors == [
        f'metadata.name: Invalid value: "Bad_Name": {SUBDOMAIN}'
    ]


def test_a_name_is_needed(take):
    errors = take("v1", "configmaps", {"metadata": {"name": ""}}).errors
    assert errors == ["metadata.name: Required value: name or generateName is required"]


def test_service_names_are_labels_and_namespaces_have_no_dots(take):
    (error,) = take("v1", "services", {"metadata": {"name": "A"}, "spec": {"ports": [{"port": 1}]}}).errors
    assert "a lowercase RFC 1123 label must consist of" in error
    assert not take("v1", "services", {"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 1}]}}).errors
    (error,) = take("v1", "namespaces", {"metadata": {"name": "a.b"}}).errors
    assert error == 'metadata.name: Invalid value: "a.b": must not contain dots'


def test_role_names_are_free_but_for_slashes(take):
    rules = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
    group = "rbac.authorization.k8s.io/v1"
    assert take(group, "roles", {"metadata": {"name": "system:Some_Role"}, "rules": rules}).errors == []
    (error,) = take(group, "roles", {"metadata": {"name": "a/b"}, "rules": rules}).errors
    assert error == "metadata.name: Invalid value: \"a/b\": may not contain '/'"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"a b": "c"}, "name part must consist of alphanumeric characters, '-', '_' or '.'"),
        ({"a": "c d"}, "a valid label must be an empty string or consist of"),
        ({"a": "x" * 64}, "must be no more than 63 bytes"),
        ({"/a": "b"}, "prefix part must be non-empty"),
        ({"A.com/a": "b"}, "prefix part a lowercase RFC 1123 subdomain"),
    ],
)
def test_labels_have_a_form(take, labels, words):
    errors = take("v1", "configmaps", {"metadata": {"labels": labels}}).errors
    assert any(words in error for error in errors)


def test_annotations_have_a_limit(take):
    big = {"a": "x" * (256 << 10)}
    (error,) = take("v1", "configmaps", {"metadata": {"annotations": big}}).errors
    assert error == "metadata.annotations: Too long: may not be more than 262144 bytes"


def test_owners_have_uids_and_one_controls(take):
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "1", "controller": True}
    errors = take(
        "v1", "configmaps", {"metadata": {"ownerReferences": [owner, {**owner, "name": "b", "uid": ""}]}}
    ).errors
    assert 'metadata.ownerReferences.uid: Invalid value: "": must not be empty' in errors
    assert any("Only one reference can have Controller set to true" in error for error in errors)


def test_finalizers_are_qualified_and_only_shrink_while_deleting(take):
    (error,) = take("v1", "configmaps", {"metadata": {"finalizers": ["mine"]}}).errors
    assert "name is neither a standard finalizer name nor is it fully qualified" in error
    old = take("v1", "configmaps", {"metadata": {"finalizers": ["x/f"]}}).obj
    old["metadata"]["deletionTimestamp"] = "2026-11-26T06:00:00Z"
    new = copy.deepcopy(old)
    new["metadata"]["finalizers"] = ["x/f", "x/g"]
    assert take("v1", "configmaps", new, old).errors == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new"
        ' finalizers []string{"x/g"}'
    ]


# Pods.


def test_a_pod_needs_containers(take):
    assert take("v1", "pods", {"spec": {}}).errors == ["spec.containers: Required value"]


def test_a_container_needs_a_name_and_an_image(take):
    errors = take("v1", "pods", {"spec": {"containers": [{"name": "A"}, {"image": "x"}]}}).errors
    assert errors == [
        f'spec.containers[0].name: Invalid value: "A": {LABEL}',
        "spec.containers[0].image: Required value",
        "spec.containers[1].name: Required value",
    ]


@pytest.mark.parametrize(
    ("container", "error"),
    [
        (
            {"ports": [{"containerPort": 99999}]},
            "spec.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
        ),
        (
            {"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]},
            'spec.containers[0].ports[1].name: Duplicate value: "a"',
        ),
        ({"env": [{"value": "x"}]}, "spec.containers[0].env[0].name: Required value"),
        (
            {"volumeMounts": [{"name": "v", "mountPath": "/x"}]},
            'spec.containers[0].volumeMounts[0].name: Not found: "v"',
        ),
        (
            {"livenessProbe": {}},
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            {"readinessProbe": {"tcpSocket": {"port": 1}, "exec": {"command": ["x"]}}},
            "spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        ),
        (
            {"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}},
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            {"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}},
            'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            {"resources": {"limits": {"nvidia.com/gpu": "500m"}}},
            'spec.containers[0].resources.limits[nvidia.com/gpu]: Invalid value: "500m": must be an integer',
        ),
        (
            {"resources": {"limits": {"cpu": "-1"}}},
            'spec.containers[0].resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0',
        ),
        (
            {"imagePullPolicy": "Sometimes"},
            'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always",'
            ' "IfNotPresent", "Never"',
        ),
        (
            {"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
            'spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty',
        ),
        (
            {"lifecycle": {"preStop": {"exec": {}}}},
            "spec.containers[0].lifecycle.preStop.exec.command: Required value",
        ),
    ],
)
def test_a_container_that_breaks_a_rule(pod, container, error):
    assert error in pod(container)


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (
            {"restartPolicy": "Sometimes"},
            'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
        ),
        ({"volumes": [{"name": "a", "secret": {}}]}, "spec.volumes[0].secret.secretName: Required value"),
        (
            {"volumes": [{"name": "a"}, {"name": "a"}]},
            'spec.volumes[1].name: Duplicate value: "a"',
        ),
        (
            {"volumes": [{"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}]},
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        ({"hostname": "A"}, f'spec.hostname: Invalid value: "A": {LABEL}'),
        (
            {"activeDeadlineSeconds": 0},
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            {"tolerations": [{"operator": "Equal", "value": "x"}]},
            'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty,'
            ' which means "match all values and all keys"',
        ),
        (
            {"initContainers": [{"name": "main", "image": "x"}]},
            'spec.initContainers[0].name: Duplicate value: "main"',
        ),
        (
            {"initContainers": [{"name": "i", "image": "x", "livenessProbe": {"tcpSocket": {"port": 1}}}]},
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without"
            " restartPolicy=Always",
        ),
        (
            {
                "affinity": {
                    "podAntiAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]
                    }
                }
            },
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required"
            " value: can not be empty",
        ),
    ],
)
def test_a_pod_spec_that_breaks_a_rule(pod, spec, error):
    assert error in pod(None, **spec)


def test_a_running_pod_may_change_its_image_and_little_else(take, pod_spec):
    old = take("v1", "pods", {"spec": pod_spec}).obj
    new = copy.deepcopy(old)
    new["spec"]["containers"][0]["image"] = "nginx:2"
    new["spec"]["tolerations"].append({"key": "a", "operator": "Exists"})
    assert take("v1", "pods", new, old).errors == []
    new["spec"]["nodeSelector"] = {"a": "b"}
    (error,) = take("v1", "pods", new, old).errors
    assert error.startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations`"
    )
    assert error.endswith("changed: spec.nodeSelector")


def test_a_pod_keeps_its_containers_and_tolerations(take, pod_spec):
    old = take("v1", "pods", {"spec": pod_spec}).obj
    more = copy.deepcopy(old)
    more["spec"]["containers"].append({"name": "b", "image": "x"})
    assert "spec.containers: Forbidden: pod updates may not add or remove containers" in (
        take("v1", "pods", more, old).errors
    )
    fewer = copy.deepcopy(old)
    del fewer["spec"]["tolerations"][0]
    assert any(
        "existing toleration can not be modified except its tolerationSeconds" in error
        for error in take("v1", "pods", fewer, old).errors
    )


# Workloads.


def test_a_deployment_needs_a_selector(take, workload):
    del workload["selector"]
    assert take("apps/v1", "deployments", {"spec": workload}).errors == [
        "spec.selector: Required value",
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`',
    ]


def test_a_selector_must_match_the_template(take, workload):
    workload["selector"] = {"matchLabels": {"app": "other"}}
    assert take("apps/v1", "deployments", {"spec": workload}).errors == [
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
    ]


def test_a_selector_cannot_change(take, workload):
    old = take("apps/v1", "deployments", {"spec": workload}).obj
    new = copy.deepcopy(old)
    new["spec"]["selector"]["matchLabels"]["tier"] = new["spec"]["template"]["metadata"]["labels"]["tier"] = (
        "x"
    )
    assert take("apps/v1", "deployments", new, old).errors == [
        'spec.selector: Invalid value: {"matchLabels":{"app":"web","tier":"x"}}: field is immutable'
    ]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}},
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": "half"}}},
            'spec.strategy.rollingUpdate.maxSurge: Invalid value: "half": a valid percent string must be a numeric'
            " string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ),
        (
            {"strategy": {"type": "Recreate", "rollingUpdate": {}}},
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            {"minReadySeconds": 700},
            "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
        ),
    ],
)
def test_a_deployment_that_breaks_a_rule(take, workload, change, error):
    assert error in take("apps/v1", "deployments", {"spec": {**workload, **change}}).errors


def test_a_template_restarts_always(take, workload):
    workload["template"]["spec"]["restartPolicy"] = "Never"
    for plural in ("deployments", "replicasets", "daemonsets", "statefulsets"):
        assert take("apps/v1", plural, {"spec": copy.deepcopy(workload)}).errors == [
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'
        ]


def test_a_stateful_set_mounts_its_claims_and_changes_little(take, workload):
    workload["template"]["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/d"}]
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    taken = take("apps/v1", "statefulsets", {"spec": {**workload, "volumeClaimTemplates": [claim]}})
    assert taken.errors == []
    new = copy.deepcopy(taken.obj)
    new["spec"]["serviceName"] = "other"
    (error,) = take("apps/v1", "statefulsets", new, taken.obj).errors
    assert error.startswith("spec: Forbidden: updates to statefulset spec for fields other than 'replicas'")


def test_a_job_ends_and_keeps_its_template(take, pod_spec):
    spec = {"template": {"spec": {**pod_spec}}}
    assert take("batch/v1", "jobs", {"spec": copy.deepcopy(spec)}).errors == [
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    ]
    spec["template"]["spec"]["restartPolicy"] = "Never"
    old = take("batch/v1", "jobs", {"spec": spec}).obj
    new = copy.deepcopy(old)
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    (error,) = take("batch/v1", "jobs", new, old).errors
    assert error.startswith("spec.template: Invalid value: ")
    assert error.endswith("field is immutable")


@pytest.mark.parametrize(
    ("schedule", "fine"),
    [
        ("*/5 * * * *", True),
        ("0 0 1,15 * MON-FRI", True),
        ("@hourly", True),
        ("@every 5m", True),
        ("* * * *", False),
        ("TZ=UTC * * * * *", False),
        ("", False),
        ("whenever it suits", False),
    ],
)
def test_a_schedule_has_five_fields(take, pod_spec, schedule, fine):
    job = {"template": {"spec": {**pod_spec, "restartPolicy": "Never"}}}
    errors = take(
        "batch/v1", "cronjobs", {"spec": {"schedule": schedule, "jobTemplate": {"spec": job}}}
    ).errors
    assert (errors == []) is fine
    assert all(error.startswith("spec.schedule: ") for error in errors)


# Networking.


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({}, "spec.ports: Required value"),
        ({"ports": [{"port": 1}, {"port": 2}]}, "spec.ports[0].name: Required value"),
        (
            {"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]},
            'spec.ports[1]: Duplicate value: {"protocol":"TCP","port":1}',
        ),
        ({"type": "ExternalName"}, "spec.externalName: Required value"),
        (
            {"type": "Odd", "ports": [{"port": 1}]},
            'spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", "LoadBalancer",'
            ' "NodePort"',
        ),
        (
            {"ports": [{"port": 1, "nodePort": 30000}]},
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
    ],
)
def test_a_service_that_breaks_a_rule(take, spec, error):
    assert error in take("v1", "services", {"spec": spec}).errors


def test_headless_services_need_no_ports(take):
    assert take("v1", "services", {"spec": {"clusterIP": "None"}}).errors == []


def test_the_address_of_a_service_stays(take):
    old = take("v1", "services", {"spec": {"ports": [{"port": 1}], "clusterIP": "127.31.0.9"}}).obj
    old["spec"]["clusterIPs"] = ["127.31.0.9"]
    new = copy.deepcopy(old)
    new["spec"]["clusterIP"], new["spec"]["clusterIPs"] = "127.31.0.10", ["127.31.0.10"]
    assert take("v1", "services", new, old).errors == [
        'spec.clusterIPs[0]: Invalid value: ["127.31.0.10"]: may not change once set'
    ]


def test_endpoints_may_be_loopback_addresses_but_must_be_addresses(take):
    def errors(address, kind="IPv4"):
        obj = {"addressType": kind, "endpoints": [{"addresses": [address]}], "ports": [{"port": 80}]}
        return take("discovery.k8s.io/v1", "endpointslices", obj).errors

    assert errors("127.16.0.3") == []
    assert errors("::1", "IPv6") == []
    assert "must be an IPv4 address" in errors("::1")[0]
    assert "must be a valid IP address" in errors("web.default")[0]
    assert "link-local" in errors("169.254.0.1")[0]


def test_an_ingress_leads_somewhere(take):
    group = "networking.k8s.io/v1"
    assert take(group, "ingresses", {"spec": {}}).errors == [
        "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"
    ]
    rule = {"http": {"paths": [{"path": "x", "pathType": "Prefix", "backend": {"service": {"name": "a"}}}]}}
    assert take(group, "ingresses", {"spec": {"rules": [rule]}}).errors == [
        'spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path',
        "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
    ]


# Configuration.


def test_config_maps_have_keys_that_could_be_files_and_a_limit(take):
    (error,) = take("v1", "configmaps", {"data": {"a b": "x"}}).errors
    assert error.startswith('data[a b]: Invalid value: "a b": a valid config key must consist of')
    (error,) = take("v1", "configmaps", {"data": {"a": "x" * ((1 << 20) + 1)}}).errors
    assert error == "[]: Too long: may not be more than 1048576 bytes"


def test_immutable_data_stays(take):
    for plural, data in (("configmaps", {"a": "eA=="}), ("secrets", {"a": "eA=="})):
        old = take("v1", plural, {"data": data, "immutable": True}).obj
        new = copy.deepcopy(old)
        new["data"] = {"a": "eQ=="}
        assert take("v1", plural, new, old).errors == [
            "data: Forbidden: field is immutable when `immutable` is set"
        ]


def test_a_secret_has_the_keys_of_its_type(take):
    assert take("v1", "secrets", {"type": "kubernetes.io/tls"}).errors == [
        "data[tls.crt]: Required value",
        "data[tls.key]: Required value",
    ]


def test_roles_say_what_they_allow(take):
    group = "rbac.authorization.k8s.io/v1"
    assert take(group, "roles", {"rules": [{}]}).errors == [
        "rules[0].verbs: Required value: verbs must contain at least one value",
        "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
        "rules[0].resources: Required value: resource rules must supply at least one resource",
    ]


def test_a_binding_keeps_its_role(take):
    group = "rbac.authorization.k8s.io/v1"
    old = take(group, "clusterrolebindings", {"roleRef": {"kind": "ClusterRole", "name": "a"}}).obj
    new = copy.deepcopy(old)
    new["roleRef"]["name"] = "b"
    (error,) = take(group, "clusterrolebindings", new, old).errors
    assert error.endswith("cannot change roleRef")


def test_a_claim_asks_for_something_and_grows_only_when_bound(take):
    assert take("v1", "persistentvolumeclaims", {"spec": {}}).errors == [
        "spec.accessModes: Required value: at least 1 access mode is required",
        "spec.resources[storage]: Required value",
    ]
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    old = take("v1", "persistentvolumeclaims", {"spec": spec}).obj
    new = copy.deepcopy(old)
    new["spec"]["resources"]["requests"]["storage"] = "2Gi"
    (error,) = take("v1", "persistentvolumeclaims", new, old).errors
    assert error.startswith("spec: Forbidden: spec is immutable after creation except resources.requests")
    old["status"]["phase"] = "Bound"
    assert take("v1", "persistentvolumeclaims", new, old).errors == []


def test_an_event_of_the_new_group_says_who_what_and_when(take):
    errors = take("events.k8s.io/v1", "events", {}).errors
    assert "eventTime: Required value" in errors
    assert "reportingController: Required value" in errors
    event = {
        "eventTime": "2026-11-26T05:00:00.000000Z",
        "type": "Normal",
        "reason": "Tested",
        "action": "Test",
        "reportingController": "kajitori.dev/test",
        "reportingInstance": "here",
        "regarding": {"kind": "Pod", "name": "a", "namespace": "default"},
    }
    assert take("events.k8s.io/v1", "events", event).errors == []


def test_a_lease_lasts(take):
    errors = take("coordination.k8s.io/v1", "leases", {"spec": {"leaseDurationSeconds": 0}}).errors
    assert errors == ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]


def test_priorities_have_a_ceiling_and_stay(take):
    group = "scheduling.k8s.io/v1"
    assert take(group, "priorityclasses", {"value": 2_000_000_000}).errors == [
        "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"
    ]
    old = take(group, "priorityclasses", {"value": 5}).obj
    assert take(group, "priorityclasses", {**copy.deepcopy(old), "value": 6}, old).errors == [
        "value: Forbidden: may not be changed in an update."
    ]


# Definitions of custom kinds, and advice.


def test_a_definition_must_be_one(take):
    group = "apiextensions.k8s.io/v1"
    errors = take(group, "customresourcedefinitions", {"metadata": {"name": "a.b"}, "spec": {}}).errors
    assert any(error.startswith("spec.scope: Required value") for error in errors)


def test_a_hidden_variable_is_told(builtin, take, pod_spec):
    pod_spec["containers"][0]["env"] = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    taken = take("v1", "pods", {"spec": pod_spec})
    assert taken.errors == []
    assert builtin.lookup("", "v1", "pods").warnings_about(taken.obj) == [
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply'
    ]
