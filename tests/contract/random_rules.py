"""Rules made by chance: schemas, expressions over them that compile for the most part, and objects of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]
WORDS = ("", "a", "ab", "abc", "b", "x-1", "10", "3Ki", "10.0.0.1", "10.0.0.0/8", "https://a.b/c", "é😀")
PATTERNS = ("a", "^[a-z]+$", "^(a|b)*c?$", "[0-9]{1,3}")


class Chance(random.Random):
    def one_in(self, count: int) -> bool:
        return self.randrange(count) == 0


def a_schema(chance: Chance, depth: int) -> Schema:
    """Of one field."""
    kinds = ("text", "number", "boolean", "choice", "time", "either", "list", "map", "object")
    kind = chance.choice(kinds if depth else kinds[:6])
    if kind == "list":
        return {"type": "array", "items": a_schema(chance, depth - 1)} | _bound(chance, "maxItems")
    if kind == "map":
        inner = {"type": "object", "additionalProperties": a_schema(chance, depth - 1)}
        return inner | _bound(chance, "maxProperties")
    if kind == "object":
        properties = {name: a_schema(chance, depth - 1) for name in chance.sample("pqrs", 2)}
        return {"type": "object", "properties": properties, "required": chance.sample(list(properties), 1)}
    if kind == "choice":
        return {"type": "string", "enum": ["a", "abcdef"]}
    if kind == "time":
        return {"type": "string", "format": chance.choice(("date-time", "duration", "byte", "date"))}
    if kind == "either":
        return {"x-kubernetes-int-or-string": True} | _bound(chance, "maxLength")
    if kind == "text":
        return {"type": "string"} | _bound(chance, "maxLength")
    return {"type": {"number": chance.choice(("integer", "number")), "boolean": "boolean"}[kind]}


def _bound(chance: Chance, name: str) -> Schema:
    return {} if chance.one_in(3) else {name: chance.choice((1, 5, 64, 1000, 50_000))}


class Rules:
    """Expressions over what is in scope: texts of expressions with the schemas of their values."""

    def __init__(self, chance: Chance, scope: list[tuple[str, Schema]]) -> None:
        self.chance = chance
        self.scope = scope
        self.names = 0

    def truth(self, depth: int) -> str:
        """A bool."""
        chance = self.chance
        if depth and chance.one_in(3):
            left, right = self.truth(depth - 1), self.truth(depth - 1)
            if chance.one_in(5):
                return f"({left} ? {right} : {self.truth(depth - 1)})"
            return f"({left} {chance.choice(('&&', '||'))} {right})"
        text, schema = self.value(depth)
        return self._about(text, schema, depth)

    def value(self, depth: int) -> tuple[str, Schema]:
        """Anything: something in scope, or what lies in it."""
        text, schema = self.chance.choice(self.scope)
        while not self.chance.one_in(3):
            found = self._inside(text, schema, depth)
            if found is None:
                break
            text, schema = found
        return text, schema

    def _inside(self, text: str, schema: Schema, depth: int) -> tuple[str, Schema] | None:
        if schema.get("properties"):
            name = self.chance.choice(list(schema["properties"]))
            return f"{text}.{name}", schema["properties"][name]
        if "additionalProperties" in schema:
            key = self.chance.choice(("['a']", ".a", f"[{self.string(0)}]"))
            return f"{text}{key}", schema["additionalProperties"]
        if "items" in schema and self.chance.one_in(2):
            return f"{text}[{self.chance.choice(('0', '1'))}]", schema["items"]
        return None

    def _about(self, text: str, schema: Schema, depth: int) -> str:
        kind = _kind(schema)
        options: dict[str, list[Callable[[], str]]] = {
            "array": [
                lambda: self._loop(text, schema, depth),
                lambda: self._loop(text, schema, depth),
                lambda: f"{text}.size() > {self.chance.randrange(4)}",
                lambda: self._list(text, schema, depth),
            ],
            "map": [
                lambda: self._loop(text, schema, depth),
                lambda: self._pairs(text, schema, depth),
                lambda: f"{self.string(depth)} in {text}",
                lambda: f"size({text}) < 3",
            ],
            "object": [
                lambda: f"has({text}.{self.chance.choice(list(schema['properties']))})",
                lambda: f"{text} == {text}",
            ],
            "string": [lambda: self._text(text, depth)],
            "bytes": [lambda: f"{text} == b'abc'", lambda: f"string({text}) != {self.string(depth)}"],
            "date-time": [
                lambda: f"{text} < timestamp('2026-01-01T00:00:00Z')",
                lambda: f"{text}.getHours() > 3",
            ],
            "duration": [lambda: f"{text} > duration('3s')", lambda: f"{text} == {text}"],
            "integer": [lambda: f"{text} {self._order()} {self._number()}"],
            "number": [lambda: f"{text} {self._order()} 1.5"],
            "boolean": [lambda: text, lambda: f"!{text}"],
            "either": [
                lambda: f"{text} == {self.chance.choice(('3', self.string(depth)))}",
                lambda: f"(type({text}) == int ? {text} > 3 : string({text}).startsWith('a'))",
            ],
        }
        return self.chance.choice(options[kind])()

    def _order(self) -> str:
        return self.chance.choice(("==", "!=", "<", ">="))

    def _number(self) -> str:
        found = [text for text, schema in self.scope if schema.get("type") == "integer"]
        return self.chance.choice([*found, "2", "size('abc')"])

    def string(self, depth: int) -> str:
        """A string."""
        found = [text for text, schema in self.scope if _kind(schema) == "string"]
        plain = self.chance.choice([*found, *found, repr(self.chance.choice(WORDS)), "string(12)"])
        if not depth or self.chance.one_in(2):
            return plain
        other = self.string(depth - 1)
        return self.chance.choice(
            (
                f"({plain} + {other})",
                f"{plain}.lowerAscii()",
                f"{plain}.replace({other}, 'abc')",
                f"{plain}.substring(1)",
                f"{plain}.find('{self.chance.choice(PATTERNS)}')",
                f"{plain}.split({other}).join({other})",
                f"({self.truth(depth - 1)} ? {plain} : {other})",
                f"dyn({plain})",
            )
        )

    def _text(self, text: str, depth: int) -> str:
        other, pattern = self.string(depth), self.chance.choice(PATTERNS)
        return self.chance.choice(
            (
                f"{text} {self._order()} {other}",
                f"{text}.matches('{pattern}')",
                f"{text}.{self.chance.choice(('startsWith', 'endsWith', 'contains'))}({other})",
                f"{text}.split({other}).all(w, w != {text})",
                f"{text}.findAll('{pattern}').exists(w, {other}.contains(w))",
                f"{text}.indexOf({other}) > 0",
                f"isQuantity({text}) && quantity({text}).isLessThan(quantity({other}))",
                f"isIP({text}) && ip({text}) == ip('10.0.0.1')",
                f"isCIDR({text}) && cidr({text}).containsIP('10.0.0.1')",
                f"isURL({text}) && url({text}).getHost() == {other}",
                f"{text} in ['a', {other}]",
                f"({text} + {other}).size() < 9",
                f"'%s-%s'.format([{text}, {other}]).contains('a')",
            )
        )

    def _list(self, text: str, schema: Schema, depth: int) -> str:
        choices = [
            f"{text} == {text}.reverse()",
            f"{text}.slice(0, 1).size() == 1",
            f"sets.contains({text}, {text})",
            f"({text} + {text}).size() > 2",
            f"{text}.map(e, e).size() > 1",
            f"lists.range({text}.size()).all(i, {text}[i] == {text}[0])",
            f"{text}[?1].hasValue()",
            f"{text}.all(e, {text}.indexOf(e) == {text}.lastIndexOf(e))",
        ]
        if _kind(schema["items"]) in ("string", "integer", "number"):
            choices += [
                f"{text}.isSorted()",
                f"{text}.min() == {text}.max()",
                f"{text}.sort() == {text}",
                f"{text}.sortBy(e, e)[0] == {text}[0]",
            ]
        if _kind(schema["items"]) == "string":
            choices += [f"{text}.join({self.string(depth)}).contains('a')"] * 2
        return self.chance.choice(choices)

    def _loop(self, text: str, schema: Schema, depth: int) -> str:
        """A macro with one variable."""
        self.names += 1
        name = f"v{self.names}"
        item = schema.get("items") or {"type": "string", "maxLength": 0}
        inner = Rules(self.chance, [*self.scope, (name, item), (name, item)])
        inner.names = self.names
        test = inner.truth(max(depth - 1, 0))
        macro = self.chance.choice(("all", "exists", "exists_one", "filter", "map"))
        if macro == "filter":
            return f"{text}.filter({name}, {test}).size() > 1"
        if macro == "map":
            value, of = inner.value(0)
            self.names = inner.names + 1
            outer = Rules(self.chance, [*self.scope, ("m", of)])
            outer.names = self.names
            return f"{text}.map({name}, {test}, {value}).all(m, {outer.truth(max(depth - 1, 0))})"
        return f"{text}.{macro}({name}, {test})"

    def _pairs(self, text: str, schema: Schema, depth: int) -> str:
        self.names += 1
        key, value = f"k{self.names}", f"v{self.names}"
        scope = [
            *self.scope,
            (key, {"type": "string", "maxLength": 0}),
            (value, schema["additionalProperties"]),
        ]
        inner = Rules(self.chance, scope)
        inner.names = self.names
        test = inner.truth(max(depth - 1, 0))
        return self.chance.choice(
            (
                f"{text}.all({key}, {value}, {test})",
                f"{text}.exists({key}, {value}, {test})",
                f"{text}.transformList({key}, {value}, {test}, {value}).size() > 0",
                f"{text}.transformMap({key}, {value}, {value}).size() > 0",
            )
        )


def _kind(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "either"
    if "additionalProperties" in schema:
        return "map"
    form = schema.get("format")
    return {"byte": "bytes", "date": "date-time"}.get(form, form) if form else schema["type"]


def a_ruled_schema(chance: Chance) -> Schema:
    """An object of a few fields with a rule."""
    properties = {name: a_schema(chance, 2) for name in "abcd"}
    schema: Schema = {"type": "object", "properties": properties}
    rule = Rules(chance, [(f"self.{name}", inner) for name, inner in properties.items()]).truth(2)
    return schema | {"x-kubernetes-validations": [{"rule": rule}]}


def an_object(chance: Chance, schema: Schema) -> Any:
    """A value that the schema lets through."""
    kind = _kind(schema)
    match kind:
        case "object":
            needed = schema.get("required") or ()
            return {
                name: an_object(chance, inner)
                for name, inner in schema["properties"].items()
                if name in needed or not chance.one_in(4)
            }
        case "array":
            most = min(schema.get("maxItems", 3), 3)
            return [an_object(chance, schema["items"]) for _ in range(chance.randint(0, most))]
        case "map":
            keys = chance.sample(WORDS[1:5], min(schema.get("maxProperties", 3), chance.randrange(4)))
            return {key: an_object(chance, schema["additionalProperties"]) for key in keys}
        case "string":
            most = schema.get("maxLength", 64)
            return chance.choice(schema.get("enum") or [word for word in WORDS if len(word) <= most])
        case "either":
            return chance.choice([1, 3, 12, *([""] if schema.get("maxLength", 9) < 2 else ["", "ab"])])
        case "integer":
            return chance.randrange(-1, 5)
        case "number":
            return chance.choice((0, 1, 1.5, -2.25))
        case "boolean":
            return chance.one_in(2)
        case "duration":
            return chance.choice(("1s", "1h30m", "0s"))
        case "bytes":
            return chance.choice(("YWJj", "YQ=="))
        case _:
            return "2026-03-04" if schema["format"] == "date" else "2025-03-04T05:06:07Z"
