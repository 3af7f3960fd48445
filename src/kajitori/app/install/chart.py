"""The Helm chart, written from the same source as `kaji install`: templates, values with comments, their schema."""

from __future__ import annotations

import json
from typing import Any

import yaml

from kajitori import __version__
from kajitori.app.install.blueprint import blueprint
from kajitori.app.install.definitions import bundled_definitions
from kajitori.app.install.templating import Each, If, chart_template
from kajitori.app.install.values import defaults, rows, schema

CHART_NAME = "kajitori"
_NOTE = "# Made by `make chart` from src/kajitori/app/install; change that.\n"


def chart_files() -> dict[str, str]:
    """Every file of the chart by its path."""
    files = {
        "Chart.yaml": _NOTE + _yaml(_chart()),
        "values.yaml": _values(),
        "values.schema.json": json.dumps(schema(), indent=2) + "\n",
        "templates/NOTES.txt": _NOTES,
        ".helmignore": "*.md\n",
    }
    for definition in bundled_definitions():
        files[f"crds/{definition['metadata']['name']}.yaml"] = _NOTE + _yaml(definition)
    for document in blueprint():
        name = f"templates/{_file_of(document)}.yaml"
        files[name] = files.get(name, _NOTE) + chart_template(document)
    return files


def _chart() -> dict[str, Any]:
    return {
        "apiVersion": "v2",
        "name": CHART_NAME,
        "description": "An AI platform on any Kubernetes: groups of pods as one, and a gateway for models",
        "type": "application",
        "version": __version__,
        "appVersion": __version__,
        "kubeVersion": ">=1.30.0-0",
    }


def _file_of(document: Any) -> str:
    """Objects of a component share a file."""
    while isinstance(document, If | Each):
        document = document.then if isinstance(document, If) else document.body
    name: str = document["metadata"]["labels"]["app.kubernetes.io/name"]
    return name.removeprefix("kajitori-")


def _yaml(value: Any) -> str:
    # Keys in their order; no aliases, since readers of a chart do not expect any.
    return yaml.dump(value, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=120)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _values() -> str:
    """The defaults, each under its meaning."""
    meanings = {path: meaning for path, _, _, meaning in rows()}
    lines = ["# Choices of an installation. Made by `make chart`."]

    def write(section: dict[str, Any], path: str, indent: int) -> None:
        for key, value in section.items():
            here = f"{path}.{key}" if path else key
            pad = "  " * indent
            if here in meanings:
                lines.extend([f"{pad}# {meanings[here]}", f"{pad}{key}: {json.dumps(value)}"])
            else:
                if indent == 0:
                    lines.append("")
                lines.append(f"{pad}{key}:")
                write(value, here, indent + 1)

    write(defaults(), "", 0)
    return "\n".join(lines) + "\n"


_NOTES = """\
Kajitori {{ .Chart.AppVersion }} is in the namespace {{ .Release.Namespace }}.

  kubectl -n {{ .Release.Namespace }} get pods
  kaji status                       what it serves, and what it leaves to other controllers
{{- if .Values.gateway.className }}

Gateways of the class {{ .Values.gateway.className }} are served; their address is that of the Service kajitori-envoy, which appears with the first one.
{{- end }}
Definitions in crds/ are made if they are not there and never changed by Helm: `kaji upgrade --only-definitions` does that.
"""
