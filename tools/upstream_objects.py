"""Hold our definitions and plans against the objects of Envoy Gateway's own tests: `make upstream-objects`.

Its published Go modules have, as inputs of its translator's tests, some 1,500 objects, and the definitions of all kinds. Each
object is made on a server with its definitions and on one with ours: who takes it, and who does not, is printed where they
differ. Then each input is planned as a whole and given to a real Envoy, and what that refuses is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.gateway.workbench import KINDS, observe, running_workbench
from tests.waiting import eventually

from kajitori.api.crds import all_crds
from kajitori.api.resource import CUSTOM_RESOURCE_DEFINITIONS, Resource
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server

MODULES = ("github.com/envoyproxy/gateway@v1.9.0", "sigs.k8s.io/gateway-api@v1.5.0")
INPUTS = "internal/gatewayapi/testdata"
DEFINITIONS = ("charts/gateway-crds-helm/templates/generated", "config/crd/standard")
# Listeners have ports of the inputs' own, which may be taken at other addresses.
ADDRESS = "127.0.88.1"
Object = dict[str, Any]
# What the inputs leave out, by the list that an object is in.
IMPLIED = {
    "gateways": ("gateway.networking.k8s.io/v1", "Gateway"),
    "httpRoutes": ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    "grpcRoutes": ("gateway.networking.k8s.io/v1", "GRPCRoute"),
}


def folders() -> list[Path]:
    """The modules' folders; downloads them if need be."""
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "go.mod").write_text("module download\n")
        found: list[Path] = []
        for module in MODULES:
            told = subprocess.check_output(["go", "mod", "download", "-json", module], cwd=scratch, text=True)
            found.append(Path(json.loads(told)["Dir"]))
        return found


def inputs(folder: Path) -> Iterator[tuple[str, list[Object]]]:
    """Each input of the tests by its name, without statuses."""
    for path in sorted((folder / INPUTS).glob("*.in.yaml")):
        try:
            # "=" is a value of its own to YAML 1.1.
            document = yaml.safe_load(path.read_text().replace("=ALL", "'=ALL'")) or {}
        except yaml.YAMLError:
            continue
        objects: list[Object] = []
        for name, value in document.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    made: Object = json.loads(json.dumps(item, default=str))
                    version, kind = IMPLIED.get(name, ("", ""))
                    made = {"apiVersion": version, "kind": kind, **made}
                    made.pop("status", None)
                    objects.append(made)
        yield path.name, objects


def upstream_definitions(modules: list[Path]) -> dict[str, Object]:
    """The definitions by name."""
    found: dict[str, Object] = {}
    for module, where in zip(modules, DEFINITIONS, strict=True):
        for path in (module / where).glob("*.yaml"):
            # Without the chart's conditions, which stand on lines of their own.
            lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("{{")]
            for item in yaml.safe_load_all("\n".join(lines)):
                if isinstance(item, dict) and item.get("kind") == "CustomResourceDefinition":
                    found[item["metadata"]["name"]] = item
    return found


@contextlib.asynccontextmanager
async def server_with(definitions: list[Object]) -> AsyncGenerator[Client]:
    async with running_api_server() as server, Client(load_config(str(server.kubeconfig))) as client:
        for definition in definitions:
            await client.apply(CUSTOM_RESOURCE_DEFINITIONS, definition, field_manager="upstream")
        yield client


async def refusal(client: Client, resource: Resource, made: Object) -> str:
    """Why the object is not taken; empty if it is."""
    try:
        await client.create(resource, json.loads(json.dumps(made)))
    except Exception as error:
        return str(error).splitlines()[0]
    return ""


async def compare(modules: list[Path]) -> int:
    """How many objects upstream's definitions take and ours refuse."""
    theirs = upstream_definitions(modules)
    ours = {each["metadata"]["name"]: each for each in all_crds() if each["metadata"]["name"] in theirs}
    kinds = {
        (f"{each['spec']['group']}/{version['name']}", each["spec"]["names"]["kind"]): each["spec"]
        for each in ours.values()
        for version in each["spec"]["versions"]
    }
    seen: set[str] = set()
    refused = differing = 0
    async with (
        server_with(list(ours.values())) as first,
        server_with([theirs[name] for name in ours]) as second,
    ):
        for name, objects in inputs(modules[0]):
            for item in objects:
                spec = kinds.get((item["apiVersion"], item["kind"]))
                text = json.dumps({**item, "metadata": {}}, sort_keys=True)
                if spec is None or text in seen:
                    continue
                seen.add(text)
                namespaced = spec["scope"] == "Namespaced"
                item["metadata"] = {
                    "name": f"t{len(seen)}",
                    **({"namespace": "default"} if namespaced else {}),
                }
                group, version = item["apiVersion"].split("/")
                resource = Resource(
                    group, version, spec["names"]["plural"], item["kind"], namespaced=namespaced
                )
                here, there = await refusal(first, resource, item), await refusal(second, resource, item)
                if bool(here) != bool(there):
                    differing += 1
                    refused += bool(here)
                    print(f"{'refused by us only' if here else 'taken by us only'}: {name}: {here or there}")
    print(
        f"{len(seen)} objects; {differing} are judged differently, {refused} of them are refused by us only"
    )
    return refused


async def try_with_envoy(modules: list[Path]) -> None:
    """Prints what Envoy refuses, and what it does not confirm."""
    count = 0
    async with running_workbench() as bench:
        for name, objects in inputs(modules[0]):
            usable: list[Object] = []
            for item in objects:
                if item["kind"] not in KINDS or item["kind"] == "GatewayClass":
                    continue
                if item["kind"] == "Gateway":
                    item["spec"]["gatewayClassName"] = "kajitori"
                # What definitions would have refused.
                with contextlib.suppress(Exception):
                    observe(item)
                    usable.append(item)
            count += 1
            bench.set(*usable, bind_address=ADDRESS)
            await eventually(lambda: bench.ads.settled, lambda name=name: f"{name} is confirmed")
            for resource, why in bench.ads.rejected.items():
                print(f"refused by Envoy: {name}: {resource}: {why}")
    print(f"{count} inputs planned and confirmed")


async def main() -> int:
    modules = folders()
    refused = await compare(modules)
    await try_with_envoy(modules)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
