"""Make the reference pages that follow from the code: the command line, our kinds, the images that are mapped.

python tools/generate_reference.py            # writes docs/reference/*.md
python tools/generate_reference.py --check    # fails if a page is out of date
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ["COLUMNS"] = "100"

from kajitori.api.crds import all_crds
from kajitori.app.install.render import render
from kajitori.app.install.values import complete, rows
from kajitori.cli import COMMANDS, overview

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Made by tools/generate_reference.py; change the code and run `make docs`. -->"


def command_line() -> str:
    parts = ["# Command line", NOTE, "```text", overview(), "```"]
    for name in COMMANDS:
        module = import_module(f"kajitori.cli.{name}")
        parser = argparse.ArgumentParser(
            prog=f"kaji {name}",
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.arguments(parser)
        parts += [f"## kaji {name}", *_help(parser)]
        verbs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        for verb, inner in [each for action in verbs for each in action.choices.items()]:
            parts += [f"### kaji {name} {verb}", *_help(inner)]
    return "\n\n".join(parts).replace("```text\n\n", "```text\n").replace("\n\n```", "\n```") + "\n"


def _help(parser: argparse.ArgumentParser) -> list[str]:
    # The interpreter's own heading of options changed between versions.
    return ["```text", parser.format_help().replace("optional arguments:", "options:").strip(), "```"]


def kinds() -> str:
    parts = [
        "# Kinds",
        NOTE,
        "The CustomResourceDefinitions that `kaji up` installs. Types are those of the schema; a value in brackets is "
        "the default; fields of pod templates and other built-in parts are Kubernetes' own and not listed.",
    ]
    for crd in all_crds():
        spec = crd["spec"]
        short = (
            f" (short: {', '.join(spec['names']['shortNames'])})" if spec["names"].get("shortNames") else ""
        )
        parts.append(f"## {spec['names']['kind']}{short}")
        versions = [
            version["name"]
            + (", stored" if version["storage"] else "")
            + (", deprecated" if version.get("deprecated") else "")
            for version in spec["versions"]
        ]
        parts.append(f"`{spec['group']}`: {'; '.join(versions)}.")
        version = next(each for each in spec["versions"] if each["storage"])
        rows = ["| field | type | meaning |", "|---|---|---|"]
        fields(version["schema"]["openAPIV3Schema"], "", rows)
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def fields(schema: dict[str, Any], path: str, rows: list[str]) -> None:
    for name, field in sorted((schema.get("properties") or {}).items()):
        if not path and name in ("apiVersion", "kind", "metadata"):
            continue
        here = f"{path}.{name}" if path else name
        inner = field
        suffix = ""
        if field.get("type") == "array":
            inner, suffix = field["items"], "[]"
        meaning = str(field.get("description", "")).replace("\n", " ").replace("|", "\\|")
        required = " **required**" if name in (schema.get("required") or ()) else ""
        rows.append(f"| `{here}{suffix}` | {type_name(field)}{required} | {meaning} |")
        # Built-in parts are recognised by their list merge keys deep inside; their own documentation is Kubernetes'.
        if "template" in name.lower() and "metadata" in (inner.get("properties") or {}):
            continue
        fields(inner, here + suffix, rows)


def type_name(field: dict[str, Any]) -> str:
    kind = field.get("type", "")
    if field.get("x-kubernetes-int-or-string"):
        kind = "integer or string"
    if field.get("enum"):
        kind = " \\| ".join(str(value) for value in field["enum"])
    if kind == "array":
        kind = f"list of {field['items'].get('type', 'any')}"
    default = field.get("default")
    return f"{kind} [{default}]" if default not in (None, {}, []) and not isinstance(default, dict) else kind


def installation() -> str:
    table = ["| value | type | default | meaning |", "|---|---|---|---|"]
    for path, kind, default, meaning in rows():
        shown = json.dumps(default) if default not in ("", [], {}) else "-"
        table.append(f"| `{path}` | {kind} | `{shown}` | {meaning} |".replace("`-`", "-"))
    rights: list[str] = []
    for obj in render(complete({}), "kajitori-system"):
        if obj["kind"] not in ("Role", "ClusterRole"):
            continue
        where = "everywhere" if obj["kind"] == "ClusterRole" else "in the namespace of the installation"
        rights += [f"### {obj['metadata']['name']}, {where}", "| resources | verbs |\n|---|---|"]
        rights[-1] += "".join(
            f"\n| {_resources(rule)} | {', '.join(rule['verbs'])} |" for rule in obj["rules"]
        )
    return (
        "\n\n".join(
            [
                "# Values of an installation",
                NOTE,
                "Given to `kaji install` and `kaji upgrade` with `--values FILE` and `--set a.b=c`, or to Helm. Mappings are "
                "laid over the defaults member by member; lists and all else replace them.",
                "\n".join(table),
                "## Rights",
                "Each component runs under a service account of its own. A test runs them on a real API server and fails on a "
                "right that is missing and on one that is never used.",
                *rights,
            ]
        )
        + "\n"
    )


def _resources(rule: dict[str, Any]) -> str:
    groups = "" if rule["apiGroups"] == [""] else f" ({', '.join(rule['apiGroups'])})"
    names = f", only {', '.join(rule['resourceNames'])}" if rule.get("resourceNames") else ""
    return f"{', '.join(rule['resources'])}{groups}{names}"


PAGES = {"command-line.md": command_line, "installation.md": installation, "kinds.md": kinds}


def main() -> int:
    stale: list[str] = []
    for name, make in PAGES.items():
        path = FOLDER / name
        text = make()
        if "--check" in sys.argv:
            if not path.exists() or path.read_text() != text:
                stale.append(name)
        else:
            path.write_text(text)
    if stale:
        print(f"out of date: {', '.join(stale)} (run `make docs`)")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
