"""List objects.

kaji get pods                      kaji get lws,pods -o wide
kaji get pod web -o yaml           kaji get pods -A -l app=web -w
"""

from __future__ import annotations

import argparse
from typing import Any

from kajitori.base.errors import UsageError
from kajitori.cli.connection import TABLE, Cluster, Served, cluster_arguments, open_cluster, split_names
from kajitori.cli.output import print_objects, print_rows

FORMS = ("wide", "json", "yaml", "name")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", help="a resource, a list a,b, a category such as all, or RESOURCE/NAME")
    parser.add_argument("names", nargs="*", help="names of objects")
    parser.add_argument("-o", "--output", choices=FORMS)
    parser.add_argument("-l", "--selector", default="", help="label selector, such as app=web,tier!=cache")
    parser.add_argument("--field-selector", default="", help="field selector, such as status.phase=Running")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("-w", "--watch", action="store_true", help="then print changes as they come")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    cluster = open_cluster(options)
    what, names = split_names(options.what, options.names, "get")
    kinds = cluster.find_category(what)
    if names and len(kinds) > 1:
        raise UsageError(
            "names belong to one resource", hint=f"kaji get {kinds[0].resource.plural} {names[0]}"
        )
    if options.watch and len(kinds) > 1:
        raise UsageError(
            "one resource can be watched at a time", hint=f"kaji get {kinds[0].resource.plural} -w"
        )
    if options.output in ("json", "yaml", "name"):
        return _print_plain(cluster, kinds, names, options)
    shown = 0
    for index, kind in enumerate(kinds):
        shown += _print_table(cluster, kind, names, options, several=len(kinds) > 1, first=index == 0)
    if not shown and not names and not options.watch:
        place = "" if options.all_namespaces else f" in namespace {cluster.namespace}"
        print(f"No {what} found{place}.")
    return 0


def _query(options: argparse.Namespace) -> dict[str, str]:
    query = {"labelSelector": options.selector, "fieldSelector": options.field_selector}
    return {key: value for key, value in query.items() if value}


def _print_plain(cluster: Cluster, kinds: list[Served], names: list[str], options: argparse.Namespace) -> int:
    objects: list[dict[str, Any]] = []
    namespace = None if options.all_namespaces else ""
    for kind in kinds:
        resource = kind.resource
        if names:
            found = [cluster.get(resource, name) for name in names]
        else:
            found = cluster.objects(resource, namespace, **_query(options))
        objects += [{"apiVersion": resource.api_version, "kind": resource.kind, **each} for each in found]
        if options.output == "name":
            for each in found:
                print(f"{kind.title}/{each['metadata']['name']}")
    if options.output != "name":
        # Programs that read all of a kind must not meet something else where there happens to be one.
        print_objects(objects, options.output, as_list=not names)
    return 0


def _print_table(
    cluster: Cluster,
    kind: Served,
    names: list[str],
    options: argparse.Namespace,
    *,
    several: bool,
    first: bool,
) -> int:
    resource = kind.resource
    everywhere = options.all_namespaces and resource.namespaced
    printer = TablePrinter(
        wide=options.output == "wide", everywhere=everywhere, prefix=f"{kind.title}/" if several else ""
    )
    path = resource.path(None if options.all_namespaces else cluster.namespace)
    if names:
        tables = [cluster.client.get(f"{path}/{name}", accept=TABLE) for name in names]
    else:
        tables = [cluster.client.get(path, query=_query(options), accept=TABLE)]
    if several and not first and any(table.get("rows") for table in tables):
        print()
    shown = sum(printer.print(table) for table in tables)
    if options.watch:
        query = _query(options) | {"resourceVersion": tables[0]["metadata"].get("resourceVersion", "")}
        if names:
            query["fieldSelector"] = f"metadata.name={names[0]}"
        for event in cluster.watch(path, query, TABLE):
            if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                printer.print(event["object"])
            elif event["type"] == "ERROR":
                break
    return shown


class TablePrinter:
    """Prints Tables of one resource; the header and the column widths carry over from one to the next."""

    def __init__(self, *, wide: bool, everywhere: bool, prefix: str) -> None:
        self._wide = wide
        self._everywhere = everywhere
        self._prefix = prefix
        self._columns: list[int] = []
        self._header: list[str] = []
        self._widths: list[int] = []

    def print(self, table: dict[str, Any]) -> int:
        """Print the rows; returns how many."""
        definitions = table.get("columnDefinitions") or []
        if definitions:
            self._columns = [
                index for index, column in enumerate(definitions) if self._wide or not column.get("priority")
            ]
            names = [definitions[index]["name"].upper() for index in self._columns]
            header = (["NAMESPACE"] if self._everywhere else []) + names
            self._header = header if not self._widths else []
        rows = [self._row(row) for row in table.get("rows") or []]
        if rows:
            self._widths = print_rows(self._header, rows, self._widths)
            self._header = []
        return len(rows)

    def _row(self, row: dict[str, Any]) -> list[str]:
        cells = [_cell(row["cells"][index]) for index in self._columns]
        cells[0] = f"{self._prefix}{cells[0]}"
        if self._everywhere:
            cells.insert(0, (row.get("object") or {}).get("metadata", {}).get("namespace", ""))
        return cells


def _cell(value: Any) -> str:
    if value is None:
        return "<none>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
