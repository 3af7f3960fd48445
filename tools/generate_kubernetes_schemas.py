"""Make `src/kajitori/api/schemas/kubernetes.json.gz` and `src/kajitori/api/kubernetes/*.py`.

In: the OpenAPI v3 documents of one Kubernetes version, taken from the Go module `k8s.io/kubernetes` (a folder
`api/openapi-spec/v3` in it). Out: the shape of each built-in kind (names, types, list and merge keys,
defaults; no prose), the resources that a server of that version serves, and msgspec structs for the kinds that our
code reads.

    python tools/generate_kubernetes_schemas.py     # needs Go, for `go mod download`
"""

from __future__ import annotations

import gzip
import json
import keyword
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

KUBERNETES_VERSION = "v1.36.3"
ROOT = Path(__file__).resolve().parent.parent / "src" / "kajitori" / "api"

# Group versions whose kinds the embedded server serves.
GROUP_VERSIONS = [
    "api/v1",
    "apis/admissionregistration.k8s.io/v1",
    "apis/apiextensions.k8s.io/v1",
    "apis/apps/v1",
    "apis/authentication.k8s.io/v1",
    "apis/authorization.k8s.io/v1",
    "apis/autoscaling/v1",
    "apis/autoscaling/v2",
    "apis/batch/v1",
    "apis/certificates.k8s.io/v1",
    "apis/coordination.k8s.io/v1",
    "apis/discovery.k8s.io/v1",
    "apis/events.k8s.io/v1",
    "apis/networking.k8s.io/v1",
    "apis/node.k8s.io/v1",
    "apis/policy/v1",
    "apis/rbac.authorization.k8s.io/v1",
    "apis/resource.k8s.io/v1",
    "apis/scheduling.k8s.io/v1",
    "apis/storage.k8s.io/v1",
]

# Kinds that become structs, with all that they refer to; a module per group version.
STRUCTS = {
    "core_v1": (
        "io.k8s.api.core.v1.",
        "Pod Service Node Namespace ConfigMap Secret ServiceAccount PersistentVolumeClaim PersistentVolume Event "
        "Endpoints Binding PodTemplateSpec",
    ),
    "apps_v1": ("io.k8s.api.apps.v1.", "Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision"),
    "batch_v1": ("io.k8s.api.batch.v1.", "Job CronJob"),
    "coordination_v1": ("io.k8s.api.coordination.v1.", "Lease"),
    "discovery_v1": ("io.k8s.api.discovery.v1.", "EndpointSlice"),
    "events_v1": ("io.k8s.api.events.v1.", "Event"),
    "rbac_v1": ("io.k8s.api.rbac.v1.", "Role RoleBinding ClusterRole ClusterRoleBinding"),
    "apiextensions_v1": (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.",
        "CustomResourceDefinition",
    ),
    "meta_v1": (
        "io.k8s.apimachinery.pkg.apis.meta.v1.",
        "ObjectMeta Condition LabelSelector Status OwnerReference ListMeta DeleteOptions",
    ),
}
MODULE_OF_PREFIX = {prefix: module for module, (prefix, _) in STRUCTS.items()}
OPAQUE = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "str",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "str",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "str",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int | str",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "dict[str, Any]",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "Any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "Any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "Any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "Any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "Any",
    # Schemas are walked as plain data.
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps": "dict[str, Any]",
}


def source_folder() -> Path:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "go.mod").write_text("module kajitori\n")
        answer = subprocess.run(
            ["go", "mod", "download", "-json", f"k8s.io/kubernetes@{KUBERNETES_VERSION}"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    return Path(json.loads(answer.stdout)["Dir"]) / "api" / "openapi-spec" / "v3"


def bare(node: Any, *, names: bool = False) -> Any:
    """Without prose; `allOf` of one reference becomes the reference. names: the keys are field names."""
    if isinstance(node, list):
        return [bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    if not names and isinstance(node.get("allOf"), list) and len(node["allOf"]) == 1:
        rest = {key: value for key, value in node.items() if key != "allOf"}
        node = {**node["allOf"][0], **rest}
    return {
        key: bare(value, names=key == "properties" and not names)
        for key, value in node.items()
        if names or key not in ("description", "externalDocs", "x-kubernetes-unions")
    }


def short_reference(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: value.removeprefix("#/components/schemas/")
            if key == "$ref" and isinstance(value, str)
            else short_reference(value)
            for key, value in node.items()
        }
    return [short_reference(item) for item in node] if isinstance(node, list) else node


VERB = {"post": "create", "put": "update", "patch": "patch"}


def resources(group_version: str, document: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources of one group version with their subresources and verbs, read from the paths."""
    found: dict[str, dict[str, Any]] = {}
    pattern = re.compile(
        rf"^/{re.escape(group_version)}/(namespaces/\{{namespace\}}/)?([a-z]+)(/\{{name\}}(/.*)?)?$"
    )
    for path, operations in document["paths"].items():
        if "/watch/" in path:
            continue
        match = pattern.match(path)
        if not match or path == "/api/v1/namespaces/{namespace}/bindings":
            continue
        namespaced, plural, named, subpath = match.groups()
        sub = subpath.lstrip("/") if subpath else ""
        if "{" in sub:
            continue
        name = f"{plural}/{sub}" if sub else plural
        entry = found.setdefault(name, {"name": name, "namespaced": False, "verbs": set(), "kind": None})
        entry["namespaced"] |= bool(namespaced)
        for method, operation in operations.items():
            if method == "parameters":
                continue
            gvk = operation.get("x-kubernetes-group-version-kind")
            if gvk and (entry["kind"] is None or method in ("get", "post", "put")):
                entry["kind"] = gvk
            if method == "get":
                entry["verbs"] |= {"get"} if named else {"list", "watch"}
            elif method == "delete":
                entry["verbs"].add("delete" if named else "deletecollection")
            elif method in VERB:
                entry["verbs"].add(VERB[method])
    return [{**entry, "verbs": sorted(entry["verbs"])} for _, entry in sorted(found.items())]


def snake(name: str) -> str:
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    text = re.sub(r"_([A-Z]+)s\b", r"_\1s", text)
    text = (
        re.sub(r"I_Ps$", "IPs", text)
        .replace("CID_Rs", "CIDRs")
        .replace("CIDRs", "cidrs")
        .replace("IPs", "ips")
    )
    text = re.sub(r"[^a-zA-Z0-9]", "_", text).lower().strip("_")
    text = (
        re.sub(r"(?<=[a-z])ips$", "_ips", text)
        if name.endswith("IPs") and not text.endswith("_ips")
        else text
    )
    return text + "_" if keyword.iskeyword(text) else text


class StructWriter:
    """Collects the structs of each module, in an order in which each is defined before it is used."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self.definitions = definitions
        self.done: dict[str, dict[str, str]] = {module: {} for module in STRUCTS}
        self.imports: dict[str, set[str]] = {module: set() for module in STRUCTS}

    def module_of(self, name: str) -> str | None:
        for prefix, module in MODULE_OF_PREFIX.items():
            if name.startswith(prefix) and "." not in name[len(prefix) :]:
                return module
        return None

    def type_of(self, schema: dict[str, Any], module: str) -> str:
        reference = schema.get("$ref")
        if reference:
            if reference in OPAQUE:
                return OPAQUE[reference]
            target = self.module_of(reference)
            if target is None:
                return "dict[str, Any]"
            self.write(reference)
            if target != module:
                self.imports[module].add(target)
                return f"{target}.{reference.rsplit('.', 1)[1]}"
            return reference.rsplit(".", 1)[1]
        kind = schema.get("type")
        if kind == "array":
            return f"list[{self.type_of(schema.get('items', {}), module)}]"
        if kind == "object":
            values = schema.get("additionalProperties")
            return f"dict[str, {self.type_of(values, module) if isinstance(values, dict) else 'Any'}]"
        return {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}.get(
            kind or "", "Any"
        )

    def write(self, name: str) -> None:
        module = self.module_of(name)
        if module is None or name in self.done[module]:
            return
        self.done[module][name] = ""  # stops the recursion of kinds that refer to themselves
        schema = self.definitions[name]
        lines = []
        is_kind = bool(schema.get("x-kubernetes-group-version-kind"))
        for wire, field in sorted(schema.get("properties", {}).items()):
            type_ = self.type_of(field, module)
            python = snake(wire)
            default = self.default_of(type_, field)
            if is_kind and wire in ("apiVersion", "kind"):
                gvk = schema["x-kubernetes-group-version-kind"][-1]
                if name.rsplit(".", 1)[1] not in ("DeleteOptions", "Status"):
                    value = gvk["kind"] if wire == "kind" else f"{gvk['group']}/{gvk['version']}".lstrip("/")
                    default = f'"{value}"'
            if (
                wire in ("metadata", "spec", "status", "template")
                and "$ref" in field
                and type_ not in ("Any", "dict[str, Any]")
            ):
                # Never None, so that readers need not ask; absent reads as empty.
                lines.append(f"    {python}: {type_} = field(default_factory=lambda: {type_}())")
                continue
            spelled = (
                f"field(name={wire!r}, default{self.spell_default(default)})"
                if self.camel(python) != wire
                else default
            )
            lines.append(f"    {python}: {self.annotation(type_, default)} = {spelled}")
        options = "frozen=True, kw_only=True, rename='camel'" + ("" if is_kind else ", omit_defaults=True")
        self.done[module][name] = f"class {name.rsplit('.', 1)[1]}(Struct, {options}):\n" + (
            "\n".join(lines) or "    pass"
        )

    @staticmethod
    def camel(python: str) -> str:
        first, *rest = python.strip("_").split("_") if python.endswith("_") else python.split("_")
        return first + "".join(part.title() for part in rest) + ("_" if python.endswith("_") else "")

    @staticmethod
    def default_of(type_: str, field: dict[str, Any]) -> str:
        if type_.startswith("list["):
            return "[]"
        if type_.startswith("dict["):
            return "{}"
        if "default" in field and isinstance(field["default"], (str, int, bool)):
            return repr(field["default"])
        return "None"

    @staticmethod
    def annotation(type_: str, default: str) -> str:
        return type_ if default != "None" or type_ == "Any" else f"{type_} | None"

    @staticmethod
    def spell_default(default: str) -> str:
        if default == "[]":
            return "_factory=list"
        if default == "{}":
            return "_factory=dict"
        return f"={default}"


def write_structs(definitions: dict[str, Any]) -> None:
    writer = StructWriter(definitions)
    for prefix, names in STRUCTS.values():
        for name in names.split():
            writer.write(prefix + name)
    for module, structs in writer.done.items():
        text = [
            f'"""{module.replace("_", "/")} as structs; made by tools/generate_kubernetes_schemas.py'
            f' from Kubernetes {KUBERNETES_VERSION}, not edited by hand."""',
            "",
            "from __future__ import annotations",
            "",
            "from typing import Any",
            "",
            "from msgspec import Struct, field",
            "",
            *[f"from kajitori.api.kubernetes import {other}" for other in sorted(writer.imports[module])],
            "",
            "",
            "\n\n\n".join(structs.values()),
            "",
        ]
        (ROOT / "kubernetes" / f"{module}.py").write_text("\n".join(text))


def main() -> None:
    folder = source_folder()
    definitions: dict[str, Any] = {}
    served: dict[str, list[dict[str, Any]]] = {}
    for group_version in GROUP_VERSIONS:
        document = json.loads((folder / f"{group_version.replace('/', '__')}_openapi.json").read_text())
        definitions.update(document["components"]["schemas"])
        served[group_version] = resources(group_version, document)
    definitions = short_reference({name: bare(schema) for name, schema in sorted(definitions.items())})
    data = {"version": KUBERNETES_VERSION, "resources": served, "definitions": definitions}
    raw = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    (ROOT / "schemas" / "kubernetes.json.gz").write_bytes(gzip.compress(raw, mtime=0))
    write_structs(definitions)
    print(f"{len(definitions)} definitions, {sum(map(len, served.values()))} resources, {len(raw)} bytes")


if __name__ == "__main__":
    main()
