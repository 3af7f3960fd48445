"""The built-in kinds: made from the published schemas and the tables of what these leave out."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from kajitori.api.resource import Resource
from kajitori.api.schemas import builtin_resources, definitions
from kajitori.laptop.apiserver.defaults import admit_changed, admit_new, defaulter_of
from kajitori.laptop.apiserver.kinds import facts
from kajitori.laptop.apiserver.kinds.kind import Context, Kind, ScalePaths, Subresource, UnknownField
from kajitori.laptop.apiserver.kinds.paths import FieldGetter
from kajitori.laptop.apiserver.kinds.shape import blank, shape_of
from kajitori.laptop.apiserver.kinds.versions import converters_of
from kajitori.laptop.apiserver.schema import Schema
from kajitori.laptop.apiserver.tables.builtin import table_of
from kajitori.laptop.apiserver.validation import metadata_errors, rules_of, warnings_about

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kajitori.laptop.apiserver.status import FieldError
    from kajitori.laptop.apiserver.tables.columns import Column

_METADATA_SELECTORS = {
    "metadata.name": FieldGetter("metadata.name"),
    "metadata.namespace": FieldGetter("metadata.namespace"),
}
_POD = "io.k8s.api.core.v1.Pod"
_SIGNING_REQUEST = "io.k8s.api.certificates.v1.CertificateSigningRequest"
_SCALE = ScalePaths(".spec.replicas", ".status.replicas")


class BuiltinKind(Kind):
    """A kind of the published schemas; `definition` is its schema's name."""

    def __init__(self, definition: str, **names: Any) -> None:
        super().__init__(**names)
        self.definition = definition
        resource = self.resource
        self._walk = shape_of(definition)
        self._default = defaulter_of(definition)
        self._check = rules_of(definition)
        self._columns, self._cells = table_of(resource.group, resource.plural)
        self._to_stored, self._from_stored = converters_of(resource)
        self._keeps_new_status = (resource.group, resource.plural) in facts.STATUS_KEPT_ON_CREATE

    @cached_property
    def _schema(self) -> Schema:
        return Schema.builtin(self.definition)

    @property
    def schema(self) -> Schema:
        return self._schema

    @cached_property
    def _blank(self) -> dict[str, Any]:
        return blank(self.definition)

    @property
    def blank(self) -> dict[str, Any]:
        return self._blank

    @property
    def columns(self) -> Sequence[Column]:
        return self._columns

    @property
    def keeps_new_status(self) -> bool:
        return self._keeps_new_status

    def cells(self, obj: dict[str, Any], now_seconds: float) -> list[Any]:
        return self._cells(obj, now_seconds)

    def conform(self, obj: dict[str, Any]) -> list[UnknownField]:
        problems: list[UnknownField] = []
        self._walk(obj, None, problems)
        return problems

    def default(self, obj: dict[str, Any]) -> None:
        self._default(obj)

    def keep_all_but_status(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        super().keep_all_but_status(new, old)
        if self.definition == _POD and "qosClass" in old.get("status", {}):
            new["status"] = {**new.get("status", {}), "qosClass": old["status"]["qosClass"]}

    def countable(self, obj: dict[str, Any], subresource: str) -> dict[str, Any]:
        if not subresource and self.definition == _SIGNING_REQUEST:
            # The server fills in who asks, and nothing of it ever changes: nobody owns it.
            return {field: value for field, value in obj.items() if field not in ("spec", "status")}
        return super().countable(obj, subresource)

    def asks_for_change(self, new: dict[str, Any], old: dict[str, Any]) -> bool:
        if super().asks_for_change(new, old):
            return True
        # A deployment hands its annotations on to what it makes.
        annotated = self.definition == "io.k8s.api.apps.v1.Deployment"
        return annotated and new["metadata"].get("annotations", {}) != old["metadata"].get("annotations", {})

    def admit_new(self, obj: dict[str, Any], context: Context) -> None:
        admit_new(self.definition, obj, context)

    def admit_changed(self, new: dict[str, Any], old: dict[str, Any], context: Context) -> None:
        admit_changed(self.definition, new, old, context)

    def validate(
        self, new: dict[str, Any], old: dict[str, Any] | None = None, subresource: str = ""
    ) -> list[FieldError]:
        errors = metadata_errors(new, old, self.definition, namespaced=self.namespaced)
        errors += self.check(new, old, subresource)
        return errors

    def check(self, new: dict[str, Any], old: dict[str, Any] | None, subresource: str) -> list[FieldError]:
        return self._check(new, old, subresource)

    def warnings_about(self, obj: dict[str, Any]) -> list[str]:
        return warnings_about(self.definition, obj)

    def to_stored(self, obj: dict[str, Any]) -> dict[str, Any]:
        return self._to_stored(obj) if self._to_stored else obj

    def from_stored(self, obj: dict[str, Any]) -> dict[str, Any]:
        return self._from_stored(obj) if self._from_stored else obj


def _definition_names() -> dict[tuple[str, str, str], str]:
    """Definition of each group, version and kind."""
    found: dict[tuple[str, str, str], str] = {}
    for name, schema in definitions().items():
        for gvk in schema.get("x-kubernetes-group-version-kind", ()):
            found.setdefault((gvk["group"], gvk["version"], gvk["kind"]), name)
    return found


def definition_of(group: str, version: str, kind: str) -> str | None:
    """The definition of any published kind, those of subresources included (`TokenRequest`, `Eviction`, ...)."""
    if kind == "DeleteOptions":  # clients name it after the group of what they delete
        group, version = "", "v1"
    return _DEFINITIONS.get((group, version, kind))


_DEFINITIONS = _definition_names()


def builtin_kinds() -> Iterator[BuiltinKind]:
    """Every built-in kind that this server serves."""
    for group_version, entries in builtin_resources().items():
        _, _, rest = group_version.partition("/")
        group, version = rest.rsplit("/", 1) if "/" in rest else ("", rest)
        subresources: dict[str, dict[str, Subresource]] = {}
        for entry in entries:
            plural, _, subresource = entry["name"].partition("/")
            if subresource and entry["name"] not in facts.NOT_SERVED:
                body = entry["kind"]
                subresources.setdefault(plural, {})[subresource] = Subresource(
                    subresource, body["group"], body["version"], body["kind"], tuple(sorted(entry["verbs"]))
                )
        for entry in entries:
            if "/" not in entry["name"] and entry["name"] not in facts.NOT_SERVED:
                yield _kind(group, version, entry, subresources.get(entry["name"], {}))


def _kind(
    group: str, version: str, entry: dict[str, Any], subresources: dict[str, Subresource]
) -> BuiltinKind:
    plural, kind = entry["name"], entry["kind"]["kind"]
    resource = Resource(group, version, plural, kind, namespaced=entry["namespaced"])
    key = (group, plural)
    stored_group, stored_version = facts.STORED_AS.get((group, version, plural), (group, version))
    selectors = {
        name: getter
        for name, getter in _METADATA_SELECTORS.items()
        if resource.namespaced or name == "metadata.name"
    }
    selectors |= {name: FieldGetter(path) for name, path in facts.FIELD_SELECTORS.get(key, {}).items()}
    return BuiltinKind(
        _DEFINITIONS[group, version, kind],
        resource=resource,
        singular=kind.lower(),
        list_kind=f"{kind}List",
        verbs=frozenset(entry["verbs"]),
        subresources=subresources,
        storage=Resource(stored_group, stored_version, plural, kind, namespaced=entry["namespaced"]),
        short_names=facts.SHORT_NAMES.get(key, ()),
        categories=facts.CATEGORIES.get(key, ()),
        scale=_SCALE if "scale" in subresources else None,
        field_selectors=selectors,
        has_generation=key in facts.COUNTS_GENERATIONS,
        created_by_put=key in facts.CREATED_BY_PUT,
        updated_by_version=key in facts.UPDATED_BY_VERSION,
    )
