"""Objects that are stored in an old version of their definition are written anew, so that the old one can go one day."""

from __future__ import annotations

import json
import time
from typing import Any

from kajitori.api.resource import Resource
from kajitori.app.install.cluster import DEFINITIONS, FIELD_MANAGER, get, list_all
from kajitori.app.install.definitions import is_ours, storage_version_hash, stored_elsewhere
from kajitori.app.install.installer import Say
from kajitori.app.install.survey import OURS
from kajitori.base.errors import Conflict, NotFound
from kajitori.kube.direct import DirectClient

# So long a server may go on with a definition that has changed.
_STORAGE_SECONDS = 30.0
_POLL_SECONDS = 0.2


def migrate_stored_versions(client: DirectClient, say: Say) -> int:
    """Rewrite objects that may be stored in an old version of their definition; returns how many were."""
    total = 0
    for definition in list_all(client, DEFINITIONS, labelSelector=OURS):
        if not is_ours(definition):
            continue
        storage, others = stored_elsewhere(definition)
        if not others:
            continue
        name = definition["metadata"]["name"]
        if not _stores_as(client, definition, storage):
            say(
                "left",
                f"{name}: the server does not yet store {storage}; the next upgrade rewrites its objects",
            )
            continue
        count = _rewrite_all(client, definition, storage)
        total += count
        patch = {"status": {"storedVersions": [storage]}}
        client.request(
            "PATCH",
            DEFINITIONS.path(None, name, "status"),
            query={"fieldManager": FIELD_MANAGER},
            body=json.dumps(patch).encode(),
            content_type="application/merge-patch+json",
        )
        say("migrated", f"{name}: {count} objects are stored as {storage} now, none as {', '.join(others)}")
    return total


def _stores_as(client: DirectClient, definition: dict[str, Any], storage: str) -> bool:
    """Whether the server writes this version; waits for that. One that has not seen a changed definition yet goes on with the
    old version, and would rewrite nothing. Its discovery tells by a hash; without one a definition holds at once.
    """
    spec = definition["spec"]
    wanted = storage_version_hash(spec["group"], storage, spec["names"]["kind"])
    deadline = time.monotonic() + _STORAGE_SECONDS
    while True:
        served = get(client, f"/apis/{spec['group']}/{storage}") or {}
        told = {item["name"]: item.get("storageVersionHash") for item in served.get("resources", ())}
        if told.get(spec["names"]["plural"], "") in (None, wanted):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)


def _rewrite_all(client: DirectClient, definition: dict[str, Any], storage: str) -> int:
    spec = definition["spec"]
    resource = Resource(
        spec["group"],
        storage,
        spec["names"]["plural"],
        spec["names"]["kind"],
        namespaced=spec["scope"] == "Namespaced",
    )
    count = 0
    for item in list_all(client, resource):
        count += _rewrite(client, resource.path(item["metadata"].get("namespace"), item["metadata"]["name"]))
    return count


def _rewrite(client: DirectClient, path: str) -> int:
    """An update that changes nothing: the server stores it in the version of today."""
    while True:
        current = get(client, path)
        if current is None:
            return 0
        try:
            client.request(
                "PUT", path, query={"fieldManager": FIELD_MANAGER}, body=json.dumps(current).encode()
            )
        except Conflict:
            continue
        except NotFound:
            return 0
        return 1
