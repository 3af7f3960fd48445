"""`kaji gateway lint`: what is wrong with a configuration, and what of it nobody honours.

The objects are judged by the same API server (schemas, rules) and the same plan as when they are served; nothing is opened but
one port of this machine for as long as it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kajitori.api.kubernetes.core_v1 import ConfigMap, Secret
from kajitori.api.resource import CONFIG_MAPS, SECRETS, Resource
from kajitori.app.standalone import serving
from kajitori.app.standalone.assumed import strangers
from kajitori.cli.apply import apply_manifests
from kajitori.cli.connection import Cluster
from kajitori.cli.gateway import assume, without_effect
from kajitori.cli.manifests import Manifest
from kajitori.cli.output import paint
from kajitori.gateway.observed import Observed, Settings
from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.watched_kinds import WATCHED
from kajitori.kube.config import load_config
from kajitori.kube.direct import DirectClient
from kajitori.laptop.apiserver.server import ApiServer
from kajitori.laptop.settings import ClusterSettings

_TOKEN_PENDING = "its token is being fetched"


def lint(manifests: list[Manifest]) -> int:
    """Print every finding with its place; 0 if there is none, else 1."""
    kept, told = without_effect(manifests)
    besides, notes = assume(kept)
    for note in notes:
        print(f"{paint('·', '2')} {note}")
    told += _of_nobody([*kept, *besides])
    refused, plan, warnings = asyncio.run(_judge([*kept, *besides]))
    findings = told + (_of_plan(plan, kept) if plan is not None else [])
    for finding in findings:
        print(f"{paint('!', '33')} {finding}")
    # Warnings were printed as they came. What is deprecated is honoured as well as ever.
    count = len(findings) + sum("is deprecated" not in warning for warning in warnings)
    if count or refused:
        rest = " besides what was refused" if refused else ""
        print(f"{_counted(count, 'finding')}{rest} in {_counted(len(manifests), 'object')}.")
        return 1
    print(f"{paint('✓', '32')} {_counted(len(manifests), 'object')}: every field is honoured.")
    return 0


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def plan_of(manifests: Sequence[Manifest]) -> Plan | None:
    """The plan of objects that an API server would take; None if it refuses one (which is printed)."""
    kept, _ = without_effect(manifests)
    besides, _ = assume(kept)
    refused, plan, _ = asyncio.run(_judge([*kept, *besides]))
    return None if refused else plan


async def _judge(manifests: list[Manifest]) -> tuple[bool, Plan | None, set[str]]:
    """Whether any was refused, the plan of the others, and warnings (which are printed as they come)."""
    async with _api_server() as kubeconfig:
        return await asyncio.to_thread(_apply_and_plan, DirectClient(load_config(str(kubeconfig))), manifests)


@contextlib.asynccontextmanager
async def _api_server() -> AsyncGenerator[Path]:
    with tempfile.TemporaryDirectory(prefix="kaji-lint-") as folder:
        home = Path(folder)
        server = ApiServer(home, ClusterSettings(), port=0)
        await server.start()
        try:
            yield home / "kubeconfig"
        finally:
            await server.stop()


def _apply_and_plan(client: DirectClient, manifests: list[Manifest]) -> tuple[bool, Plan | None, set[str]]:
    serving.install_definitions(client)
    namespaces = [
        str((item.object.get("metadata") or {}).get("namespace") or "default") for item in manifests
    ]
    serving.make_namespaces(client, namespaces)
    cluster = Cluster(client, "default")
    warnings: set[str] = set()
    refused = apply_manifests(cluster, manifests, force=True, quiet=True, told=warnings) != 0
    return refused, make_plan(_observed(cluster), envoys=1), warnings


def _observed(cluster: Cluster) -> Observed:
    found: dict[str, Any] = {}
    for name, (resource, projection) in WATCHED.items():
        found[name] = tuple(msgspec.convert(item, projection) for item in cluster.objects(resource, None))
    secrets = tuple(msgspec.convert(item, Secret) for item in cluster.objects(SECRETS, None))
    config_maps = tuple(msgspec.convert(item, ConfigMap) for item in cluster.objects(CONFIG_MAPS, None))
    # As in a home, where streams can be rescued.
    settings = Settings(bind_address="127.0.0.1", rescue_sockets=("rescue.sock", "inner.sock"))
    return Observed(settings=settings, secrets=secrets, config_maps=config_maps, **found)


def _of_plan(plan: Plan, manifests: Sequence[Manifest]) -> list[str]:
    """What the statuses would say is wrong, with the line where the object begins."""
    places = {_key(item): item for item in manifests}
    found: list[str] = []
    for update in plan.statuses:
        manifest = places.get((update.resource.group, update.resource.kind, update.namespace, update.name))
        obj = {"metadata": {}, "status": update.status}
        for problem in serving.problems(obj):
            if _TOKEN_PENDING in problem:
                continue  # nobody is asked for one here
            title = _title(update.resource, update.namespace, update.name)
            told = problem if problem.startswith(title) else f"{title}: {problem}"
            found.append(f"{manifest.place('spec') + ': ' if manifest else ''}{told}")
    return found


def _of_nobody(manifests: Sequence[Manifest]) -> list[str]:
    """Routes that name Gateways which are not in the file, though others are."""
    objects = [item.object for item in manifests]
    return [
        f"{item.place('spec.parentRefs')}: {item.title}: Gateway {name} is not in the file, so nobody serves it there"
        for item in manifests
        for name in strangers(item.object, objects)
    ]


def _key(manifest: Manifest) -> tuple[str, str, str, str]:
    metadata = manifest.object.get("metadata") or {}
    group = manifest.object["apiVersion"].rpartition("/")[0]
    kind = manifest.object["kind"]
    namespace = "" if kind == "GatewayClass" else str(metadata.get("namespace") or "default")
    return group, kind, namespace, str(metadata.get("name"))


def _title(resource: Resource, namespace: str, name: str) -> str:
    return f"{resource.kind} {namespace}/{name}" if namespace else f"{resource.kind} {name}"
