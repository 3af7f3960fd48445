"""Schemas whose rules cost much or little at worst: what the estimates of both servers are compared on."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
SHORT: Final[Schema] = {"type": "string", "maxLength": 20}
NUMBER: Final[Schema] = {"type": "integer"}


def a_list(items: Schema, most: int | None = None, **more: Any) -> Schema:
    return {"type": "array", "items": items, **({} if most is None else {"maxItems": most}), **more}


def a_map(values: Schema, most: int | None = None, **more: Any) -> Schema:
    bound = {} if most is None else {"maxProperties": most}
    return {"type": "object", "additionalProperties": values, **bound, **more}


def an_object(required: list[str] | None = None, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def ruled(schema: Schema, *rules: str, **more: Any) -> Schema:
    return {**schema, "x-kubernetes-validations": [{"rule": rule, **more} for rule in rules]}


PAIR: Final = an_object(a=TEXT, b=SHORT)

# The rule, and the properties of `spec` that it is about.
_ON_SPEC: Final[dict[str, tuple[Schema, str]]] = {
    "all, no bound": ({"l": a_list(TEXT)}, "self.l.all(x, x.size() > 0)"),
    "all, bound": ({"l": a_list(TEXT, 100)}, "self.l.all(x, x.size() > 0)"),
    "all of all": ({"l": a_list(TEXT)}, "self.l.all(x, self.l.all(y, x != y))"),
    "all of all, bound": ({"l": a_list(SHORT, 100)}, "self.l.all(x, self.l.all(y, x != y))"),
    "all of all, long texts": ({"l": a_list(TEXT, 100)}, "self.l.all(x, self.l.all(y, x != y))"),
    "three deep": ({"l": a_list(NUMBER, 250)}, "self.l.all(x, self.l.all(y, self.l.all(z, x + y != z)))"),
    "three deep, bound": (
        {"l": a_list(NUMBER, 90)},
        "self.l.all(x, self.l.all(y, self.l.all(z, x + y > z)))",
    ),
    "exists of exists": ({"l": a_list(NUMBER, 1500)}, "self.l.exists(x, self.l.exists(y, x > y))"),
    "exists one": ({"l": a_list(NUMBER, 1500)}, "self.l.exists_one(x, self.l.exists_one(y, x > y))"),
    "existsOne": ({"l": a_list(NUMBER, 1500)}, "self.l.all(x, self.l.existsOne(i, y, x > y))"),
    "map": ({"l": a_list(NUMBER)}, "self.l.map(x, x * 2).size() > 0"),
    "map and filter": ({"l": a_list(NUMBER, 9999)}, "self.l.filter(x, x > 1).map(x, x * 2).sum() > 0"),
    "map with a test": ({"l": a_list(NUMBER, 99999)}, "self.l.map(x, x > 1, x * 2).all(y, y > 3)"),
    "filter then all": ({"l": a_list(TEXT, 10)}, "self.l.filter(x, x != 'a').all(y, y.startsWith('b'))"),
    "map of texts": ({"l": a_list(SHORT, 1000)}, "self.l.map(x, x + '.').all(y, y.matches('^[a-z]+$'))"),
    "map of texts, equal": (
        {"l": a_list(SHORT, 1000)},
        "self.l.map(x, x + 'b').all(y, self.l.all(z, y != z))",
    ),
    "lists of lists": ({"l": a_list(a_list(NUMBER))}, "self.l.all(x, x.all(y, y > 1))"),
    "lists of lists, bound": ({"l": a_list(a_list(NUMBER, 100), 100)}, "self.l.all(x, x.all(y, y > 1))"),
    "items of an object": (
        {"l": a_list(PAIR, 1000)},
        "self.l.all(x, x.b.matches('^[a-z]+$') && x.b.size() < 10)",
    ),
    "items of an object, no bound": ({"l": a_list(PAIR, 1000)}, "self.l.all(x, x.a.matches('^[a-z]+$'))"),
    "items that need much": (
        {"l": a_list(an_object(["name", "value"], name=TEXT, value=TEXT))},
        "self.l.all(x, x.name != 'a')",
    ),
    "unique names": ({"l": a_list(PAIR, 64)}, "self.l.all(x, self.l.exists_one(y, x.b == y.b))"),
    "unique names, no bound": ({"l": a_list(PAIR)}, "self.l.all(x, self.l.exists_one(y, x.b == y.b))"),
    "two fields of an item": (
        {"l": a_list(an_object(p=a_list(TEXT, 5), q=a_list(SHORT, 7)), 30)},
        "self.l.all(x, x.p.all(y, x.q.size() > 0 && y.contains('a')) && x.q.all(z, z in x.p))",
    ),
    "fields of an item, grown from one": (
        {"o": an_object(l=a_list(an_object(p=a_list(TEXT, 5), q=a_list(SHORT, 7)), 30))},
        "self.o.l.all(x, x.p.all(y, x.q.size() > 0 && y.contains('a')))",
    ),
    "keys of a map": ({"m": a_map(TEXT)}, "self.m.all(k, k.startsWith('a'))"),
    "keys and values": ({"m": a_map(TEXT, 500)}, "self.m.all(k, self.m[k].startsWith('aaaaaaaa'))"),
    "values that match": ({"m": a_map(SHORT, 500)}, "self.m.all(k, self.m[k].matches('a+b*'))"),
    "values that match, no bound": ({"m": a_map(TEXT, 500)}, "self.m.all(k, self.m[k].matches('a+b*'))"),
    "a key selected": ({"m": a_map(TEXT)}, "self.m.name.matches('a')"),
    "a key compared": ({"m": a_map(TEXT)}, "self.m.name == 'abcd'"),
    "maps of lists": ({"m": a_map(a_list(NUMBER, 50), 50)}, "self.m.all(k, self.m[k].all(x, x > 1))"),
    "two variables": ({"m": a_map(SHORT, 500)}, "self.m.all(k, v, k != v)"),
    "two variables, no bound": ({"m": a_map(TEXT)}, "self.m.exists(k, v, v.contains('abc') && k == 'a')"),
    "transformList": ({"m": a_map(SHORT, 500)}, "self.m.transformList(k, v, k + v).all(x, x.size() > 1)"),
    "transformMap": ({"m": a_map(SHORT, 500)}, "self.m.transformMap(k, v, v + 'a').all(k, k.size() > 1)"),
    "transformMap with a test": ({"l": a_list(SHORT)}, "self.l.transformMap(i, v, i > 3, v).size() > 1"),
    "matches": ({"s": TEXT}, "self.s.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')"),
    "matches, long pattern": ({"s": TEXT}, "self.s.matches('" + "[a-z]?" * 40 + "')"),
    "matches a text": ({"s": TEXT, "t": TEXT}, "self.s.matches(self.t)"),
    "matches a text, bound": ({"s": SHORT, "t": SHORT}, "self.s.matches(self.t)"),
    "find": ({"s": TEXT}, "self.s.find('[0-9]+[a-z]+[0-9]+[a-z]+[0-9]+[a-z]+') == '3'"),
    "findAll": ({"s": SHORT}, "self.s.findAll('[0-9]+').all(x, x == '3')"),
    "findAll, no bound": ({"s": TEXT}, "self.s.findAll('[0-9]+').all(x, self.s.findAll(x).size() > 0)"),
    "contains": ({"s": TEXT, "t": TEXT}, "self.s.contains(self.t)"),
    "contains a constant": ({"s": TEXT}, "self.s.contains('abc')"),
    "split": ({"s": TEXT}, "self.s.split(',').all(x, x.size() > 0)"),
    "split to a limit": ({"s": TEXT}, "self.s.split(',', 3).all(x, x == 'a')"),
    "split and match": ({"s": SHORT}, "self.s.split(',').all(x, x.matches('a'))"),
    "join": ({"l": a_list(SHORT, 100)}, "self.l.join(', ').contains('a')"),
    "join, no bound": ({"l": a_list(TEXT, 100)}, "self.l.join(', ').contains('abcdefghijklmnop')"),
    "replace": ({"s": SHORT}, "self.s.replace('a', 'bbbb').matches('b')"),
    "replace nothing": ({"s": TEXT}, "self.s.replace('', 'bbbbb').matches('bbbbbbbbb')"),
    "replace by less": ({"s": TEXT}, "self.s.replace('bbb', 'b').contains('abcdefghijkl')"),
    "substring": ({"s": TEXT}, "self.s.substring(1, 4).lowerAscii().trim() == 'abc'"),
    "upper, compared": ({"l": a_list(TEXT, 10), "s": TEXT}, "self.l.all(x, x.upperAscii() == self.s)"),
    "sum of texts": ({"s": TEXT, "t": TEXT}, "(self.s + self.t + self.s).matches('abc')"),
    "conditional": ({"s": TEXT, "b": {"type": "boolean"}}, "(self.b ? self.s : 'abc').matches('abc')"),
    "ordered texts": ({"l": a_list(TEXT, 100)}, "self.l.all(x, self.l.all(y, x <= y))"),
    "isSorted": ({"l": a_list(TEXT)}, "self.l.isSorted()"),
    "isSorted, bound": ({"l": a_list(SHORT, 100)}, "self.l.isSorted()"),
    "indexOf": ({"l": a_list(TEXT, 50)}, "self.l.all(x, self.l.indexOf(x) == self.l.lastIndexOf(x))"),
    "index of a text": ({"s": TEXT}, "self.s.indexOf('a') > 3"),
    "min and max": ({"l": a_list(NUMBER)}, "self.l.min() > 3 && self.l.max() < 10 && self.l.sum() == 7"),
    "distinct": ({"l": a_list(NUMBER)}, "self.l.distinct().size() == self.l.size()"),
    "distinct, bound": ({"l": a_list(NUMBER, 1000)}, "self.l.distinct().size() == self.l.size()"),
    "sort": ({"l": a_list(TEXT, 2000)}, "self.l.sort() == self.l"),
    "sort numbers": ({"l": a_list(NUMBER, 2000)}, "self.l.sort() == self.l"),
    "sortBy": ({"l": a_list(TEXT, 2000)}, "self.l.sortBy(x, x.size()) == self.l"),
    "sortBy, texts of items": (
        {"l": a_list(PAIR, 2000)},
        "self.l.sortBy(x, x.b).map(x, x.b).all(y, y.matches('a'))",
    ),
    "reverse and slice": ({"l": a_list(NUMBER, 2000)}, "self.l.reverse().slice(0, 3).all(x, x > 1)"),
    "flatten": ({"l": a_list(a_list(NUMBER, 20), 100)}, "self.l.flatten().all(x, x > 1)"),
    "flatten deeper": ({"l": a_list(a_list(NUMBER, 20), 9999)}, "self.l.flatten(3).all(x, x > 1)"),
    "range": ({"l": a_list(NUMBER, 200)}, "lists.range(1000).all(i, self.l.all(x, x > i))"),
    "range of a size": ({"l": a_list(NUMBER, 200)}, "lists.range(self.l.size()).all(i, self.l[i] > i)"),
    "sets": ({"l": a_list(TEXT), "k": a_list(TEXT)}, "sets.contains(self.l, self.k)"),
    "sets, bound": ({"l": a_list(TEXT, 9), "k": a_list(TEXT, 9)}, "sets.equivalent(self.l, self.k)"),
    "sets intersect": ({"l": a_list(TEXT)}, "sets.intersects(self.l, ['a', 'b'])"),
    "in a list": ({"l": a_list(TEXT), "s": TEXT}, "self.s in self.l"),
    "in a literal": ({"l": a_list(TEXT)}, "self.l.all(x, x in ['a', 'b', 'c'])"),
    "in a map": ({"m": a_map(TEXT), "l": a_list(TEXT)}, "self.l.all(x, x in self.m)"),
    "literal range": ({"s": TEXT}, "['a', 'bc', 'd'].all(x, self.s.contains(x))"),
    "literal map": ({"s": TEXT}, "{'a': 'b', 'c': 'dd'}.all(k, self.s.matches(k))"),
    "quantity": ({"s": TEXT, "t": TEXT}, "quantity(self.s).isLessThan(quantity(self.t))"),
    "quantities": ({"l": a_list(TEXT, 5)}, "self.l.all(x, isQuantity(x) && sign(quantity(x)) > 0)"),
    "quantities compared": ({"l": a_list(TEXT, 9)}, "self.l.all(x, quantity(x) == quantity('1'))"),
    "quantities that differ": ({"s": SHORT}, "quantity(self.s) != quantity('1')"),
    "urls": ({"l": a_list(TEXT, 30)}, "self.l.all(x, url(x).getHost() == 'a.b')"),
    "urls compared": ({"s": TEXT, "t": TEXT}, "url(self.s) == url(self.t)"),
    "is a url": ({"l": a_list(TEXT)}, "self.l.all(x, isURL(x))"),
    "addresses": ({"l": a_list(TEXT, 30)}, "self.l.all(x, isIP(x) && ip(x).family() == 4)"),
    "addresses compared": ({"s": SHORT}, "ip(self.s) == ip('10.0.0.1') && ip.isCanonical(self.s)"),
    "networks": ({"l": a_list(TEXT, 30)}, "self.l.all(x, cidr('10.0.0.0/8').containsIP(x))"),
    "networks in networks": ({"l": a_list(TEXT)}, "self.l.all(x, cidr(x).containsCIDR('10.0.0.0/8'))"),
    "networks of objects": ({"l": a_list(TEXT, 2)}, "self.l.all(x, cidr(x).ip() == cidr(x).masked().ip())"),
    "times": ({"t": {"type": "string", "format": "date-time"}}, "self.t.getHours() > 3"),
    "times compared": (
        {"l": a_list({"type": "string", "format": "date-time"})},
        "self.l.all(x, x < timestamp('2026-01-01T00:00:00Z'))",
    ),
    "durations": (
        {"l": a_list({"type": "string", "format": "duration"})},
        "self.l.all(x, self.l.all(y, x < y || y > duration('3s')))",
    ),
    "bytes": ({"b": {"type": "string", "format": "byte"}}, "string(self.b).matches('abcdefghijklmnopqrst')"),
    "texts as bytes": ({"s": TEXT}, "bytes(self.s).size() > 3 && bytes(self.s) == b'abc'"),
    "quote": ({"s": SHORT}, "strings.quote(self.s).contains('a')"),
    "quote, no bound": ({"s": TEXT}, "strings.quote(self.s).contains('a')"),
    "format": ({"s": SHORT, "i": NUMBER}, "'%s-%d'.format([self.s, self.i]).size() > 3"),
    "format, then match": ({"s": SHORT}, "'%s'.format([self.s]).matches('abc')"),
    "numbers as texts": ({"i": NUMBER}, "string(self.i).matches('abc')"),
    "a choice of values": ({"s": {"type": "string", "enum": ["a", "bcd"]}}, "self.s.matches(self.s)"),
    "int or string": ({"x": {"x-kubernetes-int-or-string": True}}, "self.x == 3 || self.x == 'abc'"),
    "int or string as text": (
        {"l": a_list({"x-kubernetes-int-or-string": True})},
        "self.l.all(x, type(x) == string ? string(x).matches('^[0-9]+%$') : int(x) < 3)",
    ),
    "int or string ordered": (
        {"l": a_list({"x-kubernetes-int-or-string": True, "maxLength": 10}, 100)},
        "self.l.all(x, self.l.all(y, x < y))",
    ),
    "dyn": ({"s": TEXT}, "dyn(self.s).matches('abc')"),
    "optional": ({"s": TEXT}, "self.?s.orValue('abc').matches('abc')"),
    "optional, has value": ({"s": TEXT, "t": TEXT}, "self.?s.hasValue() == self.?t.hasValue()"),
    "optMap": ({"s": SHORT}, "self.?s.optMap(x, x + 'b').orValue('a') == 'b'"),
    "optMap, matches": ({"s": SHORT}, "self.?s.optMap(x, x.matches('b')).orValue(false)"),
    "optFlatMap": ({"s": SHORT, "t": SHORT}, "self.?s.optFlatMap(x, self.?t).orValue('b') == 'b'"),
    "optional index": ({"l": a_list(TEXT)}, "self.l[?0].orValue('b') == 'b' && self.l[0] == 'a'"),
    "optional of": ({"s": SHORT}, "optional.of(self.s).value().size() > 3"),
    "index, then match": ({"l": a_list(SHORT)}, "self.l[0].matches('abc')"),
    "index, no bound": ({"l": a_list(TEXT)}, "self.l[0].contains(self.l[1])"),
    "has": ({"o": PAIR}, "has(self.o) && has(self.o.a) && (!has(self.o.b) || self.o.b != 'a')"),
    "may be null": (
        {"l": a_list({"type": "integer", "nullable": True}, 900)},
        "self.l.all(x, self.l.all(y, x == y || x > 3))",
    ),
    "lists compared": ({"l": a_list(a_list(NUMBER, 10), 1000)}, "self.l.all(x, self.l.all(y, x == y))"),
    "objects compared": ({"l": a_list(PAIR, 1000)}, "self.l.all(x, self.l.all(y, x == y))"),
    "numbers compared": ({"l": a_list(NUMBER, 1000)}, "self.l.all(x, self.l.all(y, x == y))"),
    "a list of what was": ({"l": a_list(TEXT)}, "self.l.all(x, x in oldSelf.l)"),
    "a list of what was, bound": ({"l": a_list(TEXT, 99)}, "oldSelf.l.all(x, x in self.l)"),
    "lists added": ({"l": a_list(SHORT, 99)}, "(self.l + self.l + ['abc']).all(x, x.matches('a'))"),
    "lists added, no bound": ({"l": a_list(SHORT)}, "(self.l + ['abc']).all(x, self.l.exists(y, y == x))"),
    "absurd bounds": (
        {"l": a_list(TEXT, 0), "s": {"type": "string", "maxLength": 0}},
        "self.l.all(x, x == self.s)",
    ),
    "an enormous bound": ({"l": a_list(TEXT, 2**40)}, "self.l.all(x, self.l.all(y, x == y))"),
    "many rules in one": ({"l": a_list(NUMBER, 5000)}, " && ".join(["self.l.all(x, x > 1)"] * 60)),
}


def _root(spec: Schema, **more: Any) -> Schema:
    return {"type": "object", "properties": {"spec": spec}, **more}


_ELSEWHERE: Final[dict[str, Schema]] = {
    "rule on an item": _root(an_object(l=a_list(ruled(TEXT, "self.matches('^[a-z]+$')")))),
    "rule on an item, bound": _root(an_object(l=a_list(ruled(SHORT, "self.matches('^[a-z]+$')"), 1000))),
    "rule on an item of an item": _root(
        an_object(l=a_list(an_object(k=a_list(ruled(SHORT, "self != 'abc'"), 300)), 300))
    ),
    "rule on an item, half bound": _root(
        an_object(l=a_list(an_object(k=a_list(ruled(SHORT, "self != 'a'"), 3))))
    ),
    "rule on a value": _root(an_object(m=a_map(ruled(PAIR, "self.b.contains(self.b)")))),
    "rule on a value, bound": _root(an_object(m=a_map(ruled(PAIR, "self.b.contains(self.b)"), 1000))),
    "rule on an item that needs much": _root(
        an_object(l=a_list(ruled(an_object(["name"], name=TEXT), "self.name != 'abcdefghijkl'")))
    ),
    "rule on a number": _root(an_object(l=a_list(ruled(NUMBER, "self > 3")))),
    "rule on an embedded resource": _root(
        an_object(
            l=a_list(
                ruled(
                    {
                        "type": "object",
                        "x-kubernetes-embedded-resource": True,
                        "x-kubernetes-preserve-unknown-fields": True,
                    },
                    "self.metadata.name.startsWith('abc')",
                )
            )
        )
    ),
    "rule on the name": _root({"type": "object"})
    | {"x-kubernetes-validations": [{"rule": "self.metadata.name.matches('^[a-z]+$') && self.kind == 'A'"}]},
    "rule on a bound name": {
        "type": "object",
        "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}}},
            "spec": PAIR,
        },
        "x-kubernetes-validations": [{"rule": "self.metadata.name.matches('" + "[a-z]?" * 30 + "')"}],
    },
    "message of a rule": _root(
        ruled(
            an_object(s=TEXT, l=a_list(TEXT)),
            "self.s != 'a'",
            messageExpression="self.l.map(x, self.l.map(y, x + y).join('')).join(', ')",
        )
    ),
    "message of a rule, cheap": _root(
        ruled(an_object(s=TEXT), "self.s != 'a'", messageExpression="'not ' + self.s")
    ),
    "many dear rules": _root(
        an_object(
            **{
                f"l{index}": ruled(a_list(SHORT, 300), "self.all(x, self.all(y, x != y))")
                for index in range(40)
            }
        )
    ),
    "few dear rules": _root(
        an_object(
            **{
                f"l{index}": ruled(a_list(SHORT, 300), "self.all(x, self.all(y, x != y))")
                for index in range(8)
            }
        )
    ),
    "dear rules and dearer ones": _root(
        an_object(
            **{
                f"l{index}": ruled(a_list(SHORT, 250 + 100 * index), "self.all(x, self.all(y, x != y))")
                for index in range(10)
            }
        )
    ),
    "old values that may be missing": _root(
        ruled(
            an_object(l=a_list(TEXT)), "oldSelf.hasValue() && self.l.all(x, x != 'a')", optionalOldSelf=True
        )
    ),
    "dear and not compiled": _root(
        ruled(an_object(l=a_list(TEXT)), "self.l.all(x, self.l.all(y, x != y))", "self.nothing > 3")
    ),
}

SCHEMAS: Final[dict[str, Schema]] = {
    name: _root(ruled(an_object(**properties), rule)) for name, (properties, rule) in _ON_SPEC.items()
} | _ELSEWHERE
"""By what they are about; each a whole schema of a definition."""


def repeated(schema: Schema, times: int) -> Schema:
    """The spec of a schema, with its rules, as the item of a list that has at most `times`."""
    return _root(an_object(many=a_list(schema["properties"]["spec"], times)))
