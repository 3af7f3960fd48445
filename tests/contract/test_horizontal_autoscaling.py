"""Autoscalers read the metrics APIs behind APIServices and size alike on both servers."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.contract.workloads import workload
from tests.servers import Server
from tests.waiting import eventually

from kajitori.base.clock import rfc3339
from kajitori.laptop.apiserver import pki

Object = dict[str, Any]
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
GROUPS = {
    "custom.metrics.k8s.io": "v1beta2",
    "external.metrics.k8s.io": "v1beta1",
    "metrics.k8s.io": "v1beta1",
}


class Metrics:
    """What the fake metrics server tells.

    queue: of the external metric. cpu, requests: of each pod, by name. load: of any other object.
    """

    def __init__(self) -> None:
        self.queue = "0"
        self.cpu: dict[str, str] = {}
        self.requests: dict[str, str] = {}
        self.load = "0"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        version = f"{parts[1]}/{parts[2]}"
        if len(parts) == 3:
            resource = {"name": "pods", "singularName": "", "namespaced": True, "kind": "X", "verbs": ["get"]}
            listed = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version}
            return web.json_response({**listed, "resources": [resource]})
        now = rfc3339(time.time())
        if parts[1] == "external.metrics.k8s.io":
            item = {"metricName": parts[-1], "metricLabels": {}, "timestamp": now, "value": self.queue}
            kind = "ExternalMetricValueList"
            return web.json_response({"kind": kind, "apiVersion": version, "metadata": {}, "items": [item]})
        if parts[1] == "custom.metrics.k8s.io":
            return self._custom(version, parts[4:], now)
        items = [
            {
                "metadata": {"name": name, "namespace": parts[4]},
                "timestamp": now,
                "window": "1s",
                "containers": [{"name": "c", "usage": {"cpu": cpu, "memory": "1Mi"}}],
            }
            for name, cpu in self.cpu.items()
        ]
        return web.json_response(
            {"kind": "PodMetricsList", "apiVersion": version, "metadata": {}, "items": items}
        )

    def _custom(self, version: str, parts: list[str], now: str) -> web.StreamResponse:
        """parts: namespace, resource, name or `*`, metric."""
        namespace, resource, name, metric = parts
        values = self.requests if resource == "pods" else {name: self.load}
        kind = {"pods": "Pod", "services": "Service"}[resource]
        items = [
            {
                "describedObject": {"kind": kind, "namespace": namespace, "name": one, "apiVersion": "v1"},
                "metric": {"name": metric},
                "timestamp": now,
                "value": value,
            }
            for one, value in values.items()
        ]
        listed = {"kind": "MetricValueList", "apiVersion": version, "metadata": {}, "items": items}
        return web.json_response(listed)


@contextlib.asynccontextmanager
async def serving(folder: Path, metrics: Metrics) -> AsyncIterator[int]:
    """Over TLS on a free port of this machine."""
    certificate, key = pki.Authority(folder).client_certificate(pki.Identity("metrics", "metrics"))
    file = folder / "metrics.pem"
    pki.write_private(file, certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    runner = web.ServerRunner(web.Server(metrics.answer))
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture
async def metrics(server: Server, namespace: str, tmp_path: Path) -> AsyncIterator[Metrics]:
    """A server of both APIs, known to the API server by APIServices."""
    told = Metrics()
    async with serving(tmp_path, told) as port:
        service = {
            "metadata": {"name": "metrics"},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        }
        (await server.http.create(f"/api/v1/namespaces/{namespace}/services", service)).ok()
        for group, version in GROUPS.items():
            body = {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"{version}.{group}"},
                "spec": {
                    "group": group,
                    "version": version,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "insecureSkipTLSVerify": True,
                    "service": {"name": "metrics", "namespace": namespace, "port": port},
                },
            }
            (await server.http.create(SERVICES, body)).ok()
        try:
            for group, version in GROUPS.items():
                name = f"{version}.{group}"
                await eventually(lambda name=name: _is_available(server, name), f"{name} is available")
            yield told
        finally:
            for group, version in GROUPS.items():
                await server.http.delete(f"{SERVICES}/{version}.{group}")


async def _is_available(server: Server, name: str) -> bool:
    found = (await server.http.get(f"{SERVICES}/{name}")).ok()
    conditions = found.get("status", {}).get("conditions") or []
    return any(
        (one["type"], one["status"], one["reason"]) == ("Available", "True", "Passed") for one in conditions
    )


class Scaled:
    """A deployment `w` and its autoscaler."""

    def __init__(self, server: Server, namespace: str) -> None:
        self.http, self.namespace = server.http, namespace
        self.deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/w"
        self.path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"

    async def create(self, metric: Object, replicas: int = 1, **spec: Any) -> None:
        made = workload("Deployment", replicas=replicas)
        (container,) = made["spec"]["template"]["spec"]["containers"]
        container["resources"] = {"requests": {"cpu": "100m"}}
        (await self.http.create(self.deployment.rpartition("/")[0], made)).ok()
        await eventually(lambda: self.has_ready(replicas), f"{replicas} pods are ready")
        body = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "w"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "w"},
                "maxReplicas": 8,
                "metrics": [metric],
                **spec,
            },
        }
        (await self.http.create(self.path, body)).ok()

    async def has_ready(self, count: int) -> bool:
        status = (await self.http.get(self.deployment)).ok().get("status", {})
        return status.get("readyReplicas", 0) == count and status.get("replicas", 0) == count

    async def look_again(self) -> None:
        """Ours looks every 15 seconds, and whenever the spec changes."""
        spec = (await self.http.get(f"{self.path}/w")).ok()["spec"]
        change = {"spec": {"maxReplicas": 17 - spec["maxReplicas"]}}
        (await self.http.merge(f"{self.path}/w", change)).ok()

    async def status(self) -> Object:
        return (await self.http.get(f"{self.path}/w")).ok().get("status", {})

    async def conditions(self) -> dict[str, tuple[str, str, str]]:
        return {
            one["type"]: (one["status"], one["reason"], one["message"])
            for one in (await self.status()).get("conditions") or ()
        }

    async def events(self) -> dict[str, str]:
        path = f"/api/v1/namespaces/{self.namespace}/events"
        query = "involvedObject.kind=HorizontalPodAutoscaler"
        found = (await self.http.get(path, fieldSelector=query)).ok()["items"]
        return {one["reason"]: one["message"] for one in found}

    async def said(self, reason: str) -> str:
        """What the event of a reason says; it may be written after the status."""

        async def told() -> str | None:
            return (await self.events()).get(reason)

        return await eventually(told, f"an event says {reason}")


QUEUE = {
    "type": "External",
    "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}},
}


async def test_an_external_metric_sizes_a_deployment(
    server: Server, namespace: str, nodes: list[str], metrics: Metrics
) -> None:
    metrics.queue = "35"
    scaled = Scaled(server, namespace)
    await scaled.create(QUEUE)
    await eventually(lambda: scaled.has_ready(4), "there are 4 pods", 60)
    assert await scaled.said("SuccessfulRescale") == (
        "New size: 4; reason: external metric queue(nil) above target"
    )
    await scaled.look_again()

    async def settled() -> Object | None:
        status = await scaled.status()
        return status if status.get("currentReplicas") == 4 else None

    status = await eventually(settled, "it sees 4 replicas")
    assert status["desiredReplicas"] == 4 and status["lastScaleTime"]
    assert status["currentMetrics"] == [
        {"type": "External", "external": {"metric": {"name": "queue"}, "current": {"averageValue": "8750m"}}}
    ]
    assert await scaled.conditions() == {
        "AbleToScale": ("True", "ReadyForNewScale", "recommended size matches current size"),
        "ScalingActive": (
            "True",
            "ValidMetricFound",
            "the HPA was able to successfully calculate a replica count from external metric queue(nil)",
        ),
        "ScalingLimited": (
            "False",
            "DesiredWithinRange",
            "the desired count is within the acceptable range",
        ),
    }
    metrics.queue = "5"
    await scaled.look_again()

    async def held() -> bool:
        return (await scaled.conditions())["AbleToScale"][1] == "ScaleDownStabilized"

    await eventually(held, "a lower recommendation is held back")
    assert await scaled.has_ready(4)


async def test_use_of_cpu_sizes_a_deployment_within_its_bounds(
    server: Server, namespace: str, nodes: list[str], metrics: Metrics
) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    cpu = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    }
    scaled = Scaled(server, namespace)
    await scaled.create(cpu, replicas=2, maxReplicas=3, minReplicas=2)

    async def measure() -> None:
        items = (await server.http.get(pods)).ok()["items"]
        metrics.cpu = {pod["metadata"]["name"]: "150m" for pod in items}

    # The first looks find no measurement: they change nothing and say so.
    async def unknown() -> bool:
        conditions = await scaled.conditions()
        return conditions.get("ScalingActive", ("", ""))[:2] == ("False", "FailedGetResourceMetric")

    await eventually(unknown, "no measurement is found")
    message = (await scaled.conditions())["ScalingActive"][2]
    text = "unable to get metrics for resource cpu: no metrics returned from resource metrics API"
    prefix = "the HPA was unable to compute the replica count: failed to get cpu utilization: "
    assert message == prefix + text
    assert await scaled.said("FailedComputeMetricsReplicas") == (
        "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value:"
        f" failed to get cpu utilization: {text}"
    )
    await measure()

    async def grown() -> bool:
        await measure()
        return await scaled.has_ready(3)

    await eventually(grown, "there are 3 pods", 60)
    assert await scaled.said("SuccessfulRescale") == (
        "New size: 3; reason: cpu resource utilization (percentage of request) above target"
    )

    async def limited() -> bool:
        await measure()
        return (await scaled.conditions()).get("ScalingLimited", ("", ""))[:2] == ("True", "TooManyReplicas")

    await eventually(limited, "the bound is named", 60)
    status = await scaled.status()
    assert status["currentMetrics"] == [
        {
            "type": "Resource",
            "resource": {"name": "cpu", "current": {"averageUtilization": 150, "averageValue": "150m"}},
        }
    ]


async def test_metrics_of_pods_and_of_objects_count_beside_each_other(
    server: Server, namespace: str, nodes: list[str], metrics: Metrics
) -> None:
    per_pod = {
        "type": "Pods",
        "pods": {"metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "100m"}},
    }
    service = {"apiVersion": "v1", "kind": "Service", "name": "metrics"}
    of_object = {
        "type": "Object",
        "object": {
            "metric": {"name": "load"},
            "describedObject": service,
            "target": {"type": "Value", "value": "10"},
        },
    }
    scaled = Scaled(server, namespace)
    metrics.load = "20"
    await scaled.create(per_pod, metrics=[per_pod, of_object])

    async def measure() -> None:
        pods = (await server.http.get(f"/api/v1/namespaces/{namespace}/pods")).ok()["items"]
        metrics.requests = {pod["metadata"]["name"]: "250m" for pod in pods}

    async def grown() -> bool:
        await measure()
        status = (await server.http.get(scaled.deployment)).ok().get("status", {})
        return status.get("replicas", 0) >= 3

    await eventually(grown, "there are 3 pods or more", 90)
    message = await scaled.said("SuccessfulRescale")
    assert message == "New size: 3; reason: pods metric requests above target"

    async def shown() -> list[Object] | None:
        found = (await scaled.status()).get("currentMetrics") or []
        return found if all("pods" in one or "object" in one for one in found) and len(found) == 2 else None

    assert await eventually(shown, "both metrics are shown", 60) == [
        {"type": "Pods", "pods": {"metric": {"name": "requests"}, "current": {"averageValue": "250m"}}},
        {
            "type": "Object",
            "object": {"metric": {"name": "load"}, "describedObject": service, "current": {"value": "20"}},
        },
    ]


async def test_a_target_that_is_not_there_is_named(server: Server, namespace: str) -> None:
    scaled = Scaled(server, namespace)
    body = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "w"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nobody"},
            "maxReplicas": 3,
        },
    }
    (await server.http.create(scaled.path, body)).ok()

    async def told() -> dict[str, tuple[str, str, str]]:
        return await scaled.conditions()

    assert await eventually(told, "a condition is set") == {
        "AbleToScale": (
            "False",
            "FailedGetScale",
            'the HPA controller was unable to get the target\'s current scale: deployments.apps "nobody" not found',
        )
    }
