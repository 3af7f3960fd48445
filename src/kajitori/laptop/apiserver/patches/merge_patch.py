"""JSON merge patches (RFC 7386): maps merge, null removes, everything else replaces."""

from __future__ import annotations

from typing import Any, cast

from kajitori.laptop.apiserver.json_values import same
from kajitori.laptop.apiserver.status import bad_request


def apply_merge_patch(obj: dict[str, Any], patch: object) -> dict[str, Any]:
    """`obj` with `patch` merged into it; `obj` itself where nothing changes. Raises a 400 for a patch that is
    not a map."""
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a merge patch must be a JSON object")
    return _merge(obj, cast("dict[str, Any]", patch))


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    result = target
    for key, value in patch.items():
        present = key in result
        if value is None:
            if present:
                result = dict(result) if result is target else result
                del result[key]
            continue
        old = result.get(key)
        if isinstance(value, dict):
            new: Any = _merge(old if isinstance(old, dict) else {}, value)
            if isinstance(old, dict) and new is old:
                continue
        else:
            new = value
            if present and same(old, value):
                continue
        result = dict(result) if result is target else result
        result[key] = new
    return result
