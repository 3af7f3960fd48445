"""Make `src/kajitori/api/schemas/protobuf.json.gz`: the wire fields of the built-in kinds.

In: `generated.proto` (numbers and types) and the Go types (JSON names, which fields are inlined, which zero values
mean "absent") of the published modules. Out: for each message that a built-in kind can contain, a list of
`[number, JSON name, type, label]`; no prose.

    type: string bytes bool int32 int64 double, or the definition's name (`io.k8s.api.core.v1.PodSpec`)
    label: "" a value that is kept even when it is zero; "z" a zero value is as good as absent;
           "r" repeated; "m" a map from string; "i" a message whose fields belong to the one around it

    python tools/generate_protobuf_tables.py     # needs Go, for `go mod download`
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import tempfile
from pathlib import Path

from kajitori.api.schemas import definitions

VERSION = "v0.36.3"
MODULES = ["k8s.io/api", "k8s.io/apimachinery", "k8s.io/apiextensions-apiserver"]
TARGET = Path(__file__).resolve().parent.parent / "src" / "kajitori" / "api" / "schemas" / "protobuf.json.gz"
SCALARS = {"string", "bytes", "bool", "int32", "int64", "double"}

Field = tuple[int, str, str, str]

MESSAGE = re.compile(r"^message (\w+) \{$(.*?)^\}$", re.M | re.S)
PROTO_FIELD = re.compile(
    r"^\s*(optional|repeated)?\s*(map<\s*string\s*,\s*([\w.]+)\s*>|[\w.]+) (\w+) = (\d+);", re.M
)
GO_STRUCT = re.compile(r"^type (\w+) struct \{$(.*?)^\}$", re.M | re.S)
GO_FIELD = re.compile(
    r'^\s*(?:\w+\s+)?(\S+)\s+`json:"([^"]*)"[^`]*?protobuf:"[a-z0-9]+,(\d+),[^"]*"[^`]*`', re.M
)


def module_folders() -> list[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "go.mod").write_text("module kajitori\n")
        answer = subprocess.run(
            ["go", "mod", "download", "-json", *[f"{module}@{VERSION}" for module in MODULES]],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
    decoder, text, folders = json.JSONDecoder(), answer.stdout.strip(), []
    while text:
        found, end = decoder.raw_decode(text)
        folders.append(Path(found["Dir"]))
        text = text[end:].strip()
    return folders


def definition_of(package: str, message: str) -> str:
    """`k8s.io.api.core.v1` and `Pod` -> `io.k8s.api.core.v1.Pod`, the name that the schemas use."""
    rest = (
        package.lstrip(".")
        .removeprefix("k8s.io.")
        .replace("apiextensions_apiserver", "apiextensions-apiserver")
    )
    return f"io.k8s.{rest}.{message}"


def go_fields(folder: Path) -> dict[tuple[str, int], tuple[str, str]]:
    """(struct, field number) -> (JSON tag, Go type) of the types in a folder."""
    found: dict[tuple[str, int], tuple[str, str]] = {}
    for source in sorted(folder.glob("*types*.go")) + sorted(folder.glob("types.go")):
        if "swagger" in source.name or source.name.endswith("_test.go"):
            continue
        for struct, body in GO_STRUCT.findall(source.read_text()):
            for go_type, tag, number in GO_FIELD.findall(body):
                found[struct, int(number)] = (tag, go_type)
    return found


def messages_of(proto: Path) -> dict[str, list[Field]]:
    text = re.sub(r"^\s*//.*$", "", proto.read_text(), flags=re.M)
    package_line = re.search(r"^package ([\w.]+);", text, re.M)
    if package_line is None:
        return {}
    package = package_line.group(1)
    tags = go_fields(proto.parent)
    found: dict[str, list[Field]] = {}
    for message, body in MESSAGE.findall(text):
        fields: list[Field] = []
        for label, full_type, map_value, name, number_text in PROTO_FIELD.findall(body):
            number = int(number_text)
            tag, go_type = tags.get((message, number), (name, "*"))
            json_name, *options = tag.split(",")
            wire = map_value or full_type
            if wire not in SCALARS:
                owner, _, bare = wire.rpartition(".")
                wire = definition_of(owner or package, bare)
            if map_value:
                kind = "m"
            elif label == "repeated":
                kind = "r"
            elif "inline" in options:
                kind = "i"
            elif not go_type.startswith("*") and "omitempty" in options and wire in SCALARS:
                kind = "z"
            else:
                kind = ""
            fields.append((number, json_name or name, wire, kind))
        found[definition_of(package, message)] = fields
    return found


def reachable(messages: dict[str, list[Field]], roots: list[str]) -> dict[str, list[Field]]:
    kept: dict[str, list[Field]] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in kept or name not in messages:
            continue
        kept[name] = messages[name]
        waiting += [wire for _, _, wire, _ in messages[name] if wire not in SCALARS]
    return dict(sorted(kept.items()))


def main() -> None:
    messages: dict[str, list[Field]] = {}
    for folder in module_folders():
        for proto in sorted(folder.rglob("generated.proto")):
            messages |= messages_of(proto)
    roots = [name for name, schema in definitions().items() if "x-kubernetes-group-version-kind" in schema]
    kept = reachable(messages, roots)
    raw = json.dumps(kept, separators=(",", ":")).encode()
    TARGET.write_bytes(gzip.compress(raw, mtime=0))
    print(f"{len(kept)} messages, {sum(map(len, kept.values()))} fields, {len(raw)} bytes")


if __name__ == "__main__":
    main()
