"""Makes JSON fit a schema: a function per definition, compiled once, that walks only what is there.

The walk does what decoding into the published types does: fields that the type does not have are dropped and
reported, nulls count as absent, empty optional lists and maps vanish, quantities and times take their canonical
form, and a value of a wrong type ends it with `WrongType`, worded as clients know it. It changes the object in
place and writes only where something differs, so that unchanged parts may be shared with a stored object.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from kajitori.api.schemas import definitions, protobuf_messages
from kajitori.laptop.apiserver.kinds.canonical import canonical_quantity, canonical_time
from kajitori.laptop.apiserver.kinds.kind import UnknownField

# A path is a linked list, cheap to grow: (parent path or None, field name or index).
Path = tuple[Any, Any] | None
# From a value, where it is, and a list for what is dropped, to the value that fits.
Object = dict[str, Any]
Walk = Callable[[Any, Path, list[UnknownField]], Any]


class WrongType(Exception):
    """A value that cannot be read as its field's type; the message is the decoder's."""


class _NotThat(WrongType):
    """A value that cannot be read as the type of a field; whose field it is, the caller knows."""

    def __init__(self, value: Any, path: Path, go_type: str) -> None:
        super().__init__(str(_mismatch(value, path, "", go_type)))
        self.told = (value, path, go_type)


def spelled(path: Path) -> str:
    """`spec.containers[0].image`."""
    parts: list[str] = []
    while path is not None:
        path, step = path
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return "".join(reversed(parts)).removeprefix(".")


def _fields_only(path: Path) -> str:
    """As the decoder names a place: without indices."""
    parts: list[str] = []
    while path is not None:
        path, step = path
        if not isinstance(step, int):
            parts.append(step)
    return ".".join(reversed(parts))


_JSON_WORD = {str: "string", int: "number", float: "number", bool: "bool", dict: "object", list: "array"}


def _mismatch(value: Any, path: Path, struct: str, go_type: str) -> WrongType:
    word = _JSON_WORD.get(type(value), "null")
    if word == "number" and go_type.startswith(("int", "uint")):
        word = f"number {value}"
    place = _fields_only(path)
    if not place:
        return WrongType(f"json: cannot unmarshal {word} into Go value of type {go_type}")
    return WrongType(f"json: cannot unmarshal {word} into Go struct field {struct}.{place} of type {go_type}")


_QUANTITY_FORM = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_BASE64_TEXT = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_BASE64_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def _quantity(value: Any, path: Path, _problems: list[UnknownField]) -> Any:
    if value is None:
        return "0"
    if type(value) is not str and type(value) not in (int, float):
        raise WrongType(f"{_QUANTITY_FORM} ({spelled(path)})")
    try:
        return canonical_quantity(value)
    except ValueError:
        raise WrongType(f"{_QUANTITY_FORM} ({spelled(path)}: {value!r})") from None


def _int_or_string(value: Any, path: Path, _problems: list[UnknownField]) -> Any:
    if type(value) is str or (type(value) is int and -(2**31) <= value < 2**31):
        return value
    if value is None:
        return 0
    raise _NotThat(value, path, "int32")


def _time(*, micro: bool) -> Walk:
    def walk(value: Any, path: Path, _problems: list[UnknownField]) -> Any:
        if type(value) is not str:
            raise _mismatch(value, path, "Time", "string")
        text = canonical_time(value, micro=micro)
        if text is None:
            raise WrongType(
                f'parsing time "{value}" as "2006-01-02T15:04:05{".000000" if micro else ""}Z07:00": cannot parse "{value}" as "2006"'
                f" ({spelled(path)})"
            )
        return text

    return walk


def _bytes(value: Any, path: Path, _problems: list[UnknownField]) -> Any:
    if type(value) is not str:
        if value is None:
            return ""
        raise _mismatch(value, path, "Data", "[]uint8")
    text = value if "\n" not in value and "\r" not in value else value.replace("\n", "").replace("\r", "")
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error among them
        raise WrongType(f"illegal base64 data at input byte {_first_bad_byte(text)}") from None
    return text


def _first_bad_byte(text: str) -> int:
    for index, character in enumerate(text):
        if character not in _BASE64_ALPHABET and not _BASE64_TEXT.fullmatch(text):
            return index
    return len(text) - len(text) % 4


def _anything(value: Any, _path: Path, _problems: list[UnknownField]) -> Any:
    return value


_SPECIAL: dict[str, tuple[Walk, str]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": (_quantity, "resource.Quantity"),
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": (_int_or_string, "intstr.IntOrString"),
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": (_time(micro=False), "v1.Time"),
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": (_time(micro=True), "v1.MicroTime"),
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": (_anything, "v1.FieldsV1"),
    "io.k8s.apimachinery.pkg.runtime.RawExtension": (_anything, "runtime.RawExtension"),
}
_OPAQUE_ENDS = ("JSON", "JSONSchemaPropsOrStringArray")
# A schema of a definition, or what else the decoder takes in its place.
_SCHEMA_OR = {
    "JSONSchemaPropsOrBool": (bool, "boolean or JSON schema expected"),
    "JSONSchemaPropsOrArray": (list, "array or JSON schema expected"),
}
_SCALARS = {
    ("string", ""): (str, "string"),
    ("boolean", ""): (bool, "bool"),
    ("integer", "int32"): (int, "int32"),
    ("integer", "int64"): (int, "int64"),
    ("integer", ""): (int, "int64"),
    ("number", "double"): (float, "float64"),
    ("number", ""): (float, "float64"),
}
_ZERO = {str: "", bool: False, int: 0, float: 0}
_INT_RANGE = {"int32": 2**31, "int64": 2**63}


def go_type_of(schema: dict[str, Any]) -> str:
    """The type's name as the decoder prints it, such as `map[string]string` or `[]v1.Container`."""
    reference = schema.get("$ref")
    if reference:
        package, name = reference.rsplit(".", 2)[-2:]
        return f"{package}.{name}"
    kind = schema.get("type", "")
    if kind == "array":
        return f"[]{go_type_of(schema.get('items', {}))}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"map[string]{go_type_of(values) if isinstance(values, dict) else 'interface {}'}"
    if schema.get("format") == "byte":
        return "[]uint8"
    return _SCALARS.get((kind, schema.get("format", "")), (str, "string"))[1]


def _scalar(python_type: type, go_type: str, struct: str) -> Walk:
    limit = _INT_RANGE.get(go_type, 0)

    def walk(value: Any, path: Path, _problems: list[UnknownField]) -> Any:
        if type(value) is python_type:
            if limit and not -limit <= value < limit:
                raise _mismatch(value, path, struct, go_type)
            return value
        if value is None:
            return _ZERO[python_type]
        if python_type is float and type(value) is int:
            return value
        if python_type is int and type(value) is float and value.is_integer() and abs(value) < 2**53:
            return int(value)
        raise _mismatch(value, path, struct, go_type)

    return walk


def _list(item: Walk, scalar: type | None, go_type: str, struct: str) -> Walk:
    def walk(value: Any, path: Path, problems: list[UnknownField]) -> Any:
        if type(value) is not list:
            raise _mismatch(value, path, struct, go_type)
        for index, old in enumerate(value):
            if type(old) is scalar and scalar is not int:
                continue
            new = item(old, (path, index), problems)
            if new is not old:
                value[index] = new
        return value

    return walk


def _map(item: Walk, scalar: type | None, go_type: str, struct: str) -> Walk:
    def walk(value: Any, path: Path, problems: list[UnknownField]) -> Any:
        if type(value) is not dict:
            raise _mismatch(value, path, struct, go_type)
        for key, old in value.items():
            if type(old) is scalar and scalar is not int:
                continue
            # A wrong value is named by its map, as decoders do; an unknown field inside it by its key too.
            new = item(old, path if scalar else (path, key), problems)
            if new is not old:
                value[key] = new  # an existing key: the dict keeps its size
        return value

    return walk


def _schema_or(schema: Walk, other: type, expected: str) -> Walk:
    def walk(value: Any, path: Path, problems: list[UnknownField]) -> Any:
        if type(value) is dict:
            return schema(value, path, problems)
        if type(value) is not other:
            raise WrongType(f"{expected} ({spelled(path)})")
        if type(value) is list:
            for index, item in enumerate(value):
                value[index] = schema(item, (path, index), problems)
        return value

    return walk


def zero_is_absent(name: str) -> frozenset[str]:
    """Fields of a definition that are not told where they are empty, false or nothing."""
    schema = definitions()[name]
    required = schema.get("required", ())
    lists = {
        field
        for field, field_schema in schema["properties"].items()
        if field_schema.get("type") in ("array", "object") and field not in required
    }
    scalars = {field for _, field, _, label in protobuf_messages().get(name, ()) if label == "z"}
    return frozenset(lists | scalars)


def blank(name: str) -> dict[str, Any]:
    """A definition's object before anybody has written anything: what is held by value, and zero numbers and texts."""
    found: dict[str, Any] = {}
    absent = zero_is_absent(name)
    for field, field_schema in definitions()[name]["properties"].items():
        zero = field_schema.get("default", _NO_DEFAULT)
        reference = field_schema.get("$ref", "")
        if zero == {} and "properties" in definitions().get(reference, {}):
            found[field] = blank(reference)
        elif zero in _ZEROS and field not in absent:
            found[field] = zero
        elif field_schema.get("type") == "array" and field not in absent and (name, field) not in _MAY_LACK:
            found[field] = None
    return found


def always_present(name: str) -> tuple[tuple[str, Any], ...]:
    """Fields that a definition has even where nobody sets them, each with its zero value; None for a struct.

    They are held by value upstream. Those that must be set are left out: their absence is for the rules to judge.
    """
    schema = definitions()[name]
    absent = zero_is_absent(name)
    found: list[tuple[str, Any]] = []
    for field, field_schema in schema["properties"].items():
        zero = field_schema.get("default", _NO_DEFAULT)
        if zero == {} and "properties" in definitions().get(field_schema.get("$ref", ""), {}):
            found.append((field, None))
        elif zero in _ZEROS and field not in absent and field not in schema.get("required", ()):
            found.append((field, zero))
    return tuple(found)


_NO_DEFAULT = object()
# Lists that must be given and are nevertheless not there before they are.
_MAY_LACK = frozenset(
    {("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec", "validationActions")}
)
_ZEROS = ("", 0, False)


class _Compiler:
    """Compiles definitions; each once, however many refer to it and even if it refers to itself."""

    def __init__(self) -> None:
        self.structs: dict[str, Walk] = {}

    def walk_of(self, schema: dict[str, Any], struct: str) -> Walk:
        reference = schema.get("$ref")
        if reference:
            return self.struct(reference)
        kind = schema.get("type", "")
        if kind == "array":
            items = schema.get("items", {})
            return _list(self.walk_of(items, struct), self.scalar_type(items), go_type_of(schema), struct)
        if kind == "object":
            values = schema.get("additionalProperties")
            if isinstance(values, dict):
                return _map(
                    self.walk_of(values, struct), self.scalar_type(values), go_type_of(schema), struct
                )
            return _anything
        if schema.get("format") == "byte":
            return _bytes
        if schema.get("format") == "date-time":
            return _time(micro=False)
        python_type, go_type = _SCALARS.get((kind, schema.get("format", "")), (object, ""))
        return _scalar(python_type, go_type, struct) if python_type is not object else _anything

    @staticmethod
    def scalar_type(schema: dict[str, Any]) -> type | None:
        if "$ref" in schema or schema.get("format") in ("byte", "date-time"):
            return None
        found = _SCALARS.get((schema.get("type", ""), schema.get("format", "")))
        return found[0] if found else None

    def struct(self, name: str) -> Walk:
        special = _SPECIAL.get(name)
        if special:
            return special[0]
        package, short = name.rsplit(".", 1)
        if short in _OPAQUE_ENDS:
            return _anything
        if short in _SCHEMA_OR:
            # Looked up when it is needed, since it refers back to what is being compiled.
            return _schema_or(lambda *of: self.struct(f"{package}.JSONSchemaProps")(*of), *_SCHEMA_OR[short])
        compiled = self.structs.get(name)
        if compiled is not None:
            return compiled
        schema = definitions()[name]
        if "properties" not in schema:
            if schema.get("type") == "object":
                walk = _struct(name, {}, {}, frozenset(), open_ended=True)
            else:
                walk = self.walk_of(schema, name.rsplit(".", 1)[1])
            self.structs[name] = walk
            return walk
        scalars: dict[str, type] = {}
        walks: dict[str, Walk] = {}
        vanishing = zero_is_absent(name)
        # Entered before its fields are compiled, which may refer back to it; filled in below.
        self.structs[name] = _struct(name, scalars, walks, vanishing, always_present(name))
        for field, field_schema in schema["properties"].items():
            walks[field] = self.walk_of(field_schema, short)
            scalar = self.scalar_type(field_schema)
            if scalar in (str, bool):
                scalars[field] = scalar
        return self.structs[name]


def _struct(
    name: str,
    scalars: dict[str, type],
    walks: dict[str, Walk],
    vanishing: frozenset[str],
    always: tuple[tuple[str, Any], ...] = (),
    *,
    open_ended: bool = False,
) -> Walk:
    package, short = name.rsplit(".", 2)[-2:]

    def walk(value: Any, path: Path, problems: list[UnknownField]) -> Any:
        if type(value) is not dict:
            if value is None:
                return {}
            raise _NotThat(value, path, f"{package}.{short}")
        dropped: list[str] | None = None
        for key, old in value.items():
            if type(old) is scalars.get(key) and (old or key not in vanishing):
                continue
            field = walks.get(key)
            if field is None:
                if open_ended:
                    continue
                problems.append(UnknownField(spelled((path, key)), tuple(walks)))
                new = None
            elif old is None:
                new = None
            else:
                try:
                    new = field(old, (path, key), problems)
                except _NotThat as error:
                    told, place, go_type = error.told
                    raise _mismatch(told, place, short, go_type) from None
            if new is None or (not new and key in vanishing):
                dropped = dropped or []
                dropped.append(key)
            elif new is not old:
                value[key] = new
        if dropped:
            for key in dropped:
                del value[key]
        if always:
            _complete(value, always, walks, (path, problems))
        return value

    return walk


def _complete(
    value: Object,
    always: tuple[tuple[str, Any], ...],
    walks: dict[str, Walk],
    where: tuple[Path, list[UnknownField]],
) -> None:
    """Adds the fields that are always there."""
    path, problems = where
    for key, zero in always:
        if key not in value:
            value[key] = walks[key]({}, (path, key), problems) if zero is None else zero


_COMPILER = _Compiler()


@cache
def shape_of(definition: str) -> Walk:
    """The compiled walk of a definition, such as `io.k8s.api.core.v1.Pod`."""
    return _COMPILER.struct(definition)


def conform(definition: str, value: dict[str, Any]) -> list[UnknownField]:
    """Makes the value fit the definition, in place; what was dropped as unknown. Raises WrongType."""
    problems: list[UnknownField] = []
    shape_of(definition)(value, None, problems)
    return problems
