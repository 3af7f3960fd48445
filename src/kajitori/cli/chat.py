"""Talk to a model through the gateway; the answer streams, with tokens, time to first token and tokens/s.

kaji chat smollm2-135m                          a conversation, until an empty line or Ctrl-D
kaji chat smollm2-135m "What is Kubernetes?"    one question
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from kajitori.api.resource import GATEWAYS
from kajitori.base.errors import KajitoriError, UsageError
from kajitori.cli.connection import Cluster, cluster_arguments, open_cluster
from kajitori.cli.conversation import ask
from kajitori.cli.output import paint


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="the model's name (default: the only one there is)")
    parser.add_argument("question", nargs="*")
    parser.add_argument("--url", help="base URL of the API (default: the gateway's, or $OPENAI_BASE_URL)")
    parser.add_argument("--system", help="the system message")
    parser.add_argument("--max-tokens", type=int)
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    url = options.url or os.environ.get("OPENAI_BASE_URL")
    model = options.model
    if model and " " in model and not options.question:
        raise UsageError(f"{model!r} is not a model's name", hint=f'kaji chat MODEL "{model}"')
    if not url or not model:
        cluster = open_cluster(options)
        url = url or gateway_url(cluster)
        model = model or _only_model(cluster)
    messages = [{"role": "system", "content": options.system}] if options.system else []
    if options.question or not sys.stdin.isatty():
        question = " ".join(options.question) or sys.stdin.read()
        if not question.strip():
            raise UsageError("no question", hint=f'kaji chat {model} "What is Kubernetes?"')
        _turn(url, model, messages, question, options.max_tokens)
        return 0
    return _converse(url, model, messages, options.max_tokens)


def gateway_url(cluster: Cluster) -> str:
    """The base URL of the first Gateway that has an address, the local cluster's own `kaji` before others."""
    gateways = cluster.objects(GATEWAYS, None)
    gateways.sort(key=lambda gateway: gateway["metadata"]["name"] != "kaji")
    for gateway in gateways:
        addresses = (gateway.get("status") or {}).get("addresses") or []
        for listener in gateway["spec"].get("listeners") or []:
            if addresses and listener.get("protocol") in ("HTTP", "HTTPS"):
                return f"{listener['protocol'].lower()}://{addresses[0]['value']}:{listener['port']}/v1"
    raise UsageError(
        "no Gateway has an address yet", hint="`kaji get gateways` shows them; --url names another API"
    )


def _only_model(cluster: Cluster) -> str:
    models = cluster.model_names()
    if len(models) == 1:
        return models[0]
    raise UsageError(
        "which model?" if models else "no route names a model",
        hint=f"there are {', '.join(models)}"
        if models
        else "`kaji apply -f examples/first-token` brings one",
    )


def _converse(url: str, model: str, messages: list[dict[str, str]], maximum_tokens: int | None) -> int:
    import_module("readline")  # arrow keys and history in input()

    print(paint(f"{model} at {url} · an empty line ends the conversation", "2"))
    while True:
        try:
            question = input("> ").strip()
        except EOFError:
            print()
            return 0
        if not question:
            return 0
        try:
            _turn(url, model, messages, question, maximum_tokens)
        except KajitoriError as error:
            messages.pop()  # the question that got no answer
            print(paint(f"{error}", "31"), file=sys.stderr)


def _turn(
    url: str, model: str, messages: list[dict[str, str]], question: str, maximum_tokens: int | None
) -> None:
    messages.append({"role": "user", "content": question})
    answer = ask(
        url,
        model,
        messages,
        _print_piece,
        api_key=os.environ.get("OPENAI_API_KEY", ""),
        maximum_tokens=maximum_tokens,
    )
    messages.append({"role": "assistant", "content": answer.text})
    print()
    print(paint(answer.summary(), "2"))


def _print_piece(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
