"""A resource as it goes over the wire."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    # The name of a message and its content to the message, serialized; raises InvalidManifest.
    Encode = Callable[[str, dict[str, Any]], bytes]


class Encoded(msgspec.Struct, frozen=True):
    """version: the same for the same content, in every process."""

    value: dict[str, Any]
    data: bytes
    version: str


def encoded(kind: str, value: dict[str, Any], encode: Encode) -> Encoded:
    """The resource, serialized; raises InvalidManifest."""
    data = encode(kind, value)
    return Encoded(value, data, hashlib.blake2b(data, digest_size=12).hexdigest())
