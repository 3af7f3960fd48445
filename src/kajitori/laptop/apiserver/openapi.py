"""OpenAPI documents, one a group version, as kubectl reads them for apply, create, explain and validation.

The index names each document with a hash that changes with its content and stays over restarts, since kubectl
keeps documents on disk by it. Documents are made when first asked for: those of built-in kinds from the published
schemas, those of custom kinds from their definitions. `/openapi/v2` carries the same schemas in the older form for
clients that fall back to it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori import __version__
from kajitori.api.schemas import KUBERNETES_VERSION, definitions
from kajitori.laptop.apiserver.discovery import Document
from kajitori.laptop.apiserver.kinds.builtin import BuiltinKind, definition_of
from kajitori.laptop.apiserver.kinds.custom import CustomKind

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.discovery import Discovery
    from kajitori.laptop.apiserver.kinds.kind import Kind

Object = dict[str, Any]

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_JSON_PATCH, _MERGE_PATCH, _STRATEGIC, _APPLY = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_BODIES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")


def path_of(group: str, version: str) -> str:
    """Name of a group version in the index: `api/v1`, `apis/apps/v1`."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


class OpenApi:
    """The documents of what a `Discovery` lists."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._documents: dict[str, tuple[str, bytes]] = {}

    def _kinds(self, path: str) -> list[Kind] | None:
        parts = path.split("/")
        group, version = ("", parts[1]) if len(parts) == 2 else (parts[1], parts[2])
        return self._discovery.groups().get(group, {}).get(version)

    def index(self) -> bytes:
        """`/openapi/v3`: where each group version's document is."""
        paths: Object = {}
        for group, versions in self._discovery.groups().items():
            for version, kinds in versions.items():
                path = path_of(group, version)
                paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={_hash_of(path, kinds)}"}
        return msgspec.json.encode({"paths": paths})

    def hash_of(self, path: str) -> str | None:
        """Hash of a document, such as that of `apis/apps/v1`; None where there is none."""
        kinds = self._kinds(path) if path.count("/") in (1, 2) else None
        return None if kinds is None else _hash_of(path, kinds)

    def document(self, path: str) -> Document | None:
        """The document of a group version; None where there is none."""
        current = self.hash_of(path)
        kinds = self._kinds(path) if current else None
        if current is None or kinds is None:
            return None
        made = self._documents.get(path)
        if made is None or made[0] != current:
            made = self._documents[path] = (current, msgspec.json.encode(_document(path, kinds)))
        return Document(made[1], f'"{current}"')

    def swagger(self) -> bytes:
        """`/openapi/v2`: all schemas and, for each kind, the path that says how it is validated."""
        schemas: Object = {}
        paths: Object = {}
        for versions in self._discovery.groups().values():
            for kinds in versions.values():
                schemas |= _schemas_of(kinds)
                for kind in kinds:
                    path, operations = _swagger_path(kind)
                    paths[path] = operations
        return msgspec.json.encode(
            {
                "swagger": "2.0",
                "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
                "paths": paths,
                "definitions": {
                    name: _linked(schema, "#/definitions/", v2=True) for name, schema in schemas.items()
                },
            }
        )


def _hash_of(path: str, kinds: list[Kind]) -> str:
    """Of what the document is made from, so that it need not be made for the index."""
    digest = hashlib.sha256(f"{KUBERNETES_VERSION} {__version__} {path}".encode())
    for kind in kinds:
        digest.update(f" {kind.resource.plural} {sorted(kind.subresources)}".encode())
        if isinstance(kind, CustomKind):
            digest.update(msgspec.json.encode(kind.openapi_v3_schema, order="sorted"))
    return digest.hexdigest().upper()


def schema_name(kind: Kind) -> str:
    """Name of a kind's schema: the definition of a built-in one, `com.example.v1.Model` of a custom one."""
    if isinstance(kind, BuiltinKind):
        return kind.definition
    resource = kind.resource
    return f"{'.'.join(reversed(resource.group.split('.')))}.{resource.version}.{resource.kind}"


def _document(path: str, kinds: list[Kind]) -> Object:
    paths: Object = {}
    for kind in kinds:
        paths |= _paths_of(kind)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": paths,
        "components": {
            "schemas": {
                name: _linked(schema, "#/components/schemas/") for name, schema in _schemas_of(kinds).items()
            }
        },
    }


# Schemas.


def _schemas_of(kinds: list[Kind]) -> Object:
    """All schemas that the kinds need, by name, still with bare references."""
    found: Object = {}
    waiting = [
        f"{_META}{name}" for name in ("DeleteOptions", "Status", "ListMeta", "Patch", "APIResourceList")
    ]
    for kind in kinds:
        if isinstance(kind, CustomKind):
            found[schema_name(kind)] = _custom_schema(kind)
            waiting.append(f"{_META}ObjectMeta")
        else:
            waiting.append(schema_name(kind))
        waiting += _body_definitions(kind)
        found[f"{schema_name(kind)}List"] = _list_schema(kind)
    for schema in list(found.values()):
        _collect_references(schema, waiting)
    while waiting:
        name = waiting.pop()
        schema = definitions().get(name)
        if name in found or schema is None:
            continue
        found[name] = schema
        _collect_references(schema, waiting)
    return dict(sorted(found.items()))


def _body_definitions(kind: Kind) -> list[str]:
    """Definitions of the bodies of its subresources."""
    bodies = (
        definition_of(subresource.group, subresource.version, subresource.kind)
        for subresource in kind.subresources.values()
    )
    return [name for name in bodies if name]


def _collect_references(node: Any, into: list[str]) -> None:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            into.append(reference)
        for value in node.values():
            _collect_references(value, into)
    elif isinstance(node, list):
        for item in node:
            _collect_references(item, into)


def _gvk(group: str, version: str, kind: str) -> Object:
    return {"group": group, "version": version, "kind": kind}


def _own_gvk(kind: Kind) -> Object:
    return _gvk(kind.resource.group, kind.resource.version, kind.resource.kind)


def _custom_schema(kind: CustomKind) -> Object:
    schema: Object = {**kind.openapi_v3_schema, "type": "object"}
    declared: Object = schema.get("properties") or {}
    properties: Object = {
        **declared,
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"$ref": f"{_META}ObjectMeta"},
    }
    selectable = [f".{path}" for path in kind.field_selectors if not path.startswith("metadata.")]
    return {
        **schema,
        "properties": properties,
        "x-kubernetes-group-version-kind": [_own_gvk(kind)],
        **(
            {"x-kubernetes-selectable-fields": [{"fieldPath": path} for path in selectable]}
            if selectable
            else {}
        ),
    }


def _list_schema(kind: Kind) -> Object:
    resource = kind.resource
    return {
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": f"{_META}ListMeta"},
            "items": {"type": "array", "items": {"$ref": schema_name(kind)}},
        },
        "x-kubernetes-group-version-kind": [_gvk(resource.group, resource.version, kind.list_kind)],
    }


_V3_ONLY = ("nullable", "oneOf", "anyOf", "not")


def _linked(node: Any, prefix: str, *, v2: bool = False, names: bool = False) -> Any:
    """With references as links. Beside a link other keys have no force, so it moves into `allOf` there. names:
    the keys are field names, not keywords."""
    if isinstance(node, list):
        return [_linked(item, prefix, v2=v2) for item in node]
    if not isinstance(node, dict):
        return node
    if not names and isinstance(node.get("$ref"), str):
        link = {"$ref": prefix + node["$ref"]}
        rest = {key: value for key, value in node.items() if key != "$ref"}
        if not rest or v2:
            return link
        return {"allOf": [link], **rest}
    linked: Object = {}
    for key, value in node.items():
        if v2 and not names and key in _V3_ONLY:
            continue
        linked[key] = (
            value
            if key == "default" and not names
            else _linked(value, prefix, v2=v2, names=key == "properties" and not names)
        )
    if v2 and not names and "oneOf" in node and "type" not in linked:
        linked["type"] = "string"
    return linked


# Paths.


def _parameter(name: str, kind: str = "string", *, place: str = "query") -> Object:
    parameter: Object = {"name": name, "in": place, "schema": {"type": kind, "uniqueItems": True}}
    if place == "path":
        parameter["required"] = True
    return parameter


_DRY_RUN, _FIELD_MANAGER, _FIELD_VALIDATION = map(_parameter, ("dryRun", "fieldManager", "fieldValidation"))
_FORCE = _parameter("force", "boolean")
_WRITE = [_DRY_RUN, _FIELD_MANAGER, _FIELD_VALIDATION]
_LIST = [
    _parameter("allowWatchBookmarks", "boolean"),
    _parameter("continue"),
    _parameter("fieldSelector"),
    _parameter("labelSelector"),
    _parameter("limit", "integer"),
    _parameter("resourceVersion"),
    _parameter("resourceVersionMatch"),
    _parameter("sendInitialEvents", "boolean"),
    _parameter("timeoutSeconds", "integer"),
    _parameter("watch", "boolean"),
]
_DELETE = [
    _DRY_RUN,
    _parameter("gracePeriodSeconds", "integer"),
    _parameter("orphanDependents", "boolean"),
    _parameter("propagationPolicy"),
]


def _content(schema: str, types: tuple[str, ...]) -> Object:
    return {kind: {"schema": {"$ref": f"#/components/schemas/{schema}"}} for kind in types}


def _operation(
    action: str,
    gvk: Object,
    answer: str,
    parameters: list[Object],
    body: Object | None = None,
    code: str = "200",
) -> Object:
    operation: Object = {
        "parameters": parameters,
        "responses": {
            code: {"description": "OK" if code == "200" else "Created", "content": _content(answer, _BODIES)},
            "401": {"description": "Unauthorized"},
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
    }
    if body is not None:
        operation["requestBody"] = {"content": body, "required": True}
    return operation


def _patch_operation(kind: Kind, gvk: Object, answer: str) -> Object:
    types = (_JSON_PATCH, _MERGE_PATCH, *(() if kind.custom else (_STRATEGIC,)), _APPLY)
    return _operation("patch", gvk, answer, [*_WRITE, _FORCE], _content(f"{_META}Patch", types))


def _object_operations(kind: Kind, verbs: frozenset[str], gvk: Object, schema: str) -> Object:
    """Operations on one object, or on its subresource."""
    operations: Object = {}
    body = _content(schema, ("application/json",))
    if "get" in verbs:
        operations["get"] = _operation("get", gvk, schema, [])
    if "create" in verbs:
        operations["post"] = _operation("post", gvk, schema, _WRITE, body, "201")
    if "update" in verbs:
        operations["put"] = _operation("put", gvk, schema, _WRITE, body)
    if "patch" in verbs:
        operations["patch"] = _patch_operation(kind, gvk, schema)
    if "delete" in verbs:
        options = _content(f"{_META}DeleteOptions", ("application/json",))
        operations["delete"] = _operation("delete", gvk, f"{_META}Status", _DELETE, options)
    return operations


def _paths_of(kind: Kind) -> Object:
    resource = kind.resource
    schema, gvk = schema_name(kind), _own_gvk(kind)
    base = f"{resource.prefix}/namespaces/{{namespace}}" if resource.namespaced else resource.prefix
    scope = [_parameter("namespace", place="path")] if resource.namespaced else []
    collection: Object = {"parameters": scope}
    if "list" in kind.verbs:
        collection["get"] = _operation("list", gvk, f"{schema}List", _LIST)
    if "create" in kind.verbs:
        body = _content(schema, ("application/json",))
        collection["post"] = _operation("post", gvk, schema, _WRITE, body, "201")
    if "deletecollection" in kind.verbs:
        collection["delete"] = _operation("deletecollection", gvk, f"{_META}Status", _LIST + _DELETE)
    paths: Object = {f"{base}/{resource.plural}": collection}
    if resource.namespaced and "list" in kind.verbs:
        everywhere = {"get": _operation("list", gvk, f"{schema}List", _LIST)}
        paths[f"{resource.prefix}/{resource.plural}"] = everywhere
    named = [_parameter("name", place="path"), *scope]
    operations = _object_operations(kind, kind.verbs - {"create"}, gvk, schema)
    if operations:
        paths[f"{base}/{resource.plural}/{{name}}"] = {"parameters": named, **operations}
    for name, subresource in kind.subresources.items():
        body = definition_of(subresource.group, subresource.version, subresource.kind)
        own = subresource.kind == resource.kind
        body_schema = schema if own else body or f"{_META}Status"
        body_gvk = gvk if own else _gvk(subresource.group, subresource.version, subresource.kind)
        sub_operations = _object_operations(kind, frozenset(subresource.verbs), body_gvk, body_schema)
        paths[f"{base}/{resource.plural}/{{name}}/{name}"] = {"parameters": named, **sub_operations}
    return paths


def _swagger_path(kind: Kind) -> tuple[str, Object]:
    """The path of one object in the older form, with what clients look for in it."""
    resource = kind.resource
    base = f"{resource.prefix}/namespaces/{{namespace}}" if resource.namespaced else resource.prefix
    patch: Object = {
        "consumes": [_JSON_PATCH, _MERGE_PATCH, *(() if kind.custom else (_STRATEGIC,)), _APPLY],
        "parameters": [
            {"name": name, "in": "query", "type": "string"}
            for name in ("dryRun", "fieldManager", "fieldValidation")
        ],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": _own_gvk(kind),
    }
    return f"{base}/{resource.plural}/{{name}}", {"patch": patch}
