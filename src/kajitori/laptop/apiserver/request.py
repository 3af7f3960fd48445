"""A request taken apart: which resource, which verb, which options.

Source of the path grammar and the verbs: Kubernetes API concepts and authorization documentation.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.status import FieldError

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

    from kajitori.laptop.apiserver.admission.chain import Configured
    from kajitori.laptop.apiserver.auth import User
    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.negotiation import Output

FIELD_MANAGER_BYTES = 128
LONGEST_REMEMBERED_PATH = 512
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


class Target(NamedTuple):
    """What a path names. plural empty: not a resource. rest: what follows a subresource, as for proxies."""

    path: str
    group: str = ""
    version: str = ""
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    legacy_watch: bool = False


def parse_path(path: str) -> Target:
    """Take a path apart; it may still name a group or resource that does not exist."""
    # Nobody shall fill the memory with paths as long as a request line may be.
    return _parsed(path) if len(path) <= LONGEST_REMEMBERED_PATH else _parsed.__wrapped__(path)


@lru_cache(maxsize=8_192)
def _parsed(path: str) -> Target:
    decoded = unquote(path)
    parts = decoded.split("/")[1:]
    if parts and parts[-1] == "":
        parts.pop()
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return Target(decoded)
    legacy_watch = rest[0] == "watch" and len(rest) > 1
    if legacy_watch:
        rest = rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in _NAMESPACE_SUBRESOURCES:
        namespace = rest[1]
        rest = rest[2:]
    plural, name, subresource, *more = (*rest, "", "", "")[: max(3, len(rest))]
    if not all(rest[:3]):
        return Target(decoded)
    return Target(
        decoded,
        group,
        version,
        plural,
        namespace,
        name,
        subresource,
        "/".join(more),
        legacy_watch,
    )


_NUMBER = re.compile(r"[+-]?[0-9]{1,400}")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


def verb_of(method: str, target: Target, query: Query) -> str:
    """The verb that access rules judge."""
    if method in ("GET", "HEAD"):
        if target.legacy_watch or (query.flag("watch") and not target.name):
            return "watch"
        return "get" if target.name else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return _VERBS.get(method, method.lower())


class Query:
    """Query parameters; the first value counts."""

    __slots__ = ("_pairs", "_values")

    def __init__(self, text: str) -> None:
        self._pairs: list[tuple[str, str]] = []
        self._values: dict[str, str] = {}
        if text:
            self._pairs = parse_qsl(text, keep_blank_values=True)
            for key, value in self._pairs:
                self._values.setdefault(key, value)

    def get(self, key: str, default: str = "") -> str:
        return self._values.get(key, default)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def all(self, key: str) -> list[str]:
        return [value for name, value in self._pairs if name == key]

    def flag(self, key: str) -> bool:
        """Present and not false, as Go clients mean it."""
        value = self._values.get(key)
        return value is not None and value not in ("false", "0", "False")

    def number(self, key: str, default: int = 0) -> int:
        """Raises StatusError 400 for anything but an integer."""
        value = self._values.get(key, "")
        if not value:
            return default
        if not _NUMBER.fullmatch(value):
            raise status.bad_request(f'strconv.ParseInt: parsing "{value}": invalid syntax')
        if not -(1 << 63) <= int(value) < 1 << 63:
            raise status.bad_request(f'strconv.ParseInt: parsing "{value}": value out of range')
        return int(value)


class Call:
    """One request on its way through the server: who asks for what, and what is said besides the answer."""

    __slots__ = (
        "annotations",
        "configured",
        "generated_name",
        "http",
        "kind",
        "output",
        "query",
        "target",
        "user",
        "verb",
        "warnings",
    )

    def __init__(
        self, http: BaseRequest, target: Target, query: Query, verb: str, user: User, output: Output
    ) -> None:
        self.http = http
        self.target = target
        self.query = query
        self.verb = verb
        self.user = user
        self.output = output
        self.kind: Kind
        # What is said of the request in the audit log.
        self.annotations: dict[str, str] = {}
        self.configured: Configured
        self.warnings: list[str] = []
        self.generated_name = False

    @property
    def user_agent(self) -> str:
        return header_text(self.http.headers.get("User-Agent", ""))

    def field_manager(self) -> str:
        """As named, else the first word of the User-Agent. Raises StatusError 422 if it is too long."""
        manager = self.query.get("fieldManager")
        if len(manager.encode()) > FIELD_MANAGER_BYTES:
            raise status.invalid_options(
                self._options_kind(), [status.too_long("fieldManager", FIELD_MANAGER_BYTES)]
            )
        for place, character in enumerate(manager):
            if not character.isprintable():
                text = f"invalid character {_code_point(character)} (at position {place})"
                shown = _go_quoted(manager)
                raise status.invalid_options(
                    self._options_kind(),
                    [FieldError("FieldValueInvalid", "fieldManager", f"Invalid value: {shown}: {text}")],
                )
        if manager:
            return manager
        return self.user_agent.partition("/")[0][:FIELD_MANAGER_BYTES] or "unknown"

    def dry_run(self) -> bool:
        """Raises StatusError 422 for other words than `All`."""
        values = self.query.all("dryRun")
        return check_dry_run(values, self._options_kind()) if values else False

    def field_validation(self) -> str:
        """`Ignore`, `Warn` or `Strict`. Raises StatusError 422 for other words."""
        wanted = self.query.get("fieldValidation") or "Warn"
        if wanted not in ("Ignore", "Warn", "Strict"):
            raise status.invalid_options(
                self._options_kind(),
                [status.unsupported_value("fieldValidation", wanted, ("", "Ignore", "Strict", "Warn"))],
            )
        return wanted

    def _options_kind(self) -> str:
        return {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}.get(
            self.verb, "DeleteOptions"
        )


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


def _go_quoted(text: str) -> str:
    """A text in quotes, with what cannot be printed as escapes."""
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'


def header_text(value: str) -> str:
    """A header's value as text that can be stored: bytes that are no UTF-8 become replacement characters."""
    return value if value.isascii() else value.encode(errors="surrogateescape").decode(errors="replace")


def check_dry_run(values: list[str], options_kind: str) -> bool:
    """Whether dryRun asks for no effect. Raises StatusError 422 for other words than `All`."""
    if values == ["All"]:
        return True
    if not any(values):
        return False
    if any(value != "All" for value in values):
        raise status.invalid_options(options_kind, [status.unsupported_value("dryRun", values, ("All",))])
    return True
