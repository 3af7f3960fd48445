"""Versions whose objects may have more fields than their struct: nothing is pruned, so that a status can name it."""

from __future__ import annotations

from typing import Any

from kajitori.api.crd import Version

_KEEP = "x-kubernetes-preserve-unknown-fields"


class OpenVersion(Version, frozen=True, kw_only=True):
    """A version that keeps unknown fields everywhere in `spec`. See `kajitori.api.unhonoured`."""

    def to_crd(self) -> dict[str, Any]:
        version = super().to_crd()
        _open(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
        return version


def _open(schema: dict[str, Any]) -> None:
    """Marks every object with named members."""
    if "properties" in schema:
        schema[_KEEP] = True
        for member in schema["properties"].values():
            _open(member)
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            _open(schema[part])
