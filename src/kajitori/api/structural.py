"""From msgspec structs to structural schemas, the form in which a CustomResourceDefinition carries its fields.

In goes a type; out comes an OpenAPI v3 schema as plain data, with built-in Kubernetes definitions copied in
whole (a structural schema knows no `$ref`) and with their list map keys kept, so that server-side apply merges
a container by its name inside a pod template too. `kajitori.api.crd` says how to write the structs.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from kajitori.api.schemas import definitions

Schema = dict[str, Any]

_KUBERNETES_MODULE = "kajitori.api.kubernetes."
_QUANTITY_PATTERN = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
INT_OR_STRING: Schema = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
}
QUANTITY: Schema = {**INT_OR_STRING, "pattern": _QUANTITY_PATTERN}
OPEN_OBJECT: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

_STRING_MAP: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_TEMPLATE_METADATA: Schema = {
    "type": "object",
    "properties": {
        "annotations": _STRING_MAP,
        "creationTimestamp": {"type": "string", "format": "date-time", "nullable": True},
        "finalizers": {"type": "array", "items": {"type": "string"}},
        "labels": _STRING_MAP,
        "name": {"type": "string"},
        "namespace": {"type": "string"},
    },
}
_SPECIAL: dict[str, Schema] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": QUANTITY,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": INT_OR_STRING,
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": OPEN_OBJECT,
    "io.k8s.apimachinery.pkg.runtime.RawExtension": OPEN_OBJECT,
    # Inside a template only these are kept; `creationTimestamp: null` is what `kubectl create --dry-run` prints.
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": _TEMPLATE_METADATA,
}
_KEPT = frozenset(
    {
        "type",
        "format",
        "required",
        "enum",
        "nullable",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
    }
)


def builtin_schema(name: str) -> Schema:
    """The built-in definition with every `$ref` copied in, without prose and patch hints.

    name: such as `io.k8s.api.core.v1.PodTemplateSpec`. A fresh copy, free to be changed. Raises KeyError.
    """
    return deepcopy(_builtin(name))


@cache
def _builtin(name: str) -> Schema:
    special = _SPECIAL.get(name)
    return special if special is not None else _inlined(definitions()[name])


def _inlined(definition: Schema) -> Schema:
    if "$ref" in definition:
        return _builtin(definition["$ref"])
    schema = {key: value for key, value in definition.items() if key in _KEPT}
    # `{}`, "" and 0 are how Go's zero values show in the published schemas; they default nothing.
    if definition.get("default"):
        schema["default"] = definition["default"]
    if "properties" in definition:
        schema["properties"] = {key: _inlined(value) for key, value in definition["properties"].items()}
    if "additionalProperties" in definition:
        schema["additionalProperties"] = _inlined(definition["additionalProperties"])
    if "items" in definition:
        schema["items"] = _with_key_defaults(definition, _inlined(definition["items"]))
    return schema


def _with_key_defaults(array: Schema, items: Schema) -> Schema:
    """A key of a map list must be required or have a default, even if that is the empty string."""
    keys: list[str] = array.get("x-kubernetes-list-map-keys", [])
    missing = [
        key
        for key in keys
        if key not in items.get("required", ()) and "default" not in items["properties"][key]
    ]
    if not missing:
        return items
    items = deepcopy(items)
    for key in missing:
        items["properties"][key]["default"] = ""
    return items


def structural_schema(type_: Any, *, with_defaults: bool = True) -> Schema:
    """The schema of a type by the conventions of `kajitori.api.crd`. Raises TypeError for what has none.

    with_defaults: False leaves every `default` out, as a status does.
    """
    return _Translation(with_defaults).schema(inspect.type_info(type_))


class _Translation:
    def __init__(self, with_defaults: bool) -> None:
        self._with_defaults = with_defaults
        self._open: list[type] = []

    def schema(self, info: inspect.Type) -> Schema:
        match info:
            case inspect.Metadata():
                return self._with_extra(info)
            case inspect.StructType():
                return self._struct(info)
            case inspect.StrType():
                return {"type": "string"} | _set(
                    minLength=info.min_length, maxLength=info.max_length, pattern=info.pattern
                )
            case inspect.BoolType():
                return {"type": "boolean"}
            case inspect.IntType():
                return {"type": "integer"} | _bounds(info)
            case inspect.FloatType():
                return {"type": "number"} | _bounds(info)
            case inspect.LiteralType():
                kind = "string" if isinstance(info.values[0], str) else "integer"
                return {"type": kind, "enum": list(info.values)}
            case inspect.EnumType():
                return {"type": "string", "enum": [member.value for member in info.cls]}
            case inspect.ListType():
                return {"type": "array", "items": self.schema(info.item_type)} | _set(
                    minItems=info.min_length, maxItems=info.max_length
                )
            case inspect.DictType():
                return self._dict(info)
            case inspect.UnionType():
                return self._union(info)
            case inspect.AnyType() | inspect.RawType():
                return {"x-kubernetes-preserve-unknown-fields": True}
            case _:
                raise TypeError(f"no structural schema for {info}")

    def _with_extra(self, info: inspect.Metadata) -> Schema:
        extra = dict(info.extra_json_schema or {})
        reference = extra.pop("$ref", None)
        schema = builtin_schema(reference) if reference else self.schema(info.type)
        rules = [*schema.get("x-kubernetes-validations", []), *extra.pop("x-kubernetes-validations", [])]
        return schema | extra | ({"x-kubernetes-validations": rules} if rules else {})

    def _dict(self, info: inspect.DictType) -> Schema:
        if isinstance(info.value_type, inspect.AnyType):
            return dict(OPEN_OBJECT)
        return {"type": "object", "additionalProperties": self.schema(info.value_type)} | _set(
            minProperties=info.min_length, maxProperties=info.max_length
        )

    def _union(self, info: inspect.UnionType) -> Schema:
        kinds = [kind for kind in info.types if not isinstance(kind, inspect.NoneType)]
        if len(kinds) == 1:
            return self.schema(kinds[0])
        if {type(kind) for kind in kinds} == {inspect.IntType, inspect.StrType}:
            return deepcopy(INT_OR_STRING)
        raise TypeError(f"a union of {kinds} has no structural schema; name it with extra_json_schema")

    def _struct(self, info: inspect.StructType) -> Schema:
        cls = info.cls
        if cls.__module__.startswith(_KUBERNETES_MODULE):
            return builtin_schema(_definition_name(cls))
        if cls in self._open:
            raise TypeError(f"{cls.__name__} contains itself: a structural schema cannot say that")
        self._open.append(cls)
        properties = {field.encode_name: self._field(field) for field in info.fields}
        self._open.pop()
        schema: Schema = {"type": "object", "properties": properties}
        if required := [field.encode_name for field in info.fields if field.required]:
            schema["required"] = required
        if documentation := cls.__dict__.get("__doc__"):
            schema["description"] = " ".join(documentation.split())
        return schema | cls.__dict__.get("__crd__", {})

    def _field(self, field: inspect.Field) -> Schema:
        schema = self.schema(field.type)
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if self._with_defaults and "default" not in schema and _is_default(default):
            schema = schema | {"default": self._default(default)}
        return schema

    def _default(self, value: Any) -> Any:
        """The default as an API server would complete it: a struct with the defaults of its own fields."""
        if isinstance(value, list | tuple):
            return [self._default(part) for part in value]
        if not isinstance(value, msgspec.Struct):
            return msgspec.to_builtins(value)
        fields = ((field.encode_name, getattr(value, field.name)) for field in msgspec.structs.fields(value))
        return {name: self._default(part) for name, part in fields if _is_default(part)}


def _is_default(value: Any) -> bool:
    """Whether a Python default is one in the schema too; empty values only say that a field may be left out."""
    if isinstance(value, msgspec.Struct):
        return any(_is_default(getattr(value, field)) for field in value.__struct_fields__)
    if isinstance(value, bool | int | float):
        return True
    return value not in (None, msgspec.UNSET, msgspec.NODEFAULT, "") and value != {} and value != []


def _definition_name(cls: type) -> str:
    """`kajitori.api.kubernetes.core_v1.PodSpec` stands for `io.k8s.api.core.v1.PodSpec`."""
    group, _, version = cls.__module__.removeprefix(_KUBERNETES_MODULE).partition("_")
    package = "io.k8s.apimachinery.pkg.apis.meta" if group == "meta" else f"io.k8s.api.{group}"
    return f"{package}.{version}.{cls.__name__}"


def _bounds(info: inspect.IntType | inspect.FloatType) -> Schema:
    bounds = _set(minimum=info.ge, maximum=info.le, multipleOf=info.multiple_of)
    if info.gt is not None:
        bounds |= {"minimum": info.gt, "exclusiveMinimum": True}
    if info.lt is not None:
        bounds |= {"maximum": info.lt, "exclusiveMaximum": True}
    return bounds


def _set(**values: Any) -> Schema:
    return {key: value for key, value in values.items() if value is not None}
