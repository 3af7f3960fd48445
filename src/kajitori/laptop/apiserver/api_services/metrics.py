"""`metrics.k8s.io/v1beta1`: what nodes and pods use, asked of the nodes when somebody asks us.

An APIService `v1beta1.metrics.k8s.io` of the user's takes its place. Source: the resource metrics API that
`kubectl top` and the autoscaler read.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.clock import rfc3339
from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.answers import rendered
from kajitori.laptop.apiserver.proxy import read_from_node
from kajitori.laptop.apiserver.selectors import parse_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from aiohttp.web import BaseRequest

    from kajitori.laptop.apiserver.request import Query, Target
    from kajitori.laptop.apiserver.selectors import Requirement
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
GROUP_VERSION = ("metrics.k8s.io", "v1beta1")
_API_VERSION = "/".join(GROUP_VERSION)
RESOURCES: tuple[Object, ...] = (
    {
        "name": "nodes",
        "singularName": "",
        "namespaced": False,
        "kind": "NodeMetrics",
        "verbs": ["get", "list"],
    },
    {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]},
)
_NODE_SECONDS = 5.0


class MetricsApi:
    """Answers reads of the two resources."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def answer(self, http: BaseRequest, target: Target, query: Query) -> web.StreamResponse:
        """Raises StatusError."""
        if target.plural not in ("nodes", "pods") or target.subresource:
            raise status.no_such_resource()
        if http.method not in ("GET", "HEAD") or query.flag("watch"):
            raise status.method_not_allowed()
        if target.plural == "nodes":
            items = await self._nodes(target.name)
        else:
            items = await self._pods(target.namespace, target.name)
        if target.name:
            if not items:
                text = f'{target.plural}.metrics.k8s.io "{target.name}" not found'
                raise status.failure(404, "NotFound", text, {"name": target.name, "group": GROUP_VERSION[0]})
            return await self._say(http, items[0])
        wanted = parse_labels(query.get("labelSelector"))
        items = [item for item in items if _fits(wanted, item["metadata"].get("labels") or {})]
        kind = "NodeMetricsList" if target.plural == "nodes" else "PodMetricsList"
        for item in items:
            del item["kind"], item["apiVersion"]
        return await self._say(
            http, {"kind": kind, "apiVersion": _API_VERSION, "metadata": {}, "items": items}
        )

    @staticmethod
    async def _say(http: BaseRequest, body: Object) -> web.StreamResponse:
        return await rendered(http, 200, msgspec.json.encode(body))

    async def _summaries(self, names: list[str]) -> dict[str, Object]:
        """What each node says; a node that does not answer is left out."""
        answers = await asyncio.gather(*(self._summary(name) for name in names))
        return {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}

    async def _summary(self, node: str) -> Object | None:
        try:
            async with asyncio.timeout(_NODE_SECONDS):
                body = await read_from_node(self._state, node, "/stats/summary")
                return msgspec.json.decode(body, type=dict[str, Any])
        except (status.StatusError, OSError, TimeoutError, msgspec.DecodeError):
            return None

    async def _nodes(self, name: str) -> list[Object]:
        entries = [one for one in self._state.store.table("nodes").scan() if name in ("", one.name)]
        summaries = await self._summaries([entry.name for entry in entries])
        found: list[Object] = []
        for entry in entries:
            stats = (summaries.get(entry.name) or {}).get("node")
            if stats is not None:
                usage = _usage(stats) if "cpu" in stats else {"cpu": "0", "memory": "0"}
                found.append(_item("NodeMetrics", entry.name, "", entry.labels, [stats]) | {"usage": usage})
        return found

    async def _pods(self, namespace: str, name: str) -> list[Object]:
        table = self._state.store.table("pods")
        entries = [one for one in table.scan(namespace) if name in ("", one.name)]
        running = {
            entry.peek()["metadata"]["uid"]: entry
            for entry in entries
            if (entry.peek().get("status") or {}).get("phase") == "Running"
        }
        nodes = {entry.peek()["spec"].get("nodeName", "") for entry in running.values()} - {""}
        summaries = await self._summaries(sorted(nodes))
        found: list[Object] = []
        for summary in summaries.values():
            for pod in summary.get("pods") or ():
                entry = running.get(pod["podRef"]["uid"])
                if entry is not None and pod["containers"]:
                    stats = pod["containers"]
                    item = _item("PodMetrics", entry.name, entry.namespace, entry.labels, stats)
                    item["containers"] = [{"name": one["name"], "usage": _usage(one)} for one in stats]
                    found.append(item)
        found.sort(key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))
        return found


def _fits(wanted: tuple[Requirement, ...], labels: Mapping[str, str]) -> bool:
    return all(requirement.matches(labels) for requirement in wanted)


def _item(kind: str, name: str, namespace: str, labels: Mapping[str, str], stats: list[Object]) -> Object:
    metadata: Object = {"name": name, "creationTimestamp": rfc3339(time.time())}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    cpu = [one["cpu"] for one in stats if "cpu" in one]
    window = max((float(one.get("windowSeconds") or 0) for one in cpu), default=0.0)
    return {
        "kind": kind,
        "apiVersion": _API_VERSION,
        "metadata": metadata,
        "timestamp": max((one["time"] for one in cpu), default=rfc3339(time.time())),
        "window": f"{window:.3f}s",
    }


def _usage(stats: Object) -> dict[str, str]:
    return {
        "cpu": f"{stats['cpu']['usageNanoCores']}n",
        "memory": f"{stats['memory']['workingSetBytes'] // 1024}Ki",
    }
