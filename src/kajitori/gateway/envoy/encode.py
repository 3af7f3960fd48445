"""JSON-like resources to exact protobuf messages of this Envoy.

Resources are plain dicts in protobuf's JSON form (`"@type"` in an Any, durations as `"1.5s"`, enum values by
name), as Envoy's own documentation writes them. Converters are compiled once a message type from its
descriptor; a field that this Envoy does not know is an error that names its place, never dropped.
"""

from __future__ import annotations

import base64
import functools
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError

from kajitori.base.errors import InvalidManifest
from kajitori.gateway.envoy.route_tree import HEADER, by_header_value
from kajitori.gateway.envoy.schema import schema
from kajitori.gateway.resources import TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.descriptor import Descriptor

    from kajitori.gateway.envoy.schema import Schema

_VIRTUAL_HOST = "envoy.config.route.v3.VirtualHost"
_ROUTE = "envoy.config.route.v3.Route"
_ROUTE_CONFIGURATION = "envoy.config.route.v3.RouteConfiguration"


class Encoder:
    """Turns resources into serialized messages; one an Envoy schema."""

    def __init__(self, envoy_schema: Schema) -> None:
        self.schema = envoy_schema
        self._fields = functools.cache(self._compile)
        # Routes by the place they have: most stay the same from one table to the next.
        self._routes: dict[str, dict[tuple[str, str], tuple[dict[str, Any], bytes]]] = {}
        # Branches of look-up trees, by table and host.
        self._branches: dict[str, dict[str, _Branches]] = {}

    def message(self, full_name: str, value: dict[str, Any], where: str = "") -> Any:
        """The message; raises InvalidManifest that names the field."""
        special = _WELL_KNOWN.get(full_name)
        if special is not None:
            return special(self, value, where)
        fields = self._fields(full_name)
        arguments: dict[str, Any] = {}
        for key, item in value.items():
            field = fields.get(key)
            if field is None:
                raise InvalidManifest(
                    f"this Envoy knows no field {key!r} in {full_name}", where=where or full_name
                )
            if item is not None:
                arguments[field[0]] = field[1](item, f"{where}.{key}" if where else key)
        try:
            return self.schema.message(full_name)(**arguments)
        except (TypeError, ValueError) as error:
            raise InvalidManifest(f"{full_name}: {error}", where=where) from error

    def encode(self, full_name: str, value: dict[str, Any]) -> bytes:
        """The serialized message, the same bytes for the same value; raises InvalidManifest, also for what is too deep."""
        try:
            if full_name == _ROUTE_CONFIGURATION:
                return self._encode_routes(value)
            return self.message(full_name, value).SerializeToString(deterministic=True)
        except (RecursionError, DecodeError, EncodeError) as error:
            raise InvalidManifest(f"{full_name}: {error}") from error

    def _encode_routes(self, value: dict[str, Any]) -> bytes:
        """A route table, put together from routes that are encoded one by one and remembered.

        Serialized messages may be concatenated: a repeated field may stand anywhere, so only changed routes cost.
        """
        table = str(value.get("name"))
        rest = {key: item for key, item in value.items() if key != "virtual_hosts"}
        parts = [self.message(_ROUTE_CONFIGURATION, rest).SerializeToString(deterministic=True)]
        before, used = self._routes.get(table, {}), dict[tuple[str, str], tuple[dict[str, Any], bytes]]()
        trees, kept = self._branches.get(table, {}), dict[str, _Branches]()
        for host in value.get("virtual_hosts", ()):
            plain = {key: item for key, item in host.items() if key != "routes"}
            encoded = [self.message(_VIRTUAL_HOST, plain).SerializeToString(deterministic=True)]
            routes: list[bytes] = []
            for index, route in enumerate(host.get("routes", ())):
                key = (str(host["name"]), str(route.get("name") or index))
                known = before.get(key)
                if known is None or (known[0] is not route and known[0] != route):
                    data = self.message(_ROUTE, route, f"route {key[1]}").SerializeToString(
                        deterministic=True
                    )
                    known = (route, data)
                used[key] = known
                routes.append(known[1])
            tree = by_header_value(host.get("routes", ()))
            if tree is None:
                encoded += [_length_delimited(_ROUTES_FIELD, data) for data in routes]
            else:
                host_name = str(host["name"])
                matcher, kept[host_name] = _matcher(routes, *tree, trees.get(host_name, {}))
                encoded.append(_length_delimited(_MATCHER_FIELD, matcher))
            parts.append(_length_delimited(_HOSTS_FIELD, b"".join(encoded)))
        self._routes[table], self._branches[table] = used, kept
        return b"".join(parts)

    def _compile(self, full_name: str) -> dict[str, tuple[str, Callable[[Any, str], Any]]]:
        descriptor = self.schema.descriptor(full_name)
        compiled: dict[str, tuple[str, Callable[[Any, str], Any]]] = {}
        for field in descriptor.fields:
            entry = (field.name, self._converter(field))
            compiled[field.name] = compiled[field.json_name] = entry
        return compiled

    def _converter(self, field: FieldDescriptor) -> Callable[[Any, str], Any]:
        single = self._single(field)
        if not field.is_repeated:
            return single
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            value = self._single(message.fields_by_name["value"])
            return lambda items, where: {key: value(item, f"{where}[{key}]") for key, item in items.items()}
        return lambda items, where: [single(item, f"{where}[{index}]") for index, item in enumerate(items)]

    def _single(self, field: FieldDescriptor) -> Callable[[Any, str], Any]:
        message: Descriptor | None = field.message_type
        if message is not None:
            name = message.full_name
            return lambda item, where: self.message(name, item, where)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return lambda item, where: base64.b64decode(item)
        return lambda item, where: item


def _any(encoder: Encoder, value: dict[str, Any], where: str) -> Any:
    if not value:
        return encoder.schema.message("google.protobuf.Any")()
    name = str(value["@type"]).removeprefix(TYPE)
    rest = {key: item for key, item in value.items() if key != "@type"}
    if name in _WELL_KNOWN:
        rest = rest["value"]
    message = encoder.message(name, rest, f"{where}<{name.rpartition('.')[2]}>")
    packed = encoder.schema.message("google.protobuf.Any")()
    packed.type_url = TYPE + name
    packed.value = message.SerializeToString(deterministic=True)
    return packed


def _duration(encoder: Encoder, value: Any, where: str) -> Any:
    text = str(value)
    if not text.endswith("s"):
        raise InvalidManifest(f"duration {text!r} is not seconds such as 1.5s", where=where)
    nanoseconds = round(float(text[:-1]) * 1e9)
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    sign = -1 if nanoseconds < 0 else 1
    return encoder.schema.message("google.protobuf.Duration")(seconds=sign * seconds, nanos=sign * rest)


def _wrapper(full_name: str) -> Callable[[Encoder, Any, str], Any]:
    return lambda encoder, value, where: encoder.schema.message(full_name)(value=value)


def _struct(encoder: Encoder, value: dict[str, Any], where: str) -> Any:
    message = encoder.schema.message("google.protobuf.Struct")()
    message.update(value)
    return message


_WELL_KNOWN: dict[str, Callable[[Encoder, Any, str], Any]] = {
    "google.protobuf.Any": _any,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Struct": _struct,
    **{
        f"google.protobuf.{name}Value": _wrapper(f"google.protobuf.{name}Value")
        for name in ("Bool", "UInt32", "UInt64", "Int32", "Int64", "Double", "Float", "String", "Bytes")
    },
}

# Value of the header -> the routes that it leads to, and the branch.
_Branches = dict[str, tuple[tuple[bytes, ...], bytes]]
_HOSTS_FIELD = 2
_ROUTES_FIELD = 3
_MATCHER_FIELD = 21


def _varint(number: int) -> bytes:
    head = bytearray()
    while number > 0x7F:
        head.append(number & 0x7F | 0x80)
        number >>= 7
    head.append(number)
    return bytes(head)


def _length_delimited(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _extension(name: str, type_name: str, message: bytes) -> bytes:
    """A TypedExtensionConfig."""
    packed = _length_delimited(1, (TYPE + type_name).encode()) + _length_delimited(2, message)
    return _length_delimited(1, name.encode()) + _length_delimited(2, packed)


def _matcher(
    routes: Sequence[bytes], by_value: dict[str, list[int]], others: list[int], known: _Branches
) -> tuple[bytes, _Branches]:
    """A Matcher that leads to lists of routes, of messages that are serialized already; and its branches.

    known: those of the tree before, which are taken again where the same routes are in them.
    """

    def leads_to(chosen: tuple[bytes, ...]) -> bytes:
        listed = b"".join(_length_delimited(1, route) for route in chosen)
        return _length_delimited(2, _extension("routes", "envoy.config.route.v3.RouteList", listed))

    looks_at = _length_delimited(1, HEADER.encode())
    header = _extension("header", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", looks_at)
    branches: _Branches = {}
    for value, places in by_value.items():
        chosen = tuple(routes[place] for place in places)
        branch = known.get(value)
        if branch is None or branch[0] != chosen:
            entry = _length_delimited(1, value.encode()) + _length_delimited(2, leads_to(chosen))
            branch = (chosen, _length_delimited(1, entry))
        branches[value] = branch
    tree = _length_delimited(1, header) + _length_delimited(
        2, b"".join(data for _, data in branches.values())
    )
    rest = leads_to(tuple(routes[place] for place in others))
    return _length_delimited(2, tree) + _length_delimited(3, rest), branches


@functools.cache
def encoder() -> Encoder:
    """The encoder for the installed binary."""
    return Encoder(schema())
