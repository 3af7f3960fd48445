"""JSON patches (RFC 6902): a list of operations, all of which apply or none.

Two texts are the API server's: an operation that does not fit answers a bare 422, a patch that is not a list of
operations answers 400. Its quirk that `replace` may add a key that is missing is left out on purpose.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from kajitori.laptop.apiserver.json_values import same
from kajitori.laptop.apiserver.status import bad_request, rejected, too_large

_MOST_OPERATIONS: Final = 10_000
# As the API server has it. Without a limit, forty copies of a document into itself make it 2**40 times as long.
_MOST_COPIED_BYTES: Final = 3 << 20
_OPERATIONS: Final = frozenset({"add", "remove", "replace", "move", "copy", "test"})


def apply_json_patch(obj: dict[str, Any], patch: object) -> dict[str, Any]:
    """`obj` with the operations done in turn.

    Raises a 400 for what is not a JSON patch, and a 422 for an operation that does not fit the object, a failed
    `test` among them.
    """
    if not isinstance(patch, list):
        raise bad_request("error decoding patch: a JSON patch must be a list of operations")
    operations = cast("list[Any]", patch)
    if len(operations) > _MOST_OPERATIONS:
        raise bad_request(
            f"error decoding patch: {len(operations)} operations, at most {_MOST_OPERATIONS} are allowed"
        )
    document: Any = obj
    copied_bytes = 0
    for operation in operations:
        document, size = _operate(document, operation)
        copied_bytes += size
        if copied_bytes > _MOST_COPIED_BYTES:
            raise too_large(f"the patch copies more than {_MOST_COPIED_BYTES} bytes within the object")
    if not isinstance(document, dict):
        raise rejected()
    return cast("dict[str, Any]", document)


def _operate(document: Any, operation: object) -> tuple[Any, int]:
    """The document after the operation, and how many bytes it copied."""
    if not isinstance(operation, dict):
        raise bad_request("error decoding patch: each operation must be a JSON object")
    fields = cast("dict[str, Any]", operation)
    name = fields.get("op")
    if name not in _OPERATIONS:
        raise rejected()
    path = _parse_pointer(fields.get("path"))
    if name == "remove":
        return _remove(document, path), 0
    if name in ("move", "copy"):
        return _transfer(document, _parse_pointer(fields.get("from")), path, move=name == "move")
    if "value" not in fields:
        raise rejected()
    value = fields["value"]
    if name == "add":
        return _add(document, path, value), 0
    found = _get(document, path, missing_is_null=name == "test" and value is None)
    if name == "test":
        if not same(found, value):
            raise rejected()
        return document, 0
    return _set(document, path, value), 0


def _transfer(document: Any, source: list[str], path: list[str], *, move: bool) -> tuple[Any, int]:
    if move and path[: len(source)] == source and path != source:
        raise rejected()  # nothing can move into itself
    encoded = msgspec.json.encode(_get(document, source))
    # A value of its own: what later becomes of it must not happen to where it came from.
    value = msgspec.json.decode(encoded)
    if move:
        return _add(_remove(document, source), path, value), 0
    return _add(document, path, value), len(encoded)


def _parse_pointer(pointer: object) -> list[str]:
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise rejected()
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _index(part: str, length: int) -> int:
    """The position that `part` names in a list of which `length` places may be named."""
    if not part.isascii() or not part.isdigit() or (len(part) > 1 and part[0] == "0") or len(part) > 9:
        raise rejected()
    index = int(part)
    if index >= length:
        raise rejected()
    return index


def _get(document: Any, path: list[str], *, missing_is_null: bool = False) -> Any:
    for part in path:
        if isinstance(document, dict):
            if part not in document:
                if missing_is_null:
                    return None
                raise rejected()
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(part, len(cast("list[Any]", document)))]
        else:
            raise rejected()
    return document


def _set(document: Any, path: list[str], value: Any) -> Any:
    """A copy, along the path only, with `value` at a place that exists."""
    if not path:
        return value
    if isinstance(document, dict):
        if path[0] not in document:
            raise rejected()
        return {**document, path[0]: _set(document[path[0]], path[1:], value)}
    if isinstance(document, list):
        index = _index(path[0], len(cast("list[Any]", document)))
        return [*document[:index], _set(document[index], path[1:], value), *document[index + 1 :]]
    raise rejected()


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    last = path[-1]
    if isinstance(parent, dict):
        return _set(document, path[:-1], {**parent, last: value})
    if isinstance(parent, list):
        items = cast("list[Any]", parent)
        index = len(items) if last == "-" else _index(last, len(items) + 1)
        return _set(document, path[:-1], [*items[:index], value, *items[index:]])
    raise rejected()


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        raise rejected()
    _get(document, path)
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        return _set(document, path[:-1], {key: value for key, value in parent.items() if key != path[-1]})
    items = cast("list[Any]", parent)
    index = _index(path[-1], len(items))
    return _set(document, path[:-1], [*items[:index], *items[index + 1 :]])
