"""What the rules of a schema cost at worst: estimates from what the schema bounds, and the budgets they must keep to.

What a schema leaves unbounded is bounded by the size of a request. A rule below a list or map runs for each item,
so its cost is multiplied by how often data of its place can occur. Source: kube-apiserver 1.36, whose verdicts and
texts these are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kajitori.base.cel.estimate import Shape, estimate_cost
from kajitori.base.cel.estimate_sizes import plus, times
from kajitori.laptop.apiserver.crd.rules import field_name, variables_of
from kajitori.laptop.apiserver.status import FieldError, forbidden_field

if TYPE_CHECKING:
    from kajitori.base.cel.types import Type

Schema = dict[str, Any]

BYTES_OF_A_REQUEST: Final = 3 * 1024 * 1024
MOST_OF_A_RULE: Final = 10_000_000
MOST_OF_A_SCHEMA: Final = 100_000_000
_SHOWN: Final = 4
_BYTES_PER_LETTER: Final = 4
_SCALARS: Final = {"boolean": Shape(0, 4), "number": Shape(0, 1), "integer": Shape(0, 1)}
# Most and fewest bytes of texts of a format.
_FORMATS: Final = {
    "duration": Shape(32, 3),
    "date": Shape(12, 12),
    "date-time": Shape(32, 21),
}
_TEXT: Final = Shape(BYTES_OF_A_REQUEST - 2, 2)
_STRING: Final = {"type": "string"}
_RESOURCE: Final[Schema] = {
    "apiVersion": _STRING,
    "kind": _STRING,
    "metadata": {"type": "object", "properties": {"name": _STRING, "generateName": _STRING}},
}
_KEYS: Final = Shape(0, 2)


def shape_of(schema: Any, *, root: bool = False) -> Shape | None:
    """How large data of the schema can be; None: expressions do not see it. root: of a whole resource."""
    if not isinstance(schema, dict):
        return None
    if schema.get("x-kubernetes-int-or-string"):
        most = schema.get("maxLength")
        return Shape(BYTES_OF_A_REQUEST - 2 if most is None else _letters(most), 1)
    kind = schema.get("type")
    if kind == "array":
        return _list(schema)
    if kind == "object":
        additional = schema.get("additionalProperties")
        if isinstance(additional, dict):
            return _map(schema, additional)
        return _object(schema, root=root)
    if kind == "string":
        return _text(schema)
    return _SCALARS.get(kind or "")


def _below(schema: Any) -> Shape | None:
    return shape_of(
        schema, root=isinstance(schema, dict) and bool(schema.get("x-kubernetes-embedded-resource"))
    )


def _letters(most: int) -> int:
    return max(most, 0) * _BYTES_PER_LETTER


def _list(schema: Schema) -> Shape | None:
    items = _below(schema.get("items"))
    if items is None:
        return None
    most = schema.get("maxItems")
    if most is None:
        most = (BYTES_OF_A_REQUEST - 2) // (items.least_bytes + 1)
    return Shape(max(most, 0), 2, items=items)


def _map(schema: Schema, additional: Schema) -> Shape | None:
    values = _below(additional)
    if values is None:
        return None
    most = schema.get("maxProperties")
    if most is None:
        # A key takes its quotation marks, a colon and a comma.
        most = (BYTES_OF_A_REQUEST - 2) // (values.least_bytes + 6)
    return Shape(max(most, 0), 2, items=values, keys=_KEYS)


def _object(schema: Schema, *, root: bool) -> Shape:
    properties: Schema = schema.get("properties") or {}
    if root and not _names_itself(properties):
        properties = properties | _RESOURCE
    needed: set[str] = set(schema.get("required") or ())
    fields: dict[str, Shape] = {}
    least = 2
    for name, child in properties.items():
        shape = _below(child)
        if shape is None:
            continue
        fields[field_name(name)] = shape
        if name in needed and child.get("default") is None:
            least += len(name.encode()) + shape.least_bytes + 4
    return Shape(0, least, fields)


def _names_itself(properties: Schema) -> bool:
    """Whether all that expressions see of any resource is declared; else none of the declarations counts."""
    names: Schema = (properties.get("metadata") or {}).get("properties") or {}
    told = [
        properties.get("apiVersion"),
        properties.get("kind"),
        names.get("name"),
        names.get("generateName"),
    ]
    return all(isinstance(schema, dict) and schema.get("type") == "string" for schema in told)


def _text(schema: Schema) -> Shape:
    form, most = schema.get("format"), schema.get("maxLength")
    if form in _FORMATS:
        return _FORMATS[form]
    if most is not None:
        return Shape(max(most, 0) if form == "byte" else _letters(most), 2)
    if form != "byte" and (enum := schema.get("enum")):
        return Shape(max((len(value.encode()) for value in enum if isinstance(value, str)), default=0), 2)
    return _TEXT


def times_below(schema: Schema, occurs: int | None) -> int | None:
    """How often what is right below a node can occur, if the node does `occurs` times; None: there is no bound."""
    if occurs is None:
        return None
    kind, most = schema.get("type"), 1
    if kind == "array":
        most = schema.get("maxItems")
    elif kind == "object" and schema.get("additionalProperties") is not None:
        most = schema.get("maxProperties")
    return None if most is None else times(occurs, max(most, 0))


@dataclass(slots=True)
class Costs:
    """What the rules of one schema cost together. each: whether single rules must keep to their budget."""

    each: bool = True
    total: int = 0
    _dearest: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])

    def rule(self, place: str, cost: int, what: str) -> list[FieldError]:
        """Counts an expression at `place`; what: it is called in texts."""
        self.total = plus(self.total, cost)
        if cost >= MOST_OF_A_SCHEMA // 100:
            self._dearest = sorted([*self._dearest, (cost, place)], key=lambda entry: -entry[0])[:_SHOWN]
        if self.each and cost > MOST_OF_A_RULE:
            return [forbidden_field(place, _exceeds(f"estimated {what} cost", cost, MOST_OF_A_RULE))]
        return []

    def together(self, prefix: str) -> list[FieldError]:
        """What is wrong with all of them; prefix: the field that holds the schema."""
        if self.total <= MOST_OF_A_SCHEMA:
            return []
        words = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        errors = [forbidden_field(place, words) for _, place in self._dearest]
        subject = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        return [*errors, forbidden_field(prefix, _exceeds(subject, self.total, MOST_OF_A_SCHEMA))]


def _exceeds(subject: str, cost: int, budget: int) -> str:
    factor = cost / budget
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    advice = (
        "try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings "
        "are declared"
    )
    return f"{subject} exceeds budget by factor of {shown} ({advice})"


def rule_cost(rule: Schema, self_type: Type, shape: Shape, occurs: int | None) -> int:
    """Of a rule wherever its place occurs. Raises CompileError."""
    if occurs is None:
        occurs = BYTES_OF_A_REQUEST // (shape.least_bytes + 1)
    variables = variables_of(rule, self_type)
    return times(estimate_cost(str(rule["rule"]).strip(), variables, shape), occurs)


def message_cost(rule: Schema, self_type: Type, shape: Shape) -> int:
    """Of a rule's message expression, which runs once. Raises CompileError."""
    return estimate_cost(rule["messageExpression"], variables_of(rule, self_type), shape)
