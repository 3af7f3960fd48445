"""The kinds of a CustomResourceDefinition: one a served version, all stored as one resource."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.resource import Resource
from kajitori.laptop.apiserver.kinds.kind import Context, Kind, ScalePaths, Subresource, UnknownField
from kajitori.laptop.apiserver.kinds.paths import FieldGetter
from kajitori.laptop.apiserver.kinds.shape import shape_of
from kajitori.laptop.apiserver.schema import Schema
from kajitori.laptop.apiserver.status import invalid_value
from kajitori.laptop.apiserver.tables.custom import custom_table
from kajitori.laptop.apiserver.tables.json_path import first
from kajitori.laptop.apiserver.validation import metadata_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kajitori.laptop.apiserver.crd.structural import StructuralSchema
    from kajitori.laptop.apiserver.status import FieldError
    from kajitori.laptop.apiserver.tables.columns import Column

_VERBS = frozenset({"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"})
_SUBRESOURCE_VERBS = ("get", "patch", "update")
_METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


class CustomKind(Kind):
    """One version of a custom resource.

    openapi_v3_schema: the version's structural schema. printer_columns: its additionalPrinterColumns.
    """

    def __init__(
        self, openapi_v3_schema: dict[str, Any], printer_columns: Sequence[dict[str, Any]], **names: Any
    ) -> None:
        super().__init__(custom=True, **names)
        # As bytes, a quarter of what it takes decoded: most kinds are served and never used.
        self._written_schema = msgspec.json.encode(openapi_v3_schema)
        self.printer_columns = tuple(printer_columns)
        self._walk_metadata = shape_of(_METADATA)
        self._tolerated: tuple[dict[str, Any] | None, list[str]] = (None, [])
        self._columns, self._cells = custom_table(printer_columns)

    @property
    def openapi_v3_schema(self) -> dict[str, Any]:
        """Decoded anew each time."""
        return msgspec.json.decode(self._written_schema)

    @cached_property
    def _structural(self) -> StructuralSchema:
        # Compiled, and its CEL library loaded, when the first object comes: many versions are never used.
        from kajitori.laptop.apiserver.crd.structural import StructuralSchema

        return StructuralSchema(self.openapi_v3_schema)

    @cached_property
    def _schema(self) -> Schema:
        return Schema.structural(self.openapi_v3_schema)

    @property
    def schema(self) -> Schema:
        return self._schema

    @property
    def columns(self) -> Sequence[Column]:
        return self._columns

    def cells(self, obj: dict[str, Any], now_seconds: float) -> list[Any]:
        return self._cells(obj, now_seconds)

    def conform(self, obj: dict[str, Any]) -> list[UnknownField]:
        problems: list[UnknownField] = []
        metadata = obj.get("metadata")
        if metadata is not None:
            self._walk_metadata(metadata, (None, "metadata"), problems)
        pruned, unknown = self._structural.prune(obj)
        _replace(obj, pruned)
        return problems + unknown + self._structural.fit_embedded(obj)

    def default(self, obj: dict[str, Any]) -> None:
        _replace(obj, self._structural.default(obj))

    def admit_changed(self, new: dict[str, Any], old: dict[str, Any], context: Context) -> None:
        return

    def keep_all_but_status(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        """A custom resource's metadata stays too, managedFields apart."""
        super().keep_all_but_status(new, old)
        kept = dict(old["metadata"])
        if "managedFields" in new["metadata"]:
            kept["managedFields"] = new["metadata"]["managedFields"]
        kept["resourceVersion"] = new["metadata"].get("resourceVersion", kept.get("resourceVersion"))
        new["metadata"] = kept

    def asks_for_change(self, new: dict[str, Any], old: dict[str, Any]) -> bool:
        """Anything outside metadata counts, status too if it has no subresource of its own."""
        ignored = ("metadata", "status", "apiVersion") if self.has_status else ("metadata", "apiVersion")
        return any(new.get(key) != old.get(key) for key in new.keys() | old.keys() if key not in ignored)

    def validate(
        self, new: dict[str, Any], old: dict[str, Any] | None = None, subresource: str = ""
    ) -> list[FieldError]:
        errors = metadata_errors(new, old, "", namespaced=self.namespaced)
        errors += self.check(new, old, subresource)
        return errors

    def check(self, new: dict[str, Any], old: dict[str, Any] | None, subresource: str) -> list[FieldError]:
        tolerated: list[str] = []
        errors = self._structural.validate(new, old, tolerated)
        self._tolerated = (new, tolerated)
        if self.scale is not None:
            errors += [
                invalid_value(path, value, "should be a non-negative integer")
                for path in (self.scale.replicas, self.scale.status_replicas)
                if isinstance(value := first(path, new), int) and value < 0
            ]
        return errors

    def warnings_about(self, obj: dict[str, Any]) -> list[str]:
        """The rules that the object was found to break just now, as it did before."""
        judged, tolerated = self._tolerated
        return tolerated if judged is obj else []

    def to_stored(self, obj: dict[str, Any]) -> dict[str, Any]:
        return _as_version(obj, self.storage.api_version)

    def from_stored(self, obj: dict[str, Any]) -> dict[str, Any]:
        return _as_version(obj, self.resource.api_version)


def _replace(obj: dict[str, Any], by: dict[str, Any]) -> None:
    """Gives the object the content of another; their parts are shared."""
    if by is not obj:
        content = dict(by)
        obj.clear()
        obj.update(content)


def _as_version(obj: dict[str, Any], api_version: str) -> dict[str, Any]:
    return obj if obj.get("apiVersion") == api_version else {**obj, "apiVersion": api_version}


def custom_kinds(crd: dict[str, Any]) -> Iterator[CustomKind]:
    """The kinds of a definition's served versions."""
    spec = crd["spec"]
    names = spec["names"]
    group, plural, kind = spec["group"], names["plural"], names["kind"]
    namespaced = spec["scope"] == "Namespaced"
    stored = next(version["name"] for version in spec["versions"] if version.get("storage"))
    storage = Resource(group, stored, plural, kind, namespaced=namespaced)
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        yield CustomKind(
            (version.get("schema") or {}).get("openAPIV3Schema") or {},
            version.get("additionalPrinterColumns") or (),
            resource=Resource(group, version["name"], plural, kind, namespaced=namespaced),
            singular=names.get("singular") or kind.lower(),
            list_kind=names.get("listKind") or f"{kind}List",
            verbs=_VERBS,
            subresources=_subresources(group, version["name"], kind, version.get("subresources") or {}),
            storage=storage,
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            scale=_scale((version.get("subresources") or {}).get("scale")),
            field_selectors=_field_selectors(version, namespaced=namespaced),
            has_generation=True,
            warning=_warning(version, spec),
        )


def _subresources(group: str, version: str, kind: str, declared: dict[str, Any]) -> dict[str, Subresource]:
    found: dict[str, Subresource] = {}
    if declared.get("status") is not None:
        found["status"] = Subresource("status", group, version, kind, _SUBRESOURCE_VERBS)
    if declared.get("scale") is not None:
        found["scale"] = Subresource("scale", "autoscaling", "v1", "Scale", _SUBRESOURCE_VERBS)
    return found


def _scale(declared: dict[str, Any] | None) -> ScalePaths | None:
    if declared is None:
        return None
    return ScalePaths(
        declared.get("specReplicasPath", ""),
        declared.get("statusReplicasPath", ""),
        declared.get("labelSelectorPath") or "",
    )


def _field_selectors(version: dict[str, Any], *, namespaced: bool) -> dict[str, FieldGetter]:
    selectors = {"metadata.name": FieldGetter("metadata.name")}
    if namespaced:
        selectors["metadata.namespace"] = FieldGetter("metadata.namespace")
    for field in version.get("selectableFields") or ():
        path = str(field.get("jsonPath", "")).removeprefix(".")
        selectors[path] = FieldGetter(path)
    return selectors


def _warning(version: dict[str, Any], spec: dict[str, Any]) -> str:
    """What users of a deprecated version are told: what its definition says, or which version to use instead."""
    # Discovery knows this module.
    from kajitori.laptop.apiserver.discovery import version_rank

    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning"):
        return version["deprecationWarning"]
    group, kind = spec["group"], spec["names"]["kind"]
    text = f"{group}/{version['name']} {kind} is deprecated"
    others = [one["name"] for one in spec["versions"] if one.get("served") and not one.get("deprecated")]
    newer = [name for name in others if version_rank(name) < version_rank(version["name"])]
    return f"{text}; use {group}/{min(newer, key=version_rank)} {kind}" if newer else text
