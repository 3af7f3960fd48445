"""The accountants beside a cluster's Envoys have the records of requests, each of those that its Envoy carried: ask them all.

Reading happens in their containers, by `kaji explain request` itself, so who may exec there may read it.
"""

from __future__ import annotations

import asyncio

from kajitori.api.resource import PODS
from kajitori.base.errors import KajitoriError, NotFound
from kajitori.gateway.accounting.folders import ACCOUNTANT, LEDGER_FOLDER
from kajitori.kube.client import Client
from kajitori.kube.config import ClusterConfig
from kajitori.kube.exec import Executed, execute
from kajitori.kube.transport import HttpTransport

_ENVOYS = "app.kubernetes.io/name=kajitori-envoy"
_USER_AGENT = "kaji-explain"


def explain_request_of_cluster(config: ClusterConfig, request_id: str) -> int:
    """Print what an Envoy of this cluster knows of a request. Raises NotFound if none has it."""
    print(asyncio.run(_ask_all(config, request_id)), end="")
    return 0


async def _ask_all(config: ClusterConfig, request_id: str) -> str:
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
        command = ["kaji", "explain", "request", request_id, "--home", LEDGER_FOLDER]
        answers = await asyncio.gather(
            *(
                execute(
                    transport,
                    pod["metadata"]["namespace"],
                    pod["metadata"]["name"],
                    command,
                    container=ACCOUNTANT,
                )
                for pod in pods
            ),
            return_exceptions=True,
        )
    for answer in answers:
        if isinstance(answer, Executed) and answer.exit_code == 0:
            return answer.output
    for answer in answers:
        # Who could not be asked may be the one that knows.
        if isinstance(answer, KajitoriError):
            raise answer
        if isinstance(answer, BaseException):
            raise answer
    raise NotFound(
        f"none of {len(pods)} Envoys has request {request_id!r}",
        hint="the id is the x-request-id header of the answer; records go with the pod that had them",
    )
