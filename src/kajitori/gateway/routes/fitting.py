"""Which backends of a rule a request may go to: those whose schema serves its operation.

The request script names the schemas that serve the operation in a header, in quotes. A rule becomes one route
for each set of its backends that some operation fits, and one that says why nothing fits. Rules whose backends speak
one dialect, which are most, have two routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.gateway.operations import OPERATIONS, quoted, schemas_of
from kajitori.gateway.routes.answers import ai_error, literal
from kajitori.gateway.routes.endpoints import SCHEMAS_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def fitting_sets(schemas: Iterable[str]) -> list[frozenset[str]]:
    """Sets of `schemas` that serve one operation together, the largest first: a request takes the first that it fits."""
    present = frozenset(schemas)
    found = {present & frozenset(schemas_of(operation.name)) for operation in OPERATIONS}
    return sorted((item for item in found if item), key=lambda item: (-len(item), sorted(item)))


def fit_headers(schemas: frozenset[str]) -> list[dict[str, Any]]:
    """Header matches of requests that all of `schemas` serve."""
    return [
        {"name": SCHEMAS_HEADER, "string_match": {"contains": quoted(schema)}} for schema in sorted(schemas)
    ]


def nothing_fits(route: str, backends: Mapping[str, str]) -> dict[str, Any]:
    """The answer to requests that no backend serves. route: namespace/name. backends: name -> schema."""
    told = ", ".join(f"AIServiceBackend {name} ({schema})" for name, schema in sorted(backends.items()))
    message = (
        f"no backend of AIGatewayRoute {route} serves {{path}}, which takes one of schema {{schemas}}; "
        "those for this model are {told}"
    )
    return {
        "direct_response": ai_error(
            404,
            message.format(
                path="%DYNAMIC_METADATA(io.kajitori:path)%",
                told=literal(told),
                schemas=f"%REQ({SCHEMAS_HEADER})%",
            ),
        )
    }
