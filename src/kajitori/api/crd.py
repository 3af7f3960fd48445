"""CustomResourceDefinitions made from the structs that we decode with, so that the two cannot drift apart.

How to write the structs (one module a group and version, `rename="camel"`, `kw_only=True`, `frozen=True`):

- A field without a Python default is required. A default that is a number, a boolean, a non-empty string, list or
  struct becomes the schema's `default`; None, UNSET, "", [] and {} only say that the field may be left out.
  Under `status` no defaults are written. `default: X` in `extra_json_schema` wins.
- Constraints: `Annotated[int, Meta(ge=1, le=9)]`, `Meta(min_length=, max_length=, pattern=)` on strings, lists
  and maps; `Literal["A", "B"]` is an enum; `Meta(description=...)` and a struct's docstring show in `kubectl explain`.
- `int | str` is int-or-string (`IntOrString`, `Quantity`); `dict[str, Any]`, `Any` and `Raw` keep unknown fields;
  `T | None` is T (add `NULLABLE` where an explicit null means something).
- Built-in parts: `Annotated[dict[str, Any], builtin("io.k8s.api.core.v1.PodTemplateSpec")]`, or a struct of
  `kajitori.api.kubernetes` as the type. Their `$ref`s are copied in, their list map keys kept.
- Lists that server-side apply shall merge: `Annotated[list[Item], map_list("name")]`, `SET_LIST`.
- CEL: `Annotated[Spec, rules(rule("self.a <= self.b", "a must not exceed b"))]`, or for every use of a struct
  `__crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": [rule(...)]}`. Any other keyword goes in by
  `extra(...)`.

A root struct has `metadata`, `spec` and perhaps `status`; `api_version` and `kind` are optional. A module lists its
`DEFINITIONS`, and `kajitori.api.crds` lists the modules. Sentences in rules are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from kajitori.api.resource import Resource
from kajitori.api.structural import INT_OR_STRING, QUANTITY, Schema, structural_schema

__all__ = [
    "NULLABLE",
    "OF_FIRST_ANCESTOR",
    "SET_LIST",
    "Column",
    "Definition",
    "Int32",
    "Int64",
    "IntOrString",
    "Quantity",
    "Scale",
    "Version",
    "builtin",
    "extra",
    "map_list",
    "rule",
    "rules",
]


def extra(**keywords: Any) -> Meta:
    """Any schema keywords as they stand; write `_` for `-`: `extra(x_kubernetes_map_type="atomic")`."""
    return Meta(
        extra_json_schema={
            key.replace("_", "-") if key.startswith("x_") else key: value for key, value in keywords.items()
        }
    )


def builtin(definition: str) -> Meta:
    """Stands in for a built-in definition, such as `io.k8s.api.core.v1.PodTemplateSpec`."""
    return Meta(extra_json_schema={"$ref": definition})


def map_list(*keys: str) -> Meta:
    """A list whose items are told apart by these fields (each required or with a default)."""
    return extra(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=list(keys))


def rule(
    expression: str,
    message: str = "",
    *,
    message_expression: str = "",
    reason: str = "",
    field_path: str = "",
    optional_old_self: bool = False,
) -> dict[str, Any]:
    """One CEL rule. reason: such as `FieldValueForbidden`. field_path: relative, such as `.replicas`.

    optional_old_self: `oldSelf` is an optional that is empty on creation, and the rule runs then too.
    """
    written = {
        "rule": expression,
        "message": message,
        "messageExpression": message_expression,
        "reason": reason,
        "fieldPath": field_path,
        "optionalOldSelf": optional_old_self,
    }
    return {key: value for key, value in written.items() if value}


def rules(*validations: dict[str, Any]) -> Meta:
    """CEL rules of the value that this annotates."""
    return extra(x_kubernetes_validations=list(validations))


NULLABLE = extra(nullable=True)
SET_LIST = extra(x_kubernetes_list_type="set")
Int32 = Annotated[int, extra(format="int32")]
Int64 = Annotated[int, extra(format="int64")]
IntOrString = Annotated[int | str, Meta(extra_json_schema=INT_OR_STRING)]
Quantity = Annotated[int | str, Meta(extra_json_schema=QUANTITY)]


class Column(msgspec.Struct, frozen=True):
    """A column of `kubectl get`. priority above 0: only with `-o wide`."""

    name: str
    json_path: str
    type: Literal["string", "integer", "number", "boolean", "date"] = "string"
    description: str = ""
    priority: int = 0
    format: str = ""

    def to_crd(self) -> dict[str, Any]:
        column: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.json_path}
        optional = {"description": self.description, "priority": self.priority, "format": self.format}
        return column | {key: value for key, value in optional.items() if value}


def exactly_when_type(kind: str, member: str) -> dict[str, Any]:
    """The rule that a member is given for one value of the field `type`, and for no other."""
    return rule(
        f"self.type == '{kind}' ? has(self.{member}) : !has(self.{member})",
        f"{member} is given exactly when type is {kind}",
    )


AGE = Column("Age", ".metadata.creationTimestamp", "date")
OF_FIRST_ANCESTOR = Column("Status", '.status.ancestors[0].conditions[?(@.type=="Accepted")].reason')
"""Whether a policy holds at the first of the Gateways that it bears upon, in a word."""


class Scale(msgspec.Struct, frozen=True):
    """The paths of the scale subresource."""

    spec_replicas_path: str = ".spec.replicas"
    status_replicas_path: str = ".status.replicas"
    label_selector_path: str = ""

    def to_crd(self) -> dict[str, Any]:
        scale = {
            "specReplicasPath": self.spec_replicas_path,
            "statusReplicasPath": self.status_replicas_path,
        }
        return scale | ({"labelSelectorPath": self.label_selector_path} if self.label_selector_path else {})


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a kind. root: its struct; a `status` field in it makes the status subresource."""

    name: str
    root: type[msgspec.Struct]
    served: bool = True
    storage: bool = True
    deprecated: bool = False
    deprecation_warning: str = ""
    columns: Sequence[Column] = ()
    scale: Scale | None = None
    selectable_fields: Sequence[str] = ()

    def to_crd(self) -> dict[str, Any]:
        version: dict[str, Any] = {
            "name": self.name,
            "served": self.served,
            "storage": self.storage,
            "schema": {"openAPIV3Schema": _root_schema(self.root)},
        }
        if self.deprecated:
            version["deprecated"] = True
            if self.deprecation_warning:
                version["deprecationWarning"] = self.deprecation_warning
        subresources: dict[str, Any] = {}
        if "status" in self.root.__struct_fields__:
            subresources["status"] = {}
        if self.scale:
            subresources["scale"] = self.scale.to_crd()
        if subresources:
            version["subresources"] = subresources
        if self.columns:
            version["additionalPrinterColumns"] = [column.to_crd() for column in self.columns]
        if self.selectable_fields:
            version["selectableFields"] = [{"jsonPath": path} for path in self.selectable_fields]
        return version


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of ours: names and versions, of which exactly one is stored.

    Versions are served side by side without conversion, so their schemas must accept each other's objects.
    """

    group: str
    kind: str
    plural: str
    versions: Sequence[Version]
    singular: str = ""
    list_kind: str = ""
    short_names: Sequence[str] = ()
    categories: Sequence[str] = ()
    namespaced: bool = True

    @property
    def name(self) -> str:
        return f"{self.plural}.{self.group}"

    def resource(self, version: str) -> Resource:
        return Resource(self.group, version, self.plural, self.kind, self.namespaced)

    def to_crd(self) -> dict[str, Any]:
        """The CustomResourceDefinition as an API server takes it."""
        names: dict[str, Any] = {
            "kind": self.kind,
            "listKind": self.list_kind or f"{self.kind}List",
            "plural": self.plural,
            "singular": self.singular or self.kind.lower(),
        }
        if self.short_names:
            names["shortNames"] = list(self.short_names)
        if self.categories:
            names["categories"] = list(self.categories)
        metadata: dict[str, Any] = {
            "name": self.name,
            "labels": {"app.kubernetes.io/part-of": "kajitori"},
        }
        if self.group.endswith((".k8s.io", ".kubernetes.io")):
            # An API server refuses definitions in the community's groups that do not say who approved them.
            metadata["annotations"] = {
                "api-approved.kubernetes.io": "unapproved, a definition of the same fields made by Kajitori"
            }
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": metadata,
            "spec": {
                "group": self.group,
                "names": names,
                "scope": "Namespaced" if self.namespaced else "Cluster",
                "versions": [version.to_crd() for version in self.versions],
            },
        }


def _root_schema(root: type[msgspec.Struct]) -> Schema:
    schema = structural_schema(root)
    properties: dict[str, Schema] = {
        **schema["properties"],
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    if "status" in properties:
        fields = {field.name: field.type for field in msgspec.structs.fields(root)}
        properties["status"] = structural_schema(fields["status"], with_defaults=False)
    # As upstream's: a spec that was left out stays out; its fields' defaults apply where there is one.
    properties.get("spec", {}).pop("default", None)
    return schema | {"properties": dict(sorted(properties.items()))}
