"""POST and PUT of objects."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.admission.steps import Steps
from kajitori.laptop.apiserver.bodies import read_object_body
from kajitori.laptop.apiserver.changes import (
    as_read,
    check_may_create,
    finish_update,
    key_of,
    place,
    prepare_new,
    renewed,
    settle,
)
from kajitori.laptop.apiserver.reads import entry_answer
from kajitori.laptop.apiserver.store import Decision, Entry

if TYPE_CHECKING:
    from aiohttp import web

    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
GENERATED_NAME_ATTEMPTS = 8
LONGEST_GENERATED_BASE = 58


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
    call.generated_name = not name
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

    given = renewed(call, obj)

    def decide(before: Entry | None) -> Steps[Decision]:
        decision = yield from prepare_new(state, call, given(), manager=manager)
        # What is wrong with an object is said first, whether or not its name is taken.
        if before is not None:
            raise status.already_exists(kind.resource, name)
        return decision

    written = await settle(state, call, key_of(call, name), decide, dry_run)
    assert written is not None
    return await entry_answer(state, call, 201, written.after)


async def update_object(state: ServerState, call: Call, subresource: str = "") -> web.StreamResponse:
    kind = call.kind
    dry_run = call.dry_run()
    manager = call.field_manager()
    new = await read_object_body(call)
    created = False
    place(kind, new, call.target.namespace)
    versioned = bool(new["metadata"].get("resourceVersion"))
    given = renewed(call, new)

    def decide(before: Entry | None) -> Steps[Decision]:
        nonlocal created
        wanted = given()
        if before is None:
            if not kind.created_by_put or subresource:
                raise status.not_found(kind.resource, call.target.name)
            if uid := wanted.get("metadata", {}).get("uid"):
                text = f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
                raise status.conflict(kind.resource, call.target.name, text)
            check_may_create(state, call)
            created = True
            metadata = place(kind, wanted, call.target.namespace)
            metadata.setdefault("name", call.target.name)
            return (yield from prepare_new(state, call, wanted, manager=manager))
        created = False
        if not versioned and (kind.custom or kind.updated_by_version):
            text = "must be specified for an update"
            errors = [status.invalid_value("metadata.resourceVersion", 0, text)]
            raise status.invalid(kind.resource.kind, kind.resource.group, call.target.name, errors)
        old = yield from as_read(state, kind, before)
        return (yield from finish_update(state, call, old, wanted, manager=manager, subresource=subresource))

    written = await settle(state, call, key_of(call), decide, dry_run)
    assert written is not None
    return await entry_answer(state, call, 201 if created else 200, written.after)
