"""What is in a cluster before an installation or an upgrade changes anything: decided here, carried out by `installer`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kajitori import __version__
from kajitori.api.resource import CONFIG_MAPS
from kajitori.app.install.cluster import (
    DEFINITIONS,
    FIELD_MANAGER,
    KINDS,
    get,
    list_all,
    refuse_missing,
    title,
)
from kajitori.app.install.definitions import Decision, bundled_definitions, decide, is_newer
from kajitori.app.install.render import render
from kajitori.app.upstream import COMPONENTS, SIGNALS, Found, State, state_of
from kajitori.base.errors import Forbidden, UsageError
from kajitori.kube.direct import DirectClient

RECORD_NAME = "kajitori-install"
RECORD_KEY = "install.json"
OURS = "app.kubernetes.io/part-of=kajitori"


@dataclass(frozen=True)
class Survey:
    """What was found before anything was changed.

    objects: to apply, in order. definitions: what becomes of each. states: what ours does beside upstream controllers.
    installed: version that is there, empty for none.
    """

    namespace: str
    values: Mapping[str, Any]
    chosen: Mapping[str, Any]
    objects: list[dict[str, Any]]
    definitions: list[Decision]
    states: list[State]
    installed: str = ""
    helm: bool = False
    stale: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def check_record_right(client: DirectClient, namespace: str) -> None:
    """Raise UsageError if this user may not see what is installed."""
    refuse_missing(client, [("get", CONFIG_MAPS, namespace)])


def read_record(client: DirectClient, namespace: str) -> dict[str, Any]:
    """Version and choices of the installation in this namespace; empty if there is none."""
    record = get(client, f"/api/v1/namespaces/{namespace}/configmaps/{RECORD_NAME}")
    try:
        return json.loads((record or {}).get("data", {}).get(RECORD_KEY, "{}"))
    except ValueError:
        return {}


def survey(
    client: DirectClient, namespace: str, values: Mapping[str, Any], chosen: Mapping[str, Any]
) -> Survey:
    """Look at the cluster and decide; changes nothing."""
    objects = render(values, namespace)
    # One that is being deleted is as good as gone, whosever it is.
    there = {
        item["metadata"]["name"]: item
        for item in list_all(client, DEFINITIONS)
        if not item["metadata"].get("deletionTimestamp")
    }
    decisions = [decide(ours, there.get(ours["metadata"]["name"])) for ours in bundled_definitions()]
    found = find_upstream(client)
    states = [
        state_of(capability, found, yields=bool(values[section]["yieldToUpstream"]))
        for component, section in (("controllers", "groups"), ("gateway", "gateway"))
        for capability in COMPONENTS[component]
        if values[section]["enabled"]
    ]
    deployment = get(client, f"/apis/apps/v1/namespaces/{namespace}/deployments/kajitori-controllers") or get(
        client, f"/apis/apps/v1/namespaces/{namespace}/deployments/kajitori-gateway"
    )
    labels: Mapping[str, str] = (deployment or {}).get("metadata", {}).get("labels") or {}
    return Survey(
        namespace,
        values,
        chosen,
        objects,
        decisions,
        states,
        installed=labels.get("app.kubernetes.io/version", ""),
        helm=labels.get("app.kubernetes.io/managed-by") == "Helm",
        stale=list(_stale(client, namespace, objects)),
    )


def find_upstream(client: DirectClient) -> list[Found]:
    """Upstream controllers that are at work in this cluster."""
    found: list[Found] = []
    for signal in SIGNALS:
        query = {"fieldSelector": f"metadata.name={signal.name}"}
        try:
            items = list(list_all(client, signal.resource, **query))
        except Forbidden:
            continue  # whoever may install but not look; the controllers themselves will
        found += [
            Found(signal.project, title(item))
            for item in items
            if (item.get("spec") or {}).get("replicas", 1) != 0
        ]
    return found


def _stale(client: DirectClient, namespace: str, objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What an earlier version or other choices made and these do not."""
    wanted = {title(obj) for obj in objects}
    for resource in reversed(KINDS):
        if resource.kind == "Namespace":
            continue
        try:
            items = list(list_all(client, resource, labelSelector=OURS))
        except Forbidden:
            continue
        for item in items:
            managers = {entry.get("manager") for entry in item["metadata"].get("managedFields") or ()}
            own = item["metadata"].get("namespace") in (None, namespace) or resource.kind in (
                "Role",
                "RoleBinding",
            )
            if (
                FIELD_MANAGER in managers
                and own
                and title(item) not in wanted
                and item["metadata"]["name"] != RECORD_NAME
                and _belongs(item, namespace)
            ):
                yield item


def _belongs(item: dict[str, Any], namespace: str) -> bool:
    """Whether a binding is for accounts of this installation, not of another one in the cluster."""
    subjects = item.get("subjects")
    return subjects is None or all(each.get("namespace") == namespace for each in subjects)


def refuse_downgrade(found: Survey) -> None:
    """Raise UsageError if what is installed is newer than this program."""
    if found.installed and is_newer(found.installed, __version__):
        raise UsageError(
            f"Kajitori {found.installed} is installed, this is {__version__}: downgrades are refused",
            hint=f"use kaji {found.installed}; objects may be stored in ways that {__version__} does not know",
        )
