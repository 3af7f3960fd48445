"""Brings an installation into a cluster and up to date: applies in order what a `survey` has decided, then waits.

Everything goes by server-side apply under one field manager, so that doing it again changes nothing and what others
set stays. Nothing is applied before it is known that all may be.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from kajitori import __version__
from kajitori.app.install.cluster import (
    DEFINITIONS,
    FIELD_MANAGER,
    KINDS,
    get,
    path_of,
    refuse_missing,
    resource_of,
    title,
)
from kajitori.app.install.render import render
from kajitori.app.install.survey import RECORD_KEY, RECORD_NAME, Survey
from kajitori.base.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    KajitoriError,
    NotFound,
    Unreachable,
    UsageError,
)
from kajitori.kube.direct import DirectClient

Say = Callable[[str, str], None]
_POLL_SECONDS = 0.2


def check_rights(
    client: DirectClient, namespace: str, values: Mapping[str, Any], *, definitions: bool = True
) -> None:
    """Raise UsageError that names every right that this user lacks. Comes before anything is looked at."""
    objects = render(values, namespace)
    wanted = [
        (verb, resource_of(obj), obj["metadata"].get("namespace"))
        for verb in ("get", "create", "patch")
        for obj in objects
    ]
    wanted += [("list", resource, None) for resource in KINDS]
    verbs = ("list", "create", "patch") if definitions else ("list",)
    wanted += [(verb, DEFINITIONS, None) for verb in verbs]
    refuse_missing(client, wanted)
    for obj in objects:
        # Only the server knows whether this user may hand on the rights that a role has.
        if obj["kind"] == "ClusterRole":
            try:
                _apply(client, obj, dry_run=True)
            except Forbidden as error:
                raise UsageError(
                    f"this user may not hand on the rights of {title(obj)}: {error.message}",
                    hint="nothing was changed; use a kubeconfig of a cluster administrator",
                ) from None


def dry_run(client: DirectClient, found: Survey, say: Say) -> None:
    """Let the server check everything without keeping it. Raises the first refusal."""
    there = get(client, f"/api/v1/namespaces/{found.namespace}") is not None
    for decision in found.definitions:
        if decision.action != "keep":
            _apply(client, decision.body, dry_run=True)
        say("would " + decision.action, f"CustomResourceDefinition {decision.name}")
    served = {resource.kind for resource in KINDS}
    for obj in found.objects:
        if obj["kind"] == "GatewayClass" and "create" in {each.action for each in found.definitions}:
            say("would apply", title(obj))
            continue
        if there or "namespace" not in obj["metadata"]:
            _apply(client, obj, dry_run=True)
        assert obj["kind"] in served
        say("would apply", title(obj))
    for obj in found.stale:
        say("would delete", title(obj))


def apply_definitions(client: DirectClient, found: Survey, say: Say) -> None:
    """Make and mend definitions, and wait until they are served."""
    changed = [decision for decision in found.definitions if decision.action != "keep"]
    for decision in changed:
        _wait_while_leaving(client, decision.name)
        _apply(client, decision.body)
    for decision in changed:
        _wait_until_served(client, decision.body)
    if changed:
        say("definitions", f"{len(changed)} of {len(found.definitions)} applied and served")
    for decision in found.definitions:
        if decision.action == "keep":
            missing = (
                f"; it does not serve {', '.join(decision.missing)}, which ours reads"
                if decision.missing
                else ""
            )
            say("kept", f"{decision.name}: {decision.because}{missing}")


def apply_objects(client: DirectClient, found: Survey, say: Say) -> None:
    """Apply all objects, remember the choices, and take away what is no longer wanted."""
    _wait_for_deletion(client, found.namespace, say)
    before: dict[str, int] = {}
    for obj in found.objects:
        _apply(client, obj)
        before[obj["kind"]] = before.get(obj["kind"], 0) + 1
    _apply(client, _record(found))
    say("applied", ", ".join(f"{count} {kind}" for kind, count in before.items()))
    for obj in found.stale:
        delete(client, obj)
        say("deleted", f"{title(obj)}: these choices have none")


def _wait_for_deletion(client: DirectClient, namespace: str, say: Say, seconds: float = 60.0) -> None:
    """Nothing can be made in a namespace that an uninstallation is still deleting."""
    deadline, told = time.monotonic() + seconds, False
    while (
        (found := get(client, f"/api/v1/namespaces/{namespace}") or {})
        .get("metadata", {})
        .get("deletionTimestamp")
    ):
        if not told:
            say("waiting", f"Namespace {namespace} is being deleted")
            told = True
        if time.monotonic() > deadline:
            conditions = (found.get("status") or {}).get("conditions") or ()
            why = "; ".join(each.get("message", "") for each in conditions if each["status"] == "True")
            raise KajitoriError(
                f"Namespace {namespace} is still being deleted after {seconds:.0f} s: {why or 'nobody says why'}",
                hint="`kaji install` again continues when it is gone",
            )
        time.sleep(_POLL_SECONDS)


def _record(found: Survey) -> dict[str, Any]:
    text = json.dumps({"version": __version__, "values": found.chosen}, indent=1) + "\n"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": RECORD_NAME,
            "namespace": found.namespace,
            "labels": {"app.kubernetes.io/part-of": "kajitori", "app.kubernetes.io/version": __version__},
        },
        "data": {RECORD_KEY: text},
    }


def wait_until_ready(client: DirectClient, found: Survey, say: Say, seconds: float) -> None:
    """Wait until every Deployment runs what was applied. Raises KajitoriError that says what keeps one from it."""
    names = [obj["metadata"]["name"] for obj in found.objects if obj["kind"] == "Deployment"]
    deadline = time.monotonic() + seconds
    told = dict.fromkeys(names, "")
    while names:
        for name in list(names):
            path = f"/apis/apps/v1/namespaces/{found.namespace}/deployments/{name}"
            done, progress = rollout_progress(get(client, path) or {})
            if progress != told[name]:
                told[name] = progress
                say("ready" if done else "waiting", f"{name}: {progress}")
            if done:
                names.remove(name)
        if not names:
            return
        if time.monotonic() > deadline:
            raise KajitoriError(
                f"{', '.join(names)} did not become ready within {seconds:.0f} s: {'; '.join(_why(client, found.namespace, names)) or told[names[0]]}",
                hint=f"kubectl -n {found.namespace} describe pods; `kaji install` again continues",
            )
        time.sleep(_POLL_SECONDS)


def rollout_progress(deployment: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a Deployment has all pods as it wants them, and how far it is in words."""
    if not deployment:
        return False, "not there"
    status: Mapping[str, Any] = deployment.get("status") or {}
    wanted = deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return False, "not seen by the cluster's controllers yet"
    ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
    done = ready >= wanted and updated >= wanted and status.get("replicas", 0) == wanted
    return done, f"{min(ready, wanted)} of {wanted} ready" + (
        "" if updated >= wanted else f", {updated} updated"
    )


def _why(client: DirectClient, namespace: str, names: list[str]) -> list[str]:
    """What the pods of these Deployments wait for."""
    reasons: dict[str, None] = {}
    for name in names:
        query = {"labelSelector": f"app.kubernetes.io/name={name}"}
        for pod in client.get(f"/api/v1/namespaces/{namespace}/pods", query=query)["items"]:
            for condition in pod["status"].get("conditions") or ():
                if condition["type"] == "PodScheduled" and condition["status"] == "False":
                    reasons[condition.get("message", "not scheduled")] = None
            for container in pod["status"].get("containerStatuses") or ():
                waiting = (container.get("state") or {}).get("waiting") or {}
                if waiting:
                    reasons[f"{waiting.get('reason')}: {waiting.get('message', '')}".strip(": ")] = None
    return list(reasons)


def delete(client: DirectClient, obj: dict[str, Any]) -> None:
    """Delete this very object, if it is still there."""
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": {"uid": obj["metadata"]["uid"]},
    }
    try:
        client.delete(path_of(obj), options)
    except (NotFound, Conflict):
        return


def _apply(client: DirectClient, obj: dict[str, Any], *, dry_run: bool = False) -> None:
    query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
    if dry_run:
        query["dryRun"] = "All"
    deadline = time.monotonic() + 20
    while True:
        try:
            client.apply(path_of(obj), obj, query)
            return
        except (NotFound, AlreadyExists, Unreachable) as error:
            # A definition that was made a moment ago is served a moment later.
            if time.monotonic() > deadline or dry_run:
                raise KajitoriError(f"cannot apply {title(obj)}: {error}") from error
            time.sleep(_POLL_SECONDS)
        except ApiError as error:
            error.where = error.where or title(obj)
            raise


def _wait_while_leaving(client: DirectClient, name: str, seconds: float = 60.0) -> None:
    """A definition that is being deleted takes every change and vanishes all the same: ours must come after it."""
    deadline = time.monotonic() + seconds
    while ((get(client, DEFINITIONS.path(None, name)) or {}).get("metadata") or {}).get("deletionTimestamp"):
        if time.monotonic() > deadline:
            raise KajitoriError(
                f"CustomResourceDefinition {name} is being deleted and does not go",
                hint="its objects go first: look for finalizers that nobody takes off them",
            )
        time.sleep(_POLL_SECONDS)


def _wait_until_served(client: DirectClient, definition: dict[str, Any], seconds: float = 60.0) -> None:
    """Until the API server says that it serves the kind, and does: a large one does so a moment later."""
    spec, name = definition["spec"], definition["metadata"]["name"]
    version = next(each["name"] for each in spec["versions"] if each["storage"])
    path = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
    deadline = time.monotonic() + seconds
    while True:
        current = get(client, DEFINITIONS.path(None, name)) or {}
        conditions = (current.get("status") or {}).get("conditions") or ()
        established = any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
        if established and _is_found(client, path):
            return
        if time.monotonic() > deadline:
            said = "; ".join(each.get("message", "") for each in conditions if each["status"] == "False")
            raise KajitoriError(f"CustomResourceDefinition {name} is not served: {said or 'no answer'}")
        time.sleep(_POLL_SECONDS)


def _is_found(client: DirectClient, path: str) -> bool:
    try:
        client.get(path, query={"limit": "1"})
    except NotFound:
        return False
    except Forbidden:
        # Whoever may make definitions need not be allowed to read their objects; only the answer would be 404.
        return True
    return True
