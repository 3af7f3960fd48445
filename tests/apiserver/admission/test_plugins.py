"""What the server asks of objects by itself: quotas, limit ranges, priorities, storage, pod security."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.apiserver.core.conftest import CONFIG_MAPS, PODS, config_map, pod
from tests.wire import Api, Object

QUOTAS = "/api/v1/namespaces/default/resourcequotas"
LIMITS = "/api/v1/namespaces/default/limitranges"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"


async def quota(api: Api, name: str, hard: Object, used: Object | None = None, **spec: Any) -> None:
    """A quota whose status is there, as its controller makes it."""
    (await api.create(QUOTAS, {"metadata": {"name": name}, "spec": {"hard": hard, **spec}})).ok()
    status = {"hard": hard, "used": dict.fromkeys(hard, "0") if used is None else used}
    (await api.merge(f"{QUOTAS}/{name}/status", {"status": status})).ok()


async def used(api: Api, name: str) -> Object:
    return (await api.get(f"{QUOTAS}/{name}")).ok()["status"]["used"]


async def test_fifty_at_once_never_exceed_a_quota(api: Api) -> None:
    await quota(api, "q", {"configmaps": "20", "count/configmaps": "30"})
    answers = await asyncio.gather(*(api.create(CONFIG_MAPS, config_map(f"c{n}")) for n in range(50)))
    assert sorted(answer.code for answer in answers) == [201] * 20 + [403] * 30
    assert await used(api, "q") == {"configmaps": "20", "count/configmaps": "20"}
    assert len((await api.get(CONFIG_MAPS)).ok()["items"]) == 20
    refused = next(answer for answer in answers if answer.code == 403)
    assert refused.json["message"].endswith(
        "is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=20, limited: configmaps=20"
    )


async def test_two_quotas_are_charged_together_or_not_at_all(api: Api) -> None:
    await quota(api, "a", {"configmaps": "2"})
    await quota(api, "b", {"configmaps": "1"})
    (await api.create(CONFIG_MAPS, config_map("x"))).ok()
    assert (await api.create(CONFIG_MAPS, config_map("y"))).code == 403
    assert await used(api, "a") == {"configmaps": "1"}
    assert (await api.create(CONFIG_MAPS, config_map("x"))).code == 409
    assert await used(api, "a") == {"configmaps": "1"}


async def test_pods_are_charged_for_what_they_ask(ready: Api) -> None:
    await quota(ready, "q", {"requests.cpu": "1", "limits.memory": "1Gi", "requests.nvidia.com/gpu": "2"})
    answer = await ready.create(PODS, pod("a"))
    assert answer.json["message"] == (
        'pods "a" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c'
    )
    asked = pod("b")
    asked["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "600m"},
        "limits": {"memory": "512Mi", "nvidia.com/gpu": "1"},
    }
    (await ready.create(PODS, asked, dryRun="All")).ok()
    (await ready.create(PODS, asked)).ok()
    assert await used(ready, "q") == {
        "requests.cpu": "600m",
        "limits.memory": "512Mi",
        "requests.nvidia.com/gpu": "1",
    }
    asked["metadata"]["name"] = "c"
    answer = await ready.create(PODS, asked)
    assert answer.json["message"].endswith(
        "exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1"
    )


async def test_scopes_choose_pods_and_a_quota_without_status_lets_none_in(ready: Api) -> None:
    await quota(ready, "q", {"pods": "0"}, scopes=["Terminating"])
    (await ready.create(PODS, pod("a"))).ok()
    assert (await ready.create(PODS, pod("b", activeDeadlineSeconds=10))).code == 403
    (await ready.delete(f"{QUOTAS}/q")).ok()
    await quota(ready, "unknown", {"pods": "5"}, used={})
    answer = await ready.create(PODS, pod("c"))
    assert answer.json["message"].endswith("status unknown for quota: unknown, resources: pods")


async def test_services_are_charged_for_the_difference_when_they_change(api: Api) -> None:
    await quota(api, "q", {"services": "1", "services.nodeports": "1"})
    services = "/api/v1/namespaces/default/services"
    (await api.create(services, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).ok()
    (await api.merge(f"{services}/s", {"spec": {"type": "NodePort"}})).ok()
    assert await used(api, "q") == {"services": "1", "services.nodeports": "1"}
    more = {"spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}}
    assert (await api.merge(f"{services}/s", more)).code == 403


async def test_limit_ranges_fill_in_what_containers_leave_open(ready: Api) -> None:
    limit = {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}}
    (await ready.create(LIMITS, {"metadata": {"name": "l"}, "spec": {"limits": [limit]}})).ok()
    made = (await ready.create(PODS, pod("p"))).ok()
    assert made["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "500m"},
        "requests": {"cpu": "100m"},
    }
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    )
    assert made["status"]["qosClass"] == "Burstable"


@pytest.mark.parametrize(
    ("limit", "requests", "limits", "words"),
    [
        ({"type": "Pod", "min": {"cpu": "1"}}, {}, {}, "minimum cpu usage per Pod is 1.  No request is specified"),
        ({"min": {"cpu": "1"}}, {"cpu": "100m"}, {}, "minimum cpu usage per Container is 1, but request is 100m"),
        ({"max": {"memory": "1Gi"}}, {}, {"memory": "2Gi"}, "maximum memory usage per Container is 1Gi, but limit is 2Gi"),
        ({"maxLimitRequestRatio": {"cpu": "2"}}, {"cpu": "1"}, {"cpu": "3"}, "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"),
        ({"type": "Pod", "max": {"cpu": "1"}}, {"cpu": "1"}, {"cpu": "2"}, "maximum cpu usage per Pod is 1, but limit is 2"),
    ],
)  # fmt: skip
async def test_limit_ranges_bound_containers_and_pods(
    ready: Api, limit: Object, requests: Object, limits: Object, words: str
) -> None:
    declared = {"type": "Container", **limit}
    answer = await ready.create(LIMITS, {"metadata": {"name": "l"}, "spec": {"limits": [declared]}})
    answer.ok()
    asked = pod("p")
    asked["spec"]["containers"][0]["resources"] = {"requests": requests, "limits": limits}
    answer = await ready.create(PODS, asked)
    assert answer.code == 403, answer.body
    assert answer.json["message"] == f'pods "p" is forbidden: {words}'


async def test_claims_get_the_default_class_and_a_finalizer_within_limits(api: Api) -> None:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    storage_class = {"metadata": {"name": "fast", "annotations": annotations}, "provisioner": "example.com/p"}
    (await api.create("/apis/storage.k8s.io/v1/storageclasses", storage_class)).ok()
    limit = {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}
    (await api.create(LIMITS, {"metadata": {"name": "l"}, "spec": {"limits": [limit]}})).ok()

    def claim(size: str) -> Object:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        return {"metadata": {"name": "c"}, "spec": spec}

    answer = await api.create(CLAIMS, claim("2Gi"))
    assert answer.json["message"].endswith(
        "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"
    )
    made = (await api.create(CLAIMS, claim("1Gi"))).ok()
    assert made["spec"]["storageClassName"] == "fast"
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]


async def test_pods_take_the_default_priority_and_none_of_their_own(ready: Api) -> None:
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    usual = {"metadata": {"name": "usual"}, "value": 7, "globalDefault": True, "preemptionPolicy": "Never"}
    (await ready.create(classes, usual)).ok()
    second = await ready.create(classes, {"metadata": {"name": "other"}, "value": 8, "globalDefault": True})
    assert second.json["message"].endswith(
        "PriorityClass usual is already marked as default. Only one default can exist"
    )
    made = (await ready.create(PODS, pod("p"))).ok()["spec"]
    assert (made["priorityClassName"], made["priority"], made["preemptionPolicy"]) == ("usual", 7, "Never")
    answer = await ready.create(PODS, pod("q", priority=9))
    assert answer.code == 403
    assert "the integer value of priority (9) must not be provided in pod spec" in answer.json["message"]


async def label(api: Api, **labels: str) -> None:
    names = {f"pod-security.kubernetes.io/{key.replace('_', '-')}": level for key, level in labels.items()}
    (await api.merge("/api/v1/namespaces/default", {"metadata": {"labels": names}})).ok()


async def test_a_namespace_enforces_restricted_pods(ready: Api) -> None:
    await label(ready, enforce="restricted")
    answer = await ready.create(PODS, pod("p"))
    assert answer.code == 403
    assert answer.json["message"] == (
        'pods "p" is forbidden: violates PodSecurity "restricted:latest": '
        'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), '
        'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" '
        'or "Localhost")'
    )
    answer = await ready.merge(
        "/api/v1/namespaces/default",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "strict"}}},
    )
    assert answer.code == 422
    assert "must be one of privileged, baseline, restricted" in answer.json["message"]
    good = pod("p", securityContext={"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}})
    good["spec"]["containers"][0]["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    }
    (await ready.create(PODS, good)).ok()


@pytest.mark.parametrize(
    ("spec", "container", "words"),
    [
        ({"hostNetwork": True, "hostPID": True}, {}, "host namespaces (hostNetwork=true, hostPID=true)"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, {}, 'hostPath volumes (volume "v")'),
        ({}, {"ports": [{"containerPort": 1, "hostPort": 1}]}, 'hostPort (container "c" uses hostPort 1)'),
        ({}, {"securityContext": {"privileged": True}}, 'privileged (container "c" must not set securityContext.privileged=true)'),
        ({}, {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}, 'non-default capabilities (container "c" must not include "SYS_ADMIN" in securityContext.capabilities.add)'),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, {}, 'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")'),
        ({"securityContext": {"sysctls": [{"name": "kernel.x", "value": "1"}]}}, {}, "forbidden sysctls (kernel.x)"),
        ({"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}}}, {}, 'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set)'),
        ({}, {"livenessProbe": {"tcpSocket": {"host": "1.2.3.4", "port": 1}}}, 'probe or lifecycle host (container "c" uses probe or lifecycle host "1.2.3.4")'),
    ],
)  # fmt: skip
async def test_baseline_keeps_pods_inside(ready: Api, spec: Object, container: Object, words: str) -> None:
    await label(ready, enforce="baseline", enforce_version="v1.36")
    (await ready.create(PODS, pod("fine"))).ok()
    bad = pod("p", **spec)
    bad["spec"]["containers"][0] |= container
    answer = await ready.create(PODS, bad)
    assert answer.code == 403, answer.body
    assert answer.json["message"].endswith(f'violates PodSecurity "baseline:v1.36": {words}')


async def test_who_makes_a_namespace_stricter_hears_which_pods_break_it(ready: Api) -> None:
    (await ready.create(PODS, pod("a", hostNetwork=True))).ok()
    (await ready.create(PODS, pod("b", hostNetwork=True))).ok()
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    answer = await ready.merge("/api/v1/namespaces/default", {"metadata": {"labels": labels}})
    warnings = answer.headers.getall("Warning")
    assert "a (and 1 other pod): host namespaces" in warnings[1]
    assert 'existing pods in namespace \\"default\\" violate the new PodSecurity enforce level' in warnings[0]


async def test_templates_are_warned_about_and_not_refused(api: Api) -> None:
    await label(api, enforce="restricted", warn="baseline")
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"hostNetwork": True, "containers": [{"name": "c", "image": "busybox"}]},
    }
    body = {
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    answer = await api.create("/apis/apps/v1/namespaces/default/deployments", body)
    answer.ok()
    assert (
        'would violate PodSecurity \\"baseline:latest\\": host namespaces (hostNetwork=true)'
        in answer.headers["Warning"]
    )
