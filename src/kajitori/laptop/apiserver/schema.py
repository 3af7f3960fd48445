"""One view over schemas, whether of a built-in kind or of a CustomResourceDefinition.

What flows in is OpenAPI v3 as data: the definitions of `kajitori.api.schemas` (`$ref` by bare name) or the
structural schema of a CRD version. What comes out is a graph of `Schema` nodes with plain attributes, resolved
when first asked for and then kept, so that patches, apply and decoding walk an object at the price of a
dictionary look-up a field. Nothing here judges a value.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from kajitori.api.schemas import definitions

OBJECT_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_RAW_EXTENSION: Final = "io.k8s.apimachinery.pkg.runtime.RawExtension"
_QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"


class Schema:
    """A node of a schema. Immutable for its users; share it freely.

    name: the definition's name for a built-in definition, else empty.
    type: `object`, `array`, `string`, `integer`, `number`, `boolean`; empty: anything, or see `int_or_string`.
    list_type: `atomic`, `set` or `map`; always one of them for an array.
    map_type: `granular` or `atomic`, for an object.
    merge_key, patch_strategies: for strategic merge patches; they can differ from `list_map_keys` and
    `list_type`, which are for server-side apply (container ports: `containerPort` against
    `containerPort, protocol`; `status.hostIPs`: merged by the one, atomic for the other).
    untyped: nothing is declared here: any value fits; maps merge, lists are atomic.
    named: has declared properties (a struct, not a map of free keys).
    """

    __slots__ = (
        "_cache",
        "_key_defaults",
        "_properties",
        "_structural",
        "default",
        "embedded_resource",
        "format",
        "has_default",
        "int_or_string",
        "is_array",
        "is_atomic",
        "is_object",
        "is_quantity",
        "list_map_keys",
        "list_type",
        "map_type",
        "merge_key",
        "name",
        "named",
        "nullable",
        "patch_strategies",
        "preserve_unknown",
        "raw",
        "required",
        "type",
        "untyped",
    )

    def __init__(
        self,
        raw: dict[str, Any],
        *,
        name: str = "",
        structural: bool = False,
        cache_of_children: dict[str, Schema | None] | None = None,
    ) -> None:
        self.raw = raw
        self.name = name
        self._structural = structural
        self._cache: dict[str, Schema | None] = {} if cache_of_children is None else cache_of_children
        self._key_defaults: dict[str, Any] | None = None
        self._properties: dict[str, Any] = raw.get("properties") or {}
        self.type: str = raw.get("type") or ""
        self.format: str = raw.get("format") or ""
        self.required: frozenset[str] = frozenset(raw.get("required") or ())
        self.has_default = "default" in raw
        self.default: Any = raw.get("default")
        self.nullable = bool(raw.get("nullable"))
        self.preserve_unknown = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
        self.embedded_resource = bool(raw.get("x-kubernetes-embedded-resource"))
        self.is_quantity = name == _QUANTITY
        self.int_or_string = bool(
            raw.get("x-kubernetes-int-or-string") or raw.get("format") == "int-or-string"
        )
        self.list_type: str = raw.get("x-kubernetes-list-type") or "atomic"
        self.list_map_keys: tuple[str, ...] = tuple(raw.get("x-kubernetes-list-map-keys") or ())
        self.map_type: str = raw.get("x-kubernetes-map-type") or "granular"
        self.merge_key: str = raw.get("x-kubernetes-patch-merge-key") or ""
        strategies: str = raw.get("x-kubernetes-patch-strategy") or ""
        self.patch_strategies: frozenset[str] = frozenset(filter(None, strategies.split(",")))
        self.named = bool(self._properties) or self.embedded_resource
        self.is_array = self.type == "array"
        self.is_object = self.type == "object" or (
            not self.type and bool(self._properties or raw.get("additionalProperties"))
        )
        self.untyped = (
            not self.type and not self.is_object and not self.int_or_string and not raw.get("oneOf")
        )
        self.is_atomic = (
            (self.is_object and self.map_type == "atomic")
            or (self.is_array and self.list_type == "atomic")
            or not (self.is_object or self.is_array or self.untyped)
            or self.name == _RAW_EXTENSION
        )

    @staticmethod
    def builtin(name: str) -> Schema:
        """The schema of a built-in definition, such as `io.k8s.api.core.v1.Pod`. Raises KeyError."""
        return _builtin(name)

    @staticmethod
    def structural(openapi_v3_schema: dict[str, Any]) -> Schema:
        """The schema of a CRD version: `apiVersion`, `kind` and `metadata` are added to what it declares."""
        root = {**openapi_v3_schema, "type": "object", "x-kubernetes-embedded-resource": True}
        return Schema(root, structural=True)

    @property
    def properties(self) -> tuple[str, ...]:
        """Names of the declared properties, in the order of the schema."""
        return tuple(self._properties)

    def declares(self, name: str) -> bool:
        """Whether `name` is a declared property; false for the free keys of a map."""
        return name in self._properties or (
            self.embedded_resource and name in ("apiVersion", "kind", "metadata")
        )

    def field(self, name: str) -> Schema | None:
        """The schema of the value under `name`: a property, or a map's value; None: not declared."""
        try:
            return self._cache[name]
        except KeyError:
            pass
        found = self._resolve(name)
        if found is None or name in self._properties or self.embedded_resource:
            self._cache[name] = found  # free keys of maps are not kept: there is no end to them
        return found

    def _resolve(self, name: str) -> Schema | None:
        raw = self._properties.get(name)
        if self.embedded_resource and name in ("apiVersion", "kind", "metadata"):
            return _object_meta() if name == "metadata" else _STRING
        if raw is not None:
            return self._child(raw)
        return self.values

    @property
    def values(self) -> Schema | None:
        """The schema of a map's values; None: the keys are the declared properties only."""
        try:
            return self._cache["\0values"]
        except KeyError:
            pass
        additional = self.raw.get("additionalProperties")
        found: Schema | None = None
        if isinstance(additional, dict):
            found = self._child(additional)
        elif additional is True or self.preserve_unknown or self.untyped or self._is_free_map:
            found = UNTYPED
        self._cache["\0values"] = found
        return found

    @property
    def _is_free_map(self) -> bool:
        """`type: object` and no more: RawExtension and FieldsV1 among the built-in definitions."""
        return (
            not self._structural
            and self.type == "object"
            and not self._properties
            and "additionalProperties" not in self.raw
        )

    @property
    def items(self) -> Schema:
        """The schema of an array's items."""
        try:
            found = self._cache["\0items"]
        except KeyError:
            raw = self.raw.get("items")
            found = self._child(raw) if raw else UNTYPED
            self._cache["\0items"] = found
        return found or UNTYPED

    @property
    def key_defaults(self) -> dict[str, Any]:
        """Defaults of the items' key fields, such as `protocol: TCP` for container ports."""
        if self._key_defaults is None:
            found: dict[str, Any] = {}
            for key in self.list_map_keys:
                field = self.items.field(key)
                if field is not None and field.has_default:
                    found[key] = field.default
            self._key_defaults = found
        return self._key_defaults

    def _child(self, raw: dict[str, Any]) -> Schema:
        reference = raw.get("$ref")
        if reference is None:
            return Schema(raw, structural=self._structural)
        target = _builtin(reference)
        siblings = {key: value for key, value in raw.items() if key != "$ref"}
        if not siblings:
            return target
        return Schema({**target.raw, **siblings}, name=target.name, cache_of_children=target._cache)

    def __repr__(self) -> str:
        return f"Schema({self.name or self.type or 'any'})"


@cache
def _builtin(name: str) -> Schema:
    return Schema(definitions()[name], name=name)


@cache
def _object_meta() -> Schema:
    return _builtin(OBJECT_META)


UNTYPED: Final = Schema({})
"""Anything: maps merge key by key, lists are atomic, scalars are scalars."""

_STRING: Final = Schema({"type": "string"})
