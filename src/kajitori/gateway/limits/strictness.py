"""Whether the limits of an object of others are strict: they have no field for it, so an annotation says it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kajitori.api.kubernetes.meta_v1 import ObjectMeta

ANNOTATION = "gateway.kajitori.dev/strict"


def is_strict(metadata: ObjectMeta) -> bool:
    """Of a BackendTrafficPolicy or QuotaPolicy. What is neither true nor false is strict, see `problems`."""
    return metadata.annotations.get(ANNOTATION) != "false"


def problems(metadata: ObjectMeta) -> list[str]:
    """A sentence about an annotation that cannot be understood."""
    value = metadata.annotations.get(ANNOTATION, "true")
    if value in ("true", "false"):
        return []
    return [f"metadata.annotations[{ANNOTATION}]: {value!r} is neither true nor false; its limits are strict"]
