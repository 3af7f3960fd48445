"""The options of a list and of a watch: read from the query, judged together, refused with all that is wrong.

Source: the API concepts documentation, "Resource versions"; texts as kube-apiserver has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.status import FieldError, StatusError

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.request import Query

_MATCH = "resourceVersionMatch"
_FROM_CACHE = ("", "0")


class ListOptions(NamedTuple):
    """version: at least, or with `exact` just this one; 0: any. limit 0: all. onwards: the continue token."""

    version: int
    exact: bool
    limit: int
    onwards: str


class WatchOptions(NamedTuple):
    """version: to begin behind, 0: now. present_first: ADDED for what is there. mark_end: a bookmark ends these.

    bookmarks: wanted from time to time. seconds: after which the watch ends, 0: not said.
    """

    version: int
    present_first: bool
    mark_end: bool
    bookmarks: bool
    seconds: int


def parse_version(text: str, before: str = "") -> int:
    """A resourceVersion; empty is 0. before: what the refusal begins with. Raises StatusError 400."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise status.bad_request(f"{before}{_unreadable(text)}")
    return int(text)


def _unreadable(text: str) -> FieldError:
    words = f'strconv.ParseUint: parsing "{text}": invalid syntax'
    return status.invalid_value("resourceVersion", text, words)


def list_options(query: Query) -> ListOptions:
    """Raises StatusError 400 or 422."""
    limit = query.number("limit")
    query.number("timeoutSeconds")
    text, match, onwards = query.get("resourceVersion"), query.get(_MATCH), query.get("continue")
    errors: list[FieldError] = []
    if match:
        if not text:
            errors.append(_forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if onwards:
            errors.append(_forbidden("resourceVersionMatch is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            errors.append(status.unsupported_value(_MATCH, match, ("Exact", "NotOlderThan", "")))
        if match == "Exact" and text == "0":
            errors.append(_forbidden('resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if "sendInitialEvents" in query:
        text_of_it = "sendInitialEvents is forbidden for list"
        errors.append(status.forbidden_field("sendInitialEvents", text_of_it))
    if errors:
        raise _refused(errors)
    version = parse_version(text, "invalid resource version: ")
    if onwards and text not in _FROM_CACHE:
        raise status.bad_request("specifying resource version is not allowed when using continue")
    # Who takes whatever is at hand gets all of it: there is no page to go on from.
    return ListOptions(version, match == "Exact", 0 if text == "0" else max(0, limit), onwards)


def watch_options(query: Query) -> WatchOptions:
    """Raises StatusError 400 or 422."""
    query.number("limit")
    seconds = query.number("timeoutSeconds")
    text, match = query.get("resourceVersion"), query.get(_MATCH)
    said = "sendInitialEvents" in query
    # Who asks from no version, or from any, gets what is there first.
    legacy = not said and not match and text in _FROM_CACHE
    errors: list[FieldError] = []
    if said and match != "NotOlderThan":
        errors.append(_forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
    if match:
        if not said:
            words = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            errors.append(_forbidden(words))
        if match != "NotOlderThan":
            errors.append(status.unsupported_value(_MATCH, match, ("NotOlderThan",)))
    if query.get("continue") and (match or legacy):
        errors.append(_forbidden("resourceVersionMatch is forbidden when continue is provided"))
    if errors:
        raise _refused(errors)
    version = parse_version(text)
    bookmarks = query.flag("allowWatchBookmarks")
    present_first = query.flag("sendInitialEvents") if said else legacy
    mark_end = bookmarks and present_first and (said or text == "0")
    return WatchOptions(version, present_first, mark_end, bookmarks, seconds)


def _forbidden(text: str) -> FieldError:
    return status.forbidden_field(_MATCH, text)


def _refused(errors: list[FieldError]) -> StatusError:
    return status.invalid_options("ListOptions", errors)
