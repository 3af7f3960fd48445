"""Whether the expressions of a policy fit the kinds that it is for: told in its status, and never a refusal.

Source: behaviour of the validatingadmissionpolicy-status controller of Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kajitori.api.schemas import definitions
from kajitori.base.cel import CompileError, compile_expression
from kajitori.base.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    ObjectType,
    Type,
    list_of,
    map_of,
)
from kajitori.laptop.apiserver.admission.policies import variables_of
from kajitori.laptop.apiserver.crd.rules import field_name, type_of
from kajitori.laptop.apiserver.kinds.builtin import BuiltinKind
from kajitori.laptop.apiserver.kinds.custom import CustomKind

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.kinds import Registry
    from kajitori.laptop.apiserver.kinds.kind import Kind

Object = dict[str, Any]
MOST_TYPES: Final = 10
_REFERENCE: Final = "#/definitions/"
_REFERENCE_V3: Final = "#/components/schemas/"
_SCALARS: Final = {"integer": INT, "number": DOUBLE, "boolean": BOOL, "string": STRING}
_FREE: Final = frozenset(
    {
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        "io.k8s.apimachinery.pkg.api.resource.Quantity",
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        "io.k8s.apimachinery.pkg.runtime.RawExtension",
    }
)


def kind_type(kind: Kind) -> Type:
    """The type that expressions may take an object of a kind for."""
    if isinstance(kind, CustomKind):
        return type_of(kind.openapi_v3_schema, root=True)
    return _named(kind.definition, {}) if isinstance(kind, BuiltinKind) else DYN


def _named(definition: str, known: dict[str, Type]) -> Type:
    if definition in _FREE:
        return DYN
    if definition in known:
        return known[definition]
    schema: Object = definitions().get(definition) or {}
    properties: Object = schema.get("properties") or {}
    if not properties:
        return _of(schema, known)
    # Fields are looked at when an expression names them: kinds may hold each other.
    spelled = {field_name(name): name for name in properties}

    def find(field: str) -> tuple[str, Type] | None:
        name = spelled.get(field)
        return (name, _of(properties[name], known)) if name is not None else None

    found = known[definition] = ObjectType("object", name=definition.rpartition(".")[2], find=find)
    return found


def _of(schema: Object, known: dict[str, Type]) -> Type:
    reference = str(schema.get("$ref") or "")
    if not reference and schema.get("allOf"):
        reference = str(schema["allOf"][0].get("$ref") or "")
    if reference:
        return _named(reference.removeprefix(_REFERENCE).removeprefix(_REFERENCE_V3), known)
    kind = schema.get("type")
    if kind == "array":
        return list_of(_of(schema.get("items") or {}, known))
    if kind == "string" and schema.get("format") in ("date-time", "byte"):
        return TIMESTAMP if schema["format"] == "date-time" else BYTES
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(schema.get("additionalProperties"), dict):
        return map_of(STRING, _of(schema["additionalProperties"], known))
    return DYN


def _kinds(registry: Registry, spec: Object) -> list[Kind]:
    """Of the rules that name group, version and resource without stars."""
    found: dict[str, Kind] = {}
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = rule.get("apiGroups") or (), rule.get("apiVersions") or ()
        resources = [name for name in rule.get("resources") or () if "/" not in name]
        if "*" in (*groups, *versions, *resources):
            continue
        for group in groups:
            for version in versions:
                for plural in resources:
                    kind = registry.lookup(group, version, plural)
                    if kind is not None and len(found) < MOST_TYPES:
                        found[f"{kind.resource.api_version}, Kind={kind.resource.kind}"] = kind
    return [found[name] for name in sorted(found)]


def check_types(registry: Registry, policy: Object) -> list[Object]:
    """`expressionWarnings` of a policy."""
    spec: Object = policy.get("spec") or {}
    warnings: list[Object] = []
    kinds = _kinds(registry, spec)
    params = spec.get("paramKind")
    params_type: Type = DYN
    if params:
        group, _, version = str(params.get("apiVersion", "")).rpartition("/")
        found = registry.lookup_kind(group, version, params.get("kind", ""))
        params_type = kind_type(found) if found is not None else DYN
    for index, validation in enumerate(spec.get("validations") or ()):
        for field in ("expression", "messageExpression"):
            text = validation.get(field)
            problems = [
                f"{kind.resource.api_version}, Kind={kind.resource.kind}: {problem}"
                for kind in kinds
                if text and (problem := _problem(text, spec, kind_type(kind), params_type))
            ]
            if problems:
                place = f"spec.validations[{index}].{field}"
                warnings.append({"fieldRef": place, "warning": "\n".join(problems)})
    return warnings


def _problem(text: str, spec: Object, object_type: Type, params_type: Type) -> str:
    try:
        types, _ = variables_of(spec, object_type=object_type, params_type=params_type)
        compile_expression(text, types)
    except CompileError as error:
        return f"compilation failed: {error.message}"
    return ""


def set_status(registry: Registry, policy: Object) -> None:
    """The status of a policy that is being written, in place."""
    warnings = check_types(registry, policy)
    policy["status"] = {
        **(policy.get("status") or {}),
        "observedGeneration": policy["metadata"].get("generation", 1),
        "typeChecking": {"expressionWarnings": warnings} if warnings else {},
    }
