"""The command `kaji`: one module a verb, imported when it is called.

`kaji --help` reads the table below and imports nothing else, so it costs little more than the interpreter's own
start. A command's module has `arguments(parser)` and `run(options) -> int`.

Exit codes: 0 done; 1 refused or failed, the reason is printed; 2 called wrongly; 3 no cluster answers;
130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_CLUSTER = 3
EXIT_INTERRUPTED = 130

COMMANDS = {
    "up": "start a cluster on this machine, with a model behind a gateway",
    "down": "stop the cluster (--purge: remove all that it left on disk)",
    "status": "what runs, where, and how well",
    "apply": "create or change objects from files",
    "get": "list objects",
    "describe": "one object in full, with its events",
    "delete": "delete objects",
    "logs": "what a container printed",
    "chat": "talk to a model through the gateway",
    "rollout": "updates of groups: status, pause, resume, undo, history, plan",
    "keys": "keys of the gateway's clients: create, list, rotate, revoke",
    "usage": "requests, tokens and money by model, key, tenant, route, backend, day",
    "budgets": "how budgets, quotas and rate limits stand",
    "gateway": "a gateway without a cluster: run a file, lint it, try it on recorded requests",
    "explain": "why: a pod, a group, a route, a request",
    "node": "join this machine to any cluster as a node (join, leave, list, status)",
    "doctor": "check this machine and this cluster; each finding has its cure",
    "install": "put Kajitori into a real cluster (--render: only print what would be applied)",
    "upgrade": "bring an installation to this version",
    "uninstall": "take Kajitori out of a cluster; users' objects stay",
    "serve": "run a part of an installation, as its Deployments do",
    "version": "versions of Kajitori, Envoy and the cluster",
    "completion": "completion for bash, zsh or fish",
}


def overview() -> str:
    lines = ["Usage: kaji COMMAND [options]", "", "Commands:"]
    lines += [f"  {name:<11} {text}" for name, text in COMMANDS.items()]
    lines += [
        "",
        "Options of all commands that ask a cluster:",
        "  -n, --namespace NAME   the namespace (default: the context's)",
        "  --kubeconfig FILE      which cluster (default: $KUBECONFIG, the local cluster, ~/.kube/config)",
        "  --context NAME         which context of the kubeconfig",
        "  --home DIR             the local cluster's folder (default: $KAJI_HOME or ~/.kaji)",
        "",
        "kaji COMMAND --help tells more. Exit codes: 0 done, 1 failed, 2 called wrongly, 3 no cluster answers.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or (words[0] in ("-h", "--help", "help") and len(words) == 1):
        print(overview())
        return 0 if words else EXIT_USAGE
    name, *rest = words
    if name == "help":
        name, rest = rest[0], ["--help"]
    if name == "--version":
        name = "version"
    if name not in COMMANDS:
        return _unknown(name)
    return _run(name, rest)


def _unknown(name: str) -> int:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean `kaji {near[0]}`?" if near else "`kaji --help` lists the commands"
    print(f"kaji: no command {name!r} ({hint})", file=sys.stderr)
    return EXIT_USAGE


def _run(name: str, words: list[str]) -> int:
    from importlib import import_module

    module = import_module(f"kajitori.cli.{name}")
    parser = _parser(name, module.__doc__ or "")
    module.arguments(parser)
    options = parser.parse_args(words)
    from kajitori.base.errors import KajitoriError, Unreachable, UsageError

    try:
        return module.run(options)
    except UsageError as error:
        print(f"kaji: {error}", file=sys.stderr)
        return EXIT_USAGE
    except Unreachable as error:
        error.hint = _hint_of_unreachable(error.hint, options)
        print(f"kaji: {error}", file=sys.stderr)
        return EXIT_NO_CLUSTER
    except KajitoriError as error:
        print(f"kaji: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output is gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    import argparse
    from typing import NoReturn

    class Parser(argparse.ArgumentParser):
        """Says in one line what is wrong, without the whole usage before it."""

        def error(self, message: str) -> NoReturn:
            text = message.removeprefix("argument ").replace("required: what, names", "required: what")
            self.exit(EXIT_USAGE, f"kaji: {text} (`{self.prog} --help` tells more)\n")

    return Parser(
        prog=f"kaji {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _hint_of_unreachable(hint: str, options: argparse.Namespace) -> str:
    """What to do about a cluster that does not answer, by how it was chosen."""
    kubeconfig, named = getattr(options, "kubeconfig", None), os.environ.get("KUBECONFIG")
    if kubeconfig and "kaji up" in hint:
        hint = f"is the cluster of {kubeconfig} running?"
    if named and hint and not kubeconfig and not getattr(options, "home", None):
        hint += f"; KUBECONFIG is {named}"
    if "kaji up" in hint:
        from kajitori.cli.local import start_hint

        hint = start_hint(options) or hint
    return hint
