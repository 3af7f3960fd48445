"""What objects count in quotas."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kajitori.model.pod_resources import add, amount, amounts, pod_requests
from kajitori.model.quota_usage import (
    applies,
    in_scopes,
    missing_values,
    tracked_names,
    usage_of,
)

NOW = 1_700_000_000.0
CPU = st.sampled_from(["100m", "1", "2", "0"])
MEMORY = st.sampled_from(["64Mi", "1Gi", "500M"])
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from("abc"),
            "resources": st.fixed_dictionaries(
                {"requests": st.fixed_dictionaries({}, optional={"cpu": CPU, "memory": MEMORY})}
            ),
        },
        optional={"restartPolicy": st.just("Always")},
    ),
    max_size=4,
)


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


def container(
    requests: dict[str, str], limits: dict[str, str] | None = None, name: str = "c"
) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": requests, "limits": limits or {}}}


def shown(usage: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in usage.items()}


def test_a_pod_counts_itself_and_what_it_asks_for_under_all_names() -> None:
    usage = usage_of(
        "pods",
        pod(container({"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "2"}, {"cpu": "1"})),
        NOW,
    )
    assert shown(usage) == {
        "count/pods": "1",
        "pods": "1",
        "cpu": "500m",
        "requests.cpu": "500m",
        "limits.cpu": "1",
        "memory": "1Gi",
        "requests.memory": "1Gi",
        "requests.nvidia.com/gpu": "2",
    }


def test_a_pod_that_ended_counts_as_an_object_only() -> None:
    ended = {**pod(container({"cpu": "1"})), "status": {"phase": "Succeeded"}}
    assert shown(usage_of("pods", ended, NOW)) == {"count/pods": "1"}
    stuck = pod(container({"cpu": "1"}))
    stuck["metadata"] |= {"deletionTimestamp": "2023-11-14T22:00:00Z", "deletionGracePeriodSeconds": 30}
    assert shown(usage_of("pods", stuck, NOW)) == {"count/pods": "1"}


@given(CONTAINERS, CONTAINERS)
def test_a_pod_asks_for_at_least_what_any_of_its_containers_asks_for(
    containers: list[dict[str, Any]], first: list[dict[str, Any]]
) -> None:
    total = pod_requests({"spec": {"containers": containers, "initContainers": first}})
    for one in (*containers, *first):
        for name, value in amounts(one["resources"]["requests"]).items():
            assert total[name].value >= value.value
    together: dict[str, Any] = {}
    for one in (*containers, *(c for c in first if c.get("restartPolicy"))):
        add(together, amounts(one["resources"]["requests"]))
    assert all(total[name].value >= value.value for name, value in together.items())


@given(st.lists(st.sampled_from(["1Gi", "512Mi", "1", "100m", "1k", "0"]), min_size=1))
def test_sums_are_written_so_that_they_read_as_the_same_amount(texts: list[str]) -> None:
    total = amount("0")
    for text in texts:
        total = total.plus(amount(text))
    if total.value.denominator == 1 or not total.binary:
        assert amount(str(total)).value == total.value


def test_services_count_their_node_ports_and_balancers() -> None:
    ports = [{"port": 80}, {"port": 81}]
    assert shown(usage_of("services", {"spec": {"type": "ClusterIP", "ports": ports}}, NOW)) == {
        "count/services": "1",
        "services": "1",
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }
    balanced = usage_of("services", {"spec": {"type": "LoadBalancer", "ports": ports}}, NOW)
    assert shown(balanced)["services.nodeports"] == "2"
    assert shown(balanced)["services.loadbalancers"] == "1"


def test_claims_count_under_their_storage_class_too() -> None:
    claim = {
        "metadata": {},
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}},
    }
    assert shown(usage_of("persistentvolumeclaims", claim, NOW)) == {
        "count/persistentvolumeclaims": "1",
        "persistentvolumeclaims": "1",
        "requests.storage": "1Gi",
        "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
        "gold.storageclass.storage.k8s.io/requests.storage": "1Gi",
    }


def test_other_objects_count_by_number_under_their_old_name_too() -> None:
    assert shown(usage_of("configmaps", {}, NOW)) == {"count/configmaps": "1", "configmaps": "1"}
    assert shown(usage_of("deployments.apps", {}, NOW)) == {"count/deployments.apps": "1"}
    names = ["count/deployments.apps", "deployments.apps", "pods", "requests.nvidia.com/gpu", "requests.cpu"]
    assert tracked_names("deployments.apps", names) == ["count/deployments.apps"]
    assert tracked_names("pods", names) == ["pods", "requests.nvidia.com/gpu", "requests.cpu"]


def test_scopes_choose_pods() -> None:
    plain, bounded = pod(container({})), pod(container({"cpu": "1"}), activeDeadlineSeconds=5)
    important = pod(container({}), priorityClassName="high")

    def chosen(requirement: dict[str, Any], obj: dict[str, Any]) -> bool:
        return in_scopes("pods", obj, {"scopeSelector": {"matchExpressions": [requirement]}})

    assert in_scopes("pods", plain, {"scopes": ["BestEffort", "NotTerminating"]})
    assert in_scopes("pods", bounded, {"scopes": ["NotBestEffort", "Terminating"]})
    assert not in_scopes("pods", bounded, {"scopes": ["NotBestEffort", "NotTerminating"]})
    by_class = {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}
    assert chosen(by_class, important)
    assert not chosen(by_class, plain)
    assert chosen({**by_class, "operator": "NotIn"}, plain)
    assert not chosen({"scopeName": "PriorityClass", "operator": "Exists"}, plain)
    assert not applies("configmaps", {}, {"scopes": ["BestEffort"]}, ["configmaps"])


def test_a_pod_without_what_a_quota_limits_is_told_which_containers_lack_what() -> None:
    asked = pod(container({"cpu": "1"}, name="b"), container({}, name="a"))
    assert (
        missing_values(asked, ["limits.cpu", "requests.cpu", "pods", "ephemeral-storage"])
        == "must specify limits.cpu for: a,b; requests.cpu for: a"
    )
    assert missing_values(asked, ["pods"]) == ""
