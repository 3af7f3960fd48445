"""Reasons are values: made where a decision is made, printed alike by status, events, CLI and console."""

from __future__ import annotations

import msgspec


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why something was decided.

    code: CamelCase word that programs may compare, such as `ImageNotMapped`.
    message: one sentence for people.
    hint: what to do to change it; may be empty.
    object: what it is about, such as `Pod default/web`; may be empty.
    """

    code: str
    message: str
    hint: str = ""
    object: str = ""

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def quoted(text: str, most: int = 60) -> str:
    """What a user wrote, for a sentence about it: in quotes, and cut where it goes on for longer than anybody reads."""
    return repr(text) if len(text) <= most else f"{text[:most]!r}..."
