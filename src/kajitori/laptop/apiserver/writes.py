"""POST, PUT, PATCH and DELETE of objects: what all kinds have in common.

Each write is a decision on the stored object (`store.mutate`): decode, let the kind prepare it, track who owns
which field, check, compare. A write that changes nothing decides nothing. Without a resourceVersion a patch is
computed on whatever is committed at that moment, so it never loses a race.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.clock import rfc3339
from kajitori.laptop.apiserver import admission, status
from kajitori.laptop.apiserver.answers import body_answer, object_answer
from kajitori.laptop.apiserver.apply import same_but_for_times, server_side_apply, track_update
from kajitori.laptop.apiserver.bodies import (
    check_kind,
    decode_options,
    parse_applied,
    parse_patch,
    read_body,
    read_object_body,
    settle_unknown_fields,
)
from kajitori.laptop.apiserver.deletion import DeleteOptions, check_finalizers, decide_deletion, is_released
from kajitori.laptop.apiserver.journal import AuditRecord
from kajitori.laptop.apiserver.kinds import Context
from kajitori.laptop.apiserver.patches import (
    apply_json_patch,
    apply_merge_patch,
    apply_strategic_merge_patch,
)
from kajitori.laptop.apiserver.rbac import Attributes
from kajitori.laptop.apiserver.reads import selector_of, view_of
from kajitori.laptop.apiserver.store import Decision, Deleted, Entry, Key, Written
from kajitori.laptop.apiserver.views import View, read_object, stored_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
GENERATED_NAME_ATTEMPTS = 8
LONGEST_GENERATED_BASE = 58
DELETED_AT_ONCE = 128

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
_PATCHES = (JSON_PATCH, MERGE_PATCH, APPLY, STRATEGIC_MERGE_PATCH)


def now_text() -> str:
    return rfc3339(time.time())


def context_of(state: ServerState) -> Context:
    """What a kind may know while it prepares an object."""
    return Context(now=now_text(), uid=str(uuid.uuid4()), lookup=state.lookup)


def audit_of(call: Call, verb: str = "") -> Callable[[Object], AuditRecord]:
    """Makes the audit record of a write from the object that was written."""
    target, user = call.target, call.user

    def record(obj: Object) -> AuditRecord:
        metadata = obj["metadata"]
        return AuditRecord(
            time=now_text(),
            user=user.name,
            user_agent=call.user_agent,
            verb=verb or call.verb,
            resource=call.kind.resource.qualified_name,
            namespace=metadata.get("namespace", ""),
            name=metadata.get("name", ""),
            uid=metadata.get("uid", ""),
            subresource=target.subresource,
            field_manager=call.query.get("fieldManager"),
            impersonated_by=user.impersonator,
        )

    return record


async def settle(
    state: ServerState, call: Call, key: Key, decide: Callable[[Entry | None], Decision], dry_run: bool
) -> Written | None:
    """Commit a decision, or with dry run only take it."""
    if not dry_run:
        return await state.store.mutate(key, decide, audit_of(call))
    before = state.store.get(*key)
    decision = decide(before)
    if decision is None:
        return Written(before, before) if before is not None else None
    deleted = isinstance(decision, Deleted)
    obj = decision.obj if isinstance(decision, Deleted) else decision
    version = before.version if before is not None else 0
    entry = Entry(key.namespace, key.name, version, msgspec.json.encode(obj), obj)
    return Written(before, entry, deleted)


def key_of(call: Call, name: str = "") -> Key:
    return Key(call.kind.storage.qualified_name, call.target.namespace, name or call.target.name)


# A new object


def place(kind: Kind, obj: Object, namespace: str) -> Object:
    """Set the namespace that the URL says. Raises StatusError 400 if the object says another. Returns the metadata."""
    metadata: Object = obj.setdefault("metadata", {})
    if not kind.namespaced:
        metadata.pop("namespace", None)
        return metadata
    given = metadata.get("namespace")
    if given and given != namespace:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = namespace
    return metadata


def prepare_new(
    state: ServerState, call: Call, obj: Object, *, manager: str, tracked: bool = False
) -> Object:
    """Make a decoded object ready to be stored; tracked: its managedFields are right already."""
    kind = call.kind
    metadata = obj["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
    admission.check_namespace(state, kind, namespace, name)
    admission.check_new(state, call.user, kind, obj)
    context = context_of(state)
    kind.prepare_create(obj, context)
    admission.admit(state, call.user, kind, obj, None)
    if not tracked:
        managed = track_update(
            None,
            obj,
            manager=manager,
            api_version=kind.resource.api_version,
            subresource="",
            schema=kind.schema,
            now=context.now,
        )
        _set_managed(metadata, managed)
    errors = kind.validate(obj)
    if errors:
        if kind.storage.qualified_name == "services":
            state.addresses.release(obj)
        raise status.invalid(kind.resource.kind, kind.resource.group, name, errors)
    call.warnings.extend(kind.warnings_about(obj))
    return obj


def check_may_create(state: ServerState, call: Call) -> None:
    """A PUT or apply that creates asks for the right to create as well. Raises StatusError 403."""
    target, resource = call.target, call.kind.resource
    asked = Attributes("create", resource.group, resource.plural, target.namespace, target.name)
    if not state.authorizer.allows(call.user, asked):
        raise status.forbidden(resource, target.name, asked.sentence(call.user.name))


def _set_managed(metadata: Object, managed: list[Object]) -> None:
    if managed:
        metadata["managedFields"] = managed
    else:
        metadata.pop("managedFields", None)


def generated_name(base: str) -> str:
    suffix = "".join(secrets.choice(NAME_LETTERS) for _ in range(5))
    return base[:LONGEST_GENERATED_BASE] + suffix


async def create_object(state: ServerState, call: Call) -> web.StreamResponse:
    kind = call.kind
    dry_run = call.dry_run()
    manager = call.field_manager()
    obj = await read_object_body(call)
    metadata = place(kind, obj, call.target.namespace)
    if metadata.get("resourceVersion"):
        raise status.bad_request("resourceVersion should not be set on objects to be created")
    name = metadata.get("name", "")
    base = metadata.get("generateName", "")
    if not name and not base:
        raise status.invalid(
            kind.resource.kind,
            kind.resource.group,
            "",
            [status.required("metadata.name", "name or generateName is required")],
        )
    original = msgspec.json.encode(obj) if not name else b""
    attempt = 0
    while True:
        if not name:
            obj = msgspec.json.decode(original)
            obj["metadata"]["name"] = generated_name(base)
        try:
            return await _create(state, call, obj, manager, dry_run)
        except status.StatusError as error:
            attempt += 1
            if name or error.reason != "AlreadyExists" or attempt == GENERATED_NAME_ATTEMPTS:
                raise


async def _create(
    state: ServerState, call: Call, obj: Object, manager: str, dry_run: bool
) -> web.StreamResponse:
    kind = call.kind
    name = obj["metadata"]["name"]

    def decide(before: Entry | None) -> Decision:
        if before is not None:
            admission.check_namespace(state, kind, before.namespace, name)
            raise status.already_exists(kind.resource, name)
        return stored_object(kind, prepare_new(state, call, obj, manager=manager))

    key = key_of(call, name)
    try:
        written = await settle(state, call, key, decide, dry_run)
    except status.StatusError as error:
        _give_back(state, kind, obj, keep=error.reason == "AlreadyExists")
        raise
    if dry_run:
        _give_back(state, kind, obj, keep=False)
    assert written is not None
    return await body_answer(call, 201, view_of(call).object(written.after))


def _give_back(state: ServerState, kind: Kind, obj: Object, *, keep: bool) -> None:
    """Addresses of a Service that was not stored after all."""
    if kind.storage.qualified_name == "services" and not keep and "uid" in obj["metadata"]:
        state.addresses.release(obj)


# A changed object


def finish_update(
    state: ServerState,
    call: Call,
    old: Object,
    new: Object,
    *,
    manager: str,
    subresource: str = "",
    tracked: bool = False,
    tracked_as: str = "",
) -> Decision:
    """From the object that a client wants to what is stored. None: nothing changes.

    tracked: its managedFields are right already. tracked_as: the subresource to note there, if another one.
    """
    kind = call.kind
    new = _identified(call, old, new)
    check_finalizers(kind, new, old)
    context = context_of(state)
    kind.prepare_update(new, old, context, subresource)
    if not subresource:
        admission.admit(state, call.user, kind, new, old)
    if not tracked:
        managed = track_update(
            old,
            new,
            manager=manager,
            api_version=kind.resource.api_version,
            subresource=tracked_as or subresource,
            schema=kind.schema,
            now=context.now,
        )
        _set_managed(new["metadata"], managed)
    errors = kind.validate(new, old, subresource)
    if errors:
        raise status.invalid(kind.resource.kind, kind.resource.group, new["metadata"].get("name", ""), errors)
    if not subresource:
        call.warnings.extend(kind.warnings_about(new))
    if same_but_for_times(new, old):
        return None
    stored = stored_object(kind, new)
    return Deleted(stored) if is_released(new) else stored


def _identified(call: Call, old: Object, new: Object) -> Object:
    """The new object with metadata of its own, after checking that it means the stored one."""
    kind, target = call.kind, call.target
    new = {**new, "metadata": dict(new.get("metadata") or {})}
    metadata, stored = new["metadata"], old["metadata"]
    name = metadata.setdefault("name", target.name)
    if name != target.name:
        raise status.bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({target.name})"
        )
    if kind.namespaced:
        place(kind, new, target.namespace)
    check_kind(kind, new)
    uid = metadata.get("uid")
    if uid and uid != stored.get("uid"):
        raise status.conflict(
            kind.resource,
            target.name,
            f"StorageError: invalid object, Code: 4, Precondition failed: UID in precondition: {uid}, "
            f"UID in object meta: {stored.get('uid', '')}",
        )
    version = metadata.get("resourceVersion")
    if version and version != stored["resourceVersion"]:
        raise status.conflict(kind.resource, target.name)
    metadata["resourceVersion"] = stored["resourceVersion"]
    return new


async def update_object(state: ServerState, call: Call, subresource: str = "") -> web.StreamResponse:
    kind = call.kind
    dry_run = call.dry_run()
    manager = call.field_manager()
    new = await read_object_body(call)
    created = False
    if kind.custom and not new.get("metadata", {}).get("resourceVersion"):
        raise status.invalid(
            kind.resource.kind,
            kind.resource.group,
            call.target.name,
            [status.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")],
        )

    def decide(before: Entry | None) -> Decision:
        nonlocal created
        if before is None:
            wanted = new.get("metadata", {}).get("resourceVersion")
            if not kind.created_by_put or subresource or wanted:
                raise status.not_found(kind.resource, call.target.name)
            check_may_create(state, call)
            created = True
            metadata = place(kind, new, call.target.namespace)
            metadata.setdefault("name", call.target.name)
            return stored_object(kind, prepare_new(state, call, new, manager=manager))
        return finish_update(
            state, call, read_object(kind, before), new, manager=manager, subresource=subresource
        )

    written = await settle(state, call, key_of(call), decide, dry_run)
    assert written is not None
    return await body_answer(call, 201 if created else 200, view_of(call).object(written.after))


Patch = "Callable[[Object], Object]"


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
    patch = parse_patch(await read_body(call), content_type == JSON_PATCH)

    def decide(before: Entry | None) -> Decision:
        if before is None:
            raise status.not_found(kind.resource, call.target.name)
        old = read_object(kind, before)
        new = apply_patch(content_type, old, patch, kind)
        check_kind(kind, new)
        settle_unknown_fields(call, new, validation)
        return finish_update(state, call, old, new, manager=manager, subresource=subresource)

    written = await settle(state, call, key_of(call), decide, dry_run)
    assert written is not None
    return await body_answer(call, 200, view_of(call).object(written.after))


def apply_patch(content_type: str, old: Object, patch: Any, kind: Kind) -> Object:
    """A patched object, still to be made to fit its kind."""
    if content_type == JSON_PATCH:
        return apply_json_patch(old, patch)
    if content_type == MERGE_PATCH:
        return apply_merge_patch(old, patch)
    return apply_strategic_merge_patch(old, patch, kind.schema)


async def apply_object(state: ServerState, call: Call, subresource: str = "") -> web.StreamResponse:
    kind, target = call.kind, call.target
    dry_run = call.dry_run()
    validation = call.field_validation()
    manager = call.query.get("fieldManager")
    if not manager:
        raise status.invalid(
            "PatchOptions",
            "meta.k8s.io",
            "",
            [status.required("fieldManager", "is required for apply patch")],
        )
    call.field_manager()
    applied = parse_applied(call, await read_body(call))
    metadata = place(kind, applied, target.namespace)
    if metadata.setdefault("name", target.name) != target.name:
        raise status.bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})"
        )
    created = False

    def decide(before: Entry | None) -> Decision:
        nonlocal created
        if before is None and (subresource or metadata.get("uid") or metadata.get("resourceVersion")):
            raise status.not_found(kind.resource, target.name)
        old = read_object(kind, before) if before is not None else None
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
            settle_unknown_fields(call, new, validation)
        if old is None:
            check_may_create(state, call)
            created = True
            place(kind, new, target.namespace)
            return stored_object(kind, prepare_new(state, call, new, manager=manager, tracked=True))
        wanted = metadata.get("resourceVersion")
        if wanted and wanted != old["metadata"]["resourceVersion"]:
            raise status.conflict(kind.resource, target.name)
        if new is old:
            return None
        return finish_update(state, call, old, new, manager=manager, subresource=subresource, tracked=True)

    written = await settle(state, call, key_of(call), decide, dry_run)
    assert written is not None
    return await body_answer(call, 201 if created else 200, view_of(call).object(written.after))


# Deletion


async def delete_object(state: ServerState, call: Call) -> web.StreamResponse:
    options = await decode_options(call)
    kind = call.kind
    written = await _delete(state, call, key_of(call), options)
    resource = kind.resource
    if kind.storage.qualified_name == "jobs.batch" and options.propagation_policy is None:
        call.warnings.append(
            "child pods are preserved by default when jobs are deleted; "
            "set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to "
            "suppress this warning"
        )
    if not written.deleted or kind.storage.qualified_name == "pods":
        return await body_answer(call, 200, view_of(call).object(written.after))
    return await object_answer(
        call,
        200,
        status.success(call.target.name, resource.group, resource.plural, written.after.uid),
    )


async def _delete(state: ServerState, call: Call, key: Key, options: DeleteOptions) -> Written:
    kind = call.kind

    def decide(before: Entry | None) -> Decision:
        if before is None:
            raise status.not_found(kind.resource, key.name)
        obj = read_object(kind, before)
        decision = decide_deletion(kind, obj, options, time.time())
        if decision is None:
            return None
        if isinstance(decision, Deleted):
            return Deleted(stored_object(kind, decision.obj))
        return stored_object(kind, decision)

    written = await settle(state, call, key, decide, bool(options.dry_run))
    assert written is not None
    return written


async def delete_collection(state: ServerState, call: Call) -> web.StreamResponse:
    options = await decode_options(call)
    selector = selector_of(call)
    kind = call.kind
    resource = kind.storage.qualified_name
    entries = [e for e in state.store.table(resource).scan(selector.namespace) if selector.matches(e)]
    view = View(kind)
    gone: list[Entry] = []
    for start in range(0, len(entries), DELETED_AT_ONCE):
        keys = [Key(resource, e.namespace, e.name) for e in entries[start : start + DELETED_AT_ONCE]]
        outcomes = await asyncio.gather(
            *(_delete(state, call, key, options) for key in keys), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, Written):
                gone.append(outcome.before or outcome.after)
            elif not isinstance(outcome, status.StatusError) or outcome.code not in (404, 409):
                # Not found or changed: somebody else was faster, and what was asked for has happened.
                raise outcome
    body = view.wrap(view.items(gone), {"resourceVersion": str(state.store.version)})
    return await body_answer(call, 200, body)
