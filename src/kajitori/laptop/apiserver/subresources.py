"""Subresources that are objects: scale, binding. (`status`, `finalize` and their like are plain writes.)"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.admission.requests import admitted, review_of
from kajitori.laptop.apiserver.admission.review import CREATE, UPDATE
from kajitori.laptop.apiserver.admission.steps import Steps
from kajitori.laptop.apiserver.answers import object_answer
from kajitori.laptop.apiserver.apply import (
    entries_of_object,
    entries_of_scale,
    server_side_apply,
    track_update,
)
from kajitori.laptop.apiserver.bodies import parse_applied, parse_patch, read_body, read_subresource_body
from kajitori.laptop.apiserver.changes import (
    as_read,
    finish_update,
    key_of,
    now_text,
    settle,
)
from kajitori.laptop.apiserver.defaults.admission import topology_labels
from kajitori.laptop.apiserver.label_selectors import selector_text
from kajitori.laptop.apiserver.patches import (
    apply_json_patch,
    apply_merge_patch,
    apply_strategic_merge_patch,
)
from kajitori.laptop.apiserver.patching import APPLY, JSON_PATCH, MERGE_PATCH
from kajitori.laptop.apiserver.schema import Schema
from kajitori.laptop.apiserver.store import Decision, Entry
from kajitori.laptop.apiserver.tables.scale import scale_table
from kajitori.laptop.apiserver.validation.names import dns_subdomain
from kajitori.laptop.apiserver.views import peek_object, read_object, stored_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
SCALE_DEFINITION = "io.k8s.api.autoscaling.v1.Scale"


def _at(obj: Object, path: str) -> Any:
    value: Any = obj
    for part in path.strip(".").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _with(obj: Object, path: str, value: Any) -> Object:
    """The object with one field set; what lies beside the path is shared."""
    first, _, rest = path.strip(".").partition(".")
    inner: Any = obj.get(first)
    return {**obj, first: _with(inner if isinstance(inner, dict) else {}, rest, value) if rest else value}


def scale_of(kind: Kind, obj: Object) -> Object:
    """The Scale of an object."""
    assert kind.scale is not None
    metadata = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = _at(obj, kind.scale.selector) if kind.scale.selector else None
    if not kind.custom:
        selector = selector_text(obj.get("spec", {}).get("selector"))
    shown_status: Object = {"replicas": _at(obj, kind.scale.status_replicas) or 0}
    if selector:
        shown_status["selector"] = selector
    replicas = _at(obj, kind.scale.replicas)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": shown_status,
    }


async def get_scale(state: ServerState, call: Call) -> web.StreamResponse:
    entry = state.store.get(*key_of(call))
    if entry is None:
        raise status.not_found(call.kind.resource, call.target.name)
    await state.conversion.ensure(call.kind, [entry])
    return await _scale_answer(call, scale_of(call.kind, peek_object(call.kind, entry)))


async def _scale_answer(call: Call, scale: Object) -> web.StreamResponse:
    as_table = call.output.form == "table"
    shown = scale_table(scale, call.kind.custom, time.time()) if as_table else scale
    return await object_answer(call, 200, shown)


def _complete(wanted: Object, shown: Object) -> Object:
    """A Scale that is sent, with what its object says of itself."""
    metadata: Any = wanted.get("metadata")
    given: Object = metadata if isinstance(metadata, dict) else {}
    return {**shown, **wanted, "metadata": {**shown["metadata"], **given}}


def _checked_replicas(call: Call, scale: Object) -> int:
    spec = scale.get("spec") or {}
    replicas = spec.get("replicas", 0) if isinstance(spec, dict) else None
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise status.bad_request("spec.replicas must be an integer")
    if replicas < 0:
        raise status.invalid(
            "Scale",
            "autoscaling",
            call.target.name,
            [status.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")],
        )
    return replicas


async def write_scale(state: ServerState, call: Call) -> web.StreamResponse:
    """PUT and PATCH of a scale."""
    change = await _scale_change(call)
    applies = _content_type(call) == APPLY
    kind = call.kind
    assert kind.scale is not None
    path = kind.scale.replicas
    manager = call.field_manager()

    def decide(before: Entry | None) -> Steps[Decision]:
        yield from ()
        if before is None:
            raise status.not_found(kind.resource, call.target.name)
        old = yield from as_read(state, kind, before)
        shown = scale_of(kind, old)
        managed: list[Object] = old["metadata"].get("managedFields") or []
        owned = entries_of_scale(managed, path)
        wanted = change({**shown, "metadata": {**shown["metadata"], "managedFields": owned}})
        replicas = _checked_replicas(call, wanted)
        review = review_of(call, UPDATE, _complete(wanted, shown), shown)
        if review is not None:
            yield from admitted(call, review)
            wanted = review.obj or wanted
            replicas = _checked_replicas(call, wanted)
        new = _with(old, path, replicas)
        metadata = wanted.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise status.bad_request("metadata must be an object")
        new["metadata"] = {
            **old["metadata"],
            "resourceVersion": metadata.get("resourceVersion") or old["metadata"]["resourceVersion"],
            "uid": metadata.get("uid") or old["metadata"].get("uid", ""),
        }
        if applies:
            scaled = metadata.get("managedFields") or []
            new["metadata"]["managedFields"] = entries_of_object(
                managed, scaled, path, kind.resource.api_version
            )
        return (
            yield from finish_update(
                state, call, old, new, manager=manager, tracked=applies, tracked_as="scale", reviewed=True
            )
        )

    written = await settle(state, call, key_of(call), decide, call.dry_run())
    assert written is not None
    await state.conversion.ensure(kind, [written.after])
    return await _scale_answer(call, scale_of(kind, peek_object(kind, written.after)))


def _content_type(call: Call) -> str:
    return call.http.headers.get("Content-Type", "").partition(";")[0].strip() if call.verb == "patch" else ""


async def _scale_change(call: Call) -> Callable[[Object], Object]:
    """What the request makes of the present Scale."""
    if call.verb == "update":
        wanted = await read_subresource_body(call, call.kind.subresources["scale"])
        return lambda _present: wanted
    content_type = _content_type(call)
    body = await read_body(call)
    if content_type == APPLY:
        return _scale_apply(call, body)
    patch = parse_patch(body, content_type == JSON_PATCH)
    if content_type == JSON_PATCH:
        return lambda present: apply_json_patch(present, patch)
    if content_type == MERGE_PATCH:
        return lambda present: apply_merge_patch(present, patch)
    return lambda present: apply_strategic_merge_patch(present, patch, Schema.builtin(SCALE_DEFINITION))


def _scale_apply(call: Call, body: bytes) -> Callable[[Object], Object]:
    applied = parse_applied(call, body, call.kind.subresources["scale"])

    def change(present: Object) -> Object:
        return server_side_apply(
            present,
            applied,
            manager=call.field_manager(),
            api_version="autoscaling/v1",
            subresource="scale",
            force=call.query.flag("force"),
            schema=Schema.builtin(SCALE_DEFINITION),
            now=now_text(),
        )

    return change


def _node_of(call: Call, binding: Object) -> str:
    """The node that a Binding names. Raises StatusError."""
    target = binding.get("target") or {}
    node = target.get("name", "")
    if not node or target.get("kind", "Node") not in ("", "Node"):
        errors = [status.required("target.name")] if not node else []
        errors = errors or [status.unsupported_value("target.kind", target["kind"], ("Node", ""))]
        raise status.invalid("Binding", "", call.target.name, errors)
    # The name becomes the pod's spec.nodeName, and a part of the way to the node's socket.
    if problems := [status.invalid_value("target.name", node, text) for text in dns_subdomain(node)]:
        raise status.invalid("Binding", "", call.target.name, problems)
    return node


def _bind(pod: Object, node: str, given: Object, topology: dict[str, str]) -> None:
    """Puts a pod on a node. given: metadata of the Binding. topology: labels of the node that its pods get."""
    pod["spec"]["nodeName"] = node
    if annotations := given.get("annotations"):
        pod["metadata"].setdefault("annotations", {}).update(annotations)
    if labels := {**(given.get("labels") or {}), **topology}:
        pod["metadata"]["labels"] = {**(pod["metadata"].get("labels") or {}), **labels}
    conditions = pod.setdefault("status", {}).setdefault("conditions", [])
    conditions[:] = [c for c in conditions if c.get("type") != "PodScheduled"]
    conditions.append(
        {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now_text()}
    )


async def bind_pod(state: ServerState, call: Call) -> web.StreamResponse:
    """POST of a Binding: puts a pod on a node, once."""
    binding = await read_subresource_body(call, call.kind.subresources["binding"])
    node = _node_of(call, binding)
    kind, name = call.kind, call.target.name
    wanted_uid = binding["metadata"].get("uid")

    def decide(before: Entry | None) -> Steps[Decision]:
        yield from ()
        if before is None:
            raise status.not_found(kind.resource, name)
        yield from admitted(call, review_of(call, CREATE, binding, None))
        old = read_object(kind, before)
        _check_unbound(old, name, wanted_uid)
        pod = read_object(kind, before)
        _bind(pod, node, binding["metadata"], topology_labels(node, state.lookup))
        pod["metadata"]["managedFields"] = track_update(
            old,
            pod,
            manager=call.field_manager(),
            api_version="v1",
            subresource="binding",
            schema=kind.schema,
            now=now_text(),
        )
        return stored_object(kind, pod)

    await settle(state, call, key_of(call), decide, call.dry_run())
    return await object_answer(call, 201, status.success())


def _check_unbound(pod: Object, name: str, wanted_uid: str | None) -> None:
    def refuse(text: str) -> status.StatusError:
        return status.failure(
            409,
            "Conflict",
            f'Operation cannot be fulfilled on pods/binding "{name}": {text}',
            {"name": name, "kind": "pods/binding"},
        )

    if wanted_uid and wanted_uid != pod["metadata"]["uid"]:
        raise refuse(
            f"Precondition failed: UID in precondition: {wanted_uid}, "
            f"UID in object meta: {pod['metadata']['uid']}"
        )
    if "deletionTimestamp" in pod["metadata"]:
        raise refuse(f"pod {name} is being deleted, cannot be assigned to a host")
    if node := pod["spec"].get("nodeName"):
        raise refuse(f'pod {name} is already assigned to node "{node}"')
    if pod["spec"].get("schedulingGates"):
        raise refuse(f"pod {name} has non-empty .spec.schedulingGates")
