"""PATCH of objects: three kinds of patch, and server-side apply.

Without a resourceVersion a patch is computed on whatever is committed at that moment, so it never loses a race.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.admission.steps import Steps
from kajitori.laptop.apiserver.apply import server_side_apply
from kajitori.laptop.apiserver.bodies import (
    check_kind,
    parse_applied,
    parse_patch,
    read_body,
    settle_unknown_fields,
)
from kajitori.laptop.apiserver.changes import (
    as_read,
    check_may_create,
    finish_update,
    key_of,
    now_text,
    place,
    prepare_new,
    renewed,
    settle,
)
from kajitori.laptop.apiserver.patches import (
    apply_json_patch,
    apply_merge_patch,
    apply_strategic_merge_patch,
)
from kajitori.laptop.apiserver.reads import entry_answer
from kajitori.laptop.apiserver.store import Decision, Entry

if TYPE_CHECKING:
    from aiohttp import web

    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
_PATCHES = (JSON_PATCH, MERGE_PATCH, APPLY, STRATEGIC_MERGE_PATCH)


async def patch_object(state: ServerState, call: Call, subresource: str = "") -> web.StreamResponse:
    content_type = call.http.headers.get("Content-Type", "").partition(";")[0].strip()
    if content_type not in _PATCHES or (call.kind.custom and content_type == STRATEGIC_MERGE_PATCH):
        accepted = _PATCHES[:3] if call.kind.custom else _PATCHES
        raise status.unsupported_media_type(", ".join(accepted))
    if content_type == APPLY:
        return await apply_object(state, call, subresource)
    if "force" in call.query:
        raise status.invalid(
            "PatchOptions",
            "meta.k8s.io",
            "",
            [status.forbidden_field("force", "may not be specified for non-apply patch")],
        )
    kind = call.kind
    dry_run = call.dry_run()
    manager = call.field_manager()
    validation = call.field_validation()
    patch = renewed(call, parse_patch(await read_body(call), content_type == JSON_PATCH))

    def decide(before: Entry | None) -> Steps[Decision]:
        if before is None:
            raise status.not_found(kind.resource, call.target.name)
        old = yield from as_read(state, kind, before)
        new = apply_patch(content_type, old, patch(), kind)
        check_kind(kind, new)
        settle_unknown_fields(call, new, validation)
        return (yield from finish_update(state, call, old, new, manager=manager, subresource=subresource))

    written = await settle(state, call, key_of(call), decide, dry_run)
    assert written is not None
    return await entry_answer(state, call, 200, written.after)


def apply_patch(content_type: str, old: Object, patch: Any, kind: Kind) -> Object:
    """A patched object, still to be made to fit its kind."""
    if content_type == JSON_PATCH:
        return apply_json_patch(old, patch)
    if content_type == MERGE_PATCH:
        return apply_merge_patch(old, patch)
    return apply_strategic_merge_patch(old, patch, kind.schema)


def _check_may_be_new(call: Call, metadata: Object, subresource: str) -> None:
    """Raise StatusError where an apply cannot create its object: 404 for a part of one, 409 for one with a uid."""
    resource, name = call.kind.resource, call.target.name
    if subresource:
        raise status.not_found(resource, name)
    if uid := metadata.get("uid"):
        text = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise status.conflict(resource, name, text)


def _check_meant(call: Call, metadata: Object, stored: Object) -> None:
    """Raise StatusError where an apply means another object of this name (422) or another version of it (409)."""
    resource, name = call.kind.resource, call.target.name
    if metadata.get("uid") not in (None, "", stored.get("uid")):
        errors = [status.invalid_value("metadata.uid", metadata["uid"], "field is immutable")]
        raise status.invalid(resource.kind, resource.group, name, errors)
    wanted = metadata.get("resourceVersion")
    if wanted and wanted != stored["resourceVersion"]:
        raise status.conflict(resource, name)


def _manager_of_apply(call: Call) -> str:
    """Who applies. Raises StatusError: it must say so, in words that may be a manager's."""
    manager = call.query.get("fieldManager")
    if not manager:
        errors = [status.required("fieldManager", "is required for apply patch")]
        raise status.invalid("PatchOptions", "meta.k8s.io", "", errors)
    call.field_manager()
    return manager


def _merged(call: Call, old: Object | None, applied: Object, manager: str, subresource: str) -> Object:
    """The object as the apply leaves it: `old` itself where nothing changes. Raises StatusError for conflicts."""
    kind = call.kind
    new = server_side_apply(
        old,
        applied,
        manager=manager,
        api_version=kind.resource.api_version,
        subresource=subresource,
        force=call.query.flag("force"),
        schema=kind.schema,
        now=now_text(),
        ignored_fields=("status",) if kind.has_status and not subresource else (),
    )
    if new is not old:
        # The name is nobody's field: an apply that gives up all of its metadata leaves none.
        new["metadata"] = {"name": call.target.name, **(new.get("metadata") or {})}
    return new


async def apply_object(state: ServerState, call: Call, subresource: str = "") -> web.StreamResponse:
    kind, target = call.kind, call.target
    dry_run = call.dry_run()
    validation = call.field_validation()
    manager = _manager_of_apply(call)
    applied = parse_applied(call, await read_body(call))
    metadata = place(kind, applied, target.namespace)
    if metadata.setdefault("name", target.name) != target.name:
        raise status.bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})"
        )
    given = renewed(call, applied)
    created = False

    def decide(before: Entry | None) -> Steps[Decision]:
        nonlocal created
        if before is None:
            _check_may_be_new(call, metadata, subresource)
        old = (yield from as_read(state, kind, before)) if before is not None else None
        new = _merged(call, old, given(), manager, subresource)
        if new is not old:
            settle_unknown_fields(call, new, validation)
        if old is None:
            check_may_create(state, call)
            created = True
            place(kind, new, target.namespace)
            return (yield from prepare_new(state, call, new, manager=manager, tracked=True))
        created = False
        _check_meant(call, metadata, old["metadata"])
        if new is old:
            return None
        return (
            yield from finish_update(
                state, call, old, new, manager=manager, subresource=subresource, tracked=True
            )
        )

    written = await settle(state, call, key_of(call), decide, dry_run)
    assert written is not None
    return await entry_answer(state, call, 201 if created else 200, written.after)
