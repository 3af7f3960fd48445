"""Reads the metrics APIs as autoscalers need them: pods' resources, custom and external metrics.

Whoever serves `metrics.k8s.io`, `custom.metrics.k8s.io` and `external.metrics.k8s.io` is reached through the API
server. What fails becomes a text in the reading, in the words that the real controller's client has for it.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kajitori.api.resource import Resource
from kajitori.base.clock import parse_rfc3339
from kajitori.base.duration import parse_duration_seconds
from kajitori.base.errors import ApiError, KajitoriError
from kajitori.kube.client import Client
from kajitori.laptop.controllers.autoscaling.replicas import thousandths
from kajitori.laptop.controllers.autoscaling.views import Object, Reading, Sample
from kajitori.model.selection import query_text

_DEFAULT_WINDOW_SECONDS = 60.0

FindResource = Callable[[str, str], Awaitable[Resource]]


class MetricsReader:
    """One look of one autoscaler; what several of its metrics need is read once.

    find: the resource of a group and kind. selector: of the scale, as text.
    """

    def __init__(self, client: Client, find: FindResource, namespace: str, selector: str) -> None:
        self._client = client
        self._find = find
        self._namespace = namespace
        self._selector = selector
        self._answers: dict[str, Any] = {}

    async def read(self, metric: Object) -> Reading:
        """What the metric shows now."""
        kind = metric["type"]
        try:
            match kind:
                case "Resource" | "ContainerResource":
                    source = metric["resource" if kind == "Resource" else "containerResource"]
                    return await self._resource(source["name"], source.get("container", ""))
                case "Pods":
                    return await self._of_pods(metric["pods"]["metric"])
                case "Object":
                    return await self._of_object(metric["object"])
                case _:
                    return await self._external(metric["external"]["metric"])
        except (KajitoriError, msgspec.DecodeError, KeyError, ValueError, TypeError) as error:
            api = {"Pods": "custom", "Object": "custom", "External": "external"}.get(kind, "resource")
            what = error.message if isinstance(error, KajitoriError) else f"unreadable answer: {error}"
            return Reading(failure=f"unable to fetch metrics from {api} metrics API: {what}")

    async def _get(self, path: str, query: dict[str, str], what: str) -> list[Object]:
        """The items of an answer. what: `pods.metrics.k8s.io`, for the text of a failure."""
        shown = f"{path}?{urllib.parse.urlencode(query)}"
        if shown not in self._answers:
            try:
                body = await self._client.request("GET", path, query=query)
            except ApiError as error:
                raise _plain(error, what) from error
            self._answers[shown] = msgspec.json.decode(body, type=dict[str, Any])
        return self._answers[shown].get("items") or []

    async def _resource(self, name: str, container: str) -> Reading:
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{self._namespace}/pods"
        items = await self._get(path, {"labelSelector": self._selector}, "pods.metrics.k8s.io")
        if not items:
            return Reading(failure="no metrics returned from resource metrics API")
        pods: dict[str, Sample] = {}
        for item in items:
            containers = [one for one in item.get("containers") or () if container in ("", one.get("name"))]
            values = [one.get("usage", {}).get(name) for one in containers]
            if values and None not in values:
                total = sum(thousandths(value) for value in values if value is not None)
                window = parse_duration_seconds(item.get("window") or "0")
                pods[item["metadata"]["name"]] = Sample(total, parse_rfc3339(item["timestamp"]), window)
        return Reading(pods=pods)

    async def _of_pods(self, metric: Object) -> Reading:
        path = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{self._namespace}/pods/*/{metric['name']}"
        query = {
            "labelSelector": self._selector,
            "metricLabelSelector": query_text(metric.get("selector") or {}),
        }
        items = await self._get(path, query, "pods.custom.metrics.k8s.io")
        if not items:
            return Reading(failure="no metrics returned from custom metrics API")
        return Reading(pods={item["describedObject"]["name"]: _sample(item) for item in items})

    async def _of_object(self, source: Object) -> Reading:
        described, metric = source["describedObject"], source["metric"]
        group = (described.get("apiVersion") or "").rpartition("/")[0]
        base = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{self._namespace}"
        if (group, described["kind"]) == ("", "Namespace"):
            path, plural = f"{base}/metrics/{metric['name']}", "namespaces"
        else:
            resource = await self._find(group, described["kind"])
            plural = f"{resource.plural}.{group}" if group else resource.plural
            path = f"{base}/{plural}/{described['name']}/{metric['name']}"
        query = {"metricLabelSelector": query_text(metric.get("selector") or {})}
        items = await self._get(path, query, f"{plural.split('.')[0]}.custom.metrics.k8s.io")
        if not items:
            return Reading(failure="the custom metrics API server returned 0 results when we asked for 1")
        return Reading(values=[_sample(items[0]).value])

    async def _external(self, metric: Object) -> Reading:
        path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{self._namespace}/{metric['name']}"
        query = {"labelSelector": query_text(metric.get("selector") or {})}
        items = await self._get(path, query, f"{metric['name']}.external.metrics.k8s.io")
        if not items:
            return Reading(failure="no metrics returned from external metrics API")
        return Reading(values=[thousandths(item["value"]) for item in items])


def _sample(item: Object) -> Sample:
    seconds = item.get("windowSeconds")
    window = _DEFAULT_WINDOW_SECONDS if seconds is None else float(seconds)
    return Sample(thousandths(item["value"]), parse_rfc3339(item["timestamp"]), window)


def _plain(error: ApiError, what: str) -> ApiError:
    """A refusal that is no Status of its own, in the words that clients have for it."""
    if error.code == 404 and not error.details.get("name"):
        return ApiError(f"the server could not find the requested resource (get {what})", code=404)
    if error.code == 503:
        return ApiError(f"the server is currently unable to handle the request (get {what})", code=503)
    return error
