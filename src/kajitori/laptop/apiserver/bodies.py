"""Bodies of requests: read within the limit and decoded as what the request needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.decode import decode_as, decode_body, decode_document, fit
from kajitori.laptop.apiserver.deletion import DeleteOptions
from kajitori.laptop.apiserver.request import check_dry_run

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.kinds.kind import Kind, Subresource
    from kajitori.laptop.apiserver.request import Call

Object = dict[str, Any]
BODY_BYTES_LIMIT = 3 << 20


async def read_body(call: Call) -> bytes:
    """Raises StatusError 413 over the limit."""
    length = call.http.content_length
    if length is not None and length > BODY_BYTES_LIMIT:
        raise status.too_large_body(BODY_BYTES_LIMIT)
    try:
        return await call.http.read()
    except web.HTTPRequestEntityTooLarge:
        raise status.too_large_body(BODY_BYTES_LIMIT) from None


def _content_type(call: Call) -> str:
    return call.http.headers.get("Content-Type", "")


async def read_object_body(call: Call) -> Object:
    """The object that a POST or PUT brings, made to fit the kind; warnings go to the call."""
    validation = call.field_validation()
    decoded = decode_body(await read_body(call), _content_type(call), call.kind, field_validation=validation)
    call.warnings.extend(decoded.warnings)
    metadata = decoded.obj.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise status.bad_request("metadata must be an object")
    if call.verb == "update" and not metadata.get("name"):
        raise status.no_name(call.kind.resource, call.target.name)
    return decoded.obj


async def read_subresource_body(call: Call, subresource: Subresource) -> Object:
    """The body of a subresource that is of another kind, such as a Scale or an Eviction."""
    decoded = decode_as(
        await read_body(call),
        _content_type(call),
        subresource.group,
        subresource.version,
        subresource.kind,
        field_validation=call.field_validation(),
    )
    call.warnings.extend(decoded.warnings)
    if decoded.obj["kind"] != subresource.kind:
        raise status.bad_request(
            f"the kind in the data ({decoded.obj['kind']}) does not match the expected kind ({subresource.kind})"
        )
    decoded.obj.setdefault("metadata", {})
    return decoded.obj


def parse_patch(body: bytes, is_json_patch: bool) -> Any:
    """The document of a patch. Raises StatusError 400."""
    patch = decode_document(body, "application/json")
    if is_json_patch != isinstance(patch, list) or not isinstance(patch, (list, dict)):
        wanted = "[]handlers.jsonPatchOp" if is_json_patch else "map[string]interface {}"
        found = {dict: "object", list: "array", str: "string", bool: "bool", type(None): "null"}
        raise status.bad_request(
            f"error decoding patch: json: cannot unmarshal {found.get(type(patch), 'number')} "
            f"into Go value of type {wanted}"
        )
    return patch


def parse_applied(call: Call, body: bytes, subresource: Subresource | None = None) -> Object:
    """What is applied, as it stands: fields that do not exist are the apply's to refuse.

    subresource: the one whose kind the body is of, if it differs from the resource's.
    """
    applied = decode_document(body, "application/apply-patch+yaml")
    if applied is None:
        applied = {}
    if not isinstance(applied, dict):
        found = {list: "array", str: "string", bool: "bool"}.get(type(applied), "number")
        raise status.bad_request(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal"
            f" {found} into Go value of type map[string]interface {{}}"
        )
    resource = call.kind.resource
    kind, api_version = resource.kind, resource.api_version
    if subresource is not None:
        kind = subresource.kind
        api_version = f"{subresource.group}/{subresource.version}".removeprefix("/")
    if applied.get("kind") != kind or applied.get("apiVersion") != api_version:
        group, _, version = str(applied.get("apiVersion", "")).rpartition("/")
        raise status.bad_request(f"invalid object type: {group}/{version}, Kind={applied.get('kind', '')}")
    metadata = applied.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise status.bad_request("error decoding patch: metadata is not an object")
    return applied


def check_kind(kind: Kind, obj: Object) -> None:
    """A patch may change neither kind nor apiVersion. Raises StatusError 422."""
    resource = kind.resource
    metadata = obj.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    for key, wanted in (("kind", resource.kind), ("apiVersion", resource.api_version)):
        if obj.get(key, wanted) != wanted:
            raise status.invalid(
                resource.kind,
                resource.group,
                name,
                [status.invalid_value(key, obj[key], "field is immutable")],
            )


def settle_unknown_fields(call: Call, obj: Object, validation: str) -> None:
    """Make a patched object fit its kind; what it should not have is dropped and told, or refused."""
    metadata: Any = obj.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise status.invalid("", "", "", [status.invalid_value("patch", "", "metadata must stay an object")])
    if not metadata or not metadata.get("name"):
        raise status.no_name(call.kind.resource, call.target.name)
    for text in fit(obj, call.kind, validation, patched=True):
        if text not in call.warnings:
            call.warnings.append(text)


def fitted(kind: Kind, obj: Object) -> None:
    """Make an object fit its kind after a webhook changed it, in place. Raises StatusError."""
    if not isinstance(obj.get("metadata"), dict):
        raise status.internal_error("a webhook left an object without metadata")
    fit(obj, kind, "Ignore", patched=True)


async def decode_options(call: Call) -> DeleteOptions:
    """Options of a DELETE from its body, where query parameters fill in. Raises StatusError 400 or 422."""
    body = await read_body(call)
    options = DeleteOptions()
    if body.strip():
        raw = decode_as(body, _content_type(call), "", "v1", "DeleteOptions").obj
        if raw["kind"] != "DeleteOptions":
            version = raw["apiVersion"]
            raise status.bad_request(f'no kind "{raw["kind"]}" is registered for version "{version}"')
        try:
            options = msgspec.convert(raw, DeleteOptions)
        except msgspec.ValidationError as error:
            raise status.bad_request(f"DeleteOptions cannot be read: {error}") from None
    query = call.query
    if options.grace_period_seconds is None and "gracePeriodSeconds" in query:
        options.grace_period_seconds = query.number("gracePeriodSeconds")
    if options.propagation_policy is None and query.get("propagationPolicy"):
        options.propagation_policy = query.get("propagationPolicy")
    if options.orphan_dependents is None and "orphanDependents" in query:
        options.orphan_dependents = query.flag("orphanDependents")
    if not options.dry_run and query.all("dryRun"):
        options.dry_run = query.all("dryRun")
    options.dry_run = ["All"] if check_dry_run(options.dry_run or [], "DeleteOptions") else None
    options.check()
    return options
