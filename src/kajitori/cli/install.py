"""Put Kajitori into a cluster, or bring an installation of this version in line with other choices.

kaji install                                        into the cluster of the kubeconfig
kaji install --set envoy.service.type=ClusterIP --values mine.yaml
kaji install --render --output DIR                  only write what would be applied; asks no cluster
kaji install --render --helm DIR                    write the Helm chart
kaji install --dry-run                              let the cluster check everything, change nothing

Definitions that are not Kajitori's, or newer ones, stay as they are and are named. Where an upstream controller serves
a kind already, ours stays off for it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kajitori.base.errors import UsageError
from kajitori.cli.output import paint

if TYPE_CHECKING:
    from kajitori.app.install.survey import Survey
    from kajitori.kube.direct import DirectClient

DEFAULT_NAMESPACE = "kajitori-system"


def arguments(parser: argparse.ArgumentParser) -> None:
    target_arguments(parser)
    value_arguments(parser)
    parser.add_argument("--render", action="store_true", help="write the objects and apply nothing")
    parser.add_argument("--output", type=Path, metavar="DIR", help="with --render: a file for each object")
    parser.add_argument("--helm", type=Path, metavar="DIR", help="with --render: the Helm chart")
    parser.add_argument("--dry-run", action="store_true", help="check on the server, change nothing")
    parser.add_argument(
        "--skip-definitions", action="store_true", help="leave CustomResourceDefinitions alone"
    )
    wait_arguments(parser)


def target_arguments(parser: argparse.ArgumentParser) -> None:
    """Which cluster, and which namespace of it."""
    parser.add_argument("--kubeconfig", help="path of the kubeconfig")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument(
        "-n", "--namespace", default=DEFAULT_NAMESPACE, help=f"of the installation ({DEFAULT_NAMESPACE})"
    )


def value_arguments(parser: argparse.ArgumentParser) -> None:
    """Choices, as docs/reference/installation.md lists them."""
    parser.add_argument("--values", action="append", default=[], metavar="FILE", help="choices as YAML")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", dest="settings", help="one choice"
    )


def wait_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-wait", action="store_true", help="return when all is applied")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="of waiting (300)")


def run(options: argparse.Namespace) -> int:
    if options.render:
        return _render(options)
    if options.output or options.helm:
        raise UsageError("--output and --helm go with --render")
    from kajitori.app.install.values import complete, read_choices

    chosen = read_choices(options.values, options.settings)
    values = complete(chosen)
    with open_client(options) as client:
        from kajitori.app.install import installer
        from kajitori.app.install.survey import refuse_downgrade, survey

        installer.check_rights(client, options.namespace, values, definitions=not options.skip_definitions)
        found = survey(client, options.namespace, values, chosen)
        refuse_downgrade(found)
        refuse_helm(found)
        say_states(found)
        if options.dry_run:
            installer.dry_run(client, found, say)
            return 0
        bring(client, found, options, definitions=not options.skip_definitions)
    return 0


def bring(client: DirectClient, found: Survey, options: argparse.Namespace, *, definitions: bool) -> None:
    """Apply and wait."""
    from kajitori import __version__
    from kajitori.app.install import installer

    if definitions:
        installer.apply_definitions(client, found, say)
    installer.apply_objects(client, found, say)
    if not options.no_wait:
        installer.wait_until_ready(client, found, say, options.timeout)
    say("done", f"Kajitori {__version__} is in the namespace {found.namespace}")


def say(word: str, text: str) -> None:
    """One line of progress."""
    colour = {"ready": "32", "done": "32", "kept": "33", "off": "33"}.get(word, "2")
    print(f"  {paint(word.ljust(13), colour)} {text}", flush=True)


def say_states(found: Survey) -> None:
    """What of ours will stay off, and why."""
    for state in found.states:
        if not state.acts:
            say("off", f"{state.capability}: {state.because}; {state.hint}")


def refuse_helm(found: Survey) -> None:
    if found.helm:
        raise UsageError(
            "Helm manages this installation",
            hint="change it with `helm upgrade`, or uninstall it there first",
        )


def open_client(options: argparse.Namespace) -> DirectClient:
    """The cluster that the options or the environment name; the laptop's own is none to install into."""
    from kajitori.kube.config import load_config
    from kajitori.kube.direct import DirectClient

    client = DirectClient(load_config(options.kubeconfig, options.context))
    if _is_laptops(client):
        client.close()
        raise UsageError(
            f"{client.config.server} is a cluster of `kaji up`, which serves these kinds itself: "
            "an installation would get in its way",
            hint="name a real cluster with --kubeconfig or KUBECONFIG",
        )
    return client


def _is_laptops(client: DirectClient) -> bool:
    """Whether it is a whole cluster of `kaji up`, whose gateway and controllers an uninstallation would break."""
    from kajitori.api.resource import GATEWAYS
    from kajitori.app.start import GATEWAY_NAME
    from kajitori.base.errors import Forbidden, NotFound

    if not str(client.get("/version").get("gitVersion", "")).endswith("+kajitori"):
        return False
    try:
        client.get(GATEWAYS.path("default", GATEWAY_NAME))
    except (NotFound, Forbidden):
        return False
    return True


def _render(options: argparse.Namespace) -> int:
    from kajitori.app.install.values import complete, read_choices

    chosen = read_choices(options.values, options.settings)
    if options.helm is not None:
        from kajitori.app.install.chart import chart_files

        if chosen:
            raise UsageError("a chart leaves the choices open: give them to helm")
        _write_chart(options.helm, chart_files())
        return 0
    from kajitori.app.install.render import render, render_all

    make = render if options.skip_definitions else render_all
    objects = make(complete(chosen), options.namespace)
    if options.output is None:
        sys.stdout.write("".join("---\n" + _yaml(obj) for obj in objects))
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    for number, obj in enumerate(objects):
        name = f"{number:02d}-{obj['kind'].lower()}-{obj['metadata']['name']}.yaml"
        (options.output / name).write_text(_yaml(obj))
    print(f"{len(objects)} objects in {options.output}")
    return 0


def _write_chart(folder: Path, files: dict[str, str]) -> None:
    """Replace the files that a chart is made of; others in the folder stay."""
    for part in ("crds", "templates"):
        for old in sorted((folder / part).glob("*")):
            if f"{part}/{old.name}" not in files:
                old.unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(f"chart of {len(files)} files in {folder}")


def _yaml(obj: dict[str, Any]) -> str:
    import yaml

    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(obj, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)
