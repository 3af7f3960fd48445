"""What it takes to get a token, as values: an exchange says which requests to make, one after another, and makes none.

`steps` is a generator. It yields what it needs (a request to an endpoint, or a file of this machine), is sent the
answer, and returns the token. So each exchange is tested without a network, and there is one place that has effects.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec

from kajitori.base.errors import KajitoriError
from kajitori.base.foreign_json import read_foreign_json

_LONGEST_REMARK = 300
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}")


class ExchangeFailed(KajitoriError):
    """No token. retry_after_seconds: what the endpoint asked for, or None."""

    def __init__(self, message: str, *, hint: str = "", retry_after_seconds: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class Concealed(msgspec.Struct, frozen=True):
    """A secret text: it is not shown when what holds it is printed."""

    text: str

    def __repr__(self) -> str:
        return "***"

    def __str__(self) -> str:
        return "***"


class Token(msgspec.Struct, frozen=True):
    """What an exchange gives. expires_at: seconds since 1970; None: it does not say."""

    secret: Concealed
    expires_at: float | None = None


class TokenState(msgspec.Struct, frozen=True):
    """How an exchange stands. token: the last good one, while it is valid. problem: why the latest try failed."""

    token: Token | None = None
    problem: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request to an endpoint.

    endpoint: what it is called towards people. form, json: the body, one of them at most. optional: that nobody
    answers is an answer too (`Answer.status` is 0).
    """

    endpoint: str
    method: str = "POST"
    url: str
    headers: dict[str, str] = {}
    form: dict[str, str] | list[tuple[str, str]] | None = None
    json: dict[str, Any] | None = None
    optional: bool = False

    def __repr__(self) -> str:
        return f"Request({self.method} {self.url})"


class ReadFile(msgspec.Struct, frozen=True):
    """A file of this machine; the answer has status 404 where there is none."""

    path: str


class Answer(msgspec.Struct, frozen=True):
    """What came. headers: with names in small letters."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Answer(status={self.status})"

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace").strip()

    def json(self) -> dict[str, Any]:
        """The object that the body holds; empty if it holds none."""
        try:
            found = read_foreign_json(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


Step = Request | ReadFile
Steps = Generator[Step, Answer, Token]


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What exchanges know of the place that they run in.

    environment: variables of this process. The addresses are the providers' own unless the environment, or a test,
    says something else.
    """

    environment: Mapping[str, str] = {}
    google_sts: str = "https://sts.googleapis.com"
    google_iam: str = "https://iamcredentials.googleapis.com"
    google_token: str = "https://oauth2.googleapis.com/token"

    def variable(self, *names: str) -> str:
        """The first of these that is set to something."""
        return next((value for name in names if (value := self.environment.get(name, ""))), "")


class Exchange(Protocol):
    """One way to a token.

    identity: as whom; a token of another identity is of no use. secrets: texts that must not be told.
    """

    @property
    def identity(self) -> tuple[str, ...]: ...
    @property
    def secrets(self) -> tuple[str, ...]: ...
    def steps(self, surroundings: Surroundings, now: float) -> Steps: ...


def bearer_token(request: Request, answer: Answer, now: float) -> Token:
    """The access token of an OAuth answer. Raises ExchangeFailed."""
    found = answer.json()
    value = found.get("access_token")
    if answer.status != 200 or not isinstance(value, str):
        raise refused(request, answer, "access_token")
    return Token(Concealed(sound(request, value)), expiry(found.get("expires_in"), now))


def expiry(expires_in: Any, now: float) -> float | None:
    """When something ends that lasts so many seconds, which may be given as text."""
    try:
        seconds = float(expires_in)
    except (TypeError, ValueError):
        return None
    return now + seconds if 0 < seconds < 1e9 else None


def moment(text: Any) -> float | None:
    """An RFC 3339 time in seconds since 1970; None for anything else."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def sound(request: Request, value: str) -> str:
    """A value that may stand in a header. Raises ExchangeFailed."""
    if not value or not value.isascii() or not value.isprintable():
        raise ExchangeFailed(f"{request.endpoint} gave a token that is empty or has odd characters")
    return value


def refused(request: Request, answer: Answer, wanted: str) -> ExchangeFailed:
    """What the endpoint answered, in few words. Only members that are meant for people are told, never a body."""
    found = answer.json()
    error = found.get("error")
    nested = error if isinstance(error, dict) else {}
    code = nested.get("status") or (error if isinstance(error, str) else "") or found.get("Code") or ""
    remark = nested.get("message") or found.get("error_description") or found.get("Message") or ""
    if not found and (match := re.search(r"<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>", answer.text)):
        code, remark = match.groups()
    if answer.status == 200:
        said = f"answered 200 without {wanted}"
    else:
        said = f"answered {answer.status}"
    if isinstance(code, str) and _CODE.fullmatch(code):
        said += f" {code}"
    if isinstance(remark, str) and remark:
        said += f": {' '.join(remark.split())[:_LONGEST_REMARK]}"
    return ExchangeFailed(f"{request.endpoint} {said}", retry_after_seconds=_retry_after(answer))


def _retry_after(answer: Answer) -> float | None:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None
