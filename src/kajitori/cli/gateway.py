"""A gateway without a cluster, and what a configuration of one would do.

  OPENAI_API_KEY=... kaji gateway run             an OpenAI-compatible endpoint at http://localhost:1975
  kaji gateway run gateway.yaml                   serve a file; a change of it takes effect when it is saved
  kaji gateway lint gateway.yaml                  name everything that is wrong or not honoured, with its line
  kaji gateway try gateway.yaml --requests FILE   what it would have done to recorded requests

`run` and `lint` take the files of `aigw run`: Gateways, AIGatewayRoutes, backends and policies, with variables such as
${OPENAI_API_KEY} and ${MODEL:=smollm2}. Without a file `run` reads OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID,
OPENAI_PROJECT_ID; AZURE_OPENAI_API_KEY, AZURE_OPENAI_ENDPOINT, OPENAI_API_VERSION; ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from kajitori.cli.connection import GATEWAY_HOME
from kajitori.cli.manifests import Manifest
from kajitori.cli.output import warn

DEFAULT_HOME = GATEWAY_HOME
ADMINISTRATION_PORT = 1064
PORT = 1975


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    run_verb = verbs.add_parser("run", help="serve a file, or what the environment's variables name")
    run_verb.add_argument("file", nargs="?", help="the configuration; none: see the variables above")
    run_verb.add_argument("--home", type=Path, help=f"where state and logs are kept ({DEFAULT_HOME})")
    run_verb.add_argument("--address", default="127.0.0.1", help="where to listen (127.0.0.1)")
    run_verb.add_argument(
        "--port", type=int, default=PORT, help="where to listen if no Gateway of a file says it (1975)"
    )
    run_verb.add_argument(
        "--admin-port", type=int, default=ADMINISTRATION_PORT, help="of /metrics and /health (1064; 0: none)"
    )
    lint_verb = verbs.add_parser(
        "lint", help="name what is wrong or not honoured; exit code 1 if anything is"
    )
    lint_verb.add_argument("file", help="the configuration, or - for standard input")

    try_verb = verbs.add_parser("try", help="what a configuration would have done to recorded requests")
    try_verb.add_argument("file", help="the configuration, or - for standard input")
    try_verb.add_argument(
        "--requests",
        required=True,
        metavar="RECORDED",
        help="a home, its ledger.db, or JSON lines of records",
    )
    try_verb.add_argument(
        "--show", type=int, default=10, metavar="COUNT", help="changed requests to list (10)"
    )


def run(options: argparse.Namespace) -> int:
    if options.verb == "run":
        from kajitori.cli.gateway_run import run_gateway

        return run_gateway(options)
    if options.verb == "lint":
        from kajitori.cli.gateway_lint import lint

        return lint(read_configuration(options.file))
    from kajitori.cli.gateway_try import try_requests

    return try_requests(read_configuration(options.file), options.requests, options.show)


def read_configuration(path: str) -> list[Manifest]:
    """The objects of a file with the environment's variables in it; a variable that is not set is told."""
    from kajitori.app.standalone.substitution import substitute
    from kajitori.cli.manifests import read_manifests

    def replace(source: str, text: str) -> str:
        found = substitute(text, os.environ)
        if found.missing:
            warn(
                f"{source}: not set, so empty: {', '.join(found.missing)} (`${{NAME:=text}}` gives a default)"
            )
        return found.text

    return read_manifests([path], replace)


def assume(manifests: Sequence[Manifest], port: int = PORT) -> tuple[list[Manifest], list[str]]:
    """What is taken to be there besides, and what is to be said of that. port: of a Gateway that is not in the file."""
    from kajitori.app.standalone.assumed import assumed
    from kajitori.cli.manifests import manifest_of

    objects, told = assumed([item.object for item in manifests], port)
    return [manifest_of("taken to be there", item) for item in objects], told


def without_effect(manifests: Sequence[Manifest]) -> tuple[list[Manifest], list[str]]:
    """The manifests that a gateway serves, and a sentence for each of the others."""
    from kajitori.app.standalone.serving import serves

    kept: list[Manifest] = []
    told: list[str] = []
    for manifest in manifests:
        if serves(manifest.object["apiVersion"], manifest.object["kind"]):
            kept.append(manifest)
        else:
            kind = f"{manifest.object['apiVersion']} {manifest.object['kind']}"
            told.append(f"{manifest.place('')}: {manifest.title} has no effect without a cluster ({kind})")
    return kept, told
