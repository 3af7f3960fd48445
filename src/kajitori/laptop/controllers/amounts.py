"""Amounts that a spec gives as a number or as a percentage, and statuses as the API writes them. Pure."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from kajitori.kube.objects import Object


def resolve(value: int | str, total: int, *, round_up: bool) -> int:
    """A number as it is; a percentage of `total`, rounded as said. 0 for a text that is neither."""
    if isinstance(value, int):
        return value
    digits = value.removesuffix("%")
    percent = int(digits) if digits.isdecimal() else 0
    return -(-percent * total // 100) if round_up else percent * total // 100


def status_patch(status: msgspec.Struct, always: Collection[str] = ()) -> Object:
    """A merge patch of the whole status. What is zero or empty is taken away, as a real server leaves it out.

    always: names (as on the wire) of fields that are written even if they are zero.
    """
    body: Object = msgspec.to_builtins(status)
    return {key: value if value or key in always else None for key, value in body.items()}
