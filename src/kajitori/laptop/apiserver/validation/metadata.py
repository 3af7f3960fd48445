"""Metadata that all kinds share: names, labels, annotations, owners, finalizers, and what may not change."""

from __future__ import annotations

from typing import Any

from kajitori.laptop.apiserver.status import FieldError, required


def metadata_errors(
    new: dict[str, Any], old: dict[str, Any] | None, definition: str, *, namespaced: bool
) -> list[FieldError]:
    """What is wrong with the metadata of an object, or with its change."""
    metadata = new["metadata"]
    errors: list[FieldError] = []
    if not metadata.get("name"):
        errors.append(required("metadata.name", "name or generateName is required"))
    return errors
