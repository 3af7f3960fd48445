"""Compiled getters for dotted paths, as field selectors need them."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


def text_of(value: Any) -> str:
    """As a field selector compares it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class FieldGetter:
    """The text of the field at a path such as `spec.nodeName`; `spec.hostNetwork|false` names that of an absent one."""

    def __init__(self, path: str) -> None:
        dotted, _, self._absent = path.partition("|")
        self._steps = dotted.removeprefix(".").split(".")

    def __call__(self, obj: dict[str, Any]) -> str:
        value: Any = obj
        for step in self._steps:
            value = value.get(step) if isinstance(value, dict) else None
            if value is None:
                return self._absent
        return text_of(value)

    def read(self, body: bytes) -> str:
        """The same of an object's JSON, of which nothing else is decoded."""
        try:
            value: Any = self._decode(body)
        except msgspec.ValidationError:  # the path leads through something that is no object
            return self(msgspec.json.decode(body))
        for _ in self._steps:
            if value is None:
                return self._absent
            value = value.f
        return self._absent if value is None else text_of(value)

    def trace(self, value: str) -> bytes | None:
        """What the compact JSON of every object has in it whose field has this text; None if that cannot be told."""
        if value in ("", "true", "false", self._absent) or _NUMBER.fullmatch(value):
            return None
        return b"%b:%b" % (msgspec.json.encode(self._steps[-1]), msgspec.json.encode(value))

    @cached_property
    def _decode(self) -> Callable[[bytes], Any]:
        kind: Any = Any
        for step in reversed(self._steps):
            kind = msgspec.defstruct("Inner", [("f", kind | None, None)], rename={"f": step}, gc=False)
        return msgspec.json.Decoder(kind).decode
