"""The rules that objects must keep, beyond the types of their fields; broken ones are named by field path.

`rules_of` gives the check of a definition, `metadata_errors` the rules that all kinds share. Texts are those of
the published API server, since users search for them and clients compare them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.validation.metadata import metadata_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.laptop.apiserver.status import FieldError

_RULES: dict[str, Callable[[dict[str, Any], dict[str, Any] | None, str], list[FieldError]]] = {}


def _no_rules(_new: dict[str, Any], _old: dict[str, Any] | None, _subresource: str) -> list[FieldError]:
    return []


def rules_of(
    definition: str,
) -> Callable[[dict[str, Any], dict[str, Any] | None, str], list[FieldError]]:
    """check(new, old or None, subresource) of a definition such as `io.k8s.api.core.v1.Pod`."""
    return _RULES.get(definition, _no_rules)


__all__ = ["metadata_errors", "rules_of"]
