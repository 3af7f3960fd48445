"""Refusals as the API server words them: one exception that carries a `Status` object.

Every part of the server raises `StatusError` through a constructor below; the HTTP edge turns it into an
answer. Messages and details follow what kube-apiserver 1.36 says on the wire, since clients compare them:
`details.kind` and most messages name the resource (`deployments.apps "web"`), `invalid` names the kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kajitori.api.resource import Resource


class FieldError(msgspec.Struct, frozen=True):
    """One cause of a 422.

    reason: `FieldValueInvalid`, `FieldValueRequired`, ... field: path such as `spec.containers[0].image`.
    message: as the cause has it, such as `Required value: name is needed`.
    """

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class StatusError(Exception):
    """A request that is refused; `status` is the body of the answer and `code` its HTTP status."""

    def __init__(self, status: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status["message"])
        self.status = status
        self.code: int = status["code"]
        self.headers = dict(headers or {})

    @property
    def reason(self) -> str:
        return self.status.get("reason", "")


def failure(
    code: int,
    reason: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> StatusError:
    """Any refusal, in words of the caller."""
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    if details is not None:
        status["details"] = dict(details)
    status["code"] = code
    return StatusError(status, headers)


def success(name: str = "", group: str = "", plural: str = "", uid: str = "") -> dict[str, Any]:
    """The `Status` that answers a request which leaves nothing else to show, such as a delete."""
    details = {k: v for k, v in (("name", name), ("group", group), ("kind", plural), ("uid", uid)) if v}
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details:
        status["details"] = details
    return status


def causes_of(errors: Sequence[FieldError]) -> list[dict[str, str]]:
    """Field errors as the `causes` of a Status."""
    return [
        {"reason": error.reason, "message": error.message, "field": error.field}
        if error.field
        else {"reason": error.reason, "message": error.message}
        for error in errors
    ]


def _details(resource: Resource, name: str = "") -> dict[str, Any]:
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    return details


def _named(resource: Resource, name: str) -> str:
    return f'{resource.qualified_name} "{name}"' if name else resource.qualified_name


def bad_request(message: str) -> StatusError:
    return failure(400, "BadRequest", message)


def no_name(resource: Resource, name: str) -> StatusError:
    """400 for an object that would be written without its name; name: that of the URL."""
    return bad_request(
        f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
    )


def unauthorized() -> StatusError:
    return failure(401, "Unauthorized", "Unauthorized")


def forbidden(resource: Resource, name: str, message: str, causes: Sequence[FieldError] = ()) -> StatusError:
    """403 for an object: `pods "x" is forbidden: MESSAGE`; without a name `pods is forbidden: MESSAGE`."""
    details = _details(resource, name)
    if causes:
        details["causes"] = causes_of(causes)
    return failure(403, "Forbidden", f"{_named(resource, name)} is forbidden: {message}", details)


def forbidden_path(user: str, verb: str, path: str) -> StatusError:
    return failure(403, "Forbidden", f'forbidden: User "{user}" cannot {verb} path "{path}"', {})


def not_found(resource: Resource, name: str) -> StatusError:
    return failure(404, "NotFound", f"{_named(resource, name)} not found", _details(resource, name))


def no_such_resource() -> StatusError:
    """404 for a version or resource that is not served."""
    return failure(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed() -> StatusError:
    return failure(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        {},
    )


_JSON_YAML_PROTOBUF = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


_REPRESENTATIONS = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")


def not_acceptable(*more: str, transformed: bool = True) -> StatusError:
    """406. transformed: the client asked for another form of the object. more: further media types on offer."""
    offered = ", ".join((*_REPRESENTATIONS, *more))
    if transformed:
        text = f"only the following media types are accepted: {offered}"
        return failure(406, "NotAcceptable", text)
    return failure(406, "NotAcceptable", f"406: Not Acceptable\n\nAvailable representations: {offered}", {})


def already_exists(resource: Resource, name: str) -> StatusError:
    return failure(409, "AlreadyExists", f"{_named(resource, name)} already exists", _details(resource, name))


def conflict(resource: Resource, name: str, message: str = "") -> StatusError:
    """409: the object was changed meanwhile, or what `message` says."""
    text = message or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    return failure(
        409,
        "Conflict",
        f"Operation cannot be fulfilled on {_named(resource, name)}: {text}",
        _details(resource, name),
    )


def apply_conflict(message: str, causes: Sequence[FieldError]) -> StatusError:
    """409 of a server-side apply; each cause has the reason `FieldManagerConflict`."""
    return failure(409, "Conflict", message, {"causes": causes_of(causes)})


def expired(message: str = "The resourceVersion for the provided list is too old.") -> StatusError:
    return failure(410, "Expired", message)


def too_large(what: str) -> StatusError:
    return failure(413, "RequestEntityTooLarge", f"Request entity too large: {what}")


def too_large_body(limit_bytes: int) -> StatusError:
    return too_large(f"limit is {limit_bytes}")


def unsupported_media_type(accepted: str = _JSON_YAML_PROTOBUF) -> StatusError:
    return failure(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {accepted}",
    )


def invalid(kind: str, group: str, name: str, errors: Sequence[FieldError]) -> StatusError:
    """422: `Deployment.apps "web" is invalid: spec.selector: Required value`, with a cause for each error."""
    texts = [str(error) for error in errors]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    qualified = f"{kind}.{group}" if group else kind
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    details["causes"] = causes_of(errors)
    return failure(422, "Invalid", f'{qualified} "{name}" is invalid: {listed}', details)


def invalid_options(kind: str, errors: Sequence[FieldError]) -> StatusError:
    """422 for query parameters: kind is `ListOptions`, `CreateOptions`, ..."""
    return invalid(kind, "meta.k8s.io", "", errors)


def rejected() -> StatusError:
    """422 without details, as a JSON patch that does not fit gets it."""
    return failure(422, "Invalid", "the server rejected our request due to an error in our request", {})


def too_many_requests(
    message: str, causes: Sequence[FieldError] = (), retry_after_seconds: int = 0
) -> StatusError:
    details: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if causes:
        details["causes"] = causes_of(causes)
    if retry_after_seconds:
        details["retryAfterSeconds"] = retry_after_seconds
        headers["Retry-After"] = str(retry_after_seconds)
    return failure(429, "TooManyRequests", message, details, headers)


def internal_error(message: str) -> StatusError:
    return failure(
        500,
        "InternalError",
        f"Internal error occurred: {message}",
        {"causes": [{"message": message}]},
    )


def resource_version_too_large(wanted: int, current: int) -> StatusError:
    message = f"Too large resource version: {wanted}, current: {current}"
    return failure(
        504,
        "Timeout",
        f"Timeout: {message}",
        {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
        {"Retry-After": "1"},
    )


def insufficient_storage(message: str) -> StatusError:
    return failure(507, "InsufficientStorage", message, {})


def _shown(value: object) -> str:
    """A value as Go prints it in field errors: strings quoted, the rest as JSON."""
    return msgspec.json.encode(value).decode()


def required(field: str, text: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, f"Required value: {text}" if text else "Required value")


def invalid_value(field: str, value: object, text: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, f"Invalid value: {_shown(value)}: {text}")


def invalid_type(field: str, value: object, text: str) -> FieldError:
    return FieldError("FieldValueTypeInvalid", field, f"Invalid value: {_shown(value)}: {text}")


def unsupported_value(field: str, value: object, supported: Sequence[str]) -> FieldError:
    listed = ", ".join(f'"{choice}"' for choice in supported)
    return FieldError(
        "FieldValueNotSupported", field, f"Unsupported value: {_shown(value)}: supported values: {listed}"
    )


def forbidden_field(field: str, text: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, f"Forbidden: {text}")


def duplicate(field: str, value: object) -> FieldError:
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {_shown(value)}")


def too_long(field: str, limit_bytes: int) -> FieldError:
    return FieldError("FieldValueTooLong", field, f"Too long: may not be more than {limit_bytes} bytes")


def too_many(field: str, count: int, limit: int) -> FieldError:
    return FieldError("FieldValueTooMany", field, f"Too many: {count}: must have at most {limit} items")
