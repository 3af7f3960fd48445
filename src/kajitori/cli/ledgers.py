"""The accountants beside a cluster's Envoys have the records of requests, each of those that its Envoy carried: ask them all.

Reading happens in their containers, by `kaji` itself, so who may exec there may read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kajitori.api.resource import PODS
from kajitori.base.errors import NotFound
from kajitori.gateway.accounting.folders import ACCOUNTANT, LEDGER_FOLDER
from kajitori.kube.client import Client
from kajitori.kube.config import ClusterConfig
from kajitori.kube.exec import Executed, execute
from kajitori.kube.transport import HttpTransport

_ENVOYS = "app.kubernetes.io/name=kajitori-envoy"
_USER_AGENT = "kaji-ledgers"


Answers = dict[str, Executed | BaseException]


def ask_accountants(
    config: ClusterConfig, command: Sequence[str], *, timeout_seconds: float = 30.0
) -> Answers:
    """Run a command of `kaji` on each ledger; what each pod (namespace/name) answered. Raises NotFound if none runs."""
    return asyncio.run(ask_all(config, command, timeout_seconds))


def output_of(answer: Executed | BaseException) -> tuple[str, str]:
    """What an accountant said, or why it said nothing; the other one is empty."""
    if not isinstance(answer, Executed):
        return "", str(answer) or type(answer).__name__
    if answer.exit_code:
        return "", answer.errors.strip() or f"exit code {answer.exit_code}"
    return answer.output, ""


def explain_request_of_cluster(config: ClusterConfig, request_id: str, more: Sequence[str] = ()) -> int:
    """Print what an Envoy of this cluster knows of a request. more: options. Raises NotFound if none has it."""
    print(
        known_by_one(ask_accountants(config, ["explain", "request", request_id, *more]), request_id), end=""
    )
    return 0


def known_by_one(answers: Answers, request_id: str) -> str:
    """What the one that knows a request said of it. Raises NotFound, or why one could not be asked."""
    for answer in answers.values():
        if isinstance(answer, Executed) and answer.exit_code == 0:
            return answer.output
    for answer in answers.values():
        # Who could not be asked may be the one that knows.
        if isinstance(answer, BaseException):
            raise answer
    raise NotFound(
        f"none of {len(answers)} Envoys has request {request_id!r}",
        hint="the id is the x-request-id header of the answer; records go with the pod that had them",
    )


async def ask_all(config: ClusterConfig, command: Sequence[str], timeout_seconds: float = 30.0) -> Answers:
    """See `ask_accountants`."""
    transport = HttpTransport(config, user_agent=_USER_AGENT)
    async with Client(config, transport=transport, user_agent=_USER_AGENT) as client:
        pods = [
            pod
            for pod in (await client.list(PODS, label_selector=_ENVOYS)).items
            if pod.get("status", {}).get("phase") == "Running"
        ]
        if not pods:
            raise NotFound(
                "no Envoy of ours runs in this cluster",
                hint="`kaji install` puts one there; `--home` names a local cluster",
            )
        answers = await asyncio.gather(
            *(
                execute(
                    transport,
                    pod["metadata"]["namespace"],
                    pod["metadata"]["name"],
                    ["kaji", *command, "--home", LEDGER_FOLDER],
                    container=ACCOUNTANT,
                    timeout_seconds=timeout_seconds,
                )
                for pod in pods
            ),
            return_exceptions=True,
        )
    names = [f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods]
    return dict(zip(names, answers, strict=True))
