"""Which fields of an object nobody here knows, so that a condition can name them.

Kinds of other projects have more fields than are honoured. Their schemas keep unknown fields, the struct lists what
is honoured, and the difference between an object and the struct is what must be told.
"""

from __future__ import annotations

import difflib
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from msgspec import inspect

if TYPE_CHECKING:
    import msgspec

# Names of fields that exist upstream are farther from one another than this.
_NEARLY = 0.85


def unhonoured_fields(raw: dict[str, Any], typed: type[msgspec.Struct], prefix: str = "spec") -> list[str]:
    """Paths of the members of `raw` that the struct lacks, such as `spec.retry.foo[0].bar`, in the order of `raw`.

    prefix: the path of `raw` itself. Members that are null count as absent; below `Any` everything is known.
    """
    return list(unhonoured_sentences(raw, typed, prefix))


def unhonoured_sentences(
    raw: dict[str, Any], typed: type[msgspec.Struct], prefix: str = "spec"
) -> dict[str, str]:
    """What is to be told of each such path. A name that is nearly that of a field which is honoured may be a slip."""
    found: dict[str, str] = {}
    _walk(raw, _type_info(typed), prefix, found)
    return found


@lru_cache(1000)
def _slip(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1, _NEARLY)
    return f" (did you mean {near[0]}?)" if near else ""


@cache
def _type_info(typed: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(typed)


def _walk(value: Any, info: inspect.Type, path: str, found: dict[str, str]) -> None:
    match info:
        case inspect.Metadata():
            _walk(value, info.type, path, found)
        case inspect.UnionType():
            _walk(value, _fitting(value, info), path, found)
        case inspect.StructType() if isinstance(value, dict):
            members: dict[str, Any] = value
            known = {field.encode_name: field.type for field in info.fields}
            for name, member in members.items():
                if member is None:
                    continue
                if name in known:
                    _walk(member, known[name], f"{path}.{name}", found)
                else:
                    found[f"{path}.{name}"] = f"{path}.{name} is not honoured{_slip(name, tuple(known))}"
        case inspect.DictType() if isinstance(value, dict):
            values: dict[str, Any] = value
            for name, member in values.items():
                _walk(member, info.value_type, f"{path}[{name}]", found)
        case inspect.ListType() if isinstance(value, list):
            items: list[Any] = value
            for number, item in enumerate(items):
                _walk(item, info.item_type, f"{path}[{number}]", found)
        case _:
            pass


def _fitting(value: Any, info: inspect.UnionType) -> inspect.Type:
    """The part of a union that a value is of, as far as its form tells."""
    forms: dict[type, tuple[type[inspect.Type], ...]] = {
        dict: (inspect.StructType, inspect.DictType),
        list: (inspect.ListType,),
    }
    wanted = forms.get(type(value), ())
    for kind in info.types:
        bare = kind.type if isinstance(kind, inspect.Metadata) else kind
        if isinstance(bare, wanted):
            return kind
    return inspect.AnyType()
