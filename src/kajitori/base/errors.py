"""The tree of errors.

    KajitoriError                 what happened; where (object and field path); what to do
    ├── UserError                 something that its author can mend
    │   ├── InvalidManifest       a document that cannot be read or breaks its schema
    │   ├── UnsupportedField      a field that is understood and not honoured
    │   └── UsageError            a command called in a way that makes no sense
    ├── ApiError                  an API server's Status, as it was answered
    │   ├── BadRequest            400
    │   ├── Unauthorized          401
    │   ├── Forbidden             403
    │   ├── NotFound              404
    │   ├── AlreadyExists         409, reason AlreadyExists
    │   ├── Conflict              409, any other reason
    │   ├── Gone                  410: the resource version is too old, list again
    │   ├── Invalid               422: causes name the fields
    │   ├── TooManyRequests       429: retry_after_seconds says when
    │   └── ServerError           500 and above
    ├── Unreachable               no answer: refused, cut, timed out
    ├── Infeasible                every candidate was refused; one Reason each
    ├── Terminal                  do not try again until the object changes
    └── MissingDependency         names the command that brings what is missing

Transport errors do not leave `kajitori.kube`: it raises `Unreachable` or an `ApiError` for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kajitori.base.reason import Reason


class KajitoriError(Exception):
    """Base of all errors that Kajitori raises on purpose.

    message: what happened, one sentence without a full stop at its end.
    where: the object and field path, such as `Pod default/web: spec.containers[0].image`; may be empty.
    hint: what to do about it; may be empty.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} ({self.hint})" if self.hint else text


class UserError(KajitoriError):
    """Something that the author of the input can mend."""


class InvalidManifest(UserError):
    """A document that cannot be read, or that breaks its schema."""


class UnsupportedField(UserError):
    """A field that is understood and not honoured."""


class UsageError(UserError):
    """A command called in a way that makes no sense."""


class ApiError(KajitoriError):
    """An API server's refusal, with its Status.

    code: HTTP status. reason: the Status reason, such as `Conflict`. details: the Status details.
    retry_after_seconds: what the server asked for, or None.
    """

    code = 0

    def __init__(
        self,
        message: str,
        *,
        code: int = 0,
        reason: str = "",
        details: Mapping[str, Any] | None = None,
        retry_after_seconds: float | None = None,
        where: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.code = code or type(self).code
        self.reason = reason
        self.details: Mapping[str, Any] = details or {}
        self.retry_after_seconds = retry_after_seconds

    @property
    def causes(self) -> Sequence[Mapping[str, str]]:
        """The Status causes: `reason`, `message` and `field` each."""
        return self.details.get("causes") or ()


class BadRequest(ApiError):
    code = 400


class Unauthorized(ApiError):
    code = 401


class Forbidden(ApiError):
    code = 403


class NotFound(ApiError):
    code = 404


class Conflict(ApiError):
    code = 409


class AlreadyExists(ApiError):
    code = 409


class Gone(ApiError):
    code = 410


class Invalid(ApiError):
    code = 422


class TooManyRequests(ApiError):
    code = 429


class ServerError(ApiError):
    code = 500


class Unreachable(KajitoriError):
    """No answer: the connection was refused, cut, or timed out."""


class Infeasible(KajitoriError):
    """Every candidate was refused; `reasons` has one for each."""

    def __init__(
        self, message: str, *, reasons: Sequence[Reason] = (), where: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.reasons = tuple(reasons)


class Terminal(KajitoriError):
    """Do not try again until the object changes."""


class MissingDependency(KajitoriError):
    """Something is not installed; the hint is the command that brings it."""


def api_error(status: Mapping[str, Any], code: int = 0, retry_after_seconds: float | None = None) -> ApiError:
    """The error that a `Status` object stands for.

    Source of the reasons: Kubernetes API conventions, "Response Status Kind".
    """
    code = int(status.get("code") or code or 500)
    reason = str(status.get("reason") or "")
    kinds: dict[int, type[ApiError]] = {
        400: BadRequest,
        401: Unauthorized,
        403: Forbidden,
        404: NotFound,
        409: AlreadyExists if reason == "AlreadyExists" else Conflict,
        410: Gone,
        422: Invalid,
        429: TooManyRequests,
    }
    kind = kinds.get(code, ServerError if code >= 500 else ApiError)
    details: Mapping[str, Any] = status.get("details") or {}
    if retry_after_seconds is None and details.get("retryAfterSeconds"):
        retry_after_seconds = float(details["retryAfterSeconds"])
    return kind(
        str(status.get("message") or reason or f"HTTP {code}"),
        code=code,
        reason=reason,
        details=details,
        retry_after_seconds=retry_after_seconds,
    )
